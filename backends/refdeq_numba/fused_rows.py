"""What the fused solve does to one sample: gate, list, value, decision. Plain loops over contiguous rows.

Each function handles one row of the arrays it is given. The loops are kept so simple (few arrays, no branch inside) that they
become vector code; all arithmetic is one rounding per step, in the order of the clauses (E-1), never ``fastmath``. They get
single arrays, not the records of :mod:`refdeq_numba.fused_data`: passing those on would multiply the time to compile.
"""

from __future__ import annotations

import math

import numpy as np

from refdeq.types import Status
from refdeq_numba.compilation import uncounted
from refdeq_numba.machine import call_row

__all__ = [
    "ACTIVATIONS",
    "activate",
    "add_rows",
    "copy_row",
    "count_nonzero",
    "decide",
    "fill_and_remember",
    "fold_bias",
    "is_stagnated",
    "multiply_rows",
    "relax_row",
    "remember_sent",
    "send",
    "share_decision",
]

ACTIVATIONS = {"Identity": 0, "Relu": 1, "LeakyRelu": 2, "Tanh": 3, "Sigmoid": 4, "Sin": 5, "Cos": 6}
"""ONNX operator to the number that stands for it in compiled code; those after LeakyRelu are called by address."""

_RELU, _LEAKY = ACTIVATIONS["Relu"], ACTIVATIONS["LeakyRelu"]

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
def activate(kind, address, slope, f, i):
    """Activation of one whole padded row, in place; others than the simplest by the `address` of their loop (N-8)."""
    length = f.shape[1]
    if kind > _LEAKY:
        call_row(address, f, i * length, length)
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
