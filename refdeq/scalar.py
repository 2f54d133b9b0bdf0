"""The delta rule, the residual and the strict activations on single numbers: the most readable truth.

Plain Python on single numbers, nothing else. Every array implementation in this project (and any other) is judged against these
lines. Numbers may be Python floats (float64) or NumPy scalars of one dtype; each arithmetic operator then is one correctly
rounded operation of that dtype, written ``fl`` in ``docs/semantics.md``.

The activations (clause N-8) use only ``+ - * /`` and ``floor`` in float64, so that every machine and every language computes
the same bits; a float32 activation is this float64 result rounded once. ``math.ldexp(1.0, k)`` builds the exact constant 2**k.
"""

from __future__ import annotations

import math

__all__ = [
    "accumulate",
    "cos",
    "difference",
    "exp",
    "gated",
    "is_sent",
    "relax",
    "remember",
    "residual",
    "sigmoid",
    "sin",
    "tanh",
]


# --------------------------------------------------------------------------------------------------------- the delta rule


def difference(u: float, r: float) -> float:
    """Difference between a watched value and its reference (D-1): one correctly rounded subtraction.

    >>> difference(1.5, 1.0)
    0.5
    """
    return u - r


def is_sent(delta: float, threshold: float, compare: str) -> bool:
    """Decide whether a difference is sent (D-2); a NaN difference always is.

    Written as a negation on purpose: ``abs(delta) > threshold`` would swallow NaN.

    >>> is_sent(0.5, 0.5, "ge"), is_sent(0.5, 0.5, "gt"), is_sent(math.nan, 0.5, "gt"), is_sent(0.0, 0.0, "gt")
    (True, False, True, False)
    """
    if compare == "ge":
        return not (abs(delta) < threshold)
    return not (abs(delta) <= threshold)


def gated(delta: float, sent: bool) -> float:
    """Gated difference (D-3): the difference where sent, +0 elsewhere (never ``delta * 0``).

    >>> gated(math.inf, False)
    0.0
    """
    return delta if sent else 0.0


def remember(u: float, r: float, sent: bool, memory: str, sent_value: float = 0.0) -> float:
    """Next reference (D-4, N-4).

    ``always`` takes the bits of `u`; ``sent`` takes them only where sent; ``feedback`` adds `sent_value`, the difference as
    rounded to the declared narrow format, so that what rounding dropped stays in the next difference. Bits are taken, not
    values: a reference of +0 becomes -0 under ``always``, and stays +0 under ``sent``, where -0 is no difference (N-4).

    >>> remember(2.0, 1.0, False, "always"), remember(2.0, 1.0, False, "sent"), remember(2.0, 1.0, True, "feedback", 0.75)
    (2.0, 1.0, 1.75)
    """
    if memory == "always":
        return u
    if memory == "sent":
        return u if sent else r
    return r + sent_value if sent else r


def accumulate(a: float, weights: list[float], values: list[float], sent: list[bool]) -> float:
    """One output of a linear node in strict order (N-6, D-7): ascending inputs, two roundings each, skipped where not sent.

    >>> accumulate(1.0, [2.0, math.nan, 4.0], [0.5, 0.0, 0.25], [True, False, True])
    3.0
    """
    for weight, value, is_on in zip(weights, values, sent, strict=True):
        if is_on:
            a = a + weight * value
    return a


# ------------------------------------------------------------------------------------------------- solver steps and residual


def relax(z: float, f: float, alpha: float, beta: float) -> float:
    """Krasnoselskii-Mann step (S-6) from the already rounded ``alpha`` and ``beta = 1 - alpha``.

    >>> relax(1.0, 3.0, 0.5, 0.5)
    2.0
    """
    return beta * z + alpha * f


def residual(f: list[float], z: list[float], norm: str) -> float:
    """Norm of ``f - z`` in float64 by the pinned summation tree (S-2); linf lets NaN win.

    Lane ``l`` of 32 adds the squares of elements ``l, l + 32, ...`` in ascending order; the lanes are then added in ascending
    order. Pass ``z = [0.0] * len(f)`` for the norm of ``f`` itself.

    >>> residual([3.0, 4.0], [0.0, 0.0], "l2"), residual([3.0, -4.0], [0.0, 0.0], "linf")
    (5.0, 4.0)
    """
    differences = [float(f_i) - float(z_i) for f_i, z_i in zip(f, z, strict=True)]
    if norm == "linf":
        return math.nan if any(d != d for d in differences) else max((abs(d) for d in differences), default=0.0)
    lanes = [0.0] * 32
    for i, d in enumerate(differences):
        lanes[i % 32] = lanes[i % 32] + d * d
    total = 0.0
    for lane in lanes:
        total = total + lane
    return math.sqrt(total)


# ---------------------------------------------------------------------------------------------------- strict activations (N-8)

_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 6.93145751953125e-1, 1.42860682030941723212e-6
_EXP_OVERFLOW, _EXP_UNDERFLOW = 709.782712893384, -745.1332191019412


