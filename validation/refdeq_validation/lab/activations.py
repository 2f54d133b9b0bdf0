"""Elementwise activations and their derivatives (E-2, N-8): formulas with + - * / and floor only, in float64, rounded once."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq import scalar
from refdeq_validation.lab.formats import store
from refdeq_validation.protocol.problem import Problem

__all__ = ["activate", "slope"]

Array = np.ndarray[Any, Any]

LEAK = 0.01
"""ONNX default of LeakyRelu's alpha."""


def activate(problem: Problem, total: Array, native: bool = False) -> Array:
    """Value of phi, as the problem stores it; `native` takes the functions of the library (N-8)."""
    name = problem.activation
    if name == "Identity":
        return total.copy()
    if name == "Relu":
        return np.where(total > 0, total, np.where(np.isnan(total), total, total.dtype.type(0)))
    if name == "LeakyRelu":
        return np.where(total < 0, store(problem, total.dtype.type(LEAK) * total), total)
    if native:
        return store(problem, NATIVE[name](total))
    return store(problem, SMOOTH[name](total.astype(np.float64)))


def exp(x: Array) -> Array:
    """Exponential: argument reduction by ln 2, a rational function, and two exact powers of two."""
    within = np.minimum(np.maximum(x, -746.0), 710.0)
    n = np.floor(within * scalar._LOG2_E + 0.5)
    t = within - n * scalar._LN2_HIGH
    t = t - n * scalar._LN2_LOW
    s = t * t
    p = t * ((1.26177193074810590878e-4 * s + 3.02994407707441961300e-2) * s + 9.99999999999999999910e-1)
    q = ((3.00198505138664455042e-6 * s + 2.52448340349684104192e-3) * s + 2.27265548208155028766e-1) * s + 2.0
    y = 1.0 + 2.0 * (p / (q - p))
    whole = np.where(np.isnan(n), 0.0, n).astype(np.int64)
    half = whole // 2
    y = y * np.ldexp(1.0, half) * np.ldexp(1.0, whole - half)
    y = np.where(x > scalar._EXP_OVERFLOW, np.inf, y)
    return np.where(x < scalar._EXP_UNDERFLOW, 0.0, y)


def tanh(x: Array) -> Array:
    """Hyperbolic tangent: a rational function near zero, the exponential elsewhere."""
    s = x * x
    p = (-9.64399179425052238628e-1 * s - 9.92877231001918586564e1) * s - 1.61468768441708447952e3
    q = ((s + 1.12811678491632931402e2) * s + 2.23548839060100448583e3) * s + 4.84406305325125486048e3
    near = x + x * (s * (p / q))
    far = 1.0 - 2.0 / (exp(2.0 * np.abs(x)) + 1.0)
    far = np.where(x < 0.0, -far, far)
    return np.where(x == 0.0, x, np.where(np.abs(x) < 0.625, near, far))


def sigmoid(x: Array) -> Array:
    """Logistic function, from the exponential of the negative side."""
    e = exp(-np.abs(x))
    return np.asarray(np.where(x < 0.0, e, 1.0) / (1.0 + e))


def sin(x: Array) -> Array:
    """Sine: elementwise the scalar formula."""
    return np.vectorize(scalar.sin, otypes=[np.float64])(x) if x.size else x


def cos(x: Array) -> Array:
    """Cosine: elementwise the scalar formula."""
    return np.vectorize(scalar.cos, otypes=[np.float64])(x) if x.size else x


SMOOTH = {"Tanh": tanh, "Sigmoid": sigmoid, "Sin": sin, "Cos": cos, "Exp": exp}

NATIVE: dict[str, Any] = {
    "Tanh": np.tanh,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Sin": np.sin,
    "Cos": np.cos,
    "Exp": np.exp,
}


def slope(problem: Problem, total: Array) -> Array:
    """Derivative of phi at `total`, in float64; at the kink of Relu that of the left side."""
    t, name = total.astype(np.float64), problem.activation
    if name == "Identity":
        return np.ones_like(t)
    if name == "Relu":
        return np.where(t > 0.0, 1.0, 0.0)
    if name == "LeakyRelu":
        return np.where(t < 0.0, float(total.dtype.type(LEAK)), 1.0)
    if name == "Tanh":
        return np.asarray(1.0 - tanh(t) * tanh(t))
    if name == "Sigmoid":
        return np.asarray(sigmoid(t) * (1.0 - sigmoid(t)))
    if name == "Sin":
        return cos(t)
    return -sin(t) if name == "Cos" else exp(t)
