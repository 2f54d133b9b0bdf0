"""Kernels of gates and of their counts. Arguments and meanings: :mod:`refdeq_gpu.table`; choices: :mod:`refdeq_gpu.choices`."""

from __future__ import annotations

from numba import cuda, float64, int32, int64
from refdeq_gpu.table import ROW_THREADS

from refdeq_cuda.arithmetic import plus
from refdeq_cuda.indexing import split
from refdeq_cuda.rounding import difference_in, narrow

__all__ = ["count_nonzero", "count_sent", "gate", "gate_decide", "gate_share", "list_sent"]

_WARPS = ROW_THREADS // 32
_FULL = 0xFFFFFFFF


@cuda.jit(device=True)
def _is_sent(difference, threshold, compare):
    """D-2, as negations: a NaN difference is always sent."""
    return not (abs(difference) < threshold) if compare == 1 else not (abs(difference) <= threshold)


@cuda.jit(device=True)
def _remember(at, is_sent, difference, u, memory, feedback_format, r, mask, d):
    """D-3 and D-4: write the decision and the gated difference, update the reference."""
    mask[at] = 1 if is_sent else 0
    if not is_sent:
        d[at] = u.dtype.type(0)
        if memory == 1:
            r[at] = u[at]
        return
    if memory == 2:
        rounded = u.dtype.type(narrow(float64(difference), feedback_format))
        d[at] = rounded
        r[at] = plus(r[at], rounded)
    else:
        d[at] = difference
        r[at] = u[at]


@cuda.jit
def gate(rows, count, n, u, threshold, compare, memory, delta_dtype, feedback_format, r, mask, d):
    """A gate of elements (D-1 to D-4)."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        at = rows[entry] * n + k
        difference = difference_in(u, r, at, delta_dtype)
        is_sent = _is_sent(difference, threshold[k], compare)
        _remember(at, is_sent, difference, u, memory, feedback_format, r, mask, d)


@cuda.jit
def gate_decide(rows, count, n, groups, u, threshold, group, compare, delta_dtype, r, any, d):
    """First half of a gate of groups (D-10): differences, and which groups have an element that decides to send."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        b = rows[entry]
        at = b * n + k
        difference = difference_in(u, r, at, delta_dtype)
        d[at] = difference
        if _is_sent(difference, threshold[k], compare):
            cuda.atomic.or_(any, b * groups + group[k], 1)


@cuda.jit
def gate_share(rows, count, n, groups, u, group, any, memory, feedback_format, r, mask, d):
    """Second half of a gate of groups: the group's decision for each of its elements."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        b = rows[entry]
        at = b * n + k
        is_sent = any[b * groups + group[k]] != 0
        _remember(at, is_sent, d[at], u, memory, feedback_format, r, mask, d)


@cuda.jit
def count_sent(rows, count, n, mask, many, fan_out, position, out):
    """Fan-out of all sent elements of a sample (C-1): each thread adds its own, then all of them add to one word.

    The first thread alone clears the word and reads it, so that the next sample needs no barrier before.
    """
    total = cuda.shared.array(1, int64)
    for entry in range(cuda.blockIdx.x, count, cuda.gridDim.x):
        b = rows[entry]
        if cuda.threadIdx.x == 0:
            total[0] = 0
        cuda.syncthreads()
        own = int64(0)
        for k in range(cuda.threadIdx.x, n, cuda.blockDim.x):
            if mask[b * n + k] != 0:
                own += fan_out[position[k]] if many != 0 else fan_out[0]
        cuda.atomic.add(total, 0, own)
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            out[b] = total[0]


@cuda.jit
def count_nonzero(rows, count, n, values, out):
    """Elements of a sample that are not zero (C-3); NaN is not zero."""
    total = cuda.shared.array(1, int64)
    zero = values.dtype.type(0)
    for entry in range(cuda.blockIdx.x, count, cuda.gridDim.x):
        b = rows[entry]
        if cuda.threadIdx.x == 0:
            total[0] = 0
        cuda.syncthreads()
        own = int64(0)
        for k in range(cuda.threadIdx.x, n, cuda.blockDim.x):
            if values[b * n + k] != zero:
                own += 1
        cuda.atomic.add(total, 0, own)
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            out[b] = total[0]


@cuda.jit
def list_sent(rows, count, n, mask, index, length):
    """Ascending list of the sent elements of a sample: ballots within a warp, sums of their counts across the warps.

    The counts have two buffers, used in turn over all samples, so that one barrier for each piece of a sample is enough.
    """
    counts = cuda.shared.array((2, _WARPS), int32)
    thread = cuda.threadIdx.x
    lane, warp = thread % 32, thread // 32
    turn = 0
    for entry in range(cuda.blockIdx.x, count, cuda.gridDim.x):
        b = rows[entry]
        found = 0
        for first in range(0, n, cuda.blockDim.x):
            k = first + thread
            is_sent = k < n and mask[b * n + k] != 0
            votes = cuda.ballot_sync(_FULL, is_sent)
            if lane == 0:
                counts[turn, warp] = cuda.popc(votes)
            cuda.syncthreads()
            before = found
            for other in range(_WARPS):
                if other < warp:
                    before += counts[turn, other]
                found += counts[turn, other]
            if is_sent:
                index[b * n + before + cuda.popc(votes & ((1 << lane) - 1))] = k
            turn = 1 - turn
        if thread == 0:
            length[b] = found
