"""Kernels of solves of independent rows by lists of what each row sends (K2c); see :mod:`refdeq_gpu.plans.rows_table`.

A warp has a row. Rows that are final are skipped until the host shortens the list of rows. Sums run over ascending columns, so
that with ``row_axpy`` in the place of ``row_axpy_fma`` everything is the strict order (N-6).
"""

from __future__ import annotations

from numba import cuda, float64, int32
from refdeq_gpu.plans.rows_data import FLAGS

from refdeq_cuda.arithmetic import fma, plus, times
from refdeq_cuda.rounding import difference_in, narrow

__all__ = ["row_axpy", "row_axpy_fma", "row_gate"]

_FULL = 0xFFFFFFFF
_BLOCK = 128  # columns between two entries of `ends`
_SLICE = 32  # outputs of a block
_PART = _BLOCK * _SLICE
_HAS_ENTRY, _IS_DENSE_START, _IS_GATED, _IS_WHOLE = (FLAGS[name] for name in ("entry", "dense start", "gated", "whole"))


@cuda.jit(device=True)
def _is_sent(difference, threshold, compare):
    """D-2, as negations: a NaN difference is always sent."""
    return not (abs(difference) < threshold) if compare == 1 else not (abs(difference) <= threshold)


@cuda.jit(device=True)
def _watch(z, entry, at, entry_at, has_entry, out):
    """The watched value, into `out`."""
    out[at] = plus(z[at], entry[entry_at]) if has_entry else z[at]


@cuda.jit(device=True)
def _sends_any(z, entry, entry_base, threshold, compare, delta_dtype, base, n, has_entry, r, values):
    """Whether some element of a row decides to send (D-10)."""
    is_any = False
    for j in range(cuda.threadIdx.x % 32, n, 32):
        _watch(z, entry, base + j, entry_base + j, has_entry, values)
        difference = difference_in(values, r, base + j, delta_dtype)
        is_any = is_any or _is_sent(difference, threshold[j], compare)
    return cuda.any_sync(_FULL, is_any)


@cuda.jit(device=True)
def _pass(at, difference, sends, memory, feedback_format, r, values):
    """D-3 and D-4: what is sent into `values`, which has the watched value, and the reference in place."""
    watched = values[at]
    values[at] = difference if sends else values.dtype.type(0)
    if memory == 2:
        if sends:
            values[at] = narrow(float64(difference), feedback_format)
            r[at] = plus(r[at], values[at])
    elif memory == 1 or sends:
        r[at] = watched


@cuda.jit
def row_gate(
    rows, count, n, flags, compare, memory, delta_dtype, feedback_format, k, z, entry, entry_step, threshold, before, live, r,
    a, mask, index, values, ends, sent, nonzero,
):  # fmt: skip
    """Gate, list and count a row (D-1 to D-5, D-10); elements pass through `values` at their own place before that."""
    lane, blocks = cuda.threadIdx.x % 32, (n + _BLOCK - 1) // _BLOCK
    is_gated, has_entry = flags & _IS_GATED != 0, flags & _HAS_ENTRY != 0
    for i in range(cuda.grid(1) // 32, count, cuda.gridsize(1) // 32):
        row = rows[i]
        if live[row] == 0:
            continue
        base, entry_base = row * n, row * entry_step
        is_fresh = not is_gated or (k == 0 and flags & _IS_DENSE_START != 0 and before[row] == 0)
        is_any = False
        if flags & _IS_WHOLE != 0 and not is_fresh:
            is_any = _sends_any(z, entry, entry_base, threshold, compare, delta_dtype, base, n, has_entry, r, values)
        length = many = 0
        for first in range(0, n, 32):
            if lane == 0 and first % _BLOCK == 0:
                ends[row * (blocks + 1) + first // _BLOCK] = length
            j = first + lane
            sends = False
            gated = values.dtype.type(0)
            if j < n:
                at = base + j
                _watch(z, entry, at, entry_base + j, has_entry, values)
                if is_fresh:
                    sends = True
                    a[at] = 0
                    if is_gated:
                        r[at] = values[at]
                else:
                    difference = difference_in(values, r, at, delta_dtype)
                    sends = is_any if flags & _IS_WHOLE != 0 else _is_sent(difference, threshold[j], compare)
                    _pass(at, difference, sends, memory, feedback_format, r, values)
                gated = values[at]
                if is_gated:
                    mask[at] = 1 if sends else 0
            votes = cuda.ballot_sync(_FULL, sends)
            if sends:
                place = base + length + cuda.popc(votes & ((1 << lane) - 1))
                index[place] = j
                values[place] = gated
            length += cuda.popc(votes)
            many += cuda.popc(cuda.ballot_sync(_FULL, sends and gated != 0))
        if lane == 0:
            ends[row * (blocks + 1) + blocks] = length
            if is_gated:
                sent[row] += length
                nonzero[row] += many


@cuda.jit(device=True)
def _rounded_step(w, d, a):
    """``fl(a + fl(w d))``."""
    return plus(a, times(w, d))


@cuda.jit(device=True)
def _fused_step(w, d, a):
    """``fma(w, d, a)``."""
    return fma(w, d, a)


def _add_listed(step):
    @cuda.jit
    def kernel(rows, count, n, wide, span, live, index, values, ends, weight, a):
        part = cuda.shared.array(_PART, weight.dtype)
        thread, lane, warps = cuda.threadIdx.x, cuda.threadIdx.x % 32, cuda.blockDim.x // 32
        blocks, first_output = (n + _BLOCK - 1) // _BLOCK, cuda.blockIdx.x * _SLICE
        output = first_output + lane
        for block in range(blocks):
            first = block * _BLOCK
            cuda.syncthreads()  # nobody reads the part before any more
            for i in range(thread, min(_BLOCK, n - first) * _SLICE, cuda.blockDim.x):
                column = first_output + i % _SLICE
                part[i] = weight[(first + i // _SLICE) * n + column] if column < n else weight.dtype.type(0)
            cuda.syncthreads()
            for i in range(cuda.blockIdx.y * warps + thread // 32, count, cuda.gridDim.y * warps):
                row = rows[i]
                if live[row] == 0:
                    continue
                begin, end = ends[row * (blocks + 1) + block], ends[row * (blocks + 1) + block + 1]
                if begin == end:
                    continue
                base = row * n
                total = a[base + output] if output < n else a.dtype.type(0)
                for t in range(begin, end, 32):
                    many = min(32, end - t)
                    column = int32(index[base + t + lane] - first) if lane < many else int32(0)
                    value = values[base + t + lane] if lane < many else values.dtype.type(0)
                    for s in range(many):
                        w = part[cuda.shfl_sync(_FULL, column, s) * _SLICE + lane]
                        total = step(w, cuda.shfl_sync(_FULL, value, s), total)
                if output < n:
                    a[base + output] = total

    return kernel


row_axpy = _add_listed(_rounded_step)
"""Add what rows send, each product and each sum rounded (N-6)."""

row_axpy_fma = _add_listed(_fused_step)
"""Add what rows send by fused multiply-add (N-7)."""
