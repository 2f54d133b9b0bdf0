"""Activation kernels: strict formulas in float64, rounded once to T (N-8). Arguments and meanings: :mod:`refdeq_gpu.table`."""

from __future__ import annotations

from numba import cuda, float64

from refdeq_cuda.indexing import split
from refdeq_cuda.strict import strict_cos, strict_exp, strict_sigmoid, strict_sin, strict_tanh

__all__ = ["cos", "exp", "sigmoid", "sin", "tanh"]


@cuda.jit
def tanh(rows, count, n, x, out):
    """Strict hyperbolic tangent."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        at = rows[entry] * n + k
        out[at] = x.dtype.type(strict_tanh(float64(x[at])))


@cuda.jit
def sigmoid(rows, count, n, x, out):
    """Strict logistic function."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        at = rows[entry] * n + k
        out[at] = x.dtype.type(strict_sigmoid(float64(x[at])))


@cuda.jit
def sin(rows, count, n, x, out):
    """Strict sine."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        at = rows[entry] * n + k
        out[at] = x.dtype.type(strict_sin(float64(x[at])))


@cuda.jit
def cos(rows, count, n, x, out):
    """Strict cosine."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        at = rows[entry] * n + k
        out[at] = x.dtype.type(strict_cos(float64(x[at])))


@cuda.jit
def exp(rows, count, n, x, out):
    """Strict exponential."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        at = rows[entry] * n + k
        out[at] = x.dtype.type(strict_exp(float64(x[at])))
