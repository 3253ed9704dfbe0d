"""What a kernel takes: the words of its signature, and how a value becomes machine words and back.

A kernel has one C signature for each dtype: pointers, sizes and numbers. Its Python annotations say
which, with the words below and named tuples of them:

    @kernel
    def outer_add(a: Matrix, b: Matrix, scale: Real, c: Matrix): ...

is ``void(real *a, int64, int64, real *b, int64, int64, real scale, real *c, int64, int64)``.
"""

import ctypes
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model
from numba.np.arrayobj import make_array, populate_array


class Borrowed(types.Array):
    """A C-contiguous array that owns nothing; to Numba an array like any other.

    A pointer and a shape, valid as long as the buffer is, which the caller of a kernel owns. (A
    slice of Numba's counts references, by calls that LLVM can't remove.)
    """

    def __init__(self, dtype, ndim):
        super().__init__(dtype, ndim, "C", name=f"Borrowed({dtype}, {ndim})")

    def copy(self, dtype=None, ndim=None, layout=None, readonly=None):
        """Return the same with another number of dimensions; else what Numba makes of any array."""
        if layout in (None, "C"):
            return Borrowed(dtype or self.dtype, ndim or self.ndim)
        return super().copy(dtype, ndim, layout, readonly)

    def unify(self, typingctx, other):
        """Return None: no other type unifies with it."""


@register_model(Borrowed)
class BorrowedModel(models.ArrayModel):
    """An array's struct, in which the memory's owner is a plain pointer, so nobody counts it."""

    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type)
        members = [
            (name, types.voidptr if name == "meminfo" else kind)
            for name, kind in zip(self._fields, self._members, strict=True)
        ]
        models.StructModel.__init__(self, dmm, fe_type, members)


def array_at(context, builder, view_type, data, shape):
    """Return the IR of an array of `shape` at a pointer."""
    view = make_array(view_type)(context, builder)
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(data.type.pointee))
    strides = [itemsize]
    for extent in shape[:0:-1]:
        strides.insert(0, builder.mul(strides[0], extent))
    populate_array(
        view,
        data=data,
        shape=cgutils.pack_array(builder, shape),
        strides=cgutils.pack_array(builder, strides),
        itemsize=itemsize,
        meminfo=None,
    )
    return view._getvalue()


# ---------------------------------------------------------------- the vocabulary


class Scalar(NamedTuple):
    """A number; of the kernel's own dtype if `kind` is None."""

    kind: types.Type | None

    def type_for(self, real):
        """Return its Numba type in the kernel for floats of type `real`."""
        return self.kind or real


class Array(NamedTuple):
    """A C-contiguous array, passed as a pointer and its extents; None is a null pointer.

    Of an array with fewer axes the first are 1. One that `is_written` may not be read-only. As a
    field of a tuple only one that `is_optional` may be None.
    """

    kind: types.Type | None
    ndim: int
    is_written: bool = False
    is_optional: bool = False

    def type_for(self, real):
        """Return its Numba type in the kernel for floats of type `real`."""
        return Borrowed(self.kind or real, self.ndim)


class Pointer(NamedTuple):
    """A bare pointer to numbers."""

    kind: types.Type | None

    def type_for(self, real):
        """Return its Numba type in the kernel for floats of type `real`."""
        return types.CPointer(self.kind or real)


Real = Annotated[float | np.floating[Any], Scalar(None)]
Double = Annotated[float | np.floating[Any], Scalar(types.float64)]
Word = Annotated[int, Scalar(types.int64)]

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.int64]
Vector = Annotated[Floats, Array(None, 1)]
Matrix = Annotated[Floats, Array(None, 2)]
Tensor = Annotated[Floats, Array(None, 3)]
Words = Annotated[Integers, Array(types.int64, 1)]
WordMatrix = Annotated[Integers, Array(types.int64, 2)]
Doubles = Annotated[npt.NDArray[np.float64], Array(types.float64, 1)]
DoubleMatrix = Annotated[npt.NDArray[np.float64], Array(types.float64, 2)]
Indices = Annotated[npt.NDArray[np.int32], Array(types.int32, 1)]
Triples = Annotated[npt.NDArray[np.int32], Array(types.int32, 2)]
Flags = Annotated[npt.NDArray[np.bool_], Array(types.boolean, 1)]
Address = Annotated[int, Pointer(None)]

