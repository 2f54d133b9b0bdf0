"""Explicit SIMD accumulate kernels, written as LLVM vector code inside Numba (N-6, N-7, D-7).

Why not plain loops: the compiler keeps the accumulator of ``a += W[j] * d[j]`` in memory from one column to the next. Here the
accumulators of a *tile* of outputs stay in registers over a whole list of columns. Each output still sees one multiplication
and one addition per column, in the order of the list, so the strict kernels have the bits of the plain loops (N-6); the fused
ones use a multiply-add with a single rounding and belong to fast order only (N-7).

Two kernels, each for tiles of 8 or 2 vectors:

- *row*: one sample, any list of columns; columns that are not listed are not read (D-7);
- *group*: four samples, a range of columns, so that each weight is loaded once for four.

The vector width is that of the machine that compiles. The option ``REFDEQ_NUMBA_SIMD=off`` selects plain loops instead, which
have the same bits in strict order; the tests compare the two.
"""

from __future__ import annotations

import functools
import os

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numpy as np
from numba import types

from refdeq.errors import ArgumentError
from refdeq_numba.compilation import uncounted
from refdeq_numba.machine import has_fused_multiply_add, intrinsic

__all__ = [
    "GROUP",
    "TILES",
    "Emitter",
    "count_trailing_zeros",
    "group",
    "is_enabled",
    "pointer",
    "row",
    "row_plain",
    "vector_bytes",
]

TILES = (8, 2)
"""Vectors per tile, widest first: eight independent sums hide the latency of an addition and fit sixteen registers."""

GROUP = 4
"""Samples per group."""

_INDEX = ir.IntType(64)


@functools.cache
def vector_bytes() -> int:
    """Bytes of one vector register of this machine: 64 (AVX-512), 32 (AVX) or 16.

    >>> vector_bytes() in (16, 32, 64)
    True
    """
    features = llvm.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


def is_enabled() -> bool:
    """Whether the SIMD kernels are to be used: ``REFDEQ_NUMBA_SIMD`` is ``on`` (default) or ``off``; read at every call."""
    setting = os.environ.get("REFDEQ_NUMBA_SIMD", "on")
    if setting not in ("on", "off"):
        raise ArgumentError("REFDEQ_NUMBA_SIMD", expected="'on' or 'off'", got=repr(setting))
    return setting == "on"


