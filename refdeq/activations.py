"""The strict activations of clause N-8 on NumPy arrays: line by line the formulas of :mod:`refdeq.scalar`.

float32 arguments are evaluated in float64 and rounded once. Branches become ``np.where``; both sides are computed, which is
why callers silence floating-point warnings (clause N-2: non-finite values are results, not accidents).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from refdeq import scalar

__all__ = ["STRICT", "cos", "exp", "sigmoid", "sin", "strict", "tanh"]

Array = np.ndarray


def exp(x: Array) -> Array:
    """Strict exponential of a float64 array (N-8).

    >>> exp(np.array([0.0, -np.inf]))
    array([1., 0.])
    """
    clipped = np.clip(x, -746.0, 710.0)
    n = np.floor(clipped * scalar._LOG2_E + 0.5)
    t = clipped - n * scalar._LN2_HIGH
    t = t - n * scalar._LN2_LOW
    tt = t * t
    p = t * ((1.26177193074810590878e-4 * tt + 3.02994407707441961300e-2) * tt + 9.99999999999999999910e-1)
    q = ((3.00198505138664455042e-6 * tt + 2.52448340349684104192e-3) * tt + 2.27265548208155028766e-1) * tt + 2.0
    y = 1.0 + 2.0 * (p / (q - p))
    whole = np.where(np.isnan(n), 0.0, n).astype(np.int32)
    half = whole // 2
    y = y * np.ldexp(1.0, half) * np.ldexp(1.0, whole - half)
    y = np.where(x > scalar._EXP_OVERFLOW, np.inf, y)
    return np.where(x < scalar._EXP_UNDERFLOW, 0.0, y)


def tanh(x: Array) -> Array:
    """Strict hyperbolic tangent of a float64 array (N-8).

    >>> tanh(np.array([-0.0, 20.0]))
    array([-0.,  1.])
    """
    size = np.abs(x)
    s = x * x
    p = (-9.64399179425052238628e-1 * s - 9.92877231001918586564e1) * s - 1.61468768441708447952e3
    q = ((s + 1.12811678491632931402e2) * s + 2.23548839060100448583e3) * s + 4.84406305325125486048e3
    near = x + x * (s * (p / q))
    far = 1.0 - 2.0 / (exp(2.0 * size) + 1.0)
    far = np.where(x < 0.0, -far, far)
    return np.where(x == 0.0, x, np.where(size < 0.625, near, far))


def sigmoid(x: Array) -> Array:
    """Strict logistic function of a float64 array (N-8).

    >>> sigmoid(np.array([0.0, -np.inf, np.inf]))
    array([0.5, 0. , 1. ])
    """
    e = exp(-np.abs(x))
    return np.where(x < 0.0, e / (1.0 + e), 1.0 / (1.0 + e))


def _reduce(x: Array) -> tuple[Array, Array]:
    n = np.floor(x * scalar._TWO_OVER_PI + 0.5)
    t = x - n * scalar._HALF_PI_1
    t = t - n * scalar._HALF_PI_2
    t = t - n * scalar._HALF_PI_3
    return n - 4.0 * np.floor(n / 4.0), t


def _sin_kernel(t: Array) -> Array:
    s = t * t
    p = (1.58969099521155010221e-10 * s - 2.50507602534068634195e-8) * s + 2.75573137070700676789e-6
    p = (p * s - 1.98412698298579493134e-4) * s + 8.33333333332248946124e-3
    y: Array = t + (s * t) * (p * s - 1.66666666666666324348e-1)
    return y


def _cos_kernel(t: Array) -> Array:
    s = t * t
    p = (-1.13596475577881948265e-11 * s + 2.08757232129817482790e-9) * s - 2.75573143513906633035e-7
    p = (p * s + 2.48015872894767294178e-5) * s - 1.38888888888741095749e-3
    p = p * s + 4.16666666666666019037e-2
    half = 0.5 * s
    w = 1.0 - half
    y: Array = w + (((1.0 - w) - half) + (s * s) * p)
    return y


def _in_range(x: Array) -> Array:
    usable: Array = np.abs(x) <= scalar.TRIG_LIMIT
    return usable


def sin(x: Array) -> Array:
    """Strict sine of a float64 array (N-8).

    >>> sin(np.array([-0.0, np.inf]))
    array([-0., nan])
    """
    usable = _in_range(x)
    quadrant, t = _reduce(np.where(usable, x, 1.0))
    y = np.where(quadrant % 2.0 == 1.0, _cos_kernel(t), _sin_kernel(t))
    y = np.where(quadrant >= 2.0, -y, y)
    return np.where(usable, np.where(x == 0.0, x, y), np.nan)


def cos(x: Array) -> Array:
    """Strict cosine of a float64 array (N-8).

    >>> cos(np.array([0.0, np.inf]))
    array([ 1., nan])
    """
    usable = _in_range(x)
    quadrant, t = _reduce(np.where(usable, x, 1.0))
    y = np.where(quadrant % 2.0 == 1.0, _sin_kernel(t), _cos_kernel(t))
    y = np.where((quadrant == 1.0) | (quadrant == 2.0), -y, y)
    return np.where(usable, y, np.nan)


STRICT: dict[str, Callable[[Array], Array]] = {"Tanh": tanh, "Sigmoid": sigmoid, "Sin": sin, "Cos": cos, "Exp": exp}
"""ONNX operator name to strict function on float64 arrays."""


def strict(name: str, x: Array) -> Array:
    """Strict activation in the dtype of `x` (N-8): evaluated in float64, rounded once.

    Parameters
    ----------
    name : str
        ``"Tanh"``, ``"Sigmoid"``, ``"Sin"``, ``"Cos"`` or ``"Exp"``.
    x : ndarray, float32 or float64, any shape

    Returns
    -------
    ndarray of the shape and dtype of `x`

    Examples
    --------
    >>> strict("Tanh", np.array([0.5], dtype=np.float32)).dtype
    dtype('float32')
    """
    return STRICT[name](x.astype(np.float64)).astype(x.dtype)
