"""Check what users pass, and make it ready for the kernels.

Each function changes nothing, and raises ValueError or TypeError that names the argument, what it
was and what was expected.
"""

from __future__ import annotations

import inspect
import math
import os
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deltajit.circuits.tracing import holds_nodes
from deltajit.kernels import LOSSES, Model, hints, ranges
from deltajit.kernels.blocks import MOST_THREADS
from deltajit.kernels.gemm.parallel import usable_cores
from deltajit.kernels.mlp.optimizers import OPTIMIZERS
from deltajit.model import memory
from deltajit.model.memory import Array, DType

# Checks of single numbers, which the kernels' records of optimizers need too.
real, above_zero, fraction = ranges.real, ranges.above_zero, ranges.fraction
pair, fractions, whole = ranges.pair, ranges.fractions, ranges.whole

REAL = "real numbers (float16, float32, float64, integers or bools)"
NUMBERS = (bool, int, float, np.bool_, np.number)

Seed = int | np.random.Generator | None
Validation = tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, ArrayLike | None]


def choice(value: object, name: str, options: Iterable[str]) -> str:
    """Return one of `options`; for anything else the error suggests the nearest."""
    options = list(options)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, one of {_listed(options)}; got {value!r}")
    if value not in options:
        near = hints.nearest(value, options)
        hint = f"did you mean {near!r}? It" if near else f"{name}"
        raise ValueError(f"{name}={value!r} is unknown; {hint} must be one of {_listed(options)}")
    return value


def threads(value: object) -> int:
    """Return how many threads kernels may use: None is one for each core."""
    return usable_cores() if value is None else whole(value, "threads", most=MOST_THREADS)


def sizes(value: object) -> tuple[int, ...]:
    """Return the numbers of units, inputs first, outputs last."""
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, np.ndarray)):
        raise TypeError(
            f"sizes must be a list such as [64, 128, 10] (inputs, hidden layers, outputs), "
            f"got {value!r}"
        )
    numbers = tuple(whole(n, f"sizes[{i}]", most=math.inf) for i, n in enumerate(value))
    if len(numbers) < 2:
        raise ValueError(f"sizes needs at least inputs and outputs, got {list(numbers)}")
    return numbers


def names(value: object, name: str, n: int) -> tuple[str, ...] | None:
    """Return `n` names of classes or inputs, or None for none."""
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
        raise TypeError(f"{name} must be a list of strings, or None; got {value!r}")
    if len(value) != n or len(set(value)) != n:
        raise ValueError(f"{name} must be {n} different names, got {list(value)}")
    return tuple(value)


def dtype(value: object) -> DType:
    """Return float32 or float64, as NumPy's dtype."""
    return ranges.floating(value, "dtype")


def generator(value: object, name: str = "rng") -> np.random.Generator:
    """Return a Generator: the one given, or a new one from a seed."""
    try:
        return np.random.default_rng(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{name} must be None, a seed (int >= 0) or a numpy.random.Generator, got {value!r}"
        ) from None


def array(value: object, name: str, kind: DType) -> Array:
    """Return a C-contiguous, aligned, native array of dtype `kind`: `value` itself if it is one.

    Lists, integers, bools, data frames of such columns, and floats of 16, 32 and 64 bits, of any
    byte order and layout, are converted.
    """
    if type(value) is np.ndarray and value.dtype == kind and value.flags.carray:
        return value
    given = asarray(value, name)
    if not _is_real(given):
        if holds_nodes(given):
            raise TypeError(
                f"{name} holds traced values, with which a Circuit calls its function, and no "
                "numbers yet; for net.predict(x) write net.circuit()(x) there"
            )
        raise TypeError(f"{name} must hold {REAL}, got dtype {given.dtype.name}")
    with np.errstate(all="ignore"):  # what is too large for float32 becomes inf, which fit reports
        return memory.lent(np.require(given, kind, ["C", "A"]))


