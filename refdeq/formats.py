"""Rounding to the narrow formats of the feedback memory rule (D-4): float16 and bfloat16, round to nearest even."""

from __future__ import annotations

import numpy as np

__all__ = ["round_to_format"]


def round_to_format(values: np.ndarray, name: str) -> np.ndarray:
    """Round to a narrow format and widen again (D-4, N-5); NaN stays NaN, overflow becomes infinite, subnormals are kept.

    Parameters
    ----------
    values : float32 or float64 array
    name : {"float16", "bfloat16"}

    Returns
    -------
    ndarray of the dtype of `values`, holding numbers of the narrow format

    Examples
    --------
    >>> round_to_format(np.array([1.00390625, 3.0e38]), "bfloat16")
    array([1.00000000e+00, 3.00405527e+38])
    """
    if name == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(values.dtype)
    if name != "bfloat16":
        raise ValueError(f"unknown format {name!r}")
    return _round_to_bfloat16(values)


def _round_to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Round to 8 significant bits by scaling to the grid of each number's binade, which is exact in float64."""
    wide = values.astype(np.float64)
    finite = np.where(np.isfinite(wide), wide, 0.0)
    _, exponent = np.frexp(finite)
    grid = np.maximum(exponent - 8, -133)
    rounded = np.ldexp(np.rint(np.ldexp(finite, -grid)), grid)
    rounded = np.where(np.abs(rounded) >= 2.0**128, np.copysign(np.inf, rounded), rounded)
    return np.where(np.isfinite(wide), rounded, wide).astype(values.dtype)
