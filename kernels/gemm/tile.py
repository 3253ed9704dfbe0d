"""The register tile: a few rows times a few vectors of ``c = base + scale * a @ b``, in LLVM IR.

All the multiply-adds of a sweep happen here. We write the IR, since what LLVM makes of loops over
scalars runs at a fraction of the speed. Each element of c is ONE chain of fused multiply-adds over
the rows of b in their order, ``fma(a[i, k], b[k, j], ...)`` from 0, then ``base + scale * chain``:
its bits depend on nothing but its own row of a and column of b. (Without FMA in the target the two
steps round apart. Where c has few columns, each is the sum of 2 or 4 chains: see `make_tile`.)
"""

from itertools import zip_longest
from typing import NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..abi import Address, Word
from ..blocks import AHEAD, KC, NR_ONE, UNROLL
from ..simd import write
from ..simd.vectors import VECTOR_BYTES, vector_of

LINE_BYTES = 64  # of a cache line
I8, I32, I64 = (ir.IntType(bits) for bits in (8, 32, 64))


class View(NamedTuple):
    """A matrix as the tile sees it: a pointer to the first element, two strides in elements."""

    data: Address
    row: Word
    col: Word


def integer(x):
    """Return an LLVM constant."""
    return ir.Constant(I64, x)


class Writer:
    """Writes LLVM for vectors of one dtype. Pointers are to elements, v counts vectors."""

    def __init__(self, context, builder, dtype):
        self.bld, self.element = builder, context.get_data_type(dtype)
        self.bytes = dtype.bitwidth // 8
        self.shorten(VECTOR_BYTES // self.bytes)

    def shorten(self, count):
        """Let vectors have no more lanes than hold `count` elements, and than a register has."""
        self.lanes = min(VECTOR_BYTES // self.bytes, 1 << (count - 1).bit_length())
        self.type = ir.VectorType(self.element, self.lanes)

    def call(self, name, result, *args):
        """Call an LLVM intrinsic."""
        return write.call(self.bld, name, result, *args)

    def step(self, p, offset):
        """Pointer `offset` elements on."""
        return self.bld.gep(p, [offset], source_etype=self.element)

    def at(self, p, v):
        """Pointer to vector v from p on."""
        return self.bld.bitcast(self.step(p, integer(v * self.lanes)), self.type.as_pointer())

    def splat(self, x):
        """Scalar x in every lane."""
        return write.splat(self.bld, x, ir.VectorType(x.type, self.lanes))

    def masks(self, n, vecs):
        """For each of vecs vectors in a row: which of its lanes are among the first n columns?"""
        ends = range(0, vecs * self.lanes, self.lanes)
        return [write.first_lanes(self.bld, n, self.lanes, first) for first in ends]

    def load(self, p, v, mask=None):
        """Load a vector; lanes that are masked off read 0 and do not touch memory."""
        return write.load(self.bld, self.at(p, v), self.bytes, mask)

    def store(self, x, p, v, mask=None):
        """Store a vector; lanes that are masked off do not touch memory."""
        return write.store(self.bld, x, self.at(p, v), self.bytes, mask)

    def prefetch(self, p, to_write=False, level=1):
        """Bring the line at p into a cache."""
        write.prefetch(self.bld, p, to_write, level)

    def muladd(self, x, y, z):
        """x * y + z."""
        return write.multiply_add(self.bld, x, y, z)

    def halved(self, x, y, size):
        """Of x and then y, from each block of `size` lanes, its lower half plus its upper half."""
        lows = [i for i in range(2 * self.lanes) if not i & size // 2]
        return self.bld.fadd(self.pick(x, y, lows), self.pick(x, y, [i + size // 2 for i in lows]))

    def pick(self, x, y, lanes):
        """Return the listed lanes of x and, counted on, of y."""
        picks = ir.Constant(ir.VectorType(I32, len(lanes)), [*lanes])
        return self.bld.shuffle_vector(x, y, picks)

    def either(self, condition, plain, edge):
        """Return the list of values of `plain()`, which is likely, or of `edge()`."""
        bld, ends = self.bld, []
        with bld.if_else(condition, likely=True) as branches:
            for branch, make in zip(branches, (plain, edge), strict=True):
                with branch:
                    values = make()
                    ends.append((bld.block, values))
        phis = [bld.phi(x.type) for x in ends[0][1]]
        for block, values in ends:
            for phi, x in zip(phis, values, strict=True):
                phi.add_incoming(x, block)
        return phis

    def hide(self, x, *vectors):
        """Return x by an empty assembly statement, so that LLVM can't see where it comes from.

        With `vectors`, LLVM takes x to depend on them: what is read there is read no earlier, and
        waits in no register.
        """
        kind = ir.FunctionType(x.type, [x.type, *(v.type for v in vectors)])
        code = ir.InlineAsm(kind, "", ",".join(["=r,0", *["X"] * len(vectors)]))
        return self.bld.call(code, [x, *vectors])

    def multiples(self, stride, count):
        """Offsets in bytes of the first `count` multiples of a stride, from 0 on.

        x86 scales odd ones by 1, 2, 4 or 8 for free. Hidden, because LLVM else adds up strides: a
        chain of additions as slow as the multiply-adds, or spills.
        """
        bld = self.bld
        odd = {r: self.hide(bld.mul(integer(r * self.bytes), stride)) for r in range(1, count, 2)}
        powers = [r & -r for r in range(count)]
        return [
            bld.mul(odd[r // power], integer(power)) if r else integer(0)
            for r, power in enumerate(powers)
        ]


@intrinsic
def view(typingctx, array):
    """Return the View of a 2-d array; of a 1-d array, as the row that all rows share."""
    result = types.NamedTuple([types.CPointer(array.dtype), types.intp, types.intp], View)

    def codegen(context, bld, sig, args):
        a = context.make_array(array)(context, bld, args[0])
        size = integer(array.dtype.bitwidth // 8)
        strides = [bld.sdiv(s, size, flags=["exact"]) for s in cgutils.unpack_tuple(bld, a.strides)]
        return context.make_tuple(bld, result, [a.data, *[integer(0)] * (2 - array.ndim), *strides])

    return result(array), codegen


@intrinsic
def at(typingctx, v, i, j):
    """Return the View whose first element is (i, j) of v."""

    def codegen(context, bld, sig, args):
        data, row, col = cgutils.unpack_tuple(bld, args[0])
        i, j = (
            context.cast(bld, x, t, types.intp) for x, t in zip(args[1:], sig.args[1:], strict=True)
        )
        offset = bld.add(bld.mul(i, row), bld.mul(j, col))
        element = context.get_data_type(v[0].dtype)
        return context.make_tuple(bld, v, [bld.gep(data, [offset], source_etype=element), row, col])

    return v(v, i, j), codegen


def make_constant(value):
    """Make ``constant(like)``: a View that reads `value` wherever it is moved, strides 0."""

    @intrinsic
    def constant(typingctx, like):
        def codegen(context, bld, sig, args):
            element = context.get_data_type(like[0].dtype)
            row = ir.ArrayType(element, NR_ONE * VECTOR_BYTES // (like[0].dtype.bitwidth // 8))
            memory = cgutils.global_constant(bld, "constant", ir.Constant(row, [value] * row.count))
            data = bld.bitcast(memory, element.as_pointer())
            return context.make_tuple(bld, like, [data, integer(0), integer(0)])

        return like(like), codegen

    return constant


zeros, ones = make_constant(0.0), make_constant(1.0)


def make_buffer(vecs, rows=KC):
    """Make ``buffer(like)``: a View of rows of `vecs` vectors on the stack, as it is."""

    @intrinsic
    def buffer(typingctx, like):
        def codegen(context, bld, sig, args):
            out = Writer(context, bld, like[0].dtype)
            with bld.goto_entry_block():
                memory = bld.alloca(ir.ArrayType(out.element, rows * vecs * out.lanes))
                memory.align = 64
            data = bld.bitcast(memory, out.element.as_pointer())
            return context.make_tuple(bld, like, [data, integer(vecs * out.lanes), integer(1)])

        return like(like), codegen

    return buffer


def make_tile(rows, vecs, kind, group=1):
    """Make ``tile(base, scale, a, b, c, aside, k, n, edge)``: rows x vecs vectors of c, n columns.

    kind : HEAD reads b where it lies, with prefetch, and parks what it read in the panel `aside`,
        contiguous, at no cost, since its store ports are idle; b has all columns. BODY reads a
        panel as its b, and prefetches the rows of `aside`. Both store the rows from `edge` on.
        SMALL reads b where it lies; it has `edge` rows, and computes the last of them again in
        place of those that it lacks.
    group : rows of b that share a vector, interleaved by `make_interleave`, for a narrow c (n at
        most lanes / group): each column has as many chains, which are added up at the end.
    """

    @intrinsic
    def tile(typingctx, base, scale, a, b, c, aside, k, n, edge):
        def codegen(context, bld, sig, args):
            writer = _Tile if group == 1 else _GroupTile
            writer(context, bld, a[0].dtype, (rows, vecs, kind, group), args).write()
            return context.get_dummy_value()

        return types.void(base, scale, a, b, c, aside, types.intp, types.intp, types.intp), codegen

    return tile


HEAD, BODY, SMALL = range(3)


class _Tile(Writer):
    """Writes one tile: accumulators at 0, two loops over k (unrolled, rest), and the stores."""

    def __init__(self, context, builder, dtype, shape, args):
        super().__init__(context, builder, dtype)
        self.rows, self.vecs, self.kind, self.group = shape
        self.base, self.scale, self.a, self.b, self.c, self.aside = (
            x if i == 1 else cgutils.unpack_tuple(builder, x) for i, x in enumerate(args[:6])
        )
        self.k, self.n, self.edge = args[6:]
        self.mask = self.masks(self.n, self.vecs)
        self.mask_of_b = [None] * self.vecs

    def row(self, view, r):
        """Pointer to row r of an unpacked View, or to the last that a small tile has."""
        return self.step(view[0], self.bld.mul(self.number(r), view[1]))

    def number(self, r):
        """r, or the number of the last row that a small tile has."""
        if self.kind != SMALL:
            return integer(r)
        last = self.bld.sub(self.edge, integer(1))
        return self.bld.select(self.bld.icmp_signed("<", integer(r), last), integer(r), last)

    def is_stored(self, r):
        """Return whether row r is this tile's to store."""
        return self.bld.icmp_signed("<" if self.kind == SMALL else ">=", integer(r), self.edge)

    def write(self):
        """Write it all."""
        zero = ir.Constant(self.type, None)
        self.address_a()
        state = [*self.anchors, self.b[0], self.aside[0], *[zero] * (self.rows * self.vecs)]
        self.store_rows(self.sums(state)[len(self.anchors) + 2 :])

    def is_full(self):
        """Return whether all columns exist."""
        return self.bld.icmp_signed(">=", self.n, integer(self.vecs * self.lanes))

    def sums(self, state):
        """Return the state behind all turns; b is masked only where it has fewer columns."""
        if self.kind != SMALL:
            return self.loops(state, self.k)

        def masked():
            self.mask_of_b = self.mask
            return self.loops(state, self.k)

        return self.either(self.is_full(), lambda: self.loops(state, self.k), masked)

    def loops(self, state, turns):
        """All turns; most of them go UNROLL at a time."""
        state = self.loop(state, self.bld.udiv(turns, integer(UNROLL)), UNROLL)
        return self.loop(state, self.bld.urem(turns, integer(UNROLL)), 1)

    def address_a(self):
        """Two pointers into a, half the rows each, and multiples of its row stride.

        The rows of a small tile are in no such order: one pointer, and an offset each.
        """
        if self.kind == SMALL:
            self.anchors = [self.a[0]]
            self.offset = [
                self.bld.mul(self.bld.mul(self.number(r), self.a[1]), integer(self.bytes))
                for r in range(self.rows)
            ]
            return
        half = -(-self.rows // 2)
        self.anchors = [self.hide(self.row(self.a, r)) for r in range(0, self.rows, half)]
        self.offset = self.multiples(self.a[1], half)

    def element_of_a(self, anchors, r):
        """a[r, k] in every lane."""
        rows = len(self.offset)
        p = self.bld.bitcast(anchors[r // rows], I8.as_pointer())
        p = self.bld.gep(p, [self.offset[r % rows]], source_etype=I8)
        return self.spread(self.bld.bitcast(p, self.element.as_pointer()))

    def spread(self, p):
        """Return the element at p in every lane."""
        return self.splat(self.bld.load(p, typ=self.element))

    def turn(self, state):
        """Add one step of k to c: the outer product of a column of a and a row of b."""
        count = len(self.anchors)
        anchors, b, aside, acc = state[:count], state[count], state[count + 1], state[count + 2 :]
        row_of_b = [self.load(b, v, self.mask_of_b[v]) for v in range(self.vecs)]
        if self.kind == HEAD:
            ahead = self.bld.mul(self.b[1], integer(AHEAD))
            for v in range(self.vecs):
                self.prefetch(self.step(b, self.bld.add(ahead, integer((v + 1) * self.lanes - 1))))
                self.store(row_of_b[v], aside, v)
            aside = self.step(aside, integer(self.vecs * self.lanes))
        sums = []
        for r in range(self.rows):
            x = self.element_of_a(anchors, r)
            row_of_acc = acc[r * self.vecs : (r + 1) * self.vecs]
            sums += [self.muladd(x, *pair) for pair in zip(row_of_b, row_of_acc, strict=True)]
        anchors = [self.hide(self.step(p, self.a[2])) for p in anchors]
        return [*anchors, self.step(b, self.b[1]), aside, *sums]

    def loop(self, state, count, unroll):
        """`count` times `unroll` turns; returns the state behind them."""
        bld = self.bld
        before, body, after = bld.block, bld.append_basic_block("k"), bld.append_basic_block("end")
        bld.cbranch(bld.icmp_signed(">", count, integer(0)), body, after)
        bld.position_at_end(body)
        todo, *new = phis = [bld.phi(x.type) for x in (count, *state)]
        if self.kind == BODY:
            self.prefetch_next_c(todo)
            new = self.prefetch_aside(new)
        for _ in range(unroll):
            new = self.turn(new)
        left = bld.sub(todo, integer(1))
        bld.cbranch(bld.icmp_signed(">", left, integer(0)), body, after)
        bld.position_at_end(after)
        ends = [bld.phi(x.type) for x in state]
        olds, news = [count, *state, *state], [left, *new, *new]
        for phi, old, x in zip(phis + ends, olds, news, strict=True):
            phi.add_incoming(old, before)
            phi.add_incoming(x, body)
        return ends

    def prefetch_next_c(self, todo):
        """Prefetch a cache line of the next tile's c, one each turn: all at once would stall."""
        bits = (self.rows - 1).bit_length()
        row = self.bld.and_(todo, integer((1 << bits) - 1))
        v = self.bld.and_(self.bld.lshr(todo, integer(bits)), integer(self.vecs - 1))
        offset = self.bld.add(self.bld.mul(row, self.c[1]), self.bld.mul(v, integer(self.lanes)))
        offset = self.bld.add(offset, integer(self.lanes - 1))
        self.prefetch(self.step(self.row(self.c, self.rows), offset), to_write=True)

    def prefetch_aside(self, state):
        """Prefetch a part of a row of `aside` into L2, as much as a turn reads of a; one row on."""
        place = len(self.anchors) + 1
        p = state[place]
        for offset in range(0, UNROLL * self.rows, LINE_BYTES // self.bytes):
            self.prefetch(self.step(p, integer(offset + LINE_BYTES // self.bytes - 1)), level=2)
        return [*state[:place], self.step(p, self.aside[1]), *state[place + 1 :]]

    def store_rows(self, acc):
        """Compute ``c = base + scale * acc``; masked only where the tile reaches over an edge."""
        bld = self.bld
        everything = self.is_stored(self.rows - 1 if self.kind == SMALL else 0)
        whole = bld.and_(self.is_full(), everything)
        with bld.if_else(whole, likely=True) as (plain, edge):
            with plain:
                totals = self.totals(acc, [None] * self.vecs)
                for r in range(self.rows):
                    for v in range(self.vecs):
                        self.store(totals[r][v], self.row(self.c, r), v)
            with edge:
                totals = self.totals(acc, self.mask)
                for v in range(self.vecs):
                    # Even a store of no lane at all makes later loads from there wait.
                    with bld.if_then(bld.icmp_signed(">", self.n, integer(v * self.lanes))):
                        self.store_column(totals, v)

    def store_column(self, totals, v):
        """Vector v of the rows that are this tile's."""
        for r in range(self.rows):
            with self.bld.if_then(self.is_stored(r)):
                self.store(totals[r][v], self.row(self.c, r), v, self.mask[v])

    def totals(self, acc, mask):
        """``base + scale * acc`` of all rows: read before any is stored, since base may be c.

        A load that overlaps a masked store under way waits until the store is in the cache.
        """
        scale, rows = self.splat(self.scale), []
        for r in range(self.rows):
            base, of_row = self.row(self.base, r), acc[r * self.vecs : (r + 1) * self.vecs]
            loaded = [self.load(base, v, mask[v]) for v in range(self.vecs)]
            pairs = zip(of_row, loaded, strict=True)
            rows.append([self.muladd(x, scale, old) for x, old in pairs])
        return rows


class _GroupTile(_Tile):
    """Writes a tile of one vector that holds `group` rows of b at a time; rows of a are contiguous.

    Lane ``j * group + q`` adds up what rows q, q + group, ... of b contribute to column j.
    """

    def __init__(self, context, builder, dtype, shape, args):
        super().__init__(context, builder, dtype, shape, args)
        self.group = min(self.group, self.lanes)  # where it is less, nobody calls the tile
        self.a[2], self.rest = integer(self.group), None

    def sums(self, state):
        """Return the state behind all groups, also the last, if it is no whole one."""
        groups, rest = (f(self.k, integer(self.group)) for f in (self.bld.udiv, self.bld.urem))
        state = self.loops(state, groups)
        (self.rest,) = self.masks(rest, 1)
        more = self.bld.zext(self.bld.icmp_signed(">", rest, integer(0)), I64)
        state = self.loop(state, more, 1)
        start = len(self.anchors) + 2
        return [*state[:start], *self.column_sums(state[start:])]

    def spread(self, p):
        """Return the group of elements at p, again and again."""
        if self.rest is None:
            few = ir.VectorType(self.element, self.group)
            x = self.bld.load(self.bld.bitcast(p, few.as_pointer()), align=self.bytes, typ=few)
        else:
            x = self.load(p, 0, self.rest)
        return self.pick(x, x, [i % self.group for i in range(self.lanes)])

    def column_sums(self, acc):
        """For each row its columns' sums, in the first lanes."""
        size, joined = self.group, acc
        while size > 1:  # two vectors become one, until there are `group` rows in each
            pairs = zip_longest(joined[0::2], joined[1::2], fillvalue=joined[-1])
            joined, size = [self.halved(*pair, size) for pair in pairs], size // 2
        columns = self.lanes // self.group
        sums = []
        for r in range(len(acc)):
            x, first = joined[r // self.group], r % self.group * columns
            sums.append(self.pick(x, x, [(first + i) % self.lanes for i in range(self.lanes)]))
        return sums


@intrinsic
def row_sums(typingctx, a, x, k, rows):
    """Vector of ``sum(a[i, :k] * x[:k])`` for i < rows, at most one vector of rows."""

    def codegen(context, bld, sig, args):
        return _RowSums(context, bld, a[0].dtype, args).write()

    return vector_of(a[0].dtype)(a, x, types.intp, types.intp), codegen


class _RowSums(Writer):
    """Writes inner products of as many rows as a vector has lanes with one vector."""

    def __init__(self, context, builder, dtype, args):
        super().__init__(context, builder, dtype)
        (data, stride, _), (self.x, _, _) = (cgutils.unpack_tuple(builder, v) for v in args[:2])
        self.k, rows = args[2:]
        last = builder.sub(rows, integer(1))
        self.a = []
        for r in range(self.lanes):  # in place of rows that do not exist the last one is read
            exists = builder.icmp_signed("<", integer(r), last)
            number = builder.select(exists, integer(r), last)
            self.a.append(self.step(data, builder.mul(number, stride)))

    def write(self):
        """Return a loop over whole vectors of k, the rest with a mask, and the sums over lanes."""
        bld, zero = self.bld, ir.Constant(self.type, None)
        totals = [cgutils.alloca_once_value(bld, zero) for _ in self.a]  # registers, to LLVM

        def add_products(k, mask):
            x = self.load(self.step(self.x, k), 0, mask)
            for total, row in zip(totals, self.a, strict=True):
                product = self.muladd(self.load(self.step(row, k), 0, mask), x, bld.load(total))
                bld.store(product, total)

        whole = bld.and_(self.k, integer(-self.lanes))
        with cgutils.for_range_slice(bld, integer(0), whole, integer(self.lanes)) as (k, _):
            add_products(k, None)
        with bld.if_then(bld.icmp_signed("<", whole, self.k)):
            add_products(whole, self.masks(bld.sub(self.k, whole), 1)[0])
        return self.sums_of_lanes([bld.load(total) for total in totals])

    def sums_of_lanes(self, x):
        """The sums of vectors, side by side in one: they are halved and joined until they fit."""
        size = self.lanes
        while size > 1:
            x = [self.halved(*pair, size) for pair in zip(x[0::2], x[1::2], strict=True)]
            size //= 2
        return x[0]
