"""One SIMD register as a Numba type, so that ordinary @njit code says which instruction runs.

    v = load(x, i)                          # 16 float32, 8 float64 with AVX-512
    store(y, i, fma(v, v, broadcast(1.0, v)))

Every arithmetic primitive takes vectors, scalars, or both mixed (a scalar is broadcast), all of one
dtype: nothing is promoted, so `v32 * 0.5` is a typing error and `v32 * np.float32(0.5)` is right.
A function written with them runs on scalars too and gives the same bits there, because both are
the same LLVM operation on `float` and on `<16 x float>`.
"""

import operator

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import (
    intrinsic,
    lower_builtin,
    models,
    register_model,
    type_callable,
)

from ..backend import target
from . import write


def _probe_target():
    """(name, bytes in a vector register, whether it has fused multiply-add) of the kernels' target.

    Asks the code generator instead of reading a feature list: a CPU name implies features that
    no list shows, and NUMBA_CPU_NAME, NUMBA_CPU_FEATURES and NUMBA_ENABLE_AVX are all obeyed.
    """
    triple, cpu, features = target()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features)
    t = "<16 x float>"
    module = llvm.parse_assembly(f"""
        declare {t} @llvm.fmuladd.v16f32({t}, {t}, {t})
        define void @f(ptr %p) {{
          %v = load {t}, ptr %p
          %w = call {t} @llvm.fmuladd.v16f32({t} %v, {t} %v, {t} %v)
          store {t} %w, ptr %p
          ret void
        }}""")
    module.triple = triple
    assembly = machine.emit_assembly(module)
    size = 64 if "%zmm" in assembly else 32 if "%ymm" in assembly else 16
    return cpu, size, "vfmadd" in assembly or "fmla" in assembly


CPU_NAME, VECTOR_BYTES, HAS_FMA = _probe_target()
LANES_F32 = VECTOR_BYTES // 4
LANES_F64 = VECTOR_BYTES // 8


class Vector(types.Type):
    """`count` lanes of `dtype`; of booleans it is a mask, as comparisons give."""

    def __init__(self, dtype, count):
        self.dtype = dtype
        self.count = count
        super().__init__(name=f"Vector({dtype}, {count})")

    @property
    def key(self):
        """Return what makes two vector types the same."""
        return self.dtype, self.count


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """In LLVM a `Vector` is ``<count x dtype>``; of booleans ``<count x i1>``."""

    def __init__(self, dmm, fe_type):
        lane = dmm.lookup(fe_type.dtype).get_value_type()  # i1 for a boolean
        super().__init__(dmm, fe_type, ir.VectorType(lane, fe_type.count))


_INTEGER = {types.float32: types.int32, types.float64: types.int64}
_FLOAT = {integer: real for real, integer in _INTEGER.items()}


def dtype_of(t):
    """Return the element type of a scalar, vector or array type."""
    return getattr(t, "dtype", t)


def _with_dtype(t, dtype):
    return Vector(dtype, t.count) if isinstance(t, Vector) else dtype


