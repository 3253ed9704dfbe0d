"""Define `MLPClassifier`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from deltajit.io.scikit_learn import OUR_NAMES
from deltajit.model.architecture import loss_of_output
from deltajit.model.memory import Array, DType
from deltajit.model.scores import accuracy_of_classes, accuracy_of_labels
from deltajit.sklearn.base import MultilayerPerceptron, has_epochs
from deltajit.sklearn.columns import Columns
from deltajit.sklearn.samples import Matrix, MonotonicCst, RandomState, Samples, dense

ClassWeight = dict[Any, float] | list[dict[Any, float]] | str | None  # by labels of any type


class MLPClassifier(ClassifierMixin, MultilayerPerceptron):  # type: ignore[misc]
    """Classify samples as scikit-learn's MLPClassifier does, on deltajit's kernels.

    A sample has one class, or several labels in a row of 0 and 1. All is computed in float32 for
    samples of float32, at twice the speed, and else in float64.

    Parameters
    ----------
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
    class_weight : dict, list of dict, "balanced" or None
        Factors of the weights of a class's samples, as in scikit-learn.
    dropout : float or list of float
        Share of hidden units that each step leaves out, one for all layers or one for each.
    l1 : float
        Penalty ``l1 * sum(|W|)``, divided as that of `alpha`.
    standardize : bool
        Whether to scale each feature to mean 0 and variance 1 (a sparse X to variance 1 only), as
        measured in the first fit; predictions scale X likewise.
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
    classes_ : ndarray, (n_classes,)
        Class labels, sorted.
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

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from deltajit.sklearn import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier(32, solver="lbfgs", standardize=True, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    """

    loss = "log_loss"
    _numeric = False

    def __init__(
        self,
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
        class_weight: ClassWeight = None,
        dropout: float | Sequence[float] = 0.0,
        l1: float = 0.0,
        standardize: bool = False,
        monotonic_cst: MonotonicCst = None,
        categorical_features: Columns = "from_dtype",
        embedding_size: int | None = None,
        missing: str = "error",
    ) -> None:
        self._keep(locals())

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @available_if(has_epochs)  # type: ignore[untyped-decorator]
    def partial_fit(
        self,
        X: Matrix,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch, from the present weights and state of the optimizer.

        Parameters
        ----------
        X : array_like or sparse matrix, (n_samples, n_features)
            Inputs.
        y : array_like, (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array_like, (n_samples,), optional
            Weights of the samples.
        classes : array_like, (n_classes,)
            Labels of all classes, needed in the first call.

        Returns
        -------
        MLPClassifier
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            A parameter of the estimator is wrong, or the samples do not fit it or each other.
        """
        if not hasattr(self, "classes_"):
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            self.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                f"{self.classes_!r}"
            )
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Matrix) -> Array:
        """Predict the class of each sample.

        Parameters
        ----------
        X : array_like or sparse matrix, (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray, (n_samples,), or (n_samples, n_classes) for several labels of a sample
            Class labels, or indicators 0 and 1.

        Raises
        ------
        ValueError, TypeError
            X is not such as the estimator was fitted to, or it has not been fitted
            (NotFittedError).
        """
        outputs = self._outputs(X)
        if self.out_activation_ == "softmax":
            return np.asarray(self.classes_[outputs.argmax(axis=1)])
        likely = (outputs > 0.5).astype(int)
        if self.n_outputs_ > 1:
            return likely
        return np.asarray(self.classes_[np.minimum(likely[:, 0], len(self.classes_) - 1)])

    def predict_proba(self, X: Matrix) -> Array:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array_like or sparse matrix, (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray, (n_samples, n_classes)
            Probabilities, in the order of `classes_`.

        Raises
        ------
        ValueError, TypeError
            X is not such as the estimator was fitted to, or it has not been fitted
            (NotFittedError).
        """
        outputs = self._outputs(X)
        return np.hstack([1 - outputs, outputs]) if self.n_outputs_ == 1 else outputs

    def predict_log_proba(self, X: Matrix) -> Array:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : array_like or sparse matrix, (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray, (n_samples, n_classes)
            Logarithms, in the order of `classes_`.

        Raises
        ------
        ValueError, TypeError
            X is not such as the estimator was fitted to, or it has not been fitted
            (NotFittedError).
        """
        probabilities = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.log(probabilities, out=probabilities)

    def input_gradients(self, X: Matrix) -> Array:
        """Compute the derivatives of `predict_proba` with respect to X.

        Parameters
        ----------
        X : array_like or sparse matrix, (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray, (n_samples, n_classes, n_features)
            Derivatives, in the order of `classes_`; NaN by columns of categories.

        Raises
        ------
        ValueError, TypeError
            X is not such as the estimator was fitted to, or it has not been fitted
            (NotFittedError).
        """
        J = self._jacobian(X)
        return np.concatenate([-J, J], axis=1) if self.n_outputs_ == 1 else J

    # ---------------------------------------------------------------- what `fit` asks

    def _loss_name(self) -> str:
        return loss_of_output(OUR_NAMES.get(self.out_activation_, self.out_activation_))

    def _targets(
        self, y: Matrix, weights: Array | None, dtype: DType, first: bool, incremental: bool
    ) -> tuple[Array, Array | None]:
        """Return labels 0, 1, ... as the kernels take them, and weights times class weights."""
        classes = np.unique(y) if y.ndim == 1 and y.dtype.kind in "biu" else None
        if classes is None or 2 * len(classes) > len(y):  # few integers are beyond doubt
            check_classification_targets(y)
        kind = type_of_target(y) if y.ndim == 2 else "multiclass"
        if kind == "multiclass-multioutput":
            raise ValueError("y must hold one class a sample, or indicators 0 and 1 of labels")
        several = kind.startswith("multilabel")
        if several:
            y = dense(y)
        if classes is None:
            classes = np.arange(y.shape[1]) if several else np.unique(y)
        self._check_classes(classes, incremental)
        if first:
            n_classes = len(self.classes_)
            self.out_activation_ = "softmax" if n_classes > 2 and not several else "logistic"
            self.n_outputs_ = 1 if n_classes <= 2 and not several else n_classes
        return self._encoded(y, dtype), self._weighted(y, weights, dtype, incremental)

    def _encoded(self, y: Array, dtype: DType) -> Array:
        """Return labels 0, 1, ..., or indicators of several labels as they are."""
        if y.ndim == 2:
            return np.ascontiguousarray(y, dtype)
        return np.searchsorted(self.classes_, y).astype(dtype)[:, None]

    def _validation_targets(self, y: Matrix, dtype: DType) -> Array:
        """Return y_val as the kernels take it."""
        y = dense(y)
        several = self.out_activation_ != "softmax" and self.n_outputs_ > 1
        known = np.isin(y, (0, 1) if several else self.classes_)
        if not known.all():
            raise ValueError(f"y_val has {y[~known][0]!r}, which y has not")
        columns = self.n_outputs_ if several else 1
        if y.size != len(y) * columns:
            raise ValueError(f"y_val must have {columns} columns as y, got {y.shape}")
        return self._encoded(y if several else y.ravel(), dtype)

    def _check_classes(self, classes: Array, incremental: bool) -> None:
        """Learn the classes, or check that they are those of earlier calls."""
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self.classes_ = classes
        elif incremental:
            if not np.isin(classes, self.classes_).all():
                raise ValueError(
                    f"`y` has classes not in `self.classes_`. `self.classes_` has "
                    f"{self.classes_}. 'y' has {classes}."
                )
        elif not np.array_equal(classes, self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes_}, `y` has {classes}"
            )

    def _weighted(
        self, y: Array, weights: Array | None, dtype: DType, incremental: bool
    ) -> Array | None:
        """Return sample weights times class weights."""
        if self.class_weight is None:
            return weights
        if incremental and isinstance(self.class_weight, str):
            raise ValueError(
                "class_weight='balanced' needs all samples at once; for partial_fit give a dict, "
                "as from sklearn.utils.class_weight.compute_class_weight"
            )
        of_classes = compute_sample_weight(self.class_weight, y).astype(dtype)
        return np.asarray(of_classes if weights is None else weights * of_classes)

    def _score_of(self, outputs: Array, samples: Samples) -> float:
        """Return the accuracy; of several labels of a sample, all must be right."""
        of = accuracy_of_classes if self.out_activation_ == "softmax" else accuracy_of_labels
        return of(outputs, samples.Y, samples.weights)
