"""LLVM IR of what is done with vectors, for whoever writes some: `vectors`, and the tile."""

from llvmlite import ir
from numba.core import cgutils

I32 = ir.IntType(32)


def call(builder, name, result, *args):
    """Call an LLVM intrinsic."""
    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}"), args)


def overload(llvm_type):
    """Return how the name of an LLVM intrinsic spells a type: f32, v8f64, v16i32."""
    if isinstance(llvm_type, ir.VectorType):
        return f"v{llvm_type.count}{overload(llvm_type.element)}"
    if isinstance(llvm_type, ir.IntType):
        return f"i{llvm_type.width}"
    return {ir.FloatType(): "f32", ir.DoubleType(): "f64"}[llvm_type]


def splat(builder, value, llvm_type):
    """Return `value`, broadcast if a vector is wanted and it is a scalar."""
    if value.type == llvm_type:
        return value
    empty = ir.Constant(llvm_type, ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, llvm_type.count), None)
    return builder.shuffle_vector(first, empty, zeros)


def first_lanes(builder, count, lanes, start=0):
    """The mask of `lanes` lanes, from number `start` on, that are among the first `count`."""
    vector = ir.VectorType(I32, lanes)
    limit = splat(builder, builder.trunc(count, I32), vector)
    return builder.icmp_signed("<", ir.Constant(vector, [*range(start, start + lanes)]), limit)


def load(builder, pointer, align, mask=None):
    """The vector at a pointer to one; lanes that are masked off are 0 and touch no memory."""
    kind = pointer.type.pointee
    if mask is None:
        return builder.load(pointer, align=align, typ=kind)
    args = pointer, ir.Constant(I32, align), mask, ir.Constant(kind, None)
    return call(builder, f"masked.load.{overload(kind)}.p0", kind, *args)


def store(builder, value, pointer, align, mask=None):
    """Store a vector; lanes that are masked off touch no memory."""
    if mask is None:
        return builder.store(value, pointer, align=align)
    args = value, pointer, ir.Constant(I32, align), mask
    return call(builder, f"masked.store.{overload(value.type)}.p0", ir.VoidType(), *args)


def prefetch(builder, pointer, to_write=False, level=1):
    """Bring the line at a pointer into a cache; an address that is not mapped does no harm."""
    args = pointer, *(ir.Constant(I32, x) for x in (int(to_write), 4 - level, 1))
    call(builder, "prefetch.p0", ir.VoidType(), *args)


def multiply_add(builder, a, b, c):
    """a * b + c, rounded once if the target has FMA; llvm.fma would be a call of libm without."""
    return call(builder, f"fmuladd.{overload(a.type)}", a.type, a, b, c)
