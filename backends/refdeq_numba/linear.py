"""Gemm and MatMul kernels over a range of samples.

Every kernel takes ``rows``, the ascending indices of the active samples, and treats ``rows[first:last]``; other samples are
neither read nor written. Arrays are C-contiguous; a whole sample is one row.
"""

from __future__ import annotations

import numpy as np

from refdeq_numba.columns import add_columns, add_row_products
from refdeq_numba.compilation import compiled, inlined

__all__ = ["add_bias", "fold_bias", "gemm", "gemm_stored_by_output", "matmul"]


@inlined
def _list_sent(values, mask, everything, index, value):
    """Write the indices and numbers of the sent elements of one sample; return how many there are.

    Nothing is skipped by a branch: every element is written, and overwritten by the next when it was not sent.
    """
    count = 0
    for j in range(len(values)):
        index[count] = j
        value[count] = values[j]
        count += 1 if everything or mask[j] else 0
    return count


@compiled
def gemm(rows, first, last, d, mask, everything, weight, fused, a):
    """Add ``d @ weight`` over the sent columns to `a` (N-6, N-7, D-7).

    Parameters
    ----------
    rows : (R,) int64
    first, last : int
    d : (B, K) array
    mask : (B, K) bool
        Not read when `everything` is True.
    everything : bool
        Dense: all columns, zeros included.
    weight : (K, N) array
    fused : bool
        See :func:`refdeq_numba.columns.add_columns`.
    a : (B, N) array, changed in place
    """
    index, value = np.empty(d.shape[1] + 1, np.int64), np.empty(d.shape[1] + 1, d.dtype)
    for r in range(first, last):
        b = rows[r]
        count = _list_sent(d[b], mask[0 if everything else b], everything, index, value)
        add_columns(a[b], index, value, count, weight, fused)


@compiled
def gemm_stored_by_output(rows, first, last, d, mask, everything, weight, fused, a):
    """The same sums with a weight of shape (N, K), read where it is: for too few samples to be worth a transposed copy."""
    index, value = np.empty(d.shape[1] + 1, np.int64), np.empty(d.shape[1] + 1, d.dtype)
    for r in range(first, last):
        b = rows[r]
        count = _list_sent(d[b], mask[0 if everything else b], everything, index, value)
        add_row_products(a[b], index, value, count, weight, fused)


@compiled
def matmul(rows, first, last, left, left_step, left_pick, right, right_step, right_pick, fused, out):
    """Matrix products of every sample, ascending inner index from +0 (N-6, N-7).

    Parameters
    ----------
    left : (B or 1, P_left, M, K) array
    left_step, right_step : int
        1 for a batched operand, 0 for a parameter.
    left_pick, right_pick : (P,) int64
        Which matrix of the operand each product takes (ONNX broadcasting of the leading axes).
    right : (B or 1, P_right, K, N) array
    out : (B, P, M, N) array
    """
    inner = left.shape[3]
    index = np.arange(inner)
    for r in range(first, last):
        b = rows[r]
        for p in range(len(left_pick)):
            for m in range(left.shape[2]):
                line = out[b, p, m]
                for n in range(len(line)):
                    line[n] = 0.0
                values = left[b * left_step, left_pick[p], m]
                add_columns(line, index, values, inner, right[b * right_step, right_pick[p]], fused)


@compiled
def add_bias(rows, first, last, a, alpha, bias, beta, has_bias, out):
    """``fl(fl(alpha a) + fl(beta b))`` (D-6, N-6); a factor of 1 changes no bits, so it needs no case of its own.

    Parameters
    ----------
    a, out : (B, n) arrays; may be the same
    alpha, beta : numbers of the dtype of `a`
    bias : (n,) array
        Not read when `has_bias` is False.
    """
    for r in range(first, last):
        source, target = a[rows[r]], out[rows[r]]
        if has_bias:
            for k in range(len(target)):
                target[k] = alpha * source[k] + beta * bias[k]
        else:
            for k in range(len(target)):
                target[k] = alpha * source[k]


@compiled
def fold_bias(rows, first, last, s, bias, a):
    """``a <- fl(fl(fl(s + b) + a) - b)`` (D-6)."""
    for r in range(first, last):
        added, target = s[rows[r]], a[rows[r]]
        for k in range(len(target)):
            target[k] = ((added[k] + bias[k]) + target[k]) - bias[k]
