"""What solvers with a memory do with it, over a range of samples: states in one row, inner products, linear combinations.

The columns of a solver (arguments, values, updates) are separate (B, N) arrays, as many as its window is long. A compiled
kernel that took them as a tuple would be compiled once per length, so they come as addresses: a (k,) int64 array. The caller
keeps the arrays alive and sees to it that all have the shape, dtype and layout of the one array that is handed over as such.

Memory traffic per sample, k columns of N elements: ``inner`` reads k N elements and k times a row that stays in the cache,
``combine`` reads those columns whose weight is not zero once and writes N elements; its sums stay in a block that fits the
first-level cache.
"""

from __future__ import annotations

import llvmlite.ir as ir
import numpy as np
from numba import carray, types  # type: ignore[attr-defined]  # exported, though not in a way that mypy sees

from refdeq_numba.compilation import compiled, inlined
from refdeq_numba.machine import intrinsic
from refdeq_numba.residual import LANES
from refdeq_numba.simd import Emitter, pointer

__all__ = ["address_of", "combine", "flatten", "inner", "unflatten"]

_BLOCK = 512
"""Elements of a row combined at a time: 4 KiB of float64, beside as many of each column."""

_TOGETHER = 4
"""Columns whose lanes are added side by side."""


@compiled
def flatten(rows, first, last, part, at, out):
    """Copy one state, (B, n), to the places from `at` on of the rows of `out`, (B, N)."""
    for r in range(first, last):
        source, target = part[rows[r]], out[rows[r], at:]
        for k in range(len(source)):
            target[k] = source[k]


@compiled
def unflatten(rows, first, last, whole, at, part):
    """Copy the places from `at` on of the rows of `whole`, (B, N), to one state, (B, n)."""
    for r in range(first, last):
        source, target = whole[rows[r], at:], part[rows[r]]
        for k in range(len(target)):
            target[k] = source[k]


@compiled
def address_of(array):
    """Address of the first element; several times as fast as asking NumPy for it."""
    return array.ctypes.data


