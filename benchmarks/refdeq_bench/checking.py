"""Every contender's result is checked before it is timed: a fast wrong answer must not become a figure.

A sum of k products and a start value, in any order and with any fused multiply-adds, is off by at most ``(k + 1) u (|a| +
sum |w| |d|)`` to first order (N-7, docs/bounds.md); the float64 product it is compared with is off by as much with its own
u. What is divided here is the difference by the sum of both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refdeq.errors import RefdeqError

__all__ = ["Expected", "WrongResultError", "expected_product"]

_CHUNK = 1 << 22
"""Elements of the weight or of the samples that are turned into float64 at a time."""


class WrongResultError(RefdeqError):
    """A contender's result is not what it should be, so it is not timed."""


@dataclass(frozen=True)
class Expected:
    """A result in float64, and by how much a contender may miss it.

    Attributes
    ----------
    value, bound : float64 arrays of one shape
    """

    value: np.ndarray
    bound: np.ndarray

    def check(self, name: str, result: np.ndarray) -> float:
        """Largest error of a result, as a share of its bound.

        Raises
        ------
        WrongResultError
            It is above 1, or not finite.
        """
        with np.errstate(invalid="ignore"):
            share = float(np.max(np.abs(result.astype(np.float64) - self.value) / self.bound))
        if not share <= 1.0:
            raise WrongResultError(f"{name}: wrong result, {share:.3g} times the error that N-7 allows; it is not timed")
        return share


def units(dtype: str) -> float:
    """Unit roundoffs of the contender and of the float64 product together."""
    return float(np.finfo(dtype).eps) / 2 + 2.0**-53


def expected_product(d: np.ndarray, mask: np.ndarray, weight: np.ndarray, start: np.ndarray) -> Expected:
    """``start + d @ weight.T`` in float64, and the bound of N-7 with as many terms as each sample sends.

    Parameters
    ----------
    d : (B, K) array
        Zero where nothing is sent.
    mask : (B, K) bool
    weight : (N, K) array
    start : (B, N) array

    Returns
    -------
    Expected of (B, N)

    Examples
    --------
    >>> one = np.ones((1, 1), dtype=np.float32)
    >>> expected = expected_product(2 * one, one > 0, 3 * one, one)
    >>> expected.value.item(), expected.check("mine", np.float32([[7]]))
    (7.0, 0.0)
    """
    terms = mask.sum(axis=1, dtype=np.float64)[:, None] + 1
    value, bound = start.astype(np.float64), np.abs(start, dtype=np.float64)
    wide, step = d.astype(np.float64, copy=False), max(1, _CHUNK // weight.shape[1])
    for first in range(0, len(weight), step):
        rows = slice(first, first + step)
        block = weight[rows].astype(np.float64, copy=False).T
        value[:, rows] += wide @ block
        bound[:, rows] += np.abs(wide) @ np.abs(block)
    bound *= terms * units(str(d.dtype))
    return Expected(value, bound)


def expected_convolution(d: np.ndarray, mask: np.ndarray, weight: np.ndarray, start: np.ndarray) -> Expected:
    """``start + Conv(d, weight)``, one sample, stride 1 and as much padding as keeps the size; else as above.

    Parameters
    ----------
    d : (1, C, H, W) array
    mask : (1, C, H, W) bool
    weight : (M, C, h, w) array, h and w odd
    start : (1, M, H, W) array

    Returns
    -------
    Expected of (1, M, H, W)

    Examples
    --------
    >>> ones = np.ones((1, 1, 1, 3))
    >>> expected_convolution(ones, ones > 0, ones, 0 * ones).value.reshape(-1)
    array([2., 3., 2.])
    """
    high, wide = weight.shape[2:]
    rows, columns = d.shape[2:]
    around = ((high // 2, high // 2), (wide // 2, wide // 2), (0, 0))
    pixels = np.pad(np.moveaxis(d[0].astype(np.float64), 0, 2), around)
    counts = np.pad(mask[0].sum(axis=0, dtype=np.float64)[:, :, None], around)
    value = np.moveaxis(start[0].astype(np.float64), 0, 2).copy()
    bound, terms = np.abs(value), np.ones((rows, columns, 1))
    for y in range(high):
        for x in range(wide):
            window, tap = pixels[y : y + rows, x : x + columns], weight[:, :, y, x].T.astype(np.float64)
            value += window @ tap
            bound += np.abs(window) @ np.abs(tap)
            terms += counts[y : y + rows, x : x + columns]
    bound *= terms * units(str(d.dtype))
    return Expected(np.moveaxis(value, 2, 0)[None], np.moveaxis(bound, 2, 0)[None])
