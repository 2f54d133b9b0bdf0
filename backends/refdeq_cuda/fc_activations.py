"""The strict activations of N-8 as device functions: the formulas of refdeq.scalar in float64, products rounded apart."""

from __future__ import annotations

import math

from numba import cuda, float64, int64

from refdeq.fc_pattern import ACTIVATIONS
from refdeq.scalar import TRIG_LIMIT
from refdeq_cuda.arithmetic import times

__all__ = ["activate"]

RELU, LEAKY_RELU, TANH, SIGMOID, SIN, COS = (
    ACTIVATIONS.index(name) for name in ("Relu", "LeakyRelu", "Tanh", "Sigmoid", "Sin", "Cos")
)


@cuda.jit(device=True)
def polynomial_2(x, a, b, c):
    """``(a x + b) x + c``."""
    return times(times(a, x) + b, x) + c


@cuda.jit(device=True)
def exp(x):
    """Strict exponential."""
    if x != x:
        return x
    if x > 709.782712893384:
        return float64(math.inf)
    if x < -745.1332191019412:
        return float64(0)
    n = math.floor(times(x, float64(1.4426950408889634)) + 0.5)
    t = x - times(n, float64(6.93145751953125e-1))
    t = t - times(n, float64(1.42860682030941723212e-6))
    tt = times(t, t)
    p = times(t, polynomial_2(tt, float64(1.26177193074810590878e-4), 3.02994407707441961300e-2, 9.99999999999999999910e-1))
    q = polynomial_2(tt, float64(3.00198505138664455042e-6), 2.52448340349684104192e-3, 2.27265548208155028766e-1)
    q = times(q, tt) + 2.0
    y = 1.0 + times(float64(2), p / (q - p))
    half = math.floor(n * 0.5)
    return times(times(y, math.ldexp(float64(1), int64(half))), math.ldexp(float64(1), int64(n - half)))


@cuda.jit(device=True)
def tanh(x):
    """Strict hyperbolic tangent."""
    if x == 0.0:
        return x
    size = abs(x)
    if size < 0.625:
        s = times(x, x)
        p = polynomial_2(s, float64(-9.64399179425052238628e-1), -9.92877231001918586564e1, -1.61468768441708447952e3)
        q = times(times(s + 1.12811678491632931402e2, s) + 2.23548839060100448583e3, s) + 4.84406305325125486048e3
        return x + times(x, times(s, p / q))
    y = 1.0 - 2.0 / (exp(times(float64(2), size)) + 1.0)
    return -y if x < 0.0 else y


@cuda.jit(device=True)
def sigmoid(x):
    """Strict logistic function."""
    e = exp(-abs(x))
    return e / (1.0 + e) if x < 0.0 else 1.0 / (1.0 + e)


@cuda.jit(device=True)
def remainder(x, n):
    """Remainder modulo pi / 2 from the whole number of quarters."""
    t = x - times(n, float64(1.57079632673412561417))
    t = t - times(n, float64(6.07710050630396597660e-11))
    return t - times(n, float64(2.02226624879595063154e-21))


@cuda.jit(device=True)
def sin_kernel(t):
    """Sine for remainders."""
    s = times(t, t)
    p = polynomial_2(s, float64(1.58969099521155010221e-10), -2.50507602534068634195e-8, 2.75573137070700676789e-6)
    p = times(times(p, s) - 1.98412698298579493134e-4, s) + 8.33333333332248946124e-3
    return t + times(times(s, t), times(p, s) - 1.66666666666666324348e-1)


@cuda.jit(device=True)
def cos_kernel(t):
    """Cosine for remainders."""
    s = times(t, t)
    p = polynomial_2(s, float64(-1.13596475577881948265e-11), 2.08757232129817482790e-9, -2.75573143513906633035e-7)
    p = times(times(p, s) + 2.48015872894767294178e-5, s) - 1.38888888888741095749e-3
    p = times(p, s) + 4.16666666666666019037e-2
    half = times(float64(0.5), s)
    w = 1.0 - half
    return w + (((1.0 - w) - half) + times(times(s, s), p))


@cuda.jit(device=True)
def wave(x, is_cosine):
    """Strict sine, or cosine: NaN beyond the limit."""
    if not (abs(x) <= TRIG_LIMIT):
        return float64(math.nan)
    if x == 0.0 and not is_cosine:
        return x
    n = math.floor(times(x, float64(6.36619772367581382433e-01)) + 0.5)
    t = remainder(x, n)
    quadrant = (int64(n) + (1 if is_cosine else 0)) & 3
    y = cos_kernel(t) if quadrant & 1 else sin_kernel(t)
    return -y if quadrant >= 2 else y


@cuda.jit(device=True)
def activate(values, i, kind, slope):
    """Apply the activation at a position in refdeq.fc_pattern.ACTIVATIONS to an element; storing it rounds it, once."""
    x = values[i]
    if kind == RELU:
        if x <= 0:
            values[i] = 0
    elif kind == LEAKY_RELU:
        if x < 0:
            values[i] = times(slope, x)
    elif kind == TANH:
        values[i] = tanh(float64(x))
    elif kind == SIGMOID:
        values[i] = sigmoid(float64(x))
    elif kind == SIN:
        values[i] = wave(float64(x), False)
    elif kind == COS:
        values[i] = wave(float64(x), True)
