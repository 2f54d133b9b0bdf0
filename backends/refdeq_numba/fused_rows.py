"""What the fused solve does to one sample: gate, list, value, decision. Plain loops over contiguous rows.

Each function handles one row of the arrays it is given. The loops are kept so simple (few arrays, no branch inside) that they
become vector code; all arithmetic is one rounding per step, in the order of the clauses (E-1), never ``fastmath``. They get
single arrays, not the records of :mod:`refdeq_numba.fused_data`: passing those on would multiply the time to compile.
"""

from __future__ import annotations

import math

import numpy as np

from refdeq.types import Status
from refdeq_numba import activations
from refdeq_numba.compilation import uncounted
from refdeq_numba.fused_data import BLOCK
from refdeq_numba.simd import count_trailing_zeros

__all__ = [
    "ACTIVATIONS",
    "activate",
    "add_rows",
    "copy_row",
    "count_columns",
    "count_nonzero",
    "decide",
    "fill_and_remember",
    "fold_bias",
    "is_stagnated",
    "list_all",
    "list_columns",
    "multiply_rows",
    "relax_row",
    "remember_sent",
    "send",
    "share_decision",
]

ACTIVATIONS = {"Identity": 0, "Relu": 1, "LeakyRelu": 2, "Tanh": 3, "Sigmoid": 4, "Sin": 5, "Cos": 6}
"""ONNX operator to the number that stands for it in compiled code."""

_RELU, _LEAKY, _TANH, _SIGMOID, _SIN, _COS = (ACTIVATIONS[name] for name in tuple(ACTIVATIONS)[1:])

_GATHER, _ADD_BYTES = np.uint64(0x0102040810204080), np.uint64(0x0101010101010101)

_RUNNING, _CONVERGED, _MAX_EVAL = int(Status.RUNNING), int(Status.CONVERGED), int(Status.MAX_EVAL)
_NONFINITE, _DIVERGED, _STAGNATED = int(Status.NONFINITE), int(Status.DIVERGED), int(Status.STAGNATED)


# rows ---------------------------------------------------------------------------------------------------------------------


@uncounted
def copy_row(n, source, s, out, i):
    """Copy n elements of a row."""
    for j in range(n):
        out[i, j] = source[s, j]


@uncounted
def add_rows(n, left, i, right, s, out):
    """``out = fl(left + right)``; a `right` with a single row is a parameter and serves every sample."""
    row = s if right.shape[0] > 1 else 0
    for j in range(n):
        out[i, j] = left[i, j] + right[row, j]


@uncounted
def multiply_rows(n, left, i, right, s, out):
    """``out = fl(left * right)``, as :func:`add_rows`."""
    row = s if right.shape[0] > 1 else 0
    for j in range(n):
        out[i, j] = left[i, j] * right[row, j]


@uncounted
def relax_row(n, alpha, beta, f, z, i):
    """Krasnoselskii-Mann step (S-6)."""
    for j in range(n):
        z[i, j] = beta * z[i, j] + alpha * f[i, j]


# gate ---------------------------------------------------------------------------------------------------------------------


@uncounted
def send(n, is_ge, threshold, u, r, d, mask, i):
    """Differences and their elementwise decisions (D-1, D-2), written so that a NaN difference is sent."""
    for j in range(n):
        d[i, j] = u[i, j] - r[i, j]
    if is_ge:
        for j in range(n):
            mask[i, j] = not (abs(d[i, j]) < threshold[j])
    else:
        for j in range(n):
            mask[i, j] = not (abs(d[i, j]) <= threshold[j])


@uncounted
def share_decision(n, mask, i):
    """One decision for the whole sample (D-10)."""
    is_any = False
    for j in range(n):
        is_any |= mask[i, j]
    for j in range(n):
        mask[i, j] = is_any


@uncounted
def list_columns(n, octets, columns, ends, i):
    """List the sent columns in ascending order, note where each block of 64 ends, return how many there are.

    `octets` is the mask read eight decisions at a time. One multiplication gathers eight bytes of 0 or 1 into eight bits (byte
    b to bit b); the bits of a block are then taken off from below, so that the time grows with what is sent, not with n.
    """
    count = 0
    for block in range(ends.shape[1] - 1):
        bits = np.uint64(0)
        for place in range(min(8, octets.shape[1] - 8 * block)):
            octet = (octets[i, 8 * block + place] * _GATHER) >> np.uint64(56)
            bits |= octet << np.uint64(8 * place)
        while bits != 0:
            columns[i, count] = block * BLOCK + count_trailing_zeros(bits)
            bits &= bits - np.uint64(1)
            count += 1
        ends[i, block + 1] = count
    return count