def vector_of(dtype):
    """Return the type of one register of `dtype`."""
    return Vector(dtype, VECTOR_BYTES * 8 // dtype.bitwidth)


def _common(args):
    """The one type that `args` broadcast to: the vector among them, else the scalar; or None."""
    found = next((a for a in args if isinstance(a, Vector)), args[0])
    dtypes_agree = all(dtype_of(a) == dtype_of(found) for a in args)
    shapes_agree = all(a == found for a in args if isinstance(a, Vector))
    return found if dtypes_agree and shapes_agree else None


def _lanewise(build, result):
    """Return (typing, lowering) of a primitive that works lane by lane.

    `build(builder, *values)` emits it for values of one LLVM type; `result(common type)` is the
    type of what it returns, None if it does not take that type.
    """

    def typing(args):
        common = _common(args) if all(isinstance(a, _LANES) for a in args) else None
        return common and result(common)

    def lower(context, builder, sig, values):
        llvm_type = context.get_value_type(_common(sig.args))
        return build(builder, *(write.splat(builder, v, llvm_type) for v in values))

    return typing, lower


_LANES = (Vector, types.Float, types.Integer, types.Boolean)


def _real(t):
    return t if dtype_of(t) in _INTEGER else None


def _integer(t):
    return t if dtype_of(t) in _FLOAT else None


def _mask_of(t):
    return _real(t) and _with_dtype(t, types.boolean)


def _integer_mask_of(t):
    return _integer(t) and _with_dtype(t, types.boolean)


def _primitive(arity, build, result, doc):
    """Return a jitted function of vectors and scalars; see `_lanewise`."""
    typing, lower = _lanewise(build, result)

    def typed(*args):
        returned = typing(args)
        return returned and (returned(*args), lower)

    define = {
        1: lambda context, a: typed(a),
        2: lambda context, a, b: typed(a, b),
        3: lambda context, a, b, c: typed(a, b, c),
    }[arity]
    define.__doc__ = doc
    return intrinsic(define)


def _operator(op, build, result):
    """Let `op` take vectors, or a vector and a scalar. Scalars alone are Numba's own affair."""
    typing, lower = _lanewise(build, result)

    def typed(*args):
        return typing(args) if any(isinstance(a, Vector) for a in args) else None

    if op is operator.neg:
        type_callable(op)(lambda context: lambda a: typed(a))
        lower_builtin(op, Vector)(lower)
        return
    type_callable(op)(lambda context: lambda a, b: typed(a, b))
    for pair in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(op, *pair)(lower)


_operator(operator.neg, lambda builder, a: builder.fneg(a), _real)
_operator(operator.add, lambda builder, a, b: builder.fadd(a, b), _real)
_operator(operator.sub, lambda builder, a, b: builder.fsub(a, b), _real)
_operator(operator.mul, lambda builder, a, b: builder.fmul(a, b), _real)
_operator(operator.truediv, lambda builder, a, b: builder.fdiv(a, b), _real)
for _op, _symbol in (
    (operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">="),
    (operator.eq, "=="),
):  # fmt: skip
    # Ordered: false where an operand is NaN, as for scalars.
    _operator(_op, lambda builder, a, b, s=_symbol: builder.fcmp_ordered(s, a, b), _mask_of)
_operator(operator.ne, lambda builder, a, b: builder.fcmp_unordered("!=", a, b), _mask_of)


def _llvm(name):
    """Builder of a call to the LLVM intrinsic `name`, overloaded on the type of its operands."""
    return lambda builder, *args: write.call(
        builder, f"{name}.{write.overload(args[0].type)}", args[0].type, *args
    )


def _reinterpreted(table):
    """Return result type of a bit cast: the same lanes, their dtype looked up in `table`."""
    return lambda t: _with_dtype(t, table[dtype_of(t)]) if dtype_of(t) in table else None


def _as_integer(builder, a):
    bits = {ir.FloatType(): 32, ir.DoubleType(): 64}
    if isinstance(a.type, ir.VectorType):
        return builder.bitcast(a, ir.VectorType(ir.IntType(bits[a.type.element]), a.type.count))
    return builder.bitcast(a, ir.IntType(bits[a.type]))


def _as_float(builder, a):
    real = {32: ir.FloatType(), 64: ir.DoubleType()}
    if isinstance(a.type, ir.VectorType):
        return builder.bitcast(a, ir.VectorType(real[a.type.element.width], a.type.count))
    return builder.bitcast(a, real[a.type.width])


def _maximum(builder, a, b, symbol=">"):
    larger = builder.select(builder.fcmp_ordered(symbol, a, b), a, b)  # b if either is NaN
    return builder.select(builder.fcmp_unordered("uno", a, a), a, larger)


def _not_0(builder, a):
    return builder.icmp_unsigned("!=", a, ir.Constant(a.type, None))


fma = _primitive(
    3,
    write.multiply_add,
    _real,
    """a * b + c, rounded once if the target has FMA (HAS_FMA), else twice; never a libm call.""",
)
libm_sin = _primitive(1, _llvm("sin"), _real, """Sine; a call to libm for every lane.""")
libm_cos = _primitive(1, _llvm("cos"), _real, """Cosine; a call to libm for every lane.""")
libm_power = _primitive(2, _llvm("pow"), _real, """a**b; a call to libm for every lane.""")
sqrt = _primitive(1, _llvm("sqrt"), _real, """Square root, correctly rounded.""")
absolute = _primitive(1, _llvm("fabs"), _real, """|a|; clears the sign of NaN and -0 too.""")
copysign = _primitive(2, _llvm("copysign"), _real, """|a| with the sign of b.""")
maximum = _primitive(
    2,
    _maximum,
    _real,
    """The larger; NaN if either is NaN; b if they are equal (so of +0 and -0 it takes b).

    One instruction instead of three if a is a constant: write maximum(zero, x).""",
)
minimum = _primitive(
    2,
    lambda builder, a, b: _maximum(builder, a, b, "<"),
    _real,
    """The smaller; NaN, equal operands and constants as in `maximum`.""",
)

as_integer = _primitive(
    1,
    _as_integer,
    _reinterpreted(_INTEGER),
    """The bits of a float as a signed integer of the same width.""",
)
as_float = _primitive(
    1, _as_float, _reinterpreted(_FLOAT), """The float whose bits are this int32 or int64."""
)
# Named functions, not operators: on scalars Numba's own int32 + int32 is an int64.
integer_add = _primitive(2, lambda builder, a, b: builder.add(a, b), _integer, """a + b, wraps.""")
integer_sub = _primitive(2, lambda builder, a, b: builder.sub(a, b), _integer, """a - b, wraps.""")
integer_and = _primitive(2, lambda builder, a, b: builder.and_(a, b), _integer, """a & b.""")
integer_test = _primitive(
    2,
    lambda builder, a, b: _not_0(builder, builder.and_(a, b)),
    _integer_mask_of,
    """Whether a & b has a bit set.""",
)
integer_max = _primitive(
    2,
    lambda builder, a, b: builder.select(builder.icmp_signed(">", a, b), a, b),
    _integer,
    """The larger.""",
)
shift_left = _primitive(
    2, lambda builder, a, b: builder.shl(a, b), _integer, """a << b, b below the width."""
)
shift_right = _primitive(
    2,
    lambda builder, a, b: builder.lshr(a, b),
    _integer,
    """a >> b, b below the width; zeros come in, also into a negative a.""",
)


@intrinsic
def select(context, mask, a, b):
    """Return a where the mask is set, else b."""
    values = _common((a, b))
    if dtype_of(mask) != types.boolean or values is None:
        return None
    if isinstance(mask, Vector):
        values = Vector(dtype_of(values), mask.count)

    def lower(context, builder, sig, args):
        llvm_type = context.get_value_type(sig.return_type)
        return builder.select(args[0], *(write.splat(builder, v, llvm_type) for v in args[1:]))

    return values(mask, a, b), lower


@intrinsic
def ldexp(context, a, n):
    """a * 2**n, rounded once; a has an exponent near 0, n is an integer of the same width.

    Scaled in two steps where there is no instruction for it: |n| may reach twice the largest
    exponent, and results may be subnormal.
    """
    if not _real(a) or n != _with_dtype(a, _INTEGER[dtype_of(a)]):
        return None
    mantissa, bias = (23, 127) if dtype_of(a) == types.float32 else (52, 1023)

    def lower(context, builder, sig, args):
        a, n = args
        if VECTOR_BYTES == 64:  # vscalef; elsewhere llvm.ldexp would be a call to libm
            name = f"ldexp.{write.overload(a.type)}.{write.overload(n.type)}"
            return write.call(builder, name, a.type, a, n)

        def power(exponent):
            biased = builder.add(exponent, ir.Constant(n.type, bias))
            return _as_float(builder, builder.shl(biased, ir.Constant(n.type, mantissa)))

        half = builder.ashr(n, ir.Constant(n.type, 1))
        return builder.fmul(builder.fmul(a, power(half)), power(builder.sub(n, half)))

    return a(a, n), lower


def _horner(builder, x, terms):
    value = terms[-1]
    for term in reversed(terms[:-1]):
        value = write.multiply_add(builder, value, x, term)
    return value


@intrinsic
def polynomial(context, x, coefficients):
    """coefficients[0] + coefficients[1] * x + ... by Horner's rule.

    A long one goes as even + x * odd, two chains in x * x: one instruction more, but half the
    latency, so that enough of a kernel fits in the CPU's scheduler to keep its units busy.
    """
    if not _real(x) or any(c != dtype_of(x) for c in coefficients):
        return None

    def lower(context, builder, sig, args):
        x, constants = args
        terms = [write.splat(builder, c, x.type) for c in cgutils.unpack_tuple(builder, constants)]
        if len(terms) <= 10:  # measured
            return _horner(builder, x, terms)
        square = builder.fmul(x, x)
        even, odd = _horner(builder, square, terms[0::2]), _horner(builder, square, terms[1::2])
        return write.multiply_add(builder, odd, x, even)

    return x(x, coefficients), lower


def make_lookup(table):
    """Make ``lookup(i)``: element i % 32 of a table of 32 float32, for int32 i, in registers.

    One instruction of AVX-512; there is none for it elsewhere.
    """
    count = len(table) // 2
    vector = ir.VectorType(ir.FloatType(), count)
    low, high = (
        ir.Constant(vector, [float(x) for x in half]) for half in (table[:count], table[count:])
    )

    @intrinsic
    def lookup(context, i):
        if dtype_of(i) != types.int32:
            return None

        def lower(context, builder, sig, args):
            index = write.splat(builder, args[0], ir.VectorType(ir.IntType(32), count))
            name = "x86.avx512.vpermi2var.ps.512"
            found = write.call(builder, name, vector, low, index, high)
            if isinstance(i, Vector):
                return found
            return builder.extract_element(found, ir.Constant(ir.IntType(32), 0))

        return _with_dtype(i, types.float32)(i), lower

    return lookup


@intrinsic
def broadcast(context, value, like):
    """Return `value` in every lane of a vector of the dtype of `like` (array, vector, scalar)."""
    vector = vector_of(dtype_of(like))

    def lower(context, builder, sig, args):
        scalar = context.cast(builder, args[0], sig.args[0], vector.dtype)
        return write.splat(builder, scalar, context.get_value_type(vector))

    return vector(value, like), lower


@intrinsic
def lanes(context, like):
    """Return how many lanes a vector with the dtype of `like` has: a constant to the compiler."""
    count = vector_of(dtype_of(like)).count
    return types.intp(like), lambda *_: ir.Constant(ir.IntType(types.intp.bitwidth), count)


def _reduction(combine, doc):
    """Make a reduction of one vector: its upper half is folded onto the lower, down to one lane."""

    @intrinsic
    def reduce(context, v):
        if not isinstance(v, Vector) or not _real(v):
            return None

        def lower(context, builder, sig, args):
            value, half = args[0], v.count // 2
            int32 = ir.IntType(32)
            while half:
                halves = [
                    ir.Constant(ir.VectorType(int32, half), list(range(start, start + half)))
                    for start in (0, half)
                ]
                value = combine(builder, *(builder.shuffle_vector(value, value, h) for h in halves))
                half //= 2
            return builder.extract_element(value, ir.Constant(int32, 0))

        return v.dtype(v), lower

    reduce.__doc__ = doc
    return reduce


reduce_add = _reduction(
    lambda builder, low, high: builder.fadd(low, high),
    """Sum of the lanes in one fixed order; of four lanes (v[0] + v[2]) + (v[1] + v[3]).""",
)
reduce_max = _reduction(
    lambda builder, low, high: builder.select(builder.fcmp_ordered(">", low, high), low, high),
    """The largest lane. What it gives if a lane is NaN is not defined.""",
)


@intrinsic
def accumulate(context, total, v):
    """``total + v``, lane by lane, for a float64 total; the lanes of float32 go in two halves."""
    if total != vector_of(types.float64) or not isinstance(v, Vector) or not _real(v):
        return None

    def lower(context, builder, sig, args):
        value, x = args
        count, wide = total.count, value.type
        for start in range(0, v.count, count):
            part = ir.Constant(ir.VectorType(ir.IntType(32), count), [*range(start, start + count)])
            half = builder.shuffle_vector(x, x, part)
            value = builder.fadd(value, half if half.type == wide else builder.fpext(half, wide))
        return value

    return total(total, v), lower


# Memory. `offset` counts elements of a contiguous 1-d array; nothing is checked or need be aligned.


def _takes_vectors(array):
    return (
        isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C" and _real(array)
    )


def _address(context, builder, array_type, array, offset):
    data = context.make_array(array_type)(context, builder, array).data
    pointer = builder.gep(data, [offset])
    vector = context.get_value_type(vector_of(array_type.dtype))
    return builder.bitcast(pointer, vector.as_pointer()), array_type.dtype.bitwidth // 8


@intrinsic
def load(context, array, offset):
    """Return the vector array[offset : offset + lanes]."""
    if not _takes_vectors(array):
        return None

    def lower(context, builder, sig, args):
        pointer, align = _address(context, builder, array, *args)
        return write.load(builder, pointer, align)

    return vector_of(array.dtype)(array, types.intp), lower


@intrinsic
def store(context, array, offset, v):
    """array[offset : offset + lanes] = v, a vector or a scalar."""
    if not _takes_vectors(array) or dtype_of(v) != array.dtype:
        return None

    def lower(context, builder, sig, args):
        pointer, align = _address(context, builder, array, *args[:2])
        value = write.splat(builder, args[2], pointer.type.pointee)
        write.store(builder, value, pointer, align)

    return types.none(array, types.intp, v), lower


@intrinsic
def first_lanes(context, count, like):
    """Return the mask of the first `count` lanes of a vector with the dtype of `like`."""
    vector = vector_of(dtype_of(like))

    def lower(context, builder, sig, args):
        return write.first_lanes(builder, args[0], vector.count)

    return Vector(types.boolean, vector.count)(types.intp, like), lower


@intrinsic
def first_of(context, v):
    """Return the first lane of a vector."""

    def lower(context, builder, sig, args):
        return builder.extract_element(args[0], ir.Constant(ir.IntType(32), 0))

    return v.dtype(v), lower


@intrinsic
def first_only(context, x):
    """Return the vector whose first lane is x; the others are 0."""
    vector = vector_of(x)

    def lower(context, builder, sig, args):
        zero = ir.Constant(context.get_value_type(vector), None)
        return builder.insert_element(zero, args[0], ir.Constant(ir.IntType(32), 0))

    return vector(x), lower


@intrinsic
def count(context, mask):
    """Return how many lanes of a mask are set."""
    if not isinstance(mask, Vector) or mask.dtype != types.boolean:
        return None

    def lower(context, builder, sig, args):
        bits = builder.bitcast(args[0], ir.IntType(mask.count))
        return builder.zext(builder.ctpop(bits), ir.IntType(types.intp.bitwidth))

    return types.intp(mask), lower


@intrinsic
def any_lane(context, mask):
    """Return whether some lane of a mask is set; of a scalar, itself."""
    if dtype_of(mask) != types.boolean:
        return None

    def lower(context, builder, sig, args):
        if not isinstance(mask, Vector):
            return args[0]
        return _not_0(builder, builder.bitcast(args[0], ir.IntType(mask.count)))

    return types.boolean(mask), lower


@intrinsic
def load_masked(context, array, offset, count):
    """Return the vector array[offset : offset + count], other lanes 0; they touch no memory."""
    if not _takes_vectors(array):
        return None
    vector = vector_of(array.dtype)

    def lower(context, builder, sig, args):
        pointer, align = _address(context, builder, array, *args[:2])
        mask = write.first_lanes(builder, args[2], vector.count)
        return write.load(builder, pointer, align, mask)

    return vector(array, types.intp, types.intp), lower


@intrinsic
def store_masked(context, array, offset, v, count):
    """array[offset : offset + count] = v[:count], v a vector or a scalar."""
    if not _takes_vectors(array) or dtype_of(v) != array.dtype:
        return None
    vector = vector_of(array.dtype)

    def lower(context, builder, sig, args):
        pointer, align = _address(context, builder, array, *args[:2])
        value = write.splat(builder, args[2], context.get_value_type(vector))
        mask = write.first_lanes(builder, args[3], vector.count)
        write.store(builder, value, pointer, align, mask)
        return context.get_dummy_value()

    return types.none(array, types.intp, v, types.intp), lower
