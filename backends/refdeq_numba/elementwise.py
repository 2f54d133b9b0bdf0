"""Elementwise operators and moves over a range of samples: one rounding per element, in both orders (E-1) but for activations.

Arrays are (B, n): one row per sample. ``rows[first:last]`` are the samples to treat. A step of 1 marks a batched operand, 0 a
parameter of shape (1, n) that every sample shares.
"""

from __future__ import annotations

from refdeq_numba.compilation import compiled
from refdeq_numba.machine import call_row

__all__ = ["BINARY", "activate", "copy", "fill", "gather", "leaky_relu", "mean", "neg", "relax", "relu", "scatter"]


# Activations (N-8) -----------------------------------------------------------------------------------------------------------

_PIECE = 4096


@compiled
def activate(rows, first, last, address, x, out):
    """Activation by the `address` of its loop over a row (:mod:`refdeq_numba.activation_rows`), a piece at a time in place."""
    for r in range(first, last):
        source, target = x[rows[r]], out[rows[r]]
        for start in range(0, len(target), _PIECE):
            stop = min(start + _PIECE, len(target))
            for k in range(start, stop):
                target[k] = source[k]
            call_row(address, target, start, stop - start)


# Other unary operators -------------------------------------------------------------------------------------------------------


@compiled
def neg(rows, first, last, x, out):
    """``-x``."""
    for r in range(first, last):
        source, target = x[rows[r]], out[rows[r]]
        for k in range(len(target)):
            target[k] = -source[k]


@compiled
def relu(rows, first, last, x, out):
    """``x`` where positive or NaN, +0 elsewhere."""
    for r in range(first, last):
        source, target = x[rows[r]], out[rows[r]]
        for k in range(len(target)):
            v = source[k]
            target[k] = 0.0 if v <= 0.0 else v


@compiled
def leaky_relu(rows, first, last, x, alpha, out):
    """``alpha x`` where negative, `x` elsewhere; `alpha` has the dtype of `x`."""
    for r in range(first, last):
        source, target = x[rows[r]], out[rows[r]]
        for k in range(len(target)):
            v = source[k]
            target[k] = alpha * v if v < 0.0 else v


# Binary operators ------------------------------------------------------------------------------------------------------------


@compiled
def _add(rows, first, last, x, x_step, y, y_step, out):
    for r in range(first, last):
        left, right, target = x[rows[r] * x_step], y[rows[r] * y_step], out[rows[r]]
        for k in range(len(target)):
            target[k] = left[k] + right[k]


@compiled
def _sub(rows, first, last, x, x_step, y, y_step, out):
    for r in range(first, last):
        left, right, target = x[rows[r] * x_step], y[rows[r] * y_step], out[rows[r]]
        for k in range(len(target)):
            target[k] = left[k] - right[k]


@compiled
def _mul(rows, first, last, x, x_step, y, y_step, out):
    for r in range(first, last):
        left, right, target = x[rows[r] * x_step], y[rows[r] * y_step], out[rows[r]]
        for k in range(len(target)):
            target[k] = left[k] * right[k]


BINARY = {"Add": _add, "Sub": _sub, "Mul": _mul}
"""ONNX operator name to kernel."""


@compiled
def relax(rows, first, last, z, beta, f, alpha, out):
    """Krasnoselskii-Mann step ``fl(fl(beta z) + fl(alpha f))`` (S-6); factors have the dtype of `z`, `out` may be `z`."""
    for r in range(first, last):
        point, value, target = z[rows[r]], f[rows[r]], out[rows[r]]
        for k in range(len(target)):
            target[k] = beta * point[k] + alpha * value[k]


# Moves -----------------------------------------------------------------------------------------------------------------------


@compiled
def fill(rows, first, last, value, out):
    """Set every element of the samples."""
    for r in range(first, last):
        target = out[rows[r]]
        for k in range(len(target)):
            target[k] = value


@compiled
def copy(rows, first, last, x, out):
    """Copy whole samples."""
    for r in range(first, last):
        source, target = x[rows[r]], out[rows[r]]
        for k in range(len(target)):
            target[k] = source[k]


@compiled
def gather(rows, first, last, x, position, out):
    """``out[b, k] = x[b, position[k]]``: slices, and operands spelled out to a broadcast shape."""
    for r in range(first, last):
        source, target = x[rows[r]], out[rows[r]]
        for k in range(len(target)):
            target[k] = source[position[k]]


@compiled
def scatter(rows, first, last, x, position, out):
    """``out[b, position[k]] = x[b, k]``: one part of a Concat."""
    for r in range(first, last):
        source, target = x[rows[r]], out[rows[r]]
        for k in range(len(source)):
            target[position[k]] = source[k]


@compiled
def mean(rows, first, last, x, position, zero, number, out):
    """Strict mean (N-6): ``out[b, i]`` adds ``x[b, position[i, j]]`` for ascending j from +0, then divides once.

    `zero` and `number` (of summands) carry the dtype of `x`, so that no sum is formed in another.
    """
    for r in range(first, last):
        source, target = x[rows[r]], out[rows[r]]
        for i in range(len(target)):
            total = zero
            for j in range(position.shape[1]):
                total = total + source[position[i, j]]
            target[i] = total / number
