"""Explicit SIMD sums of whole columns, for a few samples: eight columns per pass over the accumulators (N-6, N-7, D-7).

A product with one sample reads every weight once, so the memory sets the pace. Whole columns come in as eight streams side by
side, and the accumulators, which stay in the first-level cache, are loaded and stored once for eight columns. Each output
still adds its columns one after the other, in the order of the list.
"""

from __future__ import annotations

import llvmlite.ir as ir
from numba import types

from refdeq_numba.compilation import uncounted
from refdeq_numba.machine import intrinsic
from refdeq_numba.simd import Emitter, add_product, pointer, rounds_once

__all__ = ["STREAMS", "add_columns_of"]

STREAMS = (8, 4, 2, 1)
"""Columns per pass, most first."""


def _pass_kernel(streams):
    """``a[at:] += value[p] * column index[p] + ...`` for `streams` columns, `vectors` vectors from element `first` on."""

    @intrinsic
    def kernel(_typing, rounding, a, at, w, stride, first, vectors, index, value, p):
        is_fused = rounds_once(rounding)

        def generate(context, builder, signature, arguments):
            a_base, w_base, index_base, value_base = (pointer(context, builder, signature, arguments, i) for i in (1, 3, 7, 8))
            at, stride, first, vectors, p = (arguments[i] for i in (2, 4, 5, 6, 9))
            e = Emitter(builder, signature.args[1].dtype, is_fused)
            columns, factors = [], []
            for stream in range(streams):
                position = builder.add(p, e.const(stream))
                j = builder.sext(builder.load(builder.gep(index_base, [position]), typ=ir.IntType(32)), ir.IntType(64))
                columns.append(builder.gep(w_base, [builder.add(builder.mul(j, stride), first)]))
                factors.append(e.spread(value_base, position))
            target = builder.gep(a_base, [builder.add(at, first)])

            def vector(i, _):
                place = builder.mul(i, e.const(e.lanes))
                total = e.load(target, place)
                for column, factor in zip(columns, factors, strict=True):
                    total = e.accumulate(total, e.load(column, place), factor)
                e.store(total, target, place)
                return []

            e.loop(e.const(0), vectors, [], vector)
            return context.get_dummy_value()

        i8 = types.int64
        return types.void(rounding, a, i8, w, i8, i8, i8, index, value, i8), generate

    return kernel


_eight, _four, _two, _one = (_pass_kernel(streams) for streams in STREAMS)


@uncounted
def add_columns_of(rounding, lanes, a, at, w, stride, first, last, index, value, count):
    """Add `count` listed columns to the outputs [first, last) of one sample (N-6, D-7).

    Parameters
    ----------
    rounding : None or ONCE
        See :data:`refdeq_numba.simd.ONCE`.
    lanes : int
        Numbers per vector.
    a : 1-D array
        The sample's accumulators begin at element `at`.
    w : 1-D array
        Column j begins at element ``j * stride``.
    index, value : (>= count,) int32 and array
        Columns and their differences.
    """
    vectors = (last - first) // lanes
    p = 0
    while p < count:
        left = count - p
        if left >= 8:
            _eight(rounding, a, at, w, stride, first, vectors, index, value, p)
            p += 8
        elif left >= 4:
            _four(rounding, a, at, w, stride, first, vectors, index, value, p)
            p += 4
        elif left >= 2:
            _two(rounding, a, at, w, stride, first, vectors, index, value, p)
            p += 2
        else:
            _one(rounding, a, at, w, stride, first, vectors, index, value, p)
            p += 1
    for i in range(first + vectors * lanes, last):
        total = a[at + i]
        for p in range(count):
            total = add_product(rounding, total, w[index[p] * stride + i], value[p])
        a[at + i] = total
