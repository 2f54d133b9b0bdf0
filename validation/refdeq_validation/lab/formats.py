"""Rounding to narrow formats, in plain NumPy (D-4, N-1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq_validation.protocol.problem import Problem

__all__ = ["narrowed", "rounded_to_bits", "store"]

Array = np.ndarray[Any, Any]


def narrowed(values: Array, name: str) -> Array:
    """Values rounded to a narrow format, nearest even, in the dtype they came in (D-4).

    >>> narrowed(np.array([1.0 + 2.0**-12]), "float16")
    array([1.])
    """
    if name == "float16":
        return values.astype(np.float16).astype(values.dtype)
    return rounded_to_bits(values, 8, -126, 3.3895313892515355e38)


def rounded_to_bits(values: Array, digits: int, least: int, largest: float) -> Array:
    """Values rounded to `digits` significant bits, nearest even, subnormals kept: by scaling to integers, exact in float64.

    Parameters
    ----------
    values : ndarray, float32 or float64
    digits : int
        Significant bits, the leading one included.
    least : int
        Exponent of the least normal number.
    largest : float
        Largest finite number; what rounds beyond it becomes infinite.

    Examples
    --------
    >>> rounded_to_bits(np.array([1.0 + 2.0**-11]), 11, -126, 3.4e38)
    array([1.])
    """
    wide = values.astype(np.float64)
    _, exponent = np.frexp(wide)
    unit = np.ldexp(1.0, np.maximum(exponent, least + 1) - digits)
    nearest = np.rint(wide / unit) * unit
    nearest = np.where(np.abs(nearest) > largest, np.copysign(np.inf, wide), nearest)
    return np.where(np.isfinite(wide), nearest, wide).astype(values.dtype)


def store(problem: Problem, values: Array) -> Array:
    """Values as the problem stores them: rounded once to its dtype, or to its storage format (N-1).

    Parameters
    ----------
    problem : Problem
    values : ndarray, float32 or float64
    """
    if problem.storage is None:
        return values.astype(problem.dtype)
    return narrowed(values, problem.storage).astype(problem.dtype)
