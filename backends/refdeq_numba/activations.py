"""The strict activations of clause N-8, compiled: the bits of :mod:`refdeq.scalar`, without a branch.

Every function works on one float64 number and is inlined into the loop that calls it. There are no branches, only selections
between values that are all computed, so that LLVM turns a plain loop over a contiguous array into vector code (libm calls would
stay scalar, see N-8). Integers never leave the floating-point registers: adding a large constant puts a small whole number into
the low bits of a float64, where shifts and masks can reach it, because AVX2 cannot convert float64 to int64.

No ``fastmath`` here, in either order: activations are exact in bits whatever the order of the sums (E-1).

The functions may be called from any ``@njit`` code. float32 callers widen the argument and round the result once (N-8).
"""

from __future__ import annotations

import numpy as np

from refdeq import scalar
from refdeq_numba.compilation import inlined
from refdeq_numba.machine import bits, from_bits

__all__ = ["cos", "exp", "inlined", "sigmoid", "sin", "tanh"]

_LOG2_E = scalar._LOG2_E
_LN2_HIGH, _LN2_LOW = scalar._LN2_HIGH, scalar._LN2_LOW
_EXP_OVERFLOW, _EXP_UNDERFLOW = scalar._EXP_OVERFLOW, scalar._EXP_UNDERFLOW
_TWO_OVER_PI = scalar._TWO_OVER_PI
_HALF_PI_1, _HALF_PI_2, _HALF_PI_3 = scalar._HALF_PI_1, scalar._HALF_PI_2, scalar._HALF_PI_3
_TRIG_LIMIT = scalar.TRIG_LIMIT

# Adding these to a whole number n leaves n (plus the bias of a float64 exponent) in the low bits of the sum's representation.
_EXPONENT_BIAS = 1023.0
_TO_EXPONENT = 2.0**52 + _EXPONENT_BIAS  # n + 1023 >= 0
_TO_INTEGER = 1.5 * 2.0**52  # any |n| < 2**51, two's complement in the low bits


@inlined
def _power_of_two(n):
    """``ldexp(1.0, n)`` for whole n with -1022 <= n <= 1023; any float64 at all otherwise."""
    return from_bits(bits(n + _TO_EXPONENT) << 52)


@inlined
def exp(x):
    """Strict exponential (N-8)."""
    n = np.floor(x * _LOG2_E + 0.5)
    t = x - n * _LN2_HIGH
    t = t - n * _LN2_LOW
    tt = t * t
    p = t * ((1.26177193074810590878e-4 * tt + 3.02994407707441961300e-2) * tt + 9.99999999999999999910e-1)
    q = ((3.00198505138664455042e-6 * tt + 2.52448340349684104192e-3) * tt + 2.27265548208155028766e-1) * tt + 2.0
    y = 1.0 + 2.0 * (p / (q - p))
    half = np.floor(n * 0.5)
    y = y * _power_of_two(half) * _power_of_two(n - half)
    y = np.inf if x > _EXP_OVERFLOW else y
    return 0.0 if x < _EXP_UNDERFLOW else y


@inlined
def tanh(x):
    """Strict hyperbolic tangent (N-8).

    Both formulas end in one quotient; choosing its operands first makes one division of two.
    """
    size = abs(x)
    is_near = size < 0.625
    s = x * x
    p = (-9.64399179425052238628e-1 * s - 9.92877231001918586564e1) * s - 1.61468768441708447952e3
    q = ((s + 1.12811678491632931402e2) * s + 2.23548839060100448583e3) * s + 4.84406305325125486048e3
    above = exp(2.0 * size) + 1.0
    quotient = (p if is_near else 2.0) / (q if is_near else above)
    near = x + x * (s * quotient)
    far = 1.0 - quotient
    far = -far if x < 0.0 else far
    y = near if is_near else far
    return x if x == 0.0 else y


@inlined
def sigmoid(x):
    """Strict logistic function (N-8)."""
    e = exp(-abs(x))
    return (e if x < 0.0 else 1.0) / (1.0 + e)


@inlined
def _reduce(x):
    """Quadrant (in the two low bits of an int64) and remainder of x modulo pi/2."""
    n = np.floor(x * _TWO_OVER_PI + 0.5)
    t = x - n * _HALF_PI_1
    t = t - n * _HALF_PI_2
    t = t - n * _HALF_PI_3
    return bits(n + _TO_INTEGER), t


@inlined
def _sin_kernel(t):
    s = t * t
    p = (1.58969099521155010221e-10 * s - 2.50507602534068634195e-8) * s + 2.75573137070700676789e-6
    p = (p * s - 1.98412698298579493134e-4) * s + 8.33333333332248946124e-3
    return t + (s * t) * (p * s - 1.66666666666666324348e-1)


@inlined
def _cos_kernel(t):
    s = t * t
    p = (-1.13596475577881948265e-11 * s + 2.08757232129817482790e-9) * s - 2.75573143513906633035e-7
    p = (p * s + 2.48015872894767294178e-5) * s - 1.38888888888741095749e-3
    p = p * s + 4.16666666666666019037e-2
    half = 0.5 * s
    w = 1.0 - half
    return w + (((1.0 - w) - half) + (s * s) * p)


@inlined
def _negated(y, by_second_bit):
    """``-y`` where the second lowest bit of `by_second_bit` is set: that bit moved to the sign."""
    return from_bits(bits(y) ^ ((by_second_bit & 2) << 62))


@inlined
def sin(x):
    """Strict sine (N-8): NaN beyond ``TRIG_LIMIT``."""
    quadrant, t = _reduce(x)
    y = _negated(_cos_kernel(t) if quadrant & 1 else _sin_kernel(t), quadrant)
    y = x if x == 0.0 else y
    return y if abs(x) <= _TRIG_LIMIT else np.nan


@inlined
def cos(x):
    """Strict cosine (N-8): NaN beyond ``TRIG_LIMIT``."""
    quadrant, t = _reduce(x)
    y = _negated(_sin_kernel(t) if quadrant & 1 else _cos_kernel(t), quadrant + 1)
    return y if abs(x) <= _TRIG_LIMIT else np.nan
