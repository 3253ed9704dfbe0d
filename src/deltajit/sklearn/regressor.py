"""`MLPRegressor`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import xlogy
from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if

from deltajit.kernels import LOSSES
from deltajit.model import checks
from deltajit.model.custom import CIRCUITS
from deltajit.model.memory import Array
from deltajit.sklearn.base import MultilayerPerceptron, has_epochs
from deltajit.sklearn.samples import Samples


def regression_losses() -> list[str]:
    """Losses of one output and one target, any number."""
    return [
        name
        for name, loss in LOSSES.items()
        if loss.most == math.inf and loss.outputs_per_target == 1 and name not in CIRCUITS
    ]


class MLPRegressor(RegressorMixin, MultilayerPerceptron):  # type: ignore[misc]
    """scikit-learn's regressor, trained by deltajit.

    Samples are in float64 unless they are float32: then all is, at twice the speed.

    Parameters
    ----------
    loss : str
        "squared_error", "poisson" (with the exponential function as output; targets >= 0),
        "huber", "absolute_error", "quantile", or another of `Network`'s for one target an output.
    hidden_layer_sizes : int or sequence of int
        Units of each hidden layer; an empty one is a linear model.
    activation : str or list of str
        Of the hidden layers, one name for all or one each: "relu", "tanh", "logistic" (also
        called "sigmoid"), "identity", and the others of `Network`.
    solver : "adam", "sgd" or "lbfgs"
    alpha : float
        Adds ``alpha/2 * sum(W**2)``, over the size (the weight) of the minibatch, to its loss.
    batch_size : int or "auto"
        Samples a step; "auto" is 200, or all if they are fewer.
    learning_rate : "constant", "invscaling" or "adaptive"
        For "sgd": ``learning_rate_init / t**power_t`` after t samples, or a fifth of it each time
        that fit would end.
    learning_rate_init : float
    power_t : float
    max_iter : int
        Epochs at most, or iterations of "lbfgs".
    shuffle : bool
        The samples, before each epoch.
    random_state : None, int or RandomState
        Draws the initial weights, the validation samples and the order of samples, in the way of
        scikit-learn: the same number gives the same ones there.
    tol : float
        What counts as improvement; for "lbfgs" the largest element of the gradient at the end.
    verbose : bool
    warm_start : bool
        fit goes on from the weights of the last fit.
    momentum, nesterovs_momentum : float, bool
        Of "sgd".
    early_stopping : bool
        Hold out samples, end when their score does not improve, and go back to the weights that
        had the best one.
    validation_fraction : float
        Share of the samples to hold out.
    beta_1, beta_2, epsilon : float
        Of "adam"; epsilon is added where Kingma & Ba (2015) have it, to a root that is unbiased
        (scikit-learn adds it before).
    n_iter_no_change : int or inf
        Epochs without improvement after which fit ends.
    max_fun : int
        Evaluations of the loss by "lbfgs", at most.
    dropout : float or list of float
        Share of the hidden units that are left out of each step, one for all layers or one each.
    l1 : float
        Adds ``l1 * sum(|W|)``, scaled as that of `alpha`.
    standardize : bool
        Scale each feature to mean 0 and variance 1 (sparse ones to variance 1), as seen in the
        first fit; the scales travel with the model.
    threshold : float
        Residuals larger than this count linearly in the loss "huber".
    quantile : float
        That the loss "quantile" asks for, between 0 and 1.

    Attributes
    ----------
    coefs_, intercepts_ : list of ndarray
        Weights (n_in, n_out) and biases (n_out,) of each layer.
    loss_, best_loss_ : float
        Of the last epoch, and the least; the latter is None with early_stopping.
    loss_curve_ : list of float
        Loss of each epoch, the mean over its minibatches before their steps, with penalties.
    validation_scores_, validation_loss_curve_ : list of float or None
        Of the samples held out, after each epoch; the loss is without penalties.
    best_validation_score_ : float or None
    n_iter_, n_layers_, n_outputs_, n_features_in_ : int
    t_ : int
        Samples gone through.
    out_activation_ : str
    standardizer_ : sklearn.preprocessing.StandardScaler
        If standardize=True.

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
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
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
        dropout: Any = 0.0,
        l1: float = 0.0,
        standardize: bool = False,
        threshold: float = 1.0,
        quantile: float = 0.5,
    ) -> None:
        self._keep(locals())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @available_if(has_epochs)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """One epoch over these samples, going on with the weights and the optimizer's state.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        self
        """
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Any) -> Array:
        """Predictions.

        Parameters
        ----------
        X : array_like or sparse matrix, (n_samples, n_features)

        Returns
        -------
        ndarray, (n_samples,), or (n_samples, n_outputs) of several outputs
        """
        outputs = self._outputs(X)
        return outputs.ravel() if self.n_outputs_ == 1 else outputs

    def input_gradients(self, X: Any) -> Array:
        """Derivatives of `predict` with respect to X.

        Parameters
        ----------
        X : array_like or sparse matrix, (n_samples, n_features)

        Returns
        -------
        ndarray, (n_samples, n_features), or (n_samples, n_outputs, n_features)
        """
        J = self._jacobian(X)
        return J[:, 0] if self.n_outputs_ == 1 else J

    # ---------------------------------------------------------------- what `fit` asks

    def _check_parameters(self) -> None:
        super()._check_parameters()
        checks.choice(self.loss, "loss", regression_losses())

    def _loss_name(self) -> str:
        return str(self.loss)

    def _loss_options(self) -> dict[str, float]:
        return {"threshold": self.threshold, "quantile": self.quantile}

    def _targets(
        self, y: Any, weights: Array | None, dtype: Any, first: bool, incremental: bool
    ) -> tuple[Array, Array | None]:
        """Targets (n, n_outputs) as the kernels take them."""
        Y = np.ascontiguousarray(y.reshape(len(y), -1), dtype)
        checks.bounds(Y, "y", self.loss)
        if first:
            self.n_outputs_ = Y.shape[1]
            self.out_activation_ = LOSSES[self.loss].output or "identity"
        elif Y.shape[1] != self.n_outputs_:
            raise ValueError(f"y must have {self.n_outputs_} outputs as before, got {Y.shape[1]}")
        return Y, weights

    def _averaged(self) -> int:
        return 1 if self.loss == "poisson" else int(self.n_outputs_)

    def _beyond(self, Y: Array, weights: Array | None) -> float:
        if self.loss != "poisson":
            return 0.0
        deviance = (xlogy(Y, Y) - Y).sum(axis=1)
        return float(np.average(deviance, weights=weights))

    def _score_of(self, outputs: Array, samples: Samples) -> float:
        """R2, the mean over outputs; one that is constant has 1 if it is met, else 0."""
        Y, w = samples.Y.astype(np.float64), samples.weights
        with np.errstate(over="ignore"):
            rest = np.average((Y - outputs) ** 2, axis=0, weights=w)
        spread = np.average((Y - np.average(Y, axis=0, weights=w)) ** 2, axis=0, weights=w)
        constant = spread == 0
        scores = 1 - rest / np.where(constant, 1, spread)
        scores[constant] = rest[constant] == 0
        return float(scores.mean())
