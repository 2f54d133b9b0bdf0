"""The heart of every sum: add chosen columns of a weight to an accumulator, in ascending order (N-6, N-7, D-7)."""

from __future__ import annotations

from refdeq_numba.compilation import inlined
from refdeq_numba.machine import fused_multiply_add

__all__ = ["add_columns", "add_row_products"]


@inlined
def add_columns(acc, index, value, count, weight, fused):
    """``acc[i] += value[t] * weight[index[t], i]`` for t = 0, 1, ... count - 1, one after the other for every i.

    Four columns per pass: each output still sees one product and one sum at a time, in order, but is loaded and stored once
    instead of four times. Outputs are independent, so the loops over i are vector code.

    Parameters
    ----------
    acc : (n,) array, changed in place
    index, value : (>= count,) int64 and float arrays
        The columns that were sent, ascending, and their numbers; columns that are not listed are not read (D-7).
    count : int
    weight : (m, n) C-contiguous array
        One column of the published ``A`` per row.
    fused : bool
        False rounds product and sum (N-6); True fuses them, which is the fast order of this backend (N-7).
    """
    size = len(acc)
    whole = count - count % 4
    for t in range(0, whole, 4):
        w0, w1, w2, w3 = weight[index[t]], weight[index[t + 1]], weight[index[t + 2]], weight[index[t + 3]]
        d0, d1, d2, d3 = value[t], value[t + 1], value[t + 2], value[t + 3]
        if fused:
            for i in range(size):
                a = fused_multiply_add(w0[i], d0, acc[i])
                a = fused_multiply_add(w1[i], d1, a)
                a = fused_multiply_add(w2[i], d2, a)
                acc[i] = fused_multiply_add(w3[i], d3, a)
        else:
            for i in range(size):
                acc[i] = (((acc[i] + w0[i] * d0) + w1[i] * d1) + w2[i] * d2) + w3[i] * d3
    for t in range(whole, count):
        w0, d0 = weight[index[t]], value[t]
        if fused:
            for i in range(size):
                acc[i] = fused_multiply_add(w0[i], d0, acc[i])
        else:
            for i in range(size):
                acc[i] = acc[i] + w0[i] * d0


@inlined
def add_row_products(acc, index, value, count, weight, fused):
    """The same sums for a weight stored the other way round: ``acc[i] += value[t] * weight[i, index[t]]``.

    Each output is one chain of dependent sums; four chains run side by side to keep the adder busy.
    """
    size = len(acc)
    whole = size - size % 4
    for i in range(0, whole, 4):
        w0, w1, w2, w3 = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
        a0, a1, a2, a3 = acc[i], acc[i + 1], acc[i + 2], acc[i + 3]
        for t in range(count):
            j, d = index[t], value[t]
            if fused:
                a0, a1 = fused_multiply_add(w0[j], d, a0), fused_multiply_add(w1[j], d, a1)
                a2, a3 = fused_multiply_add(w2[j], d, a2), fused_multiply_add(w3[j], d, a3)
            else:
                a0, a1, a2, a3 = a0 + w0[j] * d, a1 + w1[j] * d, a2 + w2[j] * d, a3 + w3[j] * d
        acc[i], acc[i + 1], acc[i + 2], acc[i + 3] = a0, a1, a2, a3
    for i in range(whole, size):
        a = acc[i]
        for t in range(count):
            j, d = index[t], value[t]
            a = fused_multiply_add(weight[i, j], d, a) if fused else a + weight[i, j] * d
        acc[i] = a