def exp(x: float) -> float:
    """Strict exponential (N-8): ``x = n ln 2 + t``, a rational approximation of ``exp(t)``, then two exact scalings.

    Below 2 ulp (measured 1.5); the result is +Inf above 709.78..., +0 below -745.13..., NaN for NaN.

    >>> exp(0.0), exp(-math.inf), exp(math.inf)
    (1.0, 0.0, inf)
    """
    if x != x:
        return x
    if x > _EXP_OVERFLOW:
        return math.inf
    if x < _EXP_UNDERFLOW:
        return 0.0
    n = math.floor(x * _LOG2_E + 0.5)
    t = x - n * _LN2_HIGH
    t = t - n * _LN2_LOW
    tt = t * t
    p = t * ((1.26177193074810590878e-4 * tt + 3.02994407707441961300e-2) * tt + 9.99999999999999999910e-1)
    q = ((3.00198505138664455042e-6 * tt + 2.52448340349684104192e-3) * tt + 2.27265548208155028766e-1) * tt + 2.0
    y = 1.0 + 2.0 * (p / (q - p))
    half = n // 2
    return y * math.ldexp(1.0, half) * math.ldexp(1.0, n - half)


def tanh(x: float) -> float:
    """Strict hyperbolic tangent (N-8): a rational approximation near zero, ``1 - 2 / (exp(2|x|) + 1)`` elsewhere.

    Below 2 ulp (measured 1.3); keeps the sign of zero; +-1 for large arguments, NaN for NaN.

    >>> tanh(-0.0), tanh(math.inf)
    (-0.0, 1.0)
    """
    if x == 0.0:
        return x
    size = abs(x)
    if size < 0.625:
        s = x * x
        p = (-9.64399179425052238628e-1 * s - 9.92877231001918586564e1) * s - 1.61468768441708447952e3
        q = ((s + 1.12811678491632931402e2) * s + 2.23548839060100448583e3) * s + 4.84406305325125486048e3
        return x + x * (s * (p / q))
    y = 1.0 - 2.0 / (exp(2.0 * size) + 1.0)
    return -y if x < 0.0 else y


def sigmoid(x: float) -> float:
    """Strict logistic function (N-8): ``1 / (1 + e)`` or ``e / (1 + e)`` with ``e = exp(-|x|)``, so nothing overflows.

    Below 3 ulp (measured 2.4); NaN for NaN.

    >>> sigmoid(0.0), sigmoid(-math.inf), sigmoid(math.inf)
    (0.5, 0.0, 1.0)
    """
    e = exp(-abs(x))
    return e / (1.0 + e) if x < 0.0 else 1.0 / (1.0 + e)


_TWO_OVER_PI = 6.36619772367581382433e-01
_HALF_PI_1, _HALF_PI_2, _HALF_PI_3 = 1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624879595063154e-21
TRIG_LIMIT = 2.0**30


def _reduce(x: float) -> tuple[int, float]:
    """Quadrant and remainder of ``x`` modulo pi/2, by three-part subtraction (33-bit parts: exact products to 2**20)."""
    n = math.floor(x * _TWO_OVER_PI + 0.5)
    t = x - n * _HALF_PI_1
    t = t - n * _HALF_PI_2
    t = t - n * _HALF_PI_3
    return n % 4, t


def _sin_kernel(t: float) -> float:
    s = t * t
    p = (1.58969099521155010221e-10 * s - 2.50507602534068634195e-8) * s + 2.75573137070700676789e-6
    p = (p * s - 1.98412698298579493134e-4) * s + 8.33333333332248946124e-3
    return t + (s * t) * (p * s - 1.66666666666666324348e-1)


def _cos_kernel(t: float) -> float:
    s = t * t
    p = (-1.13596475577881948265e-11 * s + 2.08757232129817482790e-9) * s - 2.75573143513906633035e-7
    p = (p * s + 2.48015872894767294178e-5) * s - 1.38888888888741095749e-3
    p = p * s + 4.16666666666666019037e-2
    half = 0.5 * s
    w = 1.0 - half
    return w + (((1.0 - w) - half) + (s * s) * p)


def sin(x: float) -> float:
    """Strict sine (N-8).

    Below 2.5 ulp for ``|x| <= 2**20`` (measured 2.2); up to ``|x| = 2**30`` the error is that of moving `x` by one ulp;
    beyond, and for Inf and NaN, the result is NaN (use a native activation for such arguments). Keeps the sign of zero.

    >>> sin(-0.0), sin(math.inf)
    (-0.0, nan)
    """
    if not (abs(x) <= TRIG_LIMIT):
        return math.nan
    if x == 0.0:
        return x
    quadrant, t = _reduce(x)
    y = _cos_kernel(t) if quadrant % 2 == 1 else _sin_kernel(t)
    return -y if quadrant >= 2 else y


def cos(x: float) -> float:
    """Strict cosine (N-8); accuracy and range as for :func:`sin`.

    >>> cos(0.0), cos(-math.inf)
    (1.0, nan)
    """
    if not (abs(x) <= TRIG_LIMIT):
        return math.nan
    quadrant, t = _reduce(x)
    y = _sin_kernel(t) if quadrant % 2 == 1 else _cos_kernel(t)
    return -y if quadrant == 1 or quadrant == 2 else y
