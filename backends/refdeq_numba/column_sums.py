"""Explicit SIMD sums of whole columns, for a few samples: eight columns per pass over the accumulators (N-6, N-7, D-7).

A product with one sample reads every weight once, so the memory sets the pace. Whole columns come in as eight streams side by
side, and the accumulators, which stay in the first-level cache, are loaded and stored once for eight columns. Each output
still adds its columns one after the other, in the order of the list.
"""

from __future__ import annotations

import llvmlite.ir as ir
from numba import types

from refdeq_numba.compilation import uncounted
from refdeq_numba.machine import fused_multiply_add, intrinsic
from refdeq_numba.simd import Emitter, pointer

__all__ = ["STREAMS", "add_columns_of"]

STREAMS = (8, 4, 2, 1)
"""Columns per pass, most first."""


def _pass_kernel(streams, is_fused):
    """``a[at:] += value[p] * column index[p] + ...`` for `streams` columns, `vectors` vectors from element `first` on."""

    @intrinsic
    def kernel(_typing, a, at, w, stride, first, vectors, index, value, p):
        def generate(context, builder, signature, arguments):
            a_base, w_base, index_base, value_base = (pointer(context, builder, signature, arguments, i) for i in (0, 2, 6, 7))
            at, stride, first, vectors, p = (arguments[i] for i in (1, 3, 4, 5, 8))
            e = Emitter(builder, signature.args[0].dtype, is_fused)
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
        return types.void(a, i8, w, i8, i8, i8, index, value, i8), generate

    return kernel


_eight, _four, _two, _one = (_pass_kernel(streams, False) for streams in STREAMS)
_eight_fused, _four_fused, _two_fused, _one_fused = (_pass_kernel(streams, True) for streams in STREAMS)


@uncounted
def _pass(is_fused, streams, a, at, w, stride, first, vectors, index, value, p):
    if streams == 8:
        if is_fused:
            _eight_fused(a, at, w, stride, first, vectors, index, value, p)
        else:
            _eight(a, at, w, stride, first, vectors, index, value, p)
    elif streams == 4:
        if is_fused:
            _four_fused(a, at, w, stride, first, vectors, index, value, p)
        else:
            _four(a, at, w, stride, first, vectors, index, value, p)
    elif streams == 2:
        if is_fused:
            _two_fused(a, at, w, stride, first, vectors, index, value, p)
        else:
            _two(a, at, w, stride, first, vectors, index, value, p)
    elif is_fused:
        _one_fused(a, at, w, stride, first, vectors, index, value, p)
    else:
        _one(a, at, w, stride, first, vectors, index, value, p)


@uncounted
def add_columns_of(is_fused, lanes, a, at, w, stride, first, last, index, value, count):
    """Add `count` listed columns to the outputs [first, last) of one sample (N-6, D-7).

    Parameters
    ----------
    is_fused : bool
        Fast order.
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
        streams = 8 if left >= 8 else (4 if left >= 4 else (2 if left >= 2 else 1))
        _pass(is_fused, streams, a, at, w, stride, first, vectors, index, value, p)
        p += streams
    for i in range(first + vectors * lanes, last):
        total = a[at + i]
        for p in range(count):
            weight = w[index[p] * stride + i]
            total = fused_multiply_add(weight, value[p], total) if is_fused else total + weight * value[p]
        a[at + i] = total
