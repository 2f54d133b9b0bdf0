"""Strict activations on single numbers of float64 (N-8): the formulas of :mod:`refdeq.scalar`, never contracted.

Device functions; each is the function of the same name there, with ``times`` where a product meets a sum.
"""

from __future__ import annotations

import math

from numba import cuda, float64, int32

from refdeq_cuda.arithmetic import plus, times

__all__ = ["strict_cos", "strict_exp", "strict_sigmoid", "strict_sin", "strict_tanh"]

_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 6.93145751953125e-1, 1.42860682030941723212e-6
_EXP_OVERFLOW, _EXP_UNDERFLOW = 709.782712893384, -745.1332191019412
_TWO_OVER_PI = 6.36619772367581382433e-01
_HALF_PI_1, _HALF_PI_2, _HALF_PI_3 = 1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624879595063154e-21
_TRIG_LIMIT = 1073741824.0


@cuda.jit(device=True)
def _step(p, s, coefficient):
    """``fl(fl(p s) + coefficient)``: one step of Horner's rule."""
    return plus(times(p, s), float64(coefficient))


@cuda.jit(device=True)
def strict_exp(x):
    """See :func:`refdeq.scalar.exp`."""
    if x != x:
        return x
    if x > float64(_EXP_OVERFLOW):
        return float64(math.inf)
    if x < float64(_EXP_UNDERFLOW):
        return float64(0.0)
    n = math.floor(_step(x, float64(_LOG2_E), 0.5))
    t = plus(x, -times(n, float64(_LN2_HIGH)))
    t = plus(t, -times(n, float64(_LN2_LOW)))
    tt = times(t, t)
    p = times(t, _step(_step(float64(1.26177193074810590878e-4), tt, 3.02994407707441961300e-2), tt, 9.99999999999999999910e-1))
    q = _step(float64(3.00198505138664455042e-6), tt, 2.52448340349684104192e-3)
    q = _step(_step(q, tt, 2.27265548208155028766e-1), tt, 2.0)
    y = plus(float64(1.0), times(float64(2.0), p / plus(q, -p)))
    whole = int32(n)
    half = whole >> 1
    return times(times(y, math.ldexp(float64(1.0), half)), math.ldexp(float64(1.0), whole - half))


@cuda.jit(device=True)
def strict_tanh(x):
    """See :func:`refdeq.scalar.tanh`."""
    if x == float64(0.0):
        return x
    size = abs(x)
    if size < float64(0.625):
        s = times(x, x)
        p = _step(float64(-9.64399179425052238628e-1), s, -9.92877231001918586564e1)
        p = _step(p, s, -1.61468768441708447952e3)
        q = _step(plus(s, float64(1.12811678491632931402e2)), s, 2.23548839060100448583e3)
        q = _step(q, s, 4.84406305325125486048e3)
        return plus(x, times(x, times(s, p / q)))
    y = plus(float64(1.0), -(float64(2.0) / plus(strict_exp(times(float64(2.0), size)), float64(1.0))))
    return -y if x < float64(0.0) else y


@cuda.jit(device=True)
def strict_sigmoid(x):
    """See :func:`refdeq.scalar.sigmoid`."""
    e = strict_exp(-abs(x))
    one = float64(1.0)
    return e / plus(one, e) if x < float64(0.0) else one / plus(one, e)


@cuda.jit(device=True)
def _sin_kernel(t):
    s = times(t, t)
    p = _step(_step(float64(1.58969099521155010221e-10), s, -2.50507602534068634195e-8), s, 2.75573137070700676789e-6)
    p = _step(_step(p, s, -1.98412698298579493134e-4), s, 8.33333333332248946124e-3)
    return plus(t, times(times(s, t), _step(p, s, -1.66666666666666324348e-1)))


@cuda.jit(device=True)
def _cos_kernel(t):
    s = times(t, t)
    p = _step(_step(float64(-1.13596475577881948265e-11), s, 2.08757232129817482790e-9), s, -2.75573143513906633035e-7)
    p = _step(_step(p, s, 2.48015872894767294178e-5), s, -1.38888888888741095749e-3)
    p = _step(p, s, 4.16666666666666019037e-2)
    half = times(float64(0.5), s)
    w = plus(float64(1.0), -half)
    return plus(w, plus(plus(plus(float64(1.0), -w), -half), times(times(s, s), p)))


@cuda.jit(device=True)
def _quarters(x):
    """How often pi/2 goes into x, rounded to the nearest."""
    return math.floor(_step(x, float64(_TWO_OVER_PI), 0.5))


@cuda.jit(device=True)
def _rest(x, n):
    """What remains of x, by three-part subtraction."""
    t = plus(x, -times(n, float64(_HALF_PI_1)))
    t = plus(t, -times(n, float64(_HALF_PI_2)))
    return plus(t, -times(n, float64(_HALF_PI_3)))


@cuda.jit(device=True)
def strict_sin(x):
    """See :func:`refdeq.scalar.sin`."""
    if not (abs(x) <= float64(_TRIG_LIMIT)):
        return float64(math.nan)
    if x == float64(0.0):
        return x
    n = _quarters(x)
    t, quadrant = _rest(x, n), int32(n) & 3
    y = _cos_kernel(t) if quadrant & 1 else _sin_kernel(t)
    return -y if quadrant >= 2 else y


@cuda.jit(device=True)
def strict_cos(x):
    """See :func:`refdeq.scalar.cos`."""
    if not (abs(x) <= float64(_TRIG_LIMIT)):
        return float64(math.nan)
    n = _quarters(x)
    t, quadrant = _rest(x, n), int32(n) & 3
    y = _sin_kernel(t) if quadrant & 1 else _cos_kernel(t)
    return -y if quadrant in (1, 2) else y
