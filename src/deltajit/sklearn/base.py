"""Define what both estimators share: parameters, the network behind `coefs_`, fit, stopping."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, Self, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import (
    check_array,
    check_is_fitted,
    check_X_y,
    column_or_1d,
    validate_data,
)

from deltajit.io.files import Path
from deltajit.io.scikit_learn import OUR_NAMES
from deltajit.kernels.gemm.parallel import usable_cores
from deltajit.model import checks, memory
from deltajit.model.memory import Array, DType
from deltajit.network import Network
from deltajit.sklearn import descent
from deltajit.sklearn.bounds import bounds_of
from deltajit.sklearn.columns import Embedding, Table, categorical_columns, needs_table, rows_of
from deltajit.sklearn.samples import (
    DENSE,
    FLOATS,
    Matrix,
    Samples,
    checked_weights,
    dense,
    parts,
    shuffled,
)
from deltajit.sklearn.tasks import CallbackSupportMixin, Tasks, tear_down
from deltajit.training.history import History, TrainingState
from deltajit.training.loop import Loop
from deltajit.training.progress import clock

LEAST_RATE = 1e-6  # at which a fit with learning_rate="adaptive" ends
NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)


class LossOptions(TypedDict, total=False):
    """Type the options of a network's loss."""

    threshold: float
    quantile: float


def has_epochs(estimator: MultilayerPerceptron) -> bool:
    """Return whether the solver has epochs, which `partial_fit` needs.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        The estimator.

    Returns
    -------
    bool
        False for "lbfgs".
    """
    return bool(estimator.solver != "lbfgs")


@contextlib.contextmanager
def _unchanged_by_errors(estimator: MultilayerPerceptron) -> Iterator[None]:
    """Restore an estimator's attributes if the block raises an error, or Ctrl-C ends it."""
    before = dict(estimator.__dict__)
    try:
        yield
    except BaseException:
        estimator.__dict__.clear()
        estimator.__dict__.update(before)
        raise


