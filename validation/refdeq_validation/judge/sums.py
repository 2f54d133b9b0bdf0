"""Sums of the judge: what an accumulate should have given, in strict order and exactly, and the gauge of its bound.

Every function works on one linear node for a chunk of samples. ``strict_*`` repeats N-6 operation by operation in the dtype of
the accumulator. ``exact_*`` returns the error of a given result against the exact sum, with the gauge ``P`` and the number of
terms ``k``: float32 data is summed in float64 (products are exact there, see ``bounds.accumulate_bound``), float64 data in
double-double arithmetic (error below 2^-100 of the gauge, far inside the inflation of the bound).
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["exact_conv", "exact_gemm", "flushing_gemm", "strict_conv", "strict_gemm"]


@numba.njit(inline="always")
def _two_sum(a: float, b: float) -> tuple[float, float]:
    """Rounded sum and its error; no error where the sum is not finite."""
    s = a + b
    t = s - a
    low = (a - (s - t)) + (b - t)
    return s, low if abs(low) < np.inf else 0.0


@numba.njit(inline="always")
def _two_product(a: float, b: float) -> tuple[float, float]:
    """Rounded product and its error (Dekker); no error where the product or a splitting is not finite."""
    p = a * b
    scaled = 134217729.0 * a
    a_high = scaled - (scaled - a)
    a_low = a - a_high
    scaled = 134217729.0 * b
    b_high = scaled - (scaled - b)
    b_low = b - b_high
    low = ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low
    return p, low if abs(low) < np.inf else 0.0


@numba.njit(nogil=True, cache=True)
def strict_gemm(d: np.ndarray, sent: np.ndarray, weight: np.ndarray, a: np.ndarray) -> None:
    """Accumulate ``d @ weight`` in place in strict order (N-6); `weight` is (K, N)."""
    for b in range(d.shape[0]):
        for j in range(d.shape[1]):
            if sent[b, j]:
                value = d[b, j]
                for i in range(weight.shape[1]):
                    a[b, i] = a[b, i] + weight[j, i] * value


@numba.njit(nogil=True, cache=True)
def flushing_gemm(d: np.ndarray, sent: np.ndarray, weight: np.ndarray, a: np.ndarray, least: float, daz: float) -> None:
    """:func:`strict_gemm` where results below `least`, and `d` and `a` below `daz`, are zeros of their sign (N-5)."""
    for b in range(d.shape[0]):
        for j in range(d.shape[1]):
            if sent[b, j]:
                value = d[b, j] * 0 if abs(d[b, j]) < daz else d[b, j]
                for i in range(weight.shape[1]):
                    product = weight[j, i] * value
                    product = product * 0 if abs(product) < least else product
                    total = (a[b, i] * 0 if abs(a[b, i]) < daz else a[b, i]) + product
                    a[b, i] = total * 0 if abs(total) < least else total


@numba.njit(nogil=True, cache=True)
def exact_gemm(
    d: np.ndarray, sent: np.ndarray, weight: np.ndarray, a: np.ndarray, got: np.ndarray, wide: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Error of `got` against the exact ``a + d @ weight``, the gauge ``|a| + P``, the terms `k`, and the exact sum (float64).

    All arguments are float64; `wide` selects double-double sums.
    """
    rows, inputs, outputs = d.shape[0], d.shape[1], weight.shape[1]
    high, low = a.copy(), np.zeros((rows, outputs))
    gauge, terms = np.abs(a), np.zeros((rows, outputs))
    for b in range(rows):
        for j in range(inputs):
            if not sent[b, j]:
                continue
            value = d[b, j]
            if wide:
                for i in range(outputs):
                    p, p_low = _two_product(weight[j, i], value)
                    s, s_low = _two_sum(high[b, i], p)
                    high[b, i] = s
                    low[b, i] += s_low + p_low
                    gauge[b, i] += abs(p)
                    terms[b, i] += 1.0
            else:
                for i in range(outputs):
                    p = weight[j, i] * value
                    high[b, i] += p
                    gauge[b, i] += abs(p)
                    terms[b, i] += 1.0
    return (got - high) - low, gauge, terms, high + low


@numba.njit(nogil=True, cache=True)
def strict_conv(
    d: np.ndarray,
    sent: np.ndarray,
    weight: np.ndarray,
    group: int,
    stride: tuple[int, int],
    pad: tuple[int, int],
    dilation: tuple[int, int],
    a: np.ndarray,
) -> None:
    """Accumulate a 2-D convolution in place in strict order (N-6): kernel row, kernel column, channel fastest."""
    per_group = weight.shape[0] // group
    for b in range(d.shape[0]):
        for m in range(weight.shape[0]):
            first = (m // per_group) * weight.shape[1]
            for oy in range(a.shape[2]):
                for ox in range(a.shape[3]):
                    total = a[b, m, oy, ox]
                    for ky in range(weight.shape[2]):
                        y = oy * stride[0] - pad[0] + ky * dilation[0]
                        if y < 0 or y >= d.shape[2]:
                            continue
                        for kx in range(weight.shape[3]):
                            x = ox * stride[1] - pad[1] + kx * dilation[1]
                            if x < 0 or x >= d.shape[3]:
                                continue
                            for c in range(weight.shape[1]):
                                if sent[b, first + c, y, x]:
                                    total = total + weight[m, c, ky, kx] * d[b, first + c, y, x]
                    a[b, m, oy, ox] = total


@numba.njit(nogil=True, cache=True)
def exact_conv(
    d: np.ndarray,
    sent: np.ndarray,
    weight: np.ndarray,
    group: int,
    stride: tuple[int, int],
    pad: tuple[int, int],
    dilation: tuple[int, int],
    a: np.ndarray,
    got: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Error, gauge, terms and exact sum of a 2-D convolution, as :func:`exact_gemm` (always double-double)."""
    error, gauge = np.empty(a.shape), np.abs(a)
    terms, exact = np.zeros(a.shape), np.empty(a.shape)
    per_group = weight.shape[0] // group
    for b in range(d.shape[0]):
        for m in range(weight.shape[0]):
            first = (m // per_group) * weight.shape[1]
            for oy in range(a.shape[2]):
                for ox in range(a.shape[3]):
                    high, low = a[b, m, oy, ox], 0.0
                    for ky in range(weight.shape[2]):
                        y = oy * stride[0] - pad[0] + ky * dilation[0]
                        for kx in range(weight.shape[3]):
                            x = ox * stride[1] - pad[1] + kx * dilation[1]
                            if y < 0 or y >= d.shape[2] or x < 0 or x >= d.shape[3]:
                                continue
                            for c in range(weight.shape[1]):
                                if sent[b, first + c, y, x]:
                                    p, p_low = _two_product(weight[m, c, ky, kx], d[b, first + c, y, x])
                                    high, s_low = _two_sum(high, p)
                                    low += s_low + p_low
                                    gauge[b, m, oy, ox] += abs(p)
                                    terms[b, m, oy, ox] += 1.0
                    error[b, m, oy, ox] = (got[b, m, oy, ox] - high) - low
                    exact[b, m, oy, ox] = high + low
    return error, gauge, terms, exact