# The same, but to be written by the kernel;
OutVector = Annotated[Floats, Array(None, 1, is_written=True)]
OutMatrix = Annotated[Floats, Array(None, 2, is_written=True)]
OutTensor = Annotated[Floats, Array(None, 3, is_written=True)]
OutTensor4 = Annotated[Floats, Array(None, 4, is_written=True)]
OutWords = Annotated[Integers, Array(types.int64, 1, is_written=True)]
# the same, but they may be None as a field of a tuple.
OptionalVector = Annotated[Floats | None, Array(None, 1, is_optional=True)]
OptionalMatrix = Annotated[Floats | None, Array(None, 2, is_optional=True)]


def word_of(annotation):
    """Return the `Scalar`, `Array` or `Pointer` that an annotation means."""
    return getattr(annotation, "__metadata__", (annotation,))[0]


def fields_of(annotation):
    """Return the annotations of a named tuple's fields; None for a word."""
    if isinstance(annotation, type) and issubclass(annotation, tuple):
        return list(annotation.__annotations__.values())
    return None


def type_for(annotation, real):
    """Return the Numba type that an annotation means in the kernel for floats of type `real`."""
    fields = fields_of(annotation)
    if fields is None:
        return word_of(annotation).type_for(real)
    return types.BaseTuple.from_types([type_for(field, real) for field in fields], annotation)


def real_of(annotation, given):
    """Return the dtype that this argument asks for, by its Numba type; None if any will do."""
    fields = fields_of(annotation)
    if fields is not None:
        parts = given if isinstance(given, types.BaseTuple) else ()
        return next(filter(None, map(real_of, fields, parts)), None)
    if word_of(annotation).kind is not None or isinstance(given, (types.NoneType, types.Omitted)):
        return None
    return getattr(given, "dtype", given)


def problem(name, annotation, given, real):
    """Return what is wrong with a value of this Numba type for a parameter; "" if it is taken."""
    fields = fields_of(annotation)
    if fields is not None:
        return _problem_of_tuple(name, annotation, given, real)
    word = word_of(annotation)
    expected = word.type_for(real)
    if isinstance(word, Array):
        return "" if _is_none(given) else _problem_of_array(name, word, given, expected)
    numbers = [types.Integer, types.Boolean]
    if isinstance(expected, types.Float):
        numbers.append(types.Float)
    if given == expected or (isinstance(word, Scalar) and isinstance(given, tuple(numbers))):
        return ""
    return f"{name} must be of type {expected}, got {_described(given)}"


def _problem_of_tuple(name, annotation, given, real):
    """Return what is wrong with a tuple: it may be None, a field only where it is optional."""
    if _is_none(given):
        return ""
    names, fields = list(annotation.__annotations__), fields_of(annotation)
    if not isinstance(given, types.BaseTuple) or len(given) != len(fields):
        wanted = f"a {annotation.__name__} ({', '.join(names)})"
        return f"{name} must be {wanted}, got {_described(given)}"
    for field, part, kind in zip(names, fields, given, strict=True):
        if _is_none(kind) and not getattr(word_of(part), "is_optional", False):
            return f"{name}.{field} must not be None"
        found = problem(f"{name}.{field}", part, kind, real)
        if found:
            return found
    return ""