@uncounted
def list_all(n, columns, ends, i):
    """List every column."""
    for j in range(n):
        columns[i, j] = j
    for block in range(1, ends.shape[1]):
        ends[i, block] = min(n, block * BLOCK)


@uncounted
def count_columns(octets, i):
    """How many columns are sent: bytes of 0 and 1 added eight at a time."""
    count = np.int64(0)
    for place in range(octets.shape[1]):
        count += np.int64((octets[i, place] * _ADD_BYTES) >> np.uint64(56))
    return count


@uncounted
def fill_and_remember(n, is_always, u, mask, d, r, i):
    """For a row that sends nearly everything: D-3 with its zeros, and D-4, over the whole row."""
    zero = d.dtype.type(0)
    for j in range(n):
        d[i, j] = d[i, j] if mask[i, j] else zero
    if is_always:
        copy_row(n, u, i, r, i)
    else:
        for j in range(n):
            r[i, j] = u[i, j] if mask[i, j] else r[i, j]


@uncounted
def remember_sent(count, u, columns, r, i):
    """Take the value into the reference where it was sent (D-4, ``sent``)."""
    for position in range(count):
        j = columns[i, position]
        r[i, j] = u[i, j]


@uncounted
def count_nonzero(n, d, mask, i):
    """Sent differences that are not zero (C-3)."""
    count = 0
    for j in range(n):
        count += (d[i, j] != 0) & mask[i, j]
    return count


# value of the cell --------------------------------------------------------------------------------------------------------


@uncounted
def fold_bias(n, sums, bias, is_dense, a, i):
    """Accumulator that carries its bias (D-6): ``a + b`` of a dense sum, ``fl(fl(fl(s + b) + a) - b)`` of a sparse one."""
    if is_dense:
        for j in range(n):
            a[i, j] = sums[i, j] + bias[0, j]
    else:
        for j in range(n):
            a[i, j] = ((sums[i, j] + bias[0, j]) + a[i, j]) - bias[0, j]


@uncounted
def activate(kind, slope, f, i):
    """Activation of one whole padded row, in place: float64 arithmetic, rounded once to the dtype of the cell (N-8)."""
    length = f.shape[1]
    if kind == _TANH:
        for j in range(length):
            f[i, j] = activations.tanh(np.float64(f[i, j]))
    elif kind == _SIN:
        for j in range(length):
            f[i, j] = activations.sin(np.float64(f[i, j]))
    elif kind == _COS:
        for j in range(length):
            f[i, j] = activations.cos(np.float64(f[i, j]))
    elif kind == _SIGMOID:
        for j in range(length):
            f[i, j] = activations.sigmoid(np.float64(f[i, j]))
    elif kind == _RELU:
        for j in range(length):
            f[i, j] = f.dtype.type(0) if f[i, j] <= 0 else f[i, j]
    elif kind == _LEAKY:
        for j in range(length):
            f[i, j] = slope * f[i, j] if f[i, j] < 0 else f[i, j]


# decision -----------------------------------------------------------------------------------------------------------------


@uncounted
def decide(rtol, atol, eps, divergence, max_eval, distance, scale, first_distance, is_stalled, made):
    """Status after evaluation number `made` (S-3): the first that applies in the order of the clause."""
    if not (math.isfinite(distance) and math.isfinite(scale)):
        return _NONFINITE
    if atol >= 0.0 and distance <= atol:
        return _CONVERGED
    if rtol >= 0.0 and distance / (scale + eps) <= rtol:
        return _CONVERGED
    if divergence > 0.0 and distance > divergence * first_distance:
        return _DIVERGED
    if is_stalled:
        return _STAGNATED
    return _MAX_EVAL if made >= max_eval else _RUNNING


@uncounted
def is_stagnated(window, ratio, recent, older, i, distance, made):
    """Whether the lowest of the last w residuals is not below q times the lowest before them (S-3), from a ring of w."""
    if window == 0:
        return False
    place = (made - 1) % window
    if made == 1:
        older[i] = np.inf
    if made > window:
        older[i] = min(older[i], recent[i, place])
    recent[i, place] = distance
    if made <= window:
        return False
    lowest = np.inf
    for position in range(window):
        lowest = min(lowest, recent[i, position])
    return not (lowest < ratio * older[i])
