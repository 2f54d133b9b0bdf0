"""Elementwise kernels: one rounding per operation, never contracted (N-6). Arguments and meanings: :mod:`refdeq_gpu.table`."""

from __future__ import annotations

from numba import cuda

from refdeq_cuda.arithmetic import plus, times
from refdeq_cuda.indexing import split

__all__ = ["add", "add_bias", "fold_bias", "leaky_relu", "mean", "mul", "neg", "relax", "relu", "sub"]


@cuda.jit
def neg(rows, count, n, x, out):
    """``-x``."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        at = rows[entry] * n + k
        out[at] = -x[at]


@cuda.jit
def relu(rows, count, n, x, out):
    """+0 where x <= 0, else x; NaN stays."""
    zero = x.dtype.type(0)
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        at = rows[entry] * n + k
        out[at] = zero if x[at] <= zero else x[at]


@cuda.jit
def leaky_relu(rows, count, n, x, alpha, out):
    """``alpha * x`` where x < 0, else x."""
    zero = x.dtype.type(0)
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        at = rows[entry] * n + k
        out[at] = times(alpha, x[at]) if x[at] < zero else x[at]


@cuda.jit
def add(rows, count, n, x, x_step, y, y_step, out):
    """``x + y``; a step of 0 reads one parameter for every sample."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        b = rows[entry]
        out[b * n + k] = plus(x[b * x_step + k], y[b * y_step + k])


@cuda.jit
def sub(rows, count, n, x, x_step, y, y_step, out):
    """``x - y``."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        b = rows[entry]
        out[b * n + k] = plus(x[b * x_step + k], -y[b * y_step + k])


@cuda.jit
def mul(rows, count, n, x, x_step, y, y_step, out):
    """``x * y``."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        b = rows[entry]
        out[b * n + k] = times(x[b * x_step + k], y[b * y_step + k])


@cuda.jit
def relax(rows, count, n, beta, z, alpha, f, out):
    """``fl(fl(beta z) + fl(alpha f))`` (S-6)."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        at = rows[entry] * n + k
        out[at] = plus(times(beta, z[at]), times(alpha, f[at]))


@cuda.jit
def add_bias(rows, count, n, a, alpha, bias, beta, has_bias, out):
    """``fl(fl(alpha a) + fl(beta bias))``, or ``fl(alpha a)`` without a bias (D-6, N-6)."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        at = rows[entry] * n + k
        value = times(alpha, a[at])
        out[at] = plus(value, times(beta, bias[k])) if has_bias != 0 else value


@cuda.jit
def fold_bias(rows, count, n, s, bias, a):
    """``a = fl(fl(fl(s + bias) + a) - bias)`` (D-6)."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        at = rows[entry] * n + k
        a[at] = plus(plus(plus(s[at], bias[k]), a[at]), -bias[k])


@cuda.jit
def mean(rows, count, n, terms, x_width, x, position, out):
    """Terms added in ascending order from +0, then one division."""
    zero = x.dtype.type(0)
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        b = rows[entry]
        total = zero
        for j in range(k * terms, (k + 1) * terms):
            total = plus(total, x[b * x_width + position[j]])
        out[b * n + k] = total / x.dtype.type(terms)