def _problem_of_array(name, array, given, expected):
    is_array = isinstance(given, types.Array)
    if not is_array or (given.dtype, given.layout) != (expected.dtype, "C"):
        return (
            f"{name}: kernels take C-contiguous arrays of one dtype, here "
            f"{_described(expected.dtype)}, got {_described(given)}: "
            "numpy.ascontiguousarray(x, dtype) makes one"
        )
    if not 1 <= given.ndim <= expected.ndim:
        one_less = ", or one less for one sample" if expected.ndim > 1 else ""
        return f"{name} must have {expected.ndim} axes{one_less}, got {_described(given)}"
    if array.is_written and not given.mutable:
        return f"{name} is written, and must not be read-only, got {_described(given)}"
    return ""


def _described(kind):
    """Return a Numba type in a message: those of tables of a network have pages of names."""
    if isinstance(kind, types.BaseTuple):
        return f"a tuple of {len(kind)}"
    if any(isinstance(k, types.Record) for k in (kind, getattr(kind, "dtype", None))):
        return "a table of a network"
    return str(kind)


def _is_none(kind):
    return isinstance(kind, types.NoneType) or (
        isinstance(kind, types.Omitted) and kind.value is None
    )


# ---------------------------------------------------------------- values and machine words


def word_types(context, kind):
    """Return the LLVM types of the words that a value is passed as."""
    if isinstance(kind, types.Array):
        return [context.get_data_type(kind.dtype).as_pointer(), *[ir.IntType(64)] * kind.ndim]
    if isinstance(kind, types.BaseTuple):
        return [word for part in kind for word in word_types(context, part)]
    return [context.get_value_type(kind)]


def to_words(context, builder, kind, given, value):
    """Return the words of a value of the Numba type `given` for a parameter of type `kind`."""
    if _is_none(given):
        return [ir.Constant(word, None) for word in word_types(context, kind)]
    if isinstance(kind, types.BaseTuple):
        parts = zip(kind, given, cgutils.unpack_tuple(builder, value), strict=True)
        return [word for part in parts for word in to_words(context, builder, *part)]
    if isinstance(kind, types.Array):
        array = make_array(given)(context, builder, value)
        missing = [ir.Constant(ir.IntType(64), 1)] * (kind.ndim - given.ndim)
        return [array.data, *missing, *cgutils.unpack_tuple(builder, array.shape)]
    return [context.cast(builder, value, given, kind)]


def from_words(context, builder, kind, words):
    """Return the value of a Numba type, made of the next words of an iterator."""
    if isinstance(kind, types.BaseTuple):
        parts = [from_words(context, builder, part, words) for part in kind]
        return context.make_tuple(builder, kind, parts)
    if isinstance(kind, types.Array):
        data = next(words)
        return array_at(context, builder, kind, data, [next(words) for _ in range(kind.ndim)])
    return next(words)


# ---------------------------------------------------------------- calls from Python


def ctypes_of(kind):
    """Return the ctypes of the words that a value is passed as."""
    if isinstance(kind, types.Array):
        return [ctypes.c_void_p, *[ctypes.c_int64] * kind.ndim]
    if isinstance(kind, types.BaseTuple):
        return [word for part in kind for word in ctypes_of(part)]
    if isinstance(kind, types.CPointer):
        return [ctypes.c_void_p]
    return [np.ctypeslib.as_ctypes_type(str(kind))]


def python_kind(value):
    """Return what the Numba type of a Python value depends on, in a tenth of the time."""
    if isinstance(value, tuple):
        return (type(value), *map(python_kind, value))
    if isinstance(value, np.ndarray):
        return value.dtype, value.ndim, value.flags.num
    return type(value)


def python_words(kind, value):
    """Return the words of a Python value, whose type has no `problem`."""
    if value is None:
        return [0] * len(ctypes_of(kind))
    if isinstance(kind, types.Array):
        return [value.ctypes.data, *[1] * (kind.ndim - value.ndim), *value.shape]
    if isinstance(kind, types.BaseTuple):
        parts = zip(kind, value, strict=True)
        return [word for part in parts for word in python_words(*part)]
    return [np.dtype(str(kind)).type(value).item()]