def samples(value: object, name: str, columns: int, kind: DType) -> Array:
    """Return samples (B, columns), or one sample (columns,)."""
    if type(value) is np.ndarray and value.dtype is kind and value.flags.carray:
        inputs = value  # as `array` would, whose call costs as much as a small network
    else:
        inputs = array(value, name, kind)
    shape = inputs.shape
    if 1 <= len(shape) <= 2 and shape[-1] == columns:
        return inputs
    hint = ""
    if columns == 1 and inputs.ndim == 1:
        hint = f"; for {inputs.shape[0]} samples of one feature pass {name}.reshape(-1, 1)"
    raise ValueError(
        f"{name} must have shape (batch, {columns}) or ({columns},), got {inputs.shape}{hint}"
    )


def matrix(value: object, name: str, columns: int, kind: DType) -> tuple[Array, bool]:
    """Return samples (B, columns), and whether `value` was one sample of shape (columns,)."""
    inputs = samples(value, name, columns, kind)
    if inputs.ndim == 1:
        return inputs.reshape(1, columns), True
    return inputs, False


class TargetForm(NamedTuple):
    """Describe the targets that a network expects."""

    n_out: int
    loss: str
    kind: DType


def targets(value: object, name: str, batch: int, single: bool, form: TargetForm) -> Array:
    """Return Y as the kernels take it: (batch, n_out), or labels (batch, 1) where the loss may."""
    loss, given = LOSSES[form.loss], asarray(value, name)
    if single and (given.ndim == 0 or given.shape == (form.n_out,)):
        given = given[None]
    if loss.takes_labels and given.ndim == 1:
        return _labels(given, name, batch, form)
    if form.n_out == 1 and given.ndim == 1:
        given = given[:, None]
    Y = array(given, name, form.kind)
    if Y.shape != (batch, form.n_out):
        labels = f" or ({batch},) class labels" if loss.takes_labels else ""
        raise ValueError(
            f"{name} must have shape ({batch}, {form.n_out}){labels}, got {given.shape}"
        )
    bounds(Y, name, form.loss)
    return Y


def bounds(targets: Array, name: str, loss: str) -> None:
    """Check that targets lie where the loss is defined."""
    record = LOSSES[loss]
    least, most = record.least, record.most
    if most < math.inf and (targets.min() < least or targets.max() > most):
        raise ValueError(
            f"{name} must lie in [{least}, {most}] for loss={loss!r}, "
            f"got values from {targets.min()} to {targets.max()}"
        )
    if least > -math.inf and targets.min() < least:
        raise ValueError(f"{name} must be >= {least} for loss={loss!r}, got {targets.min()}")


def _labels(given: Array, name: str, batch: int, form: TargetForm) -> Array:
    if given.dtype.kind not in "iub":
        raise TypeError(
            f"{name} of shape {given.shape} must be integer class labels 0..{form.n_out - 1} "
            f"for loss={form.loss!r}, got dtype {given.dtype.name}"
        )
    if given.shape != (batch,):
        raise ValueError(
            f"{name} must have one label a sample, shape ({batch},), got {given.shape}"
        )
    if given.min() < 0 or given.max() >= form.n_out:
        wrong = given[(given < 0) | (given >= form.n_out)][0]
        raise ValueError(f"{name} has the label {wrong}; labels must be 0..{form.n_out - 1}")
    return given.astype(form.kind)[:, None]


def sample_weight(value: object, name: str, batch: int, kind: DType) -> Array | None:
    """Return (batch,) finite weights >= 0 that are not all 0; None stays None."""
    given = weights(value, name, batch, kind)
    if given is not None and given.max() == 0:
        raise ValueError(f"{name} must not be 0 for every sample")
    return given


def weights(value: object, name: str, batch: int, kind: DType) -> Array | None:
    """Return (batch,) finite weights >= 0, which may be those of some samples; None stays None."""
    if value is None:
        return None
    given = array(value, name, kind)
    if given.shape != (batch,):
        raise ValueError(f"{name} must have shape ({batch},), got {given.shape}")
    finite(given, name)
    if given.min() < 0:
        raise ValueError(f"{name} must be >= 0, got {given.min()}")
    return given


