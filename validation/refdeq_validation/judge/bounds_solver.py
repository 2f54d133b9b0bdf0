"""Bounds of the judge for whole solves: activations, damped steps, inner products, steps of solvers with a memory.

Notation as in :mod:`refdeq_validation.judge.bounds`. A number known only to within an error is held as a pair (centre, radius);
the functions here carry radii through the operations of a solver, each rounding of the implementation added where it happens
(running error analysis: Wilkinson; Higham, Accuracy and Stability, section 3.3).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from refdeq_validation.judge.bounds import underflow, unit_roundoff

__all__ = [
    "CURVATURE",
    "SLOPE",
    "activation_error",
    "damped_error",
    "derivative",
    "exact_activation",
    "inner",
    "rounding",
    "ulp",
    "wide",
]

Array = np.ndarray[Any, Any]

SLOPE = {"Identity": 1.0, "Relu": 1.0, "Tanh": 1.0, "Sigmoid": 0.25, "Sin": 1.0, "Cos": 1.0}
"""Lipschitz constants of the activations that have one; that of LeakyRelu depends on its attribute."""

CURVATURE = {"Identity": 0.0, "Tanh": 4.0 / (3.0 * 3.0**0.5), "Sigmoid": 1.0 / (6.0 * 3.0**0.5), "Sin": 1.0, "Cos": 1.0}
"""Largest second derivatives: of tanh at ``tanh(x)^2 = 1/3``, of the sigmoid at ``sigma = 1/2 +- 1/(2 sqrt 3)``."""

DOUBLE = 2.0**-53


def wide(array: Array) -> Array:
    """The array in the widest format NumPy has: what centres are computed in."""
    return np.asarray(array, dtype=np.longdouble)


def ulp(value: Array, dtype: Any) -> Array:
    """Unit in the last place at a value, in a dtype; that of the least subnormal at 0.

    >>> float(ulp(np.array([1.0]), "float32")[0]) == 2.0**-23
    True
    """
    info = np.finfo(dtype)
    size = np.abs(np.asarray(value, dtype=np.float64))
    exponent = np.where(size > 0, np.frexp(size)[1] - 1, int(info.minexp))
    return np.asarray(np.ldexp(1.0, np.maximum(exponent, int(info.minexp)) - int(info.nmant)))


def rounding(value: Array, dtype: Any) -> Array:
    """Largest error of rounding a value to a dtype once: ``u |value| + eta``."""
    unit, lost = _constants(np.dtype(dtype))
    return np.asarray(unit * np.abs(value) + lost)


@functools.cache
def _constants(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Unit roundoff and half the least subnormal; looking dtypes up by name is slow."""
    return unit_roundoff(dtype), underflow(dtype)


def exact_activation(name: str, x: Array) -> Array:
    """An activation in the widest format NumPy has; :func:`activation_error` accounts for where that is float64."""
    x = wide(x)
    if name == "Identity":
        return x
    if name == "Relu":
        return np.where(np.isnan(x), x, np.maximum(x, 0.0))
    if name == "Sigmoid":
        half = np.exp(-np.abs(x))
        return np.where(x >= 0, 1.0 / (1.0 + half), half / (1.0 + half))
    functions = {"Tanh": np.tanh, "Sin": np.sin, "Cos": np.cos, "Exp": np.exp}
    return np.asarray(functions[name](x))


def derivative(name: str, x: Array) -> Array:
    """First derivative of an activation, in the widest format."""
    x = wide(x)
    if name == "Identity":
        return np.ones_like(x)
    if name == "Relu":
        return np.asarray((x > 0).astype(x.dtype))
    if name == "Tanh":
        return np.asarray(1.0 / np.cosh(x) ** 2)
    if name == "Sigmoid":
        value = exact_activation(name, x)
        return np.asarray(value * exact_activation(name, -x))
    if name == "Cos":
        return np.asarray(-np.sin(x))
    return np.asarray(np.cos(x) if name == "Sin" else np.exp(x))


def activation_error(name: str, value: Array, dtype: Any, native_ulp: float | None) -> Array:
    """Largest error of an implementation's activation at a known argument (section 3.3 e).

    A native one declares `native_ulp` units in the last place; the formulas of ``scalar.py`` keep within 3 in float64 (N-8) and
    are rounded once from float64 in float32, half an ulp and a little more. Where no format is wider than float64, half an ulp
    of float64 is added for the judge's own value, twice.

    Parameters
    ----------
    name : str
    value : array
        The activation, in the widest format.
    dtype : dtype of the result
    native_ulp : float or None
        None for the strict formulas.
    """
    if name in ("Identity", "Relu"):
        return np.zeros(np.shape(value))
    own = 0.0 if np.finfo(np.longdouble).nmant > 52 else 2.0
    if native_ulp is not None:
        return np.asarray((native_ulp + own * (np.dtype(dtype) == np.float64) + 2.0**-10) * ulp(value, dtype))
    within = 0.5 + 2.0**-10 if np.dtype(dtype) == np.float32 else 3.0 + own
    return np.asarray(within * ulp(value, dtype))


def damped_error(alpha: float, z: Array, f: Array, error: Array, z_error: Array, dtype: Any) -> Array:
    """Error of a Krasnoselskii-Mann step: ``alpha E_f + |1 - alpha| E_z + 3 u (|(1 - alpha) z| + |alpha f|)``."""
    if alpha == 1.0:
        return error
    size = np.abs((1.0 - alpha) * z) + np.abs(alpha * f) + abs(1.0 - alpha) * z_error + alpha * error
    lost = 3.0 * underflow(np.dtype(dtype))
    return np.asarray(alpha * error + abs(1.0 - alpha) * z_error + 3.0 * unit_roundoff(np.dtype(dtype)) * size + lost)


def inner(a: Array, a_error: Array, b: Array, b_error: Array) -> tuple[Array, Array]:
    """Inner products along the last axis of rows known to within errors, with the radius of what float64 may give.

    ``sum (|a| e_b + |b| e_a + e_a e_b)`` is inherited; products and a sum of n terms in any order add ``(n + 2) u`` of
    ``sum (|a| + e_a)(|b| + e_b)``, and the judge's own sum no more than that.
    """
    size_a, size_b = np.abs(a), np.abs(b)
    inherited = (size_a * b_error + size_b * a_error + a_error * b_error).sum(axis=-1)
    most = ((size_a + a_error) * (size_b + b_error)).sum(axis=-1)
    return (a * b).sum(axis=-1), inherited + 2.0 * (a.shape[-1] + 2) * DOUBLE * most
