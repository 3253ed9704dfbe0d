"""Define `MLPRegressor`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy
from sklearn.base import RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_array, check_X_y

from deltajit.kernels import LOSSES
from deltajit.model import checks
from deltajit.model.custom import CIRCUITS
from deltajit.model.memory import Array, DType
from deltajit.model.scores import r2
from deltajit.sklearn import intervals
from deltajit.sklearn.base import LossOptions, MultilayerPerceptron, has_epochs
from deltajit.sklearn.columns import Columns
from deltajit.sklearn.samples import Matrix, MonotonicCst, RandomState, Samples

FAR = 100  # from a mean of 0 or a standard deviation of 1, of targets


def regression_losses() -> list[str]:
    """Return the names of losses of one output and one target that may be any number.

    Returns
    -------
    list of str
        The names.
    """
    return [
        name
        for name, loss in LOSSES.items()
        if loss.most == math.inf and loss.outputs_per_target == 1 and name not in CIRCUITS
    ]


class MLPRegressor(RegressorMixin, MultilayerPerceptron):  # type: ignore[misc]
    """Predict numbers as scikit-learn's MLPRegressor does, on deltajit's kernels.

    All is computed in float32 for samples of float32, at twice the speed, and else in float64.

    Parameters
    ----------
    loss : str
        Loss of one sample: "squared_error", "poisson" (with the exponential function as output, for
        targets >= 0), "huber", "absolute_error", "quantile", or another of `Network` with one
        target for each output.
    hidden_layer_sizes : int or sequence of int
        Number of units of each hidden layer; an empty sequence makes a linear model.
    activation : str or list of str
        Activation of the hidden layers, one name for all or one for each: "relu", "tanh",
        "logistic" (also called "sigmoid"), "identity", and the others of `Network`.
    solver : "adam", "sgd" or "lbfgs"
        Optimizer: two of minibatches, and one of all samples at once.
    alpha : float
        Penalty ``alpha/2 * sum(W**2)``, divided by the size (the weight) of the minibatch and added
        to its loss.
    batch_size : int or "auto"
        Samples of one step; "auto" is 200, or all if they are fewer.
    learning_rate : "constant", "invscaling" or "adaptive"
        Learning rate of "sgd": constant, or ``learning_rate_init / t**power_t`` after t samples, or
        divided by 5 whenever the fit would end.
    learning_rate_init : float
        Learning rate of the first step.
    power_t : float
        Exponent of "invscaling".
    max_iter : int
        Epochs, or iterations of "lbfgs", at most.
    shuffle : bool
        Whether each epoch takes the samples in a new order.
    random_state : None, int or RandomState
        Seed or generator of the initial weights, the validation samples and the order of samples,
        which are those that scikit-learn draws from it.
    tol : float
        Change that counts as an improvement; for "lbfgs" the largest element of the gradient at
        which the fit ends.
    verbose : bool
        Whether to print the loss of each epoch.
    warm_start : bool
        Whether `fit` goes on from the weights of the last fit.
    momentum : float
        Momentum of "sgd", between 0 and 1.
    nesterovs_momentum : bool
        Whether the momentum is Nesterov's.
    early_stopping : bool
        Whether to hold out samples, to end the fit when their score does not improve, and to
        restore the weights with the best score.
    validation_fraction : float
        Share of the samples that are held out.
    beta_1, beta_2 : float
        Decay rates of the moments of "adam".
    epsilon : float
        Small number of "adam", added to the root of the unbiased second moment as in Kingma & Ba
        (2015); scikit-learn adds it to the biased one.
    n_iter_no_change : int or inf
        Epochs without improvement after which the fit ends.
    max_fun : int
        Evaluations of the loss by "lbfgs", at most.
    dropout : float or list of float
        Share of hidden units that each step leaves out, one for all layers or one for each.
    l1 : float
        Penalty ``l1 * sum(|W|)``, divided as that of `alpha`.
    standardize : bool
        Whether to scale each feature to mean 0 and variance 1 (a sparse X to variance 1 only), as
        measured in the first fit; predictions scale X likewise.
    standardize_target : bool, optional
        Whether to scale each target likewise, which `predict` undoes: losses and their curves,
        `tol` and `threshold` are then in units of the standard deviation. None is as
        `standardize`, unless the loss is of targets that can't be negative.
    threshold : float
        Size of a residual above which the loss "huber" is linear.
    quantile : float
        Quantile, between 0 and 1, that the loss "quantile" estimates.
    monotonic_cst : array_like of int, (n_features,), or dict, optional
        For each feature 1 if the output must not decrease with it, -1 if it must not increase, 0
        if it is free; or a dict of these by names of columns.
    categorical_features : "from_dtype", list of str, int or bool, or None
        Columns of X that hold categories: those of a data frame with a dtype of categories or
        text, or the listed ones, by names, numbers or a mask, or none.
    embedding_size : int, optional
        Size of the vectors that are learnt of categories, in a layer of their own before the
        first; without it each category has its own weights in the first layer.
    missing : "error" or "indicator"
        Whether missing values are refused, or taken: of numbers as the mean of the column, beside
        an input that is 1 where they are, and of categories as one more of them. A category that
        `fit` has not seen is likewise refused, or taken as none of those that it has.

    Attributes
    ----------
    coefs_, intercepts_ : list of ndarray
        Weights (n_in, n_out) and biases (n_out,) of each layer.
    loss_, best_loss_ : float
        Loss of the last epoch, and the least loss; the latter is None with early_stopping.
    loss_curve_ : list of float
        Loss of each epoch, the mean over its minibatches before their steps, with penalties.
    validation_scores_, validation_loss_curve_ : list of float or None
        Score and loss of the samples held out, after each epoch; the loss is without penalties.
    best_validation_score_ : float or None
        Best of `validation_scores_`.
    n_iter_ : int
        Number of epochs, or of iterations of "lbfgs".
    n_layers_, n_outputs_, n_features_in_ : int
        Number of layers with the inputs, of outputs, and of features.
    t_ : int
        Number of samples that the steps have taken.
    out_activation_ : str
        Activation of the outputs.
    standardizer_ : sklearn.preprocessing.StandardScaler
        Scales of the features, with ``standardize=True``.
    target_standardizer_ : sklearn.preprocessing.StandardScaler
        Scales of the targets, if they are standardized.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from deltajit.sklearn import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = MLPRegressor(hidden_layer_sizes=(), solver="lbfgs", random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.5
    True
    """

    _numeric = True

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: RandomState = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float | Sequence[float] = 0.0,
        l1: float = 0.0,
        standardize: bool = False,
        standardize_target: bool | None = None,
        threshold: float = 1.0,
        quantile: float = 0.5,
        monotonic_cst: MonotonicCst = None,
        categorical_features: Columns = "from_dtype",
        embedding_size: int | None = None,
        missing: str = "error",
    ) -> None:
        self._keep(locals())

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @available_if(has_epochs)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Matrix, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train for one epoch, from the present weights and state of the optimizer.

        Parameters
        ----------
        X : array_like or sparse matrix, (n_samples, n_features)
            Inputs.
        y : array_like, (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array_like, (n_samples,), optional
            Weights of the samples.

        Returns
        -------
        MLPRegressor
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            A parameter of the estimator is wrong, or the samples do not fit it or each other.
        """
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Matrix) -> Array:
        """Predict the targets of each sample.

        Parameters
        ----------
        X : array_like or sparse matrix, (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray, (n_samples,), or (n_samples, n_outputs) for several outputs
            Predictions.

        Raises
        ------
        ValueError, TypeError
            X is not such as the estimator was fitted to, or it has not been fitted
            (NotFittedError).
        """
        outputs = self._outputs(X)
        return outputs.ravel() if self.n_outputs_ == 1 else outputs

    def input_gradients(self, X: Matrix) -> Array:
        """Compute the derivatives of `predict` with respect to X.

        Parameters
        ----------
        X : array_like or sparse matrix, (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray, (n_samples, n_features), or (n_samples, n_outputs, n_features) for several outputs
            Derivatives; NaN by columns of categories.

        Raises
        ------
        ValueError, TypeError
            X is not such as the estimator was fitted to, or it has not been fitted
            (NotFittedError).
        """
        J = self._jacobian(X)
        if hasattr(self, "target_standardizer_"):
            J *= self.target_standardizer_.scale_[:, None]
        return J[:, 0] if self.n_outputs_ == 1 else J

    def predict_interval(
        self,
        X: Matrix,
        coverage: float = 0.9,
        *,
        data: tuple[Matrix, ArrayLike],
        method: str = "conformal",
    ) -> tuple[Array, Array]:
        """Compute intervals that hold a new target with a given probability.

        Parameters
        ----------
        X : array_like or sparse matrix, (n_samples, n_features)
            Inputs.
        coverage : float
            Probability, between 0 and 1, that a target is inside.
        data : tuple of X and y
            Samples that the width follows from: for "conformal" some that were held out of `fit`,
            for the others those of `fit`.
        method : "conformal", "ensemble" or "laplace"
            "conformal" uses the errors of samples held out [1]_: intervals of one width.
            "ensemble" fits 20 copies of the estimator to resampled samples, each sample judged by
            those that have not seen it [2]_. "laplace" uses `Laplace` with kind="kronecker", for
            loss="squared_error"; it trusts the fit to have found the minimum.

        Returns
        -------
        lower : ndarray, (n_samples,), or (n_samples, n_outputs) for several outputs
            Lower ends of the intervals, each for one output alone.
        upper : ndarray, (n_samples,), or (n_samples, n_outputs) for several outputs
            Upper ends.

        Raises
        ------
        ValueError, TypeError
            An argument is wrong, or data has too few samples for the coverage; or the estimator has
            not been fitted (NotFittedError).

        References
        ----------
        .. [1] Lei, G'Sell, Rinaldo, Tibshirani & Wasserman (2018), Distribution-free predictive
           inference for regression, Journal of the American Statistical Association 113.
        .. [2] Kim, Xu & Barber (2020), Predictive inference is free with the jackknife+-after-
           bootstrap, NeurIPS 33.
        """
        checks.above_zero(coverage, "coverage")
        if checks.fraction(coverage, "coverage") == 1:
            raise ValueError(f"coverage must be below 1, got {coverage}")
        compute = intervals.METHODS[checks.choice(method, "method", intervals.METHODS)]
        if method == "laplace" and self._loss_name() != "squared_error":
            raise ValueError(f"method='laplace' needs loss='squared_error', got {self.loss!r}")
        bounded = self.monotonic_cst is not None or self._embedding() is not None
        if method == "laplace" and bounded:
            raise ValueError(
                "method='laplace' knows no bounds, as of monotonic_cst and embedding_size"
            )
        if method == "ensemble" and self._table is not None:
            raise ValueError("method='ensemble' fits to numbers only, not to tables")
        if not isinstance(data, tuple) or len(data) != 2:
            raise ValueError(f"data must be a tuple (X, y), got {type(data).__name__}")
        inputs = self._checked(data[0])
        _, y = check_X_y(
            inputs, data[1], accept_sparse="csr", multi_output=True, y_numeric=True, estimator=self
        )
        samples = Samples(inputs, self._in_columns(y, inputs.dtype, first=False), None)
        lower, upper = compute(self, self._checked(X), samples, coverage)
        return (lower.ravel(), upper.ravel()) if self.n_outputs_ == 1 else (lower, upper)

    # ---------------------------------------------------------------- what `fit` asks

    def _check_parameters(self) -> None:
        super()._check_parameters()
        checks.choice(self.loss, "loss", regression_losses())
        if self.standardize_target and LOSSES[self.loss].least == 0:
            raise ValueError(
                f"standardize_target must be False for loss={self.loss!r}, whose targets are >= 0"
            )

    def _loss_name(self) -> str:
        return str(self.loss)

    def _loss_options(self) -> LossOptions:
        return {"threshold": self.threshold, "quantile": self.quantile}

    def _targets(
        self, y: Array, weights: Array | None, dtype: DType, first: bool, incremental: bool
    ) -> tuple[Array, Array | None]:
        """Return targets (n, n_outputs) as the kernels take them."""
        return self._scaled(self._in_columns(y, dtype, first), weights, first), weights

    def _in_columns(self, y: Array, dtype: DType, first: bool) -> Array:
        """Return y as (n, n_outputs), checked, in its own units."""
        Y = np.ascontiguousarray(y.reshape(len(y), -1), dtype)
        checks.bounds(Y, "y", self.loss)
        if first:
            self.n_outputs_ = Y.shape[1]
            self.out_activation_ = LOSSES[self.loss].output or "identity"
        elif Y.shape[1] != self.n_outputs_:
            raise ValueError(f"y must have {self.n_outputs_} outputs as before, got {Y.shape[1]}")
        return Y

    def _validation_targets(self, y: Array, dtype: DType) -> Array:
        """Return y_val as the kernels take it."""
        Y = check_array(y.reshape(len(y), -1), dtype=dtype, order="C", input_name="y_val")
        if Y.shape[1] != self.n_outputs_:
            raise ValueError(f"y_val must have {self.n_outputs_} outputs as y, got {Y.shape[1]}")
        checks.bounds(Y, "y_val", self.loss)
        if hasattr(self, "target_standardizer_"):
            Y = self.target_standardizer_.transform(Y)
        return np.asarray(Y)

    def _scaled(self, Y: Array, weights: Array | None, first: bool) -> Array:
        """Return targets standardized, if they are to be; else warn of a scale far from 1."""
        takes_negative = LOSSES[self.loss].least < 0
        wanted = self.standardize_target
        if takes_negative and (self.standardize if wanted is None else wanted):
            if first or not hasattr(self, "target_standardizer_"):
                self.target_standardizer_ = StandardScaler().fit(Y, sample_weight=weights)
            return np.asarray(self.target_standardizer_.transform(Y))
        if hasattr(self, "target_standardizer_"):
            del self.target_standardizer_
        if takes_negative and first and self.solver != "lbfgs":
            _hint_at_scale(Y)
        return Y

    def _unscaled(self, outputs: Array) -> Array:
        if not hasattr(self, "target_standardizer_"):
            return outputs
        return np.asarray(self.target_standardizer_.inverse_transform(outputs))

    def _averaged(self) -> int:
        return 1 if self.loss == "poisson" else int(self.n_outputs_)

    def _beyond(self, Y: Array, weights: Array | None) -> float:
        if self.loss != "poisson":
            return 0.0
        deviance = (xlogy(Y, Y) - Y).sum(axis=1)
        return float(np.average(deviance, weights=weights))

    def _score_of(self, outputs: Array, samples: Samples) -> float:
        """Return R2, which is that of unscaled targets too."""
        return r2(outputs, samples.Y, samples.weights)


def _hint_at_scale(Y: Array) -> None:
    """Warn of targets that steps of gradients will hardly reach, or hardly tell apart."""
    spread, size = Y.std(axis=0, dtype=np.float64), abs(Y.mean(axis=0, dtype=np.float64))
    far = (np.maximum(spread, size) > FAR) | ((spread > 0) & (spread < 1 / FAR))
    if far.any():
        k = int(far.argmax())
        warnings.warn(
            f"y has a mean of {Y[:, k].mean():.3g} and a standard deviation of {spread[k]:.3g}; "
            "far from 0 and 1, descent is slow or fails: standardize_target=True scales it",
            ConvergenceWarning,
            stacklevel=6,
        )