def class_weight(value: object, n: int, names: Sequence[str] | None) -> Array:
    """Return a weight >= 0 for each of `n` classes, of a list, or a dict by labels or names."""
    if isinstance(value, Mapping):
        labels = {label: i for i, label in enumerate(names or ())}
        of_classes = np.ones(n)
        for key, weight in value.items():
            label = labels.get(key, key)
            if isinstance(label, bool) or not isinstance(label, (int, np.integer)):
                raise ValueError(f"class_weight has {key!r}, which is no label 0..{n - 1} or name")
            whole(int(label), "a label of class_weight", least=0, most=n - 1)
            of_classes[label] = real(weight, f"class_weight[{key!r}]", least=0)
        return of_classes
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) != n:
        raise ValueError(
            f"class_weight must be 'balanced', {n} weights, or a dict of them by label; got "
            f"{value!r}"
        )
    return np.array([real(x, f"class_weight[{i}]", least=0) for i, x in enumerate(value)])


def validation_data(value: object) -> tuple[ArrayLike, ArrayLike, ArrayLike | None]:
    """Return (X, Y, sample_weight or None)."""
    if not isinstance(value, (tuple, list)) or len(value) not in (2, 3):
        raise ValueError(
            "validation_data must be a tuple (X, Y) or (X, Y, sample_weight), "
            f"got {type(value).__name__}"
            + (f" of {len(value)}" if isinstance(value, (tuple, list)) else "")
        )
    X, Y, *weights = value
    return X, Y, weights[0] if weights else None


def optimizer(value: Any) -> Any:
    """Check an object with one of these methods: dj.SGD(0.1), dj.LBFGS() or dj.KFAC(), say."""
    methods = [getattr(value, name, None) for name in ("rule", "minimize", "remembered")]
    if isinstance(value, type) or not any(map(callable, methods)):
        asked = value if isinstance(value, str) else getattr(value, "__name__", "")
        meant = hints.nearest(
            asked, [*OPTIMIZERS, "LBFGS", "LevenbergMarquardt", "GaussNewtonCG", "KFAC"]
        )
        hint = f"; did you mean optimizer=dj.{meant}()?" if meant else ""
        raise TypeError(
            f"optimizer must be one such as dj.SGD(0.1) or dj.Adam(), got {value!r}{hint}"
        )
    return value


def path(value: Any, name: str = "path") -> str:
    """Return a path as a string."""
    try:
        text = os.fsdecode(value)
    except TypeError:
        raise TypeError(
            f"{name} must be a path, as a string, bytes or pathlib.Path, got {value!r}"
        ) from None
    if "\0" in text:
        raise ValueError(f"{name} must be a path, and none contains a null character; got {text!r}")
    return text


def schedule(value: object) -> None:
    """Check None, or an object with `factors`, such as dj.schedules.CosineDecay()."""
    if value is not None and (isinstance(value, type) or not hasattr(value, "factors")):
        raise TypeError(
            f"schedule must be one such as dj.schedules.CosineDecay(), or None; got {value!r}"
        )


