"""The judge's own Fourier transforms: the pinned one of E-2, and one by the definition in extended precision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refdeq import scalar

__all__ = ["defined_dft", "dft_bound", "strict_dft"]

Array = np.ndarray[Any, Any]
Point = tuple[Array, Array]


def _root(j: int, n: int) -> tuple[float, float]:
    """Cosine and sine of ``2 pi j / n`` as in E-2: quarter turns by integers, then an angle of at most an eighth of a turn."""
    turns, rest = (4 * j) // n, (4 * j) % n
    swapped = 2 * rest > n
    angle = (math.pi / 2) * (n - rest if swapped else rest) / n
    c, s = scalar.cos(angle), scalar.sin(angle)
    if swapped:
        c, s = s, c
    for _ in range(turns):
        c, s = 0.0 - s, c
    return c, s


def _transform(points: list[Point], sign: int) -> list[Point]:
    """Decimation in time by the smallest prime factor; each point holds real and imaginary parts of many signals."""
    n = len(points)
    if n == 1:
        return points
    p = next(q for q in range(2, n + 1) if n % q == 0)
    parts = [_transform(points[r::p], sign) for r in range(p)]
    out = []
    for k in range(n):
        re, im = parts[0][k % (n // p)]
        for r in range(1, p):
            c, s = _root(r * k % n, n)
            s = sign * s
            x, y = parts[r][k % (n // p)]
            re, im = re + (c * x - s * y), im + (c * y + s * x)
        out.append((re, im))
    return out


def strict_dft(x: Array, axis: int, inverse: bool) -> Array:
    """DFT in the pinned order (N-6, E-2): float64 throughout, rounded once.

    >>> strict_dft(np.array([[[1.0], [2.0]]]), 1, False)
    array([[[ 3.,  0.],
            [-1.,  0.]]])
    """
    wide = np.moveaxis(x.astype(np.float64), axis, 0)
    points = [(v[..., 0], v[..., 1] if x.shape[-1] == 2 else np.zeros(v.shape[:-1])) for v in wide]
    found = _transform(points, 1 if inverse else -1)
    scale = float(len(points)) if inverse else 1.0
    rows = np.stack([np.stack([re / scale, im / scale], axis=-1) for re, im in found])
    return np.ascontiguousarray(np.moveaxis(rows, 0, axis).astype(x.dtype))


def defined_dft(x: Array, axis: int, inverse: bool) -> Array:
    """DFT by its definition, every sum in extended precision; float64.

    >>> defined_dft(np.array([[[1.0], [2.0]]]), 1, True)[0, :, 0]
    array([ 1.5, -0.5])
    """
    wide = np.moveaxis(x.astype(np.longdouble), axis, -1)
    re, im = wide[..., 0, :], wide[..., 1, :] if x.shape[-1] == 2 else np.zeros_like(wide[..., 0, :])
    n = wide.shape[-1]
    turns = (np.outer(np.arange(n), np.arange(n)) % n).astype(np.longdouble) / n
    angle = (1 if inverse else -1) * 8 * np.arctan(np.longdouble(1)) * turns
    c, s = np.cos(angle), np.sin(angle)
    scale = n if inverse else 1
    parts = np.stack([(re @ c - im @ s) / scale, (re @ s + im @ c) / scale], axis=-2)
    return np.ascontiguousarray(np.moveaxis(parts, -1, axis).astype(np.float64))


def dft_bound(x: Array, axis: int, inverse: bool) -> Array:
    """Error of a DFT by any algorithm, broadcastable against the result: ``(2 n + 16) u sum(|re| + |im|)``, divided as it is.

    By the definition each of the 2 n terms of an output passes a rounded root (its angle and value below 8 u), a product, and
    at most 2 n additions; fast algorithms have fewer, the division and the final rounding are two more.
    """
    n, u = x.shape[axis], float(np.finfo(x.dtype).eps) / 2.0
    gauge = np.abs(x.astype(np.float64)).sum(axis=(axis, -1), keepdims=True)
    return np.asarray((2 * n + 16) * u * gauge / (n if inverse else 1) * (1.0 + 2.0**-40))