class MultilayerPerceptron(CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]
    """Fit a network whose weights are `coefs_` and `intercepts_`, lists of views of its theta.

    Subclasses define the targets and their loss: `_targets`, `_loss_name`, `_score_of`.
    """

    # Some of these are None, or missing, as the parameters of the fit will have it.
    _numeric: bool
    _table: Table | None = None
    out_activation_: str
    loss_curve_: list[float]
    best_loss_: Any
    validation_scores_: Any
    validation_loss_curve_: Any
    best_validation_score_: Any

    def _keep(self, arguments: dict[str, object]) -> None:
        """Set the arguments of __init__ as attributes, unchanged, as scikit-learn requires."""
        for name, value in arguments.items():
            if name != "self":
                setattr(self, name, value)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self.missing != "indicator"
        tags.input_tags.allow_nan = self.missing == "indicator"
        return tags

    # ---------------------------------------------------------------- parameters

    def _check_parameters(self) -> None:
        checks.choice(self.solver, "solver", ("adam", "sgd", "lbfgs"))
        rates = ("constant", "invscaling", "adaptive")
        checks.choice(self.learning_rate, "learning_rate", rates)
        for name in ("learning_rate_init", "epsilon"):
            checks.above_zero(getattr(self, name), name)
        for name in ("alpha", "l1", "power_t", "tol"):
            checks.real(getattr(self, name), name, least=0)
        for name in ("beta_1", "beta_2", "validation_fraction"):
            checks.fraction(getattr(self, name), name)
        if any(checks.dropout(self.dropout, len(self._hidden()[0]))) and self.solver == "lbfgs":
            raise ValueError("dropout means nothing to solver='lbfgs'; leave it out")
        checks.choice(self.missing, "missing", ("error", "indicator"))
        if self.embedding_size is not None:
            checks.whole(self.embedding_size, "embedding_size")
        checks.real(self.momentum, "momentum", least=0, most=1)
        for name in ("max_iter", "max_fun"):
            checks.whole(getattr(self, name), name)
        if not isinstance(self.batch_size, str) or self.batch_size != "auto":
            checks.whole(self.batch_size, "batch_size")
        if self.n_iter_no_change != math.inf:
            checks.whole(self.n_iter_no_change, "n_iter_no_change")

    def _hidden(self) -> tuple[list[int], list[str]]:
        """Return the number of units and the activation of each hidden layer."""
        given, names = self.hidden_layer_sizes, self.activation
        listed = list(given) if np.iterable(given) else [given]
        sizes = [checks.whole(n, "hidden_layer_sizes") for n in listed]
        if isinstance(names, str):
            names = [names] * len(sizes)
        if len(names) != len(sizes):
            raise ValueError(
                f"activation must be a name, or one for each of {len(sizes)} hidden layers, "
                f"got {names!r}"
            )
        return sizes, [OUR_NAMES.get(name, name) for name in names]

    # ---------------------------------------------------------------- the network

    def _new_network(self, n_in: int, n_out: int, dtype: DType) -> Network:
        """Make a network for these parameters, all zeros."""
        sizes, names = self._hidden()
        embedding = self._embedding()
        if embedding is not None:
            sizes, names = [embedding.n_out, *sizes], ["identity", *names]
        return Network(
            [n_in, *sizes, n_out],
            names,
            OUR_NAMES.get(self.out_activation_, self.out_activation_),
            self._loss_name(),
            dtype=dtype,
            init="zeros",
            threads=_threads(),
            **self._loss_options(),
        )

    def _draw(self, net: Network) -> None:
        """Draw Glorot's initial weights and biases, in scikit-learn's order."""
        names = net.architecture.activations[:-1]
        for k, (n_in, n_out) in enumerate(pairwise(net.sizes)):
            name = names[min(k, len(names) - 1)] if names else self.activation
            bound = math.sqrt((2 if name in ("sigmoid", "logistic") else 6) / (n_in + n_out))
            net.weights[k].T[:] = self._random_state.uniform(-bound, bound, (n_in, n_out))
            net.biases[k][:] = self._random_state.uniform(-bound, bound, n_out)

    def _recalled(self, net: Network) -> Network:
        """Copy `coefs_` and `intercepts_`, which a user may have set, into a network; return it."""
        views = [*(W.T for W in net.weights), *net.biases]
        given = [np.asarray(array) for array in (*self.coefs_, *self.intercepts_)]
        shapes = [a.shape for a in given], [a.shape for a in views]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"coefs_ and intercepts_ have the shapes {shapes[0]}, but the parameters and data "
                f"are for {shapes[1]}; warm_start and partial_fit go on with the same network"
            )
        for view, array in zip(views, given, strict=True):
            view[...] = array
        return net

    def _bind(self, net: Network) -> None:
        """Make `coefs_` and `intercepts_` views of the network's weights."""
        self._architecture = net.architecture
        self.coefs_ = [W.T for W in net.weights]
        self.intercepts_ = list(net.biases)
        self._bound = net, [*self.coefs_, *self.intercepts_]

    def _network(self) -> Network:
        """Return the network of `coefs_` and `intercepts_`, also if a user has replaced some.

        Its architecture is that of the last fit, whatever the parameters have been set to since.
        """
        bound: tuple[Network, list[Array]] | None = getattr(self, "_bound", None)
        now = [*self.coefs_, *self.intercepts_]
        if bound is not None and list(map(id, bound[1])) == list(map(id, now)):
            return bound[0]
        architecture = replace(self._architecture, dtype=self._dtype())
        theta = memory.empty(architecture.n_params, architecture.dtype)
        rng = np.random.default_rng(0)
        return self._recalled(Network.sharing(architecture, theta, rng, _threads()))

    def _dtype(self) -> DType:
        """Return float32 or float64, whichever holds `coefs_`."""
        return np.result_type(np.asarray(self.coefs_[0]), np.float32)

    def __getstate__(self) -> dict[str, object]:
        state = dict(super().__getstate__())
        state.pop("_bound", None)  # coefs_, intercepts_ and the architecture say it all
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if hasattr(self, "coefs_"):
            self._bind(self._network())

    def _embedding(self) -> Embedding | None:
        """Return the layer of `embedding_size`, if there are columns of categories."""
        table = self._table
        if self.embedding_size is None or table is None or not table.widths:
            return None
        return Embedding(table, self.embedding_size)

    # ---------------------------------------------------------------- what it computes

    def _checked(self, X: Matrix) -> Matrix:
        """Return X as the network takes it, but for sparsity and standardization."""
        check_is_fitted(self)
        return self._numbers(X).astype(self._dtype(), copy=False)

    def _numbers(self, X: Matrix) -> Matrix:
        """Check X against the columns that the estimator has learnt; return it as numbers."""
        if self._table is None:
            return validate_data(self, X, accept_sparse="csr", dtype=FLOATS, order="C", reset=False)
        X = rows_of(X)
        validate_data(self, X, skip_check_array=True, reset=False)
        return self._table.encode(X)

    def _learn_columns(self, X: Matrix) -> None:
        """Learn the categories and means of X, if there is anything but numbers."""
        self._table = None
        if needs_table(self.categorical_features, self.missing, X):
            X = rows_of(X)
            validate_data(self, X, skip_check_array=True)
            names = list(getattr(self, "feature_names_in_", ()))
            count = self.n_features_in_
            mask = categorical_columns(self.categorical_features, X, names, count)
            self._table = Table(X, mask, self.missing == "indicator")

    def _standardized(self, X: Matrix) -> Matrix:
        return self.standardizer_.transform(X) if hasattr(self, "standardizer_") else X

    def _outputs(self, X: Matrix) -> Array:
        """Compute the network's outputs, (n_samples, n_outputs)."""
        return self._outputs_of(self._checked(X))

    def _outputs_of(self, X: Matrix) -> Array:
        """Compute the network's outputs of checked numbers."""
        net = self._network()
        outputs = [net.predict(self._standardized(dense(X[i]))) for i in parts(X)]
        return self._unscaled(np.concatenate(outputs))

    def _unscaled(self, outputs: Array) -> Array:
        """Return outputs in units of y."""
        return outputs

    def _jacobian(self, X: Matrix) -> Array:
        """Compute the derivatives of outputs by X, (n_samples, n_outputs, n_features)."""
        X, net = self._checked(X), self._network()
        J = np.concatenate([net.jacobian(self._standardized(dense(X[i]))) for i in parts(X)])
        if hasattr(self, "standardizer_"):
            J /= self.standardizer_.scale_
        return J if self._table is None else self._table.of_features(J)

    # ---------------------------------------------------------------- as a network

    def encode(self, X: Matrix) -> Matrix:
        """Return X as the network of `to_network` takes it, a table as numbers.

        First come columns of numbers, in their order, then one for each of these that had missing
        values, which is 1 where they are, then one for each category; `Network.input_names` has
        their names.

        Parameters
        ----------
        X : array_like, data frame or sparse matrix, (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray or sparse matrix, (n_samples, n_inputs)
            Inputs of the network.

        Raises
        ------
        ValueError, TypeError
            X is not such as the estimator was fitted to, or it has not been fitted
            (NotFittedError).
        """
        return self._checked(X)

    def to_network(self) -> Network:
        """Return the fitted network, of X and y as they are: scales are in its weights.

        If X is a table with categories or missing values, its inputs are those of `encode`.

        Returns
        -------
        Network
            Network with copies of the weights, whose `predict` is the regressor's, or the
            classifier's ``predict_proba`` in the order of ``classes_``, which it has as
            ``class_names``; of two classes only the second has an output.

        Raises
        ------
        ValueError
            The estimator has not been fitted (NotFittedError).
        """
        check_is_fitted(self)
        return Network.from_sklearn(self, threads=_threads())

    def save(self, path: Path) -> None:
        """Write the fitted network to a safetensors file, which `deltajit.load` reads.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            File to write, as for `Network.save`.

        Raises
        ------
        ValueError, TypeError
            The estimator has not been fitted (NotFittedError), or path is no path.
        OSError
            The file can't be written.
        """
        self.to_network().save(path)

    def to_c(self, path: Path, name: str | None = None) -> None:
        """Write the fitted network to a C99 header, with the names of classes.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            File to write, as for `Network.to_c`.
        name : str, optional
            Prefix of the names in the header, by default the file's name.

        Raises
        ------
        ValueError, TypeError
            The estimator has not been fitted (NotFittedError), or `Network.to_c` refuses it.
        OSError
            The file can't be written.
        """
        self.to_network().to_c(path, name)

    def to_onnx(self, path: Path) -> None:
        """Write the fitted network to an ONNX file, with the names of classes as metadata.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            File to write, as for `Network.to_onnx`.

        Raises
        ------
        ValueError, TypeError
            The estimator has not been fitted (NotFittedError), or `Network.to_onnx` refuses it.
        OSError
            The file can't be written.
        ImportError
            The package onnx is not installed (``pip install 'deltajit[onnx]'``).
        """
        self.to_network().to_onnx(path)

    def to_torch(self) -> Any:
        """Return the fitted network as a ``torch.nn.Sequential``.

        Returns
        -------
        torch.nn.Sequential
            Module with copies of the weights, as from `Network.to_torch`.

        Raises
        ------
        ValueError
            The estimator has not been fitted (NotFittedError), or `Network.to_torch` refuses it.
        ImportError
            PyTorch is not installed.
        """
        return self.to_network().to_torch()

    # ---------------------------------------------------------------- fit

    def fit(
        self,
        X: Matrix,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: Matrix | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Fit the network to samples.

        Callbacks of scikit-learn (since 1.9), as of `set_callbacks`, are told of the fit, and with
        "sgd" and "adam" of each epoch, which may be the last if one asks for it.

        Parameters
        ----------
        X : array_like or sparse matrix, (n_samples, n_features)
            Inputs.
        y : array_like, (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array_like, (n_samples,), optional
            Weights of the samples.
        X_val, y_val : array_like, optional
            Samples to validate with after each epoch, for `validation_scores_` and
            `validation_loss_curve_`; early_stopping takes them instead of holding out some of X.
        sample_weight_val : array_like, optional
            Weights of these samples, without class_weight.

        Returns
        -------
        MLPClassifier or MLPRegressor
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            A parameter of the estimator is wrong, or the samples do not fit it or each other.
        """
        try:
            return self._fit(X, y, sample_weight, False, (X_val, y_val, sample_weight_val))
        finally:
            tear_down(self)

    def _fit(
        self,
        X: Matrix,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        incremental: bool,
        validation: tuple[Matrix, ArrayLike | None, ArrayLike | None] = (None, None, None),
    ) -> Self:
        self._check_parameters()
        if (validation[0] is None) != (validation[1] is None):
            raise ValueError("X_val and y_val must be given together")
        if validation[0] is None and validation[2] is not None:
            raise ValueError("sample_weight_val needs X_val and y_val")
        if validation[0] is not None and self.solver == "lbfgs":
            raise ValueError("X_val means nothing to solver='lbfgs', which has no epochs")
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        with _unchanged_by_errors(self):
            samples = self._samples(X, y, sample_weight, first, incremental)
            validated = (
                None
                if validation[0] is None
                else self._validation_samples(samples.X.dtype, *validation)
            )
            self._random_state = check_random_state(self.random_state)
            net = self._new_network(samples.X.shape[1], self.n_outputs_, samples.X.dtype)
            bounds = bounds_of(self, net, self._embedding())
            if first:
                self._draw(net)
                self.n_layers_, self.t_ = len(net.sizes), 0
            else:
                self._recalled(net)
            descent.project(net, bounds)
            order = np.arange(samples.size)
            if self.solver != "lbfgs":
                if first or not incremental or not hasattr(self, "_optimizer"):
                    self._optimizer = descent.Optimizer(self, net, self._random_state)
                if self.early_stopping and validated is None:
                    order, validated = self._split(samples)
        tasks = None
        if not incremental:
            metadata = None if sample_weight is None else {"sample_weight": sample_weight}
            epochs = 0 if self.solver == "lbfgs" else self.max_iter
            tasks = Tasks(self, epochs, {"X": X, "y": y, "metadata": metadata})
        if self.solver == "lbfgs":
            self._fit_lbfgs(net, samples, bounds)
        else:
            self._fit_stochastic(net, samples, order, validated, bounds, first, tasks)
        descent.project(net, bounds)  # Ctrl-C may have come between a step and this
        if tasks is not None:
            tasks.end(net)
        if not np.isfinite(net.theta).all():
            raise ValueError(NOT_FINITE)
        self._bind(net)
        return self

    def _samples(
        self, X: Matrix, y: Any, weight: ArrayLike | None, first: bool, incremental: bool
    ) -> Samples:
        """Check samples, and return them as the kernels take them, but a large X stays sparse."""
        options = {"accept_sparse": "csr", "multi_output": True, "dtype": FLOATS, "order": "C"}
        options["y_numeric"] = self._numeric
        if first:
            self._learn_columns(X)
        if self._table is None:
            X, y = validate_data(self, X, y, reset=first, **options)
        else:
            X, y = check_X_y(self._numbers(X), y, estimator=self, **options)
        if not first:
            X = X.astype(self._dtype(), copy=False)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        weights = checked_weights(weight, X)
        Y, weights = self._targets(y, weights, X.dtype, first, incremental)
        if self.standardize:
            if first or not hasattr(self, "standardizer_"):
                self.standardizer_ = StandardScaler(with_mean=not issparse(X))
                self.standardizer_.fit(X, sample_weight=weights)
                if self._table is not None:  # indicators are 0 and 1 as they are
                    self._table.keep_indicators(self.standardizer_)
            X = self.standardizer_.transform(X)
        elif hasattr(self, "standardizer_"):
            del self.standardizer_
        if issparse(X) and X.shape[0] * X.shape[1] <= DENSE:
            X = dense(X)
        return Samples(X, Y, weights)

    def _validation_samples(
        self, dtype: DType, X: Matrix, y: Any, sample_weight: ArrayLike | None
    ) -> Samples:
        """Check samples to validate with, and return them as the network takes them."""
        try:
            X = self._numbers(X)
        except (ValueError, TypeError) as error:
            raise type(error)(f"X_val: {error}") from None
        X = X.astype(dtype, copy=False)
        y = check_array(y, ensure_2d=False, dtype=None, accept_sparse=True, input_name="y_val")
        if y.shape[0] != X.shape[0]:
            raise ValueError(f"y_val must have {X.shape[0]} rows as X_val, got {y.shape}")
        weights = checked_weights(sample_weight, X, "sample_weight_val")
        return Samples(self._standardized(X), self._validation_targets(y, dtype), weights)

    def _fit_lbfgs(self, net: Network, samples: Samples, bounds: Bounds | None) -> None:
        """Take iterations of L-BFGS, until the gradient is below tol."""
        iteration = 0

        def report(loss: float) -> None:
            nonlocal iteration
            iteration += 1
            if self.verbose:
                print(f"Iteration {iteration}, loss = {loss:.8f}")

        options = {"maxiter": self.max_iter, "maxfun": self.max_fun, "gtol": self.tol}
        result = descent.lbfgs(net, samples, self._penalty(), bounds, options, report)
        self.n_iter_ = min(int(result.nit), self.max_iter)
        self.loss_ = self._reported(float(result.fun), net, samples.weight)
        self.loss_ += self._beyond(samples.Y, samples.weights)
        if result.status != 0:
            or_scales = "" if self.standardize else ", or scaled data (standardize=True),"
            warnings.warn(
                f"lbfgs failed to converge after {result.nit} iterations (status "
                f"{result.status}: {result.message}); more of them (max_iter){or_scales} may help",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _fit_stochastic(
        self,
        net: Network,
        samples: Samples,
        order: NDArray[np.int64],
        validation: Samples | None,
        bounds: Bounds | None,
        first: bool,
        tasks: Tasks | None,
    ) -> None:
        """Train by SGD or Adam on the rows `order`, until losses or scores no longer improve.

        Without `tasks` it is one epoch of `partial_fit`.
        """
        incremental = tasks is None
        self._start_curves(net, first, validation is not None)
        batch_size = self._batch_size(len(order))
        penalty = self._penalty()
        epoch = descent.epochs(net, samples, batch_size, self._optimizer, penalty, bounds)
        weights = None if samples.weights is None else samples.weights[order]
        self.n_iter_, beyond = 0, self._beyond(samples.Y[order], weights)
        most = 1 if incremental else self.max_iter
        state = TrainingState(net, self._optimizer.rule, History(), most, ("loss", "time"))

        def one_epoch() -> float:
            nonlocal order
            if tasks is not None:
                tasks.begin_epoch()
            if self.shuffle:
                order = shuffled(order, self._random_state)
            return self._reported(epoch(order), net, batch_size) + beyond

        def note(loss: float, start: float) -> None:
            state.history.note({"loss": loss, "time": clock() - start})
            self._note(loss, len(order), net, validation)
            asked = tasks is not None and tasks.end_epoch(net)
            if self._finished() or asked:
                state.stop()

        history = Loop(state, note, len(order)).run(one_epoch)
        if history.interrupted:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        elif not math.isfinite(self.loss_):
            self._warn(f"The loss is not finite in iteration {self.n_iter_}; fit ends")
        elif not state.stopped and not incremental:
            self._warn(f"Maximum iterations ({self.max_iter}) reached before convergence")
        if self.early_stopping:
            net.theta[:] = self._best_theta

    def _penalty(self) -> descent.Penalty:
        embedding = self._embedding()
        ones = 0 if embedding is None else embedding.table.n_plain
        return descent.Penalty(self.alpha, self.l1, ones)

    def _reported(self, loss: float, net: Network, weight: float) -> float:
        """Convert a loss of samples of this weight, penalty included, to scikit-learn's.

        If scikit-learn averages over outputs, the penalty is taken to be that of the present theta.
        """
        outputs = self._averaged()
        if outputs == 1:
            return loss
        penalty = self._penalty().value(net, weight)
        return float((loss - penalty) / outputs + penalty)

    def _loss_options(self) -> LossOptions:
        """Return the options of the network's loss."""
        return {}

    def _averaged(self) -> int:
        """Return over how many outputs scikit-learn averages a loss, which the kernels sum."""
        return 1

    def _beyond(self, Y: Array, weights: Array | None) -> float:
        """Return the constant that scikit-learn's mean loss has beyond the kernels'."""
        return 0.0

    def _start_curves(self, net: Network, first: bool, validated: bool) -> None:
        """Empty the curves of a fit that starts anew, or watches other numbers than the last."""
        if not first and hasattr(self, "loss_curve_"):
            before = self.validation_scores_ is not None, self.best_loss_ is None
            if before == (validated, bool(self.early_stopping)):
                return
        self.loss_curve_ = []
        self._no_improvement_count = 0
        self.best_loss_ = None if self.early_stopping else math.inf
        self.best_validation_score_ = -math.inf if validated else None
        self.validation_scores_ = [] if validated else None
        self.validation_loss_curve_ = [] if validated else None
        if self.early_stopping:
            self._best_theta = net.theta.copy()

    def _split(self, samples: Samples) -> tuple[NDArray[np.int64], Samples]:
        """Return the rows to train on, and the samples held out for early stopping."""
        rows = np.arange(samples.size)
        stratify = None if self._numeric or self.n_outputs_ > 1 else samples.Y == 1
        rows, held_out = train_test_split(
            rows,
            test_size=self.validation_fraction,
            random_state=self._random_state,
            stratify=stratify,
        )
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        if samples.weights is not None and not (
            samples.weights[rows].any() and samples.weights[held_out].any()
        ):
            raise ValueError(
                "sample_weight must not be 0 for every sample that early_stopping holds out, or "
                "for every other one; such samples may as well be left out of X"
            )
        return rows, samples.pick(held_out)

    def _batch_size(self, n: int) -> int:
        if isinstance(self.batch_size, str):
            return min(200, n)
        if self.batch_size > n:
            warnings.warn(
                f"batch_size={self.batch_size} is more than the {n} samples, and is cut to that",
                stacklevel=5,
            )
        return min(int(self.batch_size), n)

    def _note(self, loss: float, seen: int, net: Network, validation: Samples | None) -> None:
        """Record an epoch over `seen` samples: extend the curves, and see whether they improve."""
        held_out = None if validation is None else self._held_out(net, validation)
        self.n_iter_ += 1  # from here on all at once, for Ctrl-C
        self.t_ += seen
        self.loss_ = loss
        self.loss_curve_.append(loss)
        if self.verbose:
            print(f"Iteration {self.n_iter_}, loss = {loss:.8f}")
        stuck = held_out is not None and self._validate(net, *held_out)
        if not self.early_stopping:
            stuck = bool(loss > self.best_loss_ - self.tol)
            self.best_loss_ = min(loss, self.best_loss_)
        self._no_improvement_count = self._no_improvement_count + 1 if stuck else 0
        self._optimizer.epoch_ends(self.t_)

    def _held_out(self, net: Network, validation: Samples) -> tuple[float, float]:
        """Return score and loss of the samples held out."""
        outputs = descent.outputs(net, validation.X)
        score = math.nan
        if np.isfinite(outputs).all():
            score = self._score_of(outputs, validation)
        loss = descent.mean_loss(net, validation) / self._averaged()
        return score, loss + self._beyond(validation.Y, validation.weights)

    def _validate(self, net: Network, score: float, loss: float) -> bool:
        """Extend the curves of what is held out; whether the score has not improved."""
        self.validation_scores_.append(score)
        self.validation_loss_curve_.append(loss)
        if self.verbose:
            print(f"Validation score: {score:f}")
        stuck = bool(score < self.best_validation_score_ + self.tol)
        if score > self.best_validation_score_:
            self.best_validation_score_ = score
            if self.early_stopping:
                self._best_theta[:] = net.theta
        return stuck

    def _finished(self) -> bool:
        """Return whether to stop; learning_rate="adaptive" tries smaller steps first."""
        if not math.isfinite(self.loss_):
            if not self.early_stopping:
                raise ValueError(NOT_FINITE)
            return True
        if self._no_improvement_count <= self.n_iter_no_change:
            return False
        watched = "Validation score" if self.early_stopping else "Training loss"
        news = (
            f"{watched} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} "
            "consecutive epochs."
        )
        adaptive = self._optimizer.schedule == "adaptive"
        if adaptive and self._optimizer.learning_rate > LEAST_RATE:
            self._optimizer.learning_rate /= 5
            self._no_improvement_count = 0
            news += f" Setting learning rate to {self._optimizer.learning_rate:f}"
        else:
            adaptive = False
            news += " Stopping."
        if self.verbose:
            print(news)
        return not adaptive

    def _warn(self, what: str) -> None:
        warnings.warn(f"Stochastic Optimizer: {what}.", ConvergenceWarning, stacklevel=5)


def _threads() -> int:
    """Return a number of threads: one for each core, but less for one of many workers."""
    if threading.current_thread() is not threading.main_thread():
        return 1
    limit = os.environ.get("OMP_NUM_THREADS", "")  # which joblib sets in its processes
    cores: int = usable_cores()
    return min(cores, max(1, int(limit))) if limit.isdecimal() else cores