def callbacks(value: object) -> tuple[object, ...]:
    """Check objects with any of the methods of dj.callbacks.Callback."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"callbacks must be a list, as [dj.EarlyStopping()]; got {value!r}")
    events = ("on_fit_begin", "on_fit_resume", "on_epoch_end", "on_fit_end")
    for i, callback in enumerate(value):
        if isinstance(callback, type) or not any(hasattr(callback, event) for event in events):
            raise TypeError(
                f"callbacks[{i}] must have a method {', '.join(events[:-1])} or {events[-1]}, as "
                f"dj.EarlyStopping() has; got {callback!r}"
            )
        for event in events:
            method = getattr(callback, event, None)
            if method is not None:
                takes(method, f"callbacks[{i}].{event}", "state")
    return tuple(value)


def metrics(value: object, *, has_data: bool) -> Mapping[str, Callable[[Array, Array], float]]:
    """Check functions of (Y, outputs) by name, which need validation data."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(callable(f) for f in value.values()):
        raise TypeError(f"metrics must be a dict of functions of (Y, outputs), got {value!r}")
    taken = {"loss", "val_loss", "lr", "time"} & value.keys()
    if taken:
        raise ValueError(f"metrics must have names of their own, got {sorted(taken)[0]!r}")
    if value and not has_data:
        raise ValueError("metrics are taken on validation_data; give that too")
    for name, f in value.items():
        if not isinstance(name, str):
            raise TypeError(f"metrics must have strings for names, got {name!r}")
        takes(f, f"metrics[{name!r}]", "Y", "outputs")
    return value


def takes(function: object, name: str, *arguments: str) -> None:
    """Check that a function takes so many arguments, as far as its signature is known."""
    if not callable(function):
        raise TypeError(f"{name} must be a function, got {function!r}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions written in C have no signature
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        raise TypeError(
            f"{name} must take ({', '.join(arguments)}), but its arguments are {signature}"
        ) from None


def number(value: Any, name: str) -> float:
    """Return the result of a user's function as a number, which may be NaN or infinite."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    try:
        if isinstance(value, str):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must return a number, got {reprlib.repr(value)}") from None


def dropout(value: Any, n_hidden: int) -> tuple[float, ...]:
    """Return a share of units, in [0, 1), for each hidden layer."""
    shares = tuple(value) if isinstance(value, (tuple, list, np.ndarray)) else (value,) * n_hidden
    if len(shares) != n_hidden:
        raise ValueError(
            f"dropout must be one share, or one for each of {n_hidden} hidden layers; got {value!r}"
        )
    for i, share in enumerate(shares):
        fraction(share, f"dropout[{i}]")
    return shares


def shaped(value: object, name: str, shape: tuple[int, ...], kind: DType) -> Array:
    """Return an array of exactly this shape."""
    values = array(value, name, kind)
    if values.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {values.shape}")
    return values


def model_at(model: Model, theta: object) -> Model:
    """Return a model with other parameters, the argument `theta`; None are its own."""
    if theta is None:
        return model
    own = model.theta
    return model._replace(theta=shaped(theta, "theta", own.shape, own.dtype))


def layers(value: object, name: str, views: Sequence[Array]) -> list[Array]:
    """Return one array for each of `views`, of its shape and dtype."""
    if not isinstance(value, (list, tuple, np.ndarray)):
        raise TypeError(f"{name} must be a list of {len(views)} arrays, got {value!r}")
    if len(value) != len(views):
        raise ValueError(f"{name} must have {len(views)} arrays, got {len(value)}")
    return [
        shaped(each, f"{name}[{i}]", view.shape, view.dtype)
        for i, (each, view) in enumerate(zip(value, views, strict=True))
    ]


def direction(value: object, name: str, shape: tuple[int, ...], kind: DType) -> Array:
    """Return a finite array of exactly this shape, to multiply derivatives with."""
    values = shaped(value, name, shape, kind)
    finite(values, name)
    return values


def dense(name: str, n: int, kind: DType) -> None:
    """Check that a matrix (n, n) fits into 1 GiB."""
    size = n * n * kind.itemsize
    if size > 2**30:
        raise ValueError(
            f"{name} of {n:,} parameters would need {size / 2**30:.1f} GiB (limit 1 GiB); "
            "use hvp(X, Y, v), or linearize(X, Y).hvp(v) for many v"
        )


def buffer(value: object, name: str, n_params: int, kind: DType) -> Array:
    """Check a caller's array, used in place: it must fit as it is."""
    if (
        type(value) is not np.ndarray
        or value.shape != (n_params,)
        or value.dtype != kind
        or not value.flags.carray
    ):
        got = (
            f"{value.dtype.name} {value.shape}"
            if isinstance(value, np.ndarray)
            else type(value).__name__
        )
        raise ValueError(
            f"{name} must be a writable, contiguous {kind.name} array of shape ({n_params},), "
            f"like theta; got {got}"
        )
    return value


def not_empty(array: Array, name: str) -> None:
    """Check that there is a sample: the mean over none is undefined."""
    if array.shape[0] == 0:
        raise ValueError(f"{name} has no samples; at least 1 is needed")


def finite(array: Array, name: str) -> None:
    """Check that no element is NaN or infinite."""
    if array.size and not (math.isfinite(array.min()) and math.isfinite(array.max())):
        first = np.argwhere(~np.isfinite(array))[0]
        where = ", ".join(str(i) for i in first)
        raise ValueError(
            f"{name} has NaN or inf (as {array.dtype.name}), first at [{where}]; "
            "remove or impute such samples"
        )


def has(value: object, name: str, kind: str, parts: Iterable[str]) -> None:
    """Check an object of that kind, known by its attributes."""
    if isinstance(value, type) or not all(hasattr(value, part) for part in parts):
        raise TypeError(f"{name} must be {kind}, got {type(value).__name__}")


def asarray(value: object, name: str) -> Array:
    """Convert a value as NumPy does; a data frame column by column."""
    if type(value) is np.ndarray:
        return value
    if hasattr(value, "shape"):  # neither a list nor a number
        if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
            raise TypeError(f"{name} has masked entries; fill them first, as in {name}.filled(0)")
        kind = type(value)  # of pandas or polars, which aren't imported here
        if hasattr(kind, "iterrows") or hasattr(kind, "iter_columns"):
            return _frame(value, name)
        if hasattr(kind, "to_numpy"):
            return _column(value, name)
        if hasattr(kind, "toarray"):
            raise TypeError(f"{name} is sparse; pass {name}.toarray()")
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} is ragged: its rows differ in length") from None


