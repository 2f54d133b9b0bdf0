"""Explicit SIMD sums of columns, written as LLVM vector code inside Numba (N-6, N-7, D-7).

Why not plain loops: the compiler keeps the accumulator of ``a += W[j] * d[j]`` in memory from one column to the next. Here the
accumulators of a few panels stay in registers over a whole list of columns. Each output still sees one multiplication and one
addition per column, in the order of the list, so the strict kernels have the bits of the plain loops (N-6); the fused ones use
a multiply-add with a single rounding and belong to fast order only (N-7).

- *row*: one sample, any list of columns, 1, 2 or 4 panels; columns that are not listed are not read (D-7). One load per
  multiply-add: two thirds of what the processor can do.
- *group*: four or six samples, a range of columns, one panel: each weight is loaded once for all of them, which is what a
  dense product needs to reach the limit of the processor.
"""

from __future__ import annotations

import llvmlite.ir as ir
import numpy as np
from numba import types

from refdeq_numba.compilation import uncounted
from refdeq_numba.machine import intrinsic
from refdeq_numba.panels import VECTORS
from refdeq_numba.simd import Emitter, pointer, rounds_once

__all__ = ["PANELS", "group_of_four", "group_of_six", "row", "row_plain"]

PANELS = (4, 2, 1)
"""Panels per call of the row kernel, widest first: eight independent sums hide the latency of an addition."""


def _row_kernel(panels):
    """``a[at:] += sum over p in [start, stop) of column index[p] * value[p]`` for consecutive panels.

    The first panel begins at element `first` of `w`, the next ones `step` elements further each.
    """

    @intrinsic
    def kernel(_typing, rounding, a, at, w, first, step, index, value, start, stop):
        is_fused = rounds_once(rounding)

        def generate(context, builder, signature, arguments):
            a_base, w_base, index_base, values = (pointer(context, builder, signature, arguments, i) for i in (1, 3, 6, 7))
            at, first, step, start, stop = (arguments[i] for i in (2, 4, 5, 8, 9))
            e = Emitter(builder, signature.args[1].dtype, is_fused)
            width = e.const(VECTORS * e.lanes)
            begins = [builder.add(first, builder.mul(step, e.const(panel))) for panel in range(panels)]
            bases = [builder.gep(w_base, [begin]) for begin in begins]
            places = [builder.add(at, e.const(t * e.lanes)) for t in range(VECTORS * panels)]

            def column(p, sums):
                j = builder.sext(builder.load(builder.gep(index_base, [p]), typ=ir.IntType(32)), ir.IntType(64))
                d_j, begin = e.spread(values, p), builder.mul(j, width)
                shifts = [builder.add(begin, e.const(v * e.lanes)) for v in range(VECTORS)]
                weights = [e.load(base, shift) for base in bases for shift in shifts]
                return [e.accumulate(total, weight, d_j) for total, weight in zip(sums, weights, strict=True)]

            sums = e.loop(start, stop, [e.load(a_base, place) for place in places], column, is_short=True)
            for total, place in zip(sums, places, strict=True):
                e.store(total, a_base, place)
            return context.get_dummy_value()

        i8 = types.int64
        return types.void(rounding, a, i8, w, i8, i8, index, value, i8, i8), generate

    return kernel


def _group_kernel(rows):
    """The same for `rows` samples and the columns [start, stop) of one panel."""

    @intrinsic
    def kernel(_typing, rounding, a, at, w, first, start, stop, d, d_at):
        is_fused = rounds_once(rounding)

        def generate(context, builder, signature, arguments):
            a_base, w_base, d_base = (pointer(context, builder, signature, arguments, i) for i in (1, 3, 7))
            first, start, stop = arguments[4:7]
            e = Emitter(builder, signature.args[1].dtype, is_fused)
            targets = [builder.extract_value(arguments[2], r) for r in range(rows)]
            values = [builder.gep(d_base, [builder.extract_value(arguments[8], r)]) for r in range(rows)]
            places = [builder.add(target, e.const(v * e.lanes)) for target in targets for v in range(VECTORS)]
            panel, width = builder.gep(w_base, [first]), e.const(VECTORS * e.lanes)

            def column(j, sums):
                begin = builder.mul(j, width)
                weights = [e.load(panel, builder.add(begin, e.const(v * e.lanes))) for v in range(VECTORS)]
                spread = [e.spread(value, j) for value in values]
                return [e.accumulate(total, weights[i % VECTORS], spread[i // VECTORS]) for i, total in enumerate(sums)]

            sums = e.loop(start, stop, [e.load(a_base, place) for place in places], column)
            for total, place in zip(sums, places, strict=True):
                e.store(total, a_base, place)
            return context.get_dummy_value()

        i8, many = types.int64, types.UniTuple(types.int64, rows)
        return types.void(rounding, a, many, w, i8, i8, i8, d, many), generate

    return kernel


_row_4, _row_2, _row_1 = (_row_kernel(panels) for panels in PANELS)
group_of_six, group_of_four = (_group_kernel(rows) for rows in (6, 4))
"""Add the columns [start, stop) of the panel at `first` to six or four samples (N-6); `at` and `d_at` are tuples of places."""


@uncounted
def row(rounding, panels, a, at, w, first, step, index, value, start, stop):
    """Add the listed columns to consecutive panels of one sample (N-6, D-7).

    Parameters
    ----------
    rounding : None or ONCE
        See :data:`refdeq_numba.simd.ONCE`.
    panels : int
        One of ``PANELS``.
    a, w : 1-D arrays of one dtype
        Accumulators and panels; `at` says where this sample begins, `first` where the first panel does and `step` how many
        elements lie between two.
    index, value : (L,) int32 and array of that dtype
        Columns and their differences; those from position `start` to `stop` are used, in this order. Side by side they take a
        third of the cache lines that picking the differences from whole samples would.
    """
    if panels == 4:
        _row_4(rounding, a, at, w, first, step, index, value, start, stop)
    elif panels == 2:
        _row_2(rounding, a, at, w, first, step, index, value, start, stop)
    else:
        _row_1(rounding, a, at, w, first, step, index, value, start, stop)


@uncounted
def row_plain(panels, width, a, at, w, first, step, index, value, start, stop):
    """The twin of :func:`row` in strict order: the same sums by plain loops."""
    for p in range(start, stop):
        j = np.int64(index[p])
        for panel in range(panels):
            for i in range(width):
                a[at + panel * width + i] += w[first + panel * step + j * width + i] * value[p]