@intrinsic
def count_trailing_zeros(_typing, bits):
    """Position of the lowest bit that is set, of a uint64 other than 0."""

    def generate(_context, builder, _signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


class Emitter:
    """Vector instructions for one element type."""

    def __init__(self, builder, dtype, is_fused):
        self.b = builder
        self.element = ir.FloatType() if dtype is types.float32 else ir.DoubleType()
        self.bytes = 4 if dtype is types.float32 else 8
        self.lanes = vector_bytes() // self.bytes
        self.vector = ir.VectorType(self.element, self.lanes)
        self._is_fused = is_fused and has_fused_multiply_add()

    def const(self, value):
        """An index."""
        return ir.Constant(_INDEX, value)

    def _vector_at(self, base, index):
        return self.b.bitcast(self.b.gep(base, [index]), self.vector.as_pointer())

    def load(self, base, index):
        """One vector from element `index` on."""
        value = self.b.load(self._vector_at(base, index), typ=self.vector)
        value.align = self.bytes
        return value

    def store(self, value, base, index):
        """Write one vector from element `index` on."""
        self.b.store(value, self._vector_at(base, index)).align = self.bytes

    def spread(self, base, index):
        """One element in every lane."""
        one = self.b.load(self.b.gep(base, [index]), typ=self.element)
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.b.insert_element(undefined, one, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.b.shuffle_vector(first, undefined, zeros)

    def accumulate(self, a, weight, d):
        """``fl(a + fl(weight d))`` (N-6), or one rounding when fused (N-7)."""
        if not self._is_fused:
            return self.b.fadd(a, self.b.fmul(weight, d))
        name = f"llvm.fma.v{self.lanes}f{8 * self.bytes}"
        fma = self.b.module.globals.get(name)
        if fma is None:
            fma = ir.Function(self.b.module, ir.FunctionType(self.vector, [self.vector] * 3), name)
        return self.b.call(fma, [weight, d, a])

    def loop(self, start, stop, sums, body):
        """``for p in range(start, stop): sums = body(p, sums)`` with the sums in registers."""
        before = self.b.block
        head, inside, after = (self.b.append_basic_block(name) for name in ("sum.head", "sum.body", "sum.end"))
        self.b.branch(head)
        self.b.position_at_end(head)
        p = self.b.phi(_INDEX)
        carried = [self.b.phi(self.vector) for _ in sums]
        self.b.cbranch(self.b.icmp_signed("<", p, stop), inside, after)
        self.b.position_at_end(inside)
        results = body(p, carried)
        following = self.b.add(p, self.const(1))
        end = self.b.block
        self.b.branch(head)
        for phi, first, again in zip([p, *carried], [start, *sums], [following, *results], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(again, end)
        self.b.position_at_end(after)
        return carried


def pointer(context, builder, signature, arguments, which):
    """Address of the first element of the array that is argument number `which`."""
    array = context.make_array(signature.args[which])(context, builder, arguments[which])
    return array.data


def _row_kernel(vectors, is_fused):
    """``a[at:] += sum over p in [start, stop) of w[first + width * index[p]:] * d[d_at + index[p]]``, one tile wide."""

    @intrinsic
    def kernel(_typing, a, at, w, first, index, start, stop, d, d_at):
        def generate(context, builder, signature, arguments):
            pointers = [pointer(context, builder, signature, arguments, i) for i in (0, 2, 4, 7)]
            a_base, w_base, index_base, d_base = pointers
            at, first, start, stop, d_at = (arguments[i] for i in (1, 3, 5, 6, 8))
            e = Emitter(builder, signature.args[0].dtype, is_fused)
            width = e.const(vectors * e.lanes)
            places = [builder.add(at, e.const(t * e.lanes)) for t in range(vectors)]

            def column(p, sums):
                j = builder.sext(builder.load(builder.gep(index_base, [p]), typ=ir.IntType(32)), _INDEX)
                d_j = e.spread(d_base, builder.add(d_at, j))
                row = builder.add(first, builder.mul(j, width))
                weights = [e.load(w_base, builder.add(row, e.const(t * e.lanes))) for t in range(vectors)]
                return [e.accumulate(total, weight, d_j) for total, weight in zip(sums, weights, strict=True)]

            sums = e.loop(start, stop, [e.load(a_base, place) for place in places], column)
            for total, place in zip(sums, places, strict=True):
                e.store(total, a_base, place)
            return context.get_dummy_value()

        i8 = types.int64
        return types.void(a, i8, w, i8, index, i8, i8, d, i8), generate

    return kernel


def _group_kernel(vectors, is_fused):
    """The same for four samples and the columns [start, stop), on `vectors` vectors of a tile of `width` outputs."""

    @intrinsic
    def kernel(_typing, a, at, w, first, width, start, stop, d, d_at):
        def generate(context, builder, signature, arguments):
            a_base, w_base, d_base = (pointer(context, builder, signature, arguments, i) for i in (0, 2, 7))
            first, width, start, stop = (arguments[i] for i in (3, 4, 5, 6))
            e = Emitter(builder, signature.args[0].dtype, is_fused)
            rows = [builder.extract_value(arguments[1], r) for r in range(GROUP)]
            values = [builder.extract_value(arguments[8], r) for r in range(GROUP)]
            places = [builder.add(row, e.const(t * e.lanes)) for row in rows for t in range(vectors)]

            def column(j, sums):
                row = builder.add(first, builder.mul(j, width))
                weights = [e.load(w_base, builder.add(row, e.const(t * e.lanes))) for t in range(vectors)]
                spread = [e.spread(d_base, builder.add(value, j)) for value in values]
                return [e.accumulate(total, weights[i % vectors], spread[i // vectors]) for i, total in enumerate(sums)]

            sums = e.loop(start, stop, [e.load(a_base, place) for place in places], column)
            for total, place in zip(sums, places, strict=True):
                e.store(total, a_base, place)
            return context.get_dummy_value()

        i8 = types.int64
        four = types.UniTuple(i8, GROUP)
        return types.void(a, four, w, i8, i8, i8, i8, d, four), generate

    return kernel


_row_8, _row_2 = (_row_kernel(vectors, False) for vectors in TILES)
_row_8_fused, _row_2_fused = (_row_kernel(vectors, True) for vectors in TILES)
_group, _group_fused = (_group_kernel(TILES[-1], is_fused) for is_fused in (False, True))


@uncounted
def row(is_fused, vectors, a, at, w, first, index, start, stop, d, d_at):
    """Add the listed columns to one tile of one sample (N-6, D-7).

    Parameters
    ----------
    is_fused : bool
        Fast order.
    vectors : int
        Of the tile, one of ``TILES``.
    a, w, d : 1-D arrays of one dtype
        Accumulators, packed weights and differences; `at`, `first` and `d_at` say where this tile and sample begin.
    index : (L,) int32
        Columns; those from `start` to `stop` are used, in this order.
    """
    if vectors == 8:
        if is_fused:
            _row_8_fused(a, at, w, first, index, start, stop, d, d_at)
        else:
            _row_8(a, at, w, first, index, start, stop, d, d_at)
    elif is_fused:
        _row_2_fused(a, at, w, first, index, start, stop, d, d_at)
    else:
        _row_2(a, at, w, first, index, start, stop, d, d_at)


@uncounted
def group(is_fused, width, shift, a, at, w, first, start, stop, d, d_at):
    """Add the columns [start, stop) to two vectors of four samples (N-6), those at `shift` of a tile of `width` outputs.

    `at` and `d_at` are tuples of four, where the tile of each sample and its differences begin.
    """
    places = (at[0] + shift, at[1] + shift, at[2] + shift, at[3] + shift)
    if is_fused:
        _group_fused(a, places, w, first + shift, width, start, stop, d, d_at)
    else:
        _group(a, places, w, first + shift, width, start, stop, d, d_at)


@uncounted
def row_plain(width, a, at, w, first, index, start, stop, d, d_at):
    """The twin of :func:`row` in strict order: the same sums by plain loops."""
    for p in range(start, stop):
        j = np.int64(index[p])
        d_j = d[d_at + j]
        for i in range(width):
            a[at + i] += w[first + j * width + i] * d_j
