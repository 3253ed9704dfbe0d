"""`MLPRegressor`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if

from deltajit import checks
from deltajit.sklearn.base import MultilayerPerceptron, has_epochs
from deltajit.sklearn.samples import Samples

Array = NDArray[Any]

LOSSES = ("squared_error", "poisson", "huber", "absolute_error", "quantile")


class MLPRegressor(RegressorMixin, MultilayerPerceptron):  # type: ignore[misc]
    """DOC"""

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
        dropout: float = 0.0,
        l1: float = 0.0,
        standardize: bool = False,
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
        checks.choice(self.loss, "loss", LOSSES)

    def _loss_name(self) -> str:
        return str(self.loss)

    def _targets(
        self, y: Any, weights: Array | None, dtype: Any, first: bool, incremental: bool
    ) -> tuple[Array, Array | None]:
        """Targets (n, n_outputs) as the kernels take them."""
        Y = np.ascontiguousarray(y.reshape(len(y), -1), dtype)
        if self.loss == "poisson" and Y.min() < 0:
            raise ValueError(f"y must be >= 0 for loss='poisson', got {Y.min()}")
        if first:
            self.n_outputs_ = Y.shape[1]
            self.out_activation_ = "exp" if self.loss == "poisson" else "identity"
        elif Y.shape[1] != self.n_outputs_:
            raise ValueError(f"y must have {self.n_outputs_} outputs as before, got {Y.shape[1]}")
        return Y, weights

    def _reported(self, loss: float, penalty: float) -> float:
        """The loss as scikit-learn counts it: the mean over outputs, where the kernels sum."""
        if self.n_outputs_ == 1 or self.loss == "poisson":
            return loss
        return float((loss - penalty) / self.n_outputs_ + penalty)

    def _score_of(self, outputs: Array, samples: Samples) -> float:
        """R2, the mean over outputs; one that is constant has 1 if it is met, else 0."""
        Y, w = samples.Y.astype(np.float64), samples.weights
        rest = np.average((Y - outputs) ** 2, axis=0, weights=w)
        spread = np.average((Y - np.average(Y, axis=0, weights=w)) ** 2, axis=0, weights=w)
        constant = spread == 0
        scores = 1 - rest / np.where(constant, 1, spread)
        scores[constant] = rest[constant] == 0
        return float(scores.mean())