@intrinsic
def _pointer(_typing, address, like):
    """An address as a pointer to elements of the dtype of the array `like`."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(types.int64, like), generate


@inlined
def _row_at(address, like, b):
    """Row `b` of the array at `address`, which is otherwise as `like`."""
    return carray(_pointer(address, like), like.shape)[b]


# Inner products --------------------------------------------------------------------------------------------------------------


@intrinsic
def _add_blocks(_typing, lanes, column, row, blocks):
    """Add the products of two rows to the 32 lanes, for so many whole blocks of 32 elements; the lanes stay in registers.

    Written as vector code because the compiler sees possible overlap of rows and lanes, and adds one float64 at a time.
    """

    def generate(context, builder, signature, arguments):
        lanes, column, row = (pointer(context, builder, signature, arguments, i) for i in range(3))
        e, is_single = Emitter(builder, types.float64, False), signature.args[1].dtype is types.float32
        places = [e.const(first) for first in range(0, LANES, e.lanes)]
        narrow = ir.VectorType(ir.FloatType(), e.lanes)

        def wide(base, index):
            """As many elements as a vector holds float64, as float64."""
            if not is_single:
                return e.load(base, index)
            value = builder.load(builder.bitcast(builder.gep(base, [index]), narrow.as_pointer()), typ=narrow)
            value.align = 4
            return builder.fpext(value, e.vector)

        def block(p, sums):
            first = builder.mul(p, e.const(LANES))
            indices = [builder.add(first, place) for place in places]
            pairs = [(wide(column, index), wide(row, index)) for index in indices]
            return [e.accumulate(total, *pair) for total, pair in zip(sums, pairs, strict=True)]

        sums = e.loop(e.const(0), arguments[3], [e.load(lanes, place) for place in places], block)
        for total, place in zip(sums, places, strict=True):
            e.store(total, lanes, place)
        return context.get_dummy_value()

    return types.void(lanes, column, row, types.int64), generate


@inlined
def _add_products(column, row, lanes):
    """Add the products of two rows to the lanes of the pinned tree (S-2): element k belongs to lane ``k % 32``."""
    size = len(row)
    blocks = size // LANES
    _add_blocks(lanes, column, row, blocks)
    for k in range(blocks * LANES, size):
        lanes[k - blocks * LANES] += np.float64(column[k]) * np.float64(row[k])


@inlined
def _add_lanes(lanes, total):
    """Totals of several columns, lanes in ascending order (S-2); side by side, since each addition waits for the one before."""
    t0 = t1 = t2 = t3 = 0.0
    for lane in range(LANES):
        t0, t1, t2, t3 = t0 + lanes[0, lane], t1 + lanes[1, lane], t2 + lanes[2, lane], t3 + lanes[3, lane]
    total[0], total[1], total[2], total[3] = t0, t1, t2, t3


@compiled
def inner(rows, first, last, addresses, row, out):
    """``out[b, i] = <columns[i][b], row[b]>`` in float64 (S-7, S-8).

    Parameters
    ----------
    addresses : (k,) int64
        Of the columns, each (B, N) as `row`.
    row : (B, N) array
    out : (B, k) float64
    """
    lanes, total = np.empty((_TOGETHER, LANES)), np.empty(_TOGETHER)
    for r in range(first, last):
        b = rows[r]
        for start in range(0, len(addresses), _TOGETHER):
            count = min(_TOGETHER, len(addresses) - start)
            lanes[:] = 0.0
            for i in range(count):
                _add_products(_row_at(addresses[start + i], row, b), row[b], lanes[i])
            _add_lanes(lanes, total)
            for i in range(count):
                out[b, start + i] = total[i]


# Linear combinations ---------------------------------------------------------------------------------------------------------


@inlined
def _list_used(weights, addresses, index):
    """List the columns whose weight is not zero, in ascending order; a NaN weight is not zero."""
    count = 0
    for i in range(len(addresses)):
        if weights[i] != 0.0:
            index[count] = i
            count += 1
    return count


@inlined
def _add_four(total, w0, x0, w1, x1, w2, x2, w3, x3):
    """Add four columns to the sums, one after the other; the sums are read and written once."""
    for k in range(len(total)):
        s = total[k]
        s = s + w0 * np.float64(x0[k])
        s = s + w1 * np.float64(x1[k])
        s = s + w2 * np.float64(x2[k])
        s = s + w3 * np.float64(x3[k])
        total[k] = s


@inlined
def _add_one(total, w, x):
    for k in range(len(total)):
        total[k] = total[k] + w * np.float64(x[k])


@compiled
def combine(rows, first, last, addresses, weights, out):
    """``out[b] = sum_i weights[b, i] * columns[i][b]``, formed in float64 from +0, rounded once (S-7, S-8).

    Parameters
    ----------
    addresses : (k,) int64
        Of the columns, each (B, N) as `out`; `out` may be one of them: a block is read before it is written.
    weights : (B, k) float64
        A column is not read for the samples where its weight is zero.
    out : (B, N) array
    """
    sums, used = np.empty(_BLOCK), np.empty(len(addresses), dtype=np.int64)
    for r in range(first, last):
        b = rows[r]
        count = _list_used(weights[b], addresses, used)
        whole = count - count % 4
        for start in range(0, out.shape[1], _BLOCK):
            stop = min(start + _BLOCK, out.shape[1])
            total, target = sums[: stop - start], out[b, start:stop]
            total[:] = 0.0
            for t in range(0, whole, 4):
                i0, i1, i2, i3 = used[t], used[t + 1], used[t + 2], used[t + 3]
                _add_four(
                    total,
                    weights[b, i0],
                    _row_at(addresses[i0], out, b)[start:stop],
                    weights[b, i1],
                    _row_at(addresses[i1], out, b)[start:stop],
                    weights[b, i2],
                    _row_at(addresses[i2], out, b)[start:stop],
                    weights[b, i3],
                    _row_at(addresses[i3], out, b)[start:stop],
                )
            for t in range(whole, count):
                _add_one(total, weights[b, used[t]], _row_at(addresses[used[t]], out, b)[start:stop])
            for k in range(len(target)):
                target[k] = total[k]