def _is_real(array: Array) -> bool:
    """Return whether an array holds whole numbers, or such as float64 holds too."""
    kind = array.dtype
    return (kind.kind == "f" and kind.itemsize <= 8) or kind.kind in "iub"


def _frame(frame: Any, name: str) -> Array:
    """Convert a data frame; columns of several dtypes must all hold real numbers."""
    if hasattr(type(frame), "iter_columns"):  # polars
        columns = [(column.name, column) for column in frame.iter_columns()]
    else:
        kinds = {*frame.dtypes}
        if len(kinds) == 1 and all(isinstance(x, np.dtype) and x.kind in "biuf" for x in kinds):
            return np.asarray(frame)  # at once, mostly without a copy
        columns = list(frame.items())
    arrays = []
    for label, column in columns:
        values = _column(column, f"the column {label!r} of {name}")
        if not _is_real(values):
            raise TypeError(
                f"the column {label!r} of {name} must hold {REAL}, got dtype {column.dtype}; "
                "encode it as numbers, or leave it out"
            )
        arrays.append(values)
    return np.stack(arrays, axis=1) if arrays else np.empty(frame.shape)


def _column(column: Any, name: str) -> Array:
    """Convert a column or a row of a data frame, if no value is missing (NaN is a value)."""
    kind = getattr(getattr(column, "dtype", None), "numpy_dtype", None)  # nullable dtypes have it
    if hasattr(type(column), "has_nulls"):  # polars
        missing = column.has_nulls()
    else:
        missing = kind is not None and column.isna().any()
    if missing:
        raise TypeError(f"{name} has missing values; fill them first, or leave such samples out")
    values = np.asarray(column, kind)
    if values.dtype.kind == "O" and all(isinstance(x, NUMBERS) for x in values.flat):
        return np.array(values.tolist())  # a row of bools and floats
    return values


def _listed(options: Sequence[str]) -> str:
    return ", ".join(repr(option) for option in options)
