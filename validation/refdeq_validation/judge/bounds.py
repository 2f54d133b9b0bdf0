"""Bounds of the judge, each with its derivation; there is no other tolerance in the harness.

Notation: ``u`` unit roundoff (2^-24 for float32, 2^-53 for float64), ``eta`` half the least subnormal, ``k`` the number of
terms summed, ``a`` the stored accumulator, ``P = sum |A_ij| |d_j|`` over the sent terms. Comparisons are written
``error <= bound`` so that NaN fails.
"""

from __future__ import annotations

import numpy as np

__all__ = ["accumulate_bound", "folded_bound", "residual_bound", "underflow", "unit_roundoff"]

_INFLATION = 1.0 + 2.0**-40
"""Covers the rounding of the bound itself, which is evaluated in float64."""

_DOUBLE = 2.0**-53


def unit_roundoff(dtype: np.dtype) -> float:
    """Unit roundoff of a dtype for round to nearest."""
    return float(np.finfo(dtype).eps) / 2.0


def underflow(dtype: np.dtype) -> float:
    """Half the least subnormal: the most that one operation loses to gradual underflow."""
    return float(np.finfo(dtype).smallest_subnormal) / 2.0


def accumulate_bound(k: np.ndarray, gauge: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Bound for one accumulate in any order, fused or not (N-7): ``(k + 1) u (|a| + P) + k eta``.

    ``k`` products and ``k`` additions starting from `a` are a sum of ``k + 1`` terms, of which `a` is exact and each product
    has one rounding; any tree of additions over them has height at most ``k``, so each term passes at most ``k + 1`` roundings
    (Jeannerod and Rump: without the quadratic term). Each product may lose `eta` to underflow. The last term covers the judge's
    own float64 arithmetic for float32 data.

    Parameters
    ----------
    k, gauge : arrays
        Number of terms, and ``|a| + P``.
    dtype : dtype of the accumulator
    """
    own = k * _DOUBLE * gauge if np.dtype(dtype) == np.float32 else 0.0
    return np.asarray((((k + 1) * unit_roundoff(dtype)) * gauge + k * underflow(dtype) + own) * _INFLATION)


def folded_bound(
    k: np.ndarray, gauge: np.ndarray, total: np.ndarray, a: np.ndarray, bias: np.ndarray, dtype: np.dtype
) -> np.ndarray:
    """Bound for ``a <- fl(fl(fl(s + b) + a) - b)`` with ``s`` a sum from +0 (D-6, folded).

    The error of `s` is that of an accumulate; each of the three further operations adds one rounding of its own result, whose
    exact value is ``S + b``, ``S + b + a`` and ``S + a`` in turn, plus the error it inherits.

    Parameters
    ----------
    k, gauge : arrays
        Number of terms and ``P``.
    total : array
        The exact sum ``S``, to float64.
    a, bias : arrays
        Stored accumulator and bias.
    """
    u = unit_roundoff(dtype)
    error = accumulate_bound(k, gauge, dtype)
    for value in (total + bias, total + bias + a, total + a):
        error = error + u * (np.abs(value) + error)
    return error * _INFLATION


def residual_bound(size: int) -> float:
    """Relative bound for a residual norm of `size` elements in float64, any order of summation (S-2): ``(n + 8) u``.

    One rounding each for the difference, the square, the sum's height (at most n), and the root halves what it inherits.
    """
    return (size + 8) * _DOUBLE
