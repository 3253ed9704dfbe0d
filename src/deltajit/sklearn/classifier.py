"""`MLPClassifier`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from deltajit.io.scikit_learn import OUR_NAMES
from deltajit.model.architecture import loss_of_output
from deltajit.model.memory import Array
from deltajit.sklearn.base import MultilayerPerceptron, has_epochs
from deltajit.sklearn.samples import Samples, dense


class MLPClassifier(ClassifierMixin, MultilayerPerceptron):  # type: ignore[misc]
    """scikit-learn's classifier, trained by deltajit.

    It takes one class a sample, or several labels a sample as a matrix of 0 and 1. Samples are in
    float64 unless they are float32: then all is, at twice the speed.

    Parameters
    ----------
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
    class_weight : dict, list of dict, "balanced" or None
        What the weight of a class's samples is multiplied by.
    dropout : float or list of float
        Share of the hidden units that are left out of each step, one for all layers or one each.
    l1 : float
        Adds ``l1 * sum(|W|)``, scaled as that of `alpha`.
    standardize : bool
        Scale each feature to mean 0 and variance 1 (sparse ones to variance 1), as seen in the
        first fit; the scales travel with the model.

    Attributes
    ----------
    classes_ : ndarray, (n_classes,)
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
    >>> from sklearn.datasets import load_iris
    >>> from deltajit.sklearn import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier(32, "tanh", solver="lbfgs", alpha=1, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    """

    loss = "log_loss"
    _numeric = False

    def __init__(
        self,
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
        class_weight: Any = None,
        dropout: Any = 0.0,
        l1: float = 0.0,
        standardize: bool = False,
    ) -> None:
        self._keep(locals())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @available_if(has_epochs)  # type: ignore[untyped-decorator]
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None
    ) -> MLPClassifier:
        """One epoch over these samples, going on with the weights and the optimizer's state.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array_like, (n_classes,)
            All labels that will ever come; for the first call.

        Returns
        -------
        self
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

    def predict(self, X: Any) -> Array:
        """Classes.

        Parameters
        ----------
        X : array_like or sparse matrix, (n_samples, n_features)

        Returns
        -------
        ndarray, (n_samples,), or indicators (n_samples, n_classes) of several labels a sample
        """
        outputs = self._outputs(X)
        if self.out_activation_ == "softmax":
            return np.asarray(self.classes_[outputs.argmax(axis=1)])
        likely = (outputs > 0.5).astype(int)
        if self.n_outputs_ > 1:
            return likely
        return np.asarray(self.classes_[np.minimum(likely[:, 0], len(self.classes_) - 1)])

    def predict_proba(self, X: Any) -> Array:
        """Probability of each class.

        Parameters
        ----------
        X : array_like or sparse matrix, (n_samples, n_features)

        Returns
        -------
        ndarray, (n_samples, n_classes)
            In the order of `classes_`.
        """
        outputs = self._outputs(X)
        return np.hstack([1 - outputs, outputs]) if self.n_outputs_ == 1 else outputs

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithm of `predict_proba`.

        Parameters
        ----------
        X : array_like or sparse matrix, (n_samples, n_features)

        Returns
        -------
        ndarray, (n_samples, n_classes)
        """
        found = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.log(found, out=found)

    def input_gradients(self, X: Any) -> Array:
        """Derivatives of `predict_proba` with respect to X.

        Parameters
        ----------
        X : array_like or sparse matrix, (n_samples, n_features)

        Returns
        -------
        ndarray, (n_samples, n_classes, n_features)
        """
        J = self._jacobian(X)
        return np.concatenate([-J, J], axis=1) if self.n_outputs_ == 1 else J

    # ---------------------------------------------------------------- what `fit` asks

    def _loss_name(self) -> str:
        return loss_of_output(OUR_NAMES.get(self.out_activation_, self.out_activation_))

    def _targets(
        self, y: Any, weights: Array | None, dtype: Any, first: bool, incremental: bool
    ) -> tuple[Array, Array | None]:
        """Labels 0, 1, ... as the kernels take them, and weights times those of classes."""
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multiclass-multioutput":
            raise ValueError("y must hold one class a sample, or indicators 0 and 1 of labels")
        several = kind.startswith("multilabel")
        if several:
            y = dense(y)
        self._check_classes(np.arange(y.shape[1]) if several else np.unique(y), incremental)
        if first:
            n_classes = len(self.classes_)
            self.out_activation_ = "softmax" if n_classes > 2 and not several else "logistic"
            self.n_outputs_ = 1 if n_classes <= 2 and not several else n_classes
        weights = self._weighted(y, weights, dtype, incremental)
        if several:
            return np.ascontiguousarray(y, dtype), weights
        return np.searchsorted(self.classes_, y).astype(dtype)[:, None], weights

    def _check_classes(self, classes: Array, incremental: bool) -> None:
        """Learn the classes, or see that they are those of the calls before."""
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
        self, y: Array, weights: Array | None, dtype: Any, incremental: bool
    ) -> Array | None:
        """Sample weights times class weights."""
        if self.class_weight is None:
            return weights
        if incremental and isinstance(self.class_weight, str):
            raise ValueError(
                "class_weight='balanced' needs all samples at once; for partial_fit give a dict, "
                "as from sklearn.utils.class_weight.compute_class_weight"
            )
        found = compute_sample_weight(self.class_weight, y).astype(dtype)
        return np.asarray(found if weights is None else weights * found)

    def _score_of(self, outputs: Array, samples: Samples) -> float:
        """Accuracy; of several labels a sample, all must be right."""
        if self.out_activation_ == "softmax":
            right = outputs.argmax(axis=1) == samples.Y[:, 0]
        else:
            right = ((outputs > 0.5) == samples.Y).all(axis=1)
        return float(np.average(right, weights=samples.weights))
