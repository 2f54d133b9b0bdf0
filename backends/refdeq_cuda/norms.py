"""Kernels of the pinned tree: 32 lanes of ascending stride, added in ascending order (S-2); see :mod:`refdeq_gpu.table`."""

from __future__ import annotations

import math

from numba import cuda, float64

from refdeq_cuda.arithmetic import plus, times
from refdeq_cuda.indexing import split

__all__ = ["combine_add", "combine_round", "inner", "residual_finish", "residual_part"]

_LANES = 32


@cuda.jit(device=True)
def _with(total, term, is_linf):
    """One term more: its square, or for linf the larger magnitude, where NaN wins."""
    if is_linf == 0:
        return plus(total, times(term, term))
    size = abs(term)
    return size if size > total or size != size else total


@cuda.jit
def residual_part(rows, count, n, f, z, offset, is_linf, lanes, lanes_of_f):
    """Every lane goes on with its elements of this part, of the difference and of f."""
    lane = cuda.threadIdx.x
    first = (lane - offset % _LANES + _LANES) % _LANES
    for entry in range(cuda.blockIdx.x, count, cuda.gridDim.x):
        b = rows[entry]
        total, total_of_f = lanes[b * _LANES + lane], lanes_of_f[b * _LANES + lane]
        for k in range(first, n, _LANES):
            value = float64(f[b * n + k])
            total = _with(total, plus(value, -float64(z[b * n + k])), is_linf)
            total_of_f = _with(total_of_f, value, is_linf)
        lanes[b * _LANES + lane], lanes_of_f[b * _LANES + lane] = total, total_of_f


@cuda.jit(device=True)
def _sum(lanes, first):
    """Lanes in ascending order, from +0."""
    total = float64(0.0)
    for lane in range(first, first + _LANES):
        total = plus(total, lanes[lane])
    return total


@cuda.jit(device=True)
def _finished(lanes, first, is_linf):
    if is_linf == 0:
        return math.sqrt(_sum(lanes, first))
    largest = float64(0.0)
    for lane in range(first, first + _LANES):
        if lanes[lane] > largest or lanes[lane] != lanes[lane]:
            largest = lanes[lane]
    return largest


@cuda.jit
def residual_finish(rows, count, is_linf, lanes, lanes_of_f, norms):
    """The first thread adds the lanes of the difference, the second those of f."""
    for entry in range(cuda.blockIdx.x, count, cuda.gridDim.x):
        b = rows[entry]
        if cuda.threadIdx.x == 0:
            norms[2 * b] = _finished(lanes, b * _LANES, is_linf)
        elif cuda.threadIdx.x == 1:
            norms[2 * b + 1] = _finished(lanes_of_f, b * _LANES, is_linf)


@cuda.jit
def inner(rows, count, n, columns, which, column, row, out):
    """Inner product of two samples by the tree (S-7, S-8)."""
    lanes = cuda.shared.array(_LANES, float64)
    lane = cuda.threadIdx.x
    for entry in range(cuda.blockIdx.x, count, cuda.gridDim.x):
        b = rows[entry]
        total = float64(0.0)
        for k in range(lane, n, _LANES):
            total = plus(total, times(float64(column[b * n + k]), float64(row[b * n + k])))
        lanes[lane] = total
        cuda.syncthreads()
        if lane == 0:
            out[b * columns + which] = _sum(lanes, 0)
        cuda.syncthreads()


@cuda.jit
def combine_add(rows, count, n, columns, which, column, weights, total):
    """One weighted column more; where the weight is zero the column is not read."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        b = rows[entry]
        at, weight = b * n + k, weights[b * columns + which]
        if weight != float64(0.0):
            total[at] = plus(total[at], times(weight, float64(column[at])))


@cuda.jit
def combine_round(rows, count, n, total, out):
    """The combination, rounded once to T."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        at = rows[entry] * n + k
        out[at] = out.dtype.type(total[at])
