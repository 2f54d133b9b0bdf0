"""Layouts of a weight, made once per bind: panels for many samples, aligned columns for a few (N-6, D-7).

A product with many samples reads the weight again and again, so it is cut into *panels* of two vectors of outputs, each with
its columns one after the other: 256 columns of a panel fill half of a first-level cache of 32 KiB, and one panel serves every
sample of a block before the next is read. A product with one sample reads each weight once; there whole columns, each
contiguous, come in at the rate of the memory.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from refdeq_numba import simd

__all__ = ["DEPTH", "VECTORS", "Panels", "aligned", "columns_of", "pack_panels", "tiny"]

VECTORS = 2
"""Vectors of outputs per panel."""

DEPTH = 256
"""Columns of a panel that are gone through before the next sample: 16 KiB with vectors of 32 bytes."""


class Panels(NamedTuple):
    """A (k, n) weight cut into panels of `width` outputs, padded with zeros to whole panels.

    ``data`` is flat: column j of panel p begins at element ``(p * k + j) * width``. ``is_finite`` says whether all weights
    are finite, so that zero times any of them is a zero; ``is_tame``, whether besides all that are not zero are at least
    ``least``, which is :func:`tiny`.
    """

    data: np.ndarray
    k: int
    n: int
    width: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks a record for
    is_finite: bool
    is_tame: bool
    least: np.floating


def tiny(dtype: np.dtype) -> float:
    """Numbers of at least this size have products whose last bit is no smaller than the least subnormal number.

    Sums of such products, rounded once, are exact when they cancel, so that they are never -0: half of the exponent of the
    least subnormal number plus all bits of a product.

    >>> tiny(np.dtype("float32")) == 2.0**-51, tiny(np.dtype("float64")) == 2.0**-484
    (True, True)
    """
    least, digits = (149, 24) if dtype.itemsize == 4 else (1074, 53)
    return float(2.0 ** -((least - 2 * digits + 1) // 2))


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that begin on a cache line.

    >>> aligned((3, 5), np.dtype("float32")).ctypes.data % 64
    0
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    raw = np.zeros(size + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def pack_panels(weight: np.ndarray) -> Panels:
    """Cut a (k, n) weight into panels.

    >>> packed = pack_panels(np.ones((3, 5), dtype=np.float32))
    >>> packed.data.size == packed.count * packed.k * packed.width >= 15
    True
    """
    k, n = weight.shape
    width = VECTORS * simd.vector_bytes() // weight.dtype.itemsize
    count = -(-n // width)
    data = aligned((count, k, width), weight.dtype)
    for panel in range(count):
        own = weight[:, panel * width : (panel + 1) * width]
        data[panel, :, : own.shape[1]] = own
    is_finite, size = bool(np.isfinite(weight).all()), np.abs(weight)
    least = weight.dtype.type(tiny(weight.dtype))
    is_tame = is_finite and not bool(((size > 0) & (size < least)).any())
    return Panels(data.reshape(-1), k, n, width, count, is_finite, is_tame, least)


def columns_of(weight: np.ndarray) -> np.ndarray:
    """A (k, n) weight whose columns (rows of the array) are contiguous and padded with zeros to whole cache lines.

    >>> columns_of(np.ones((2, 3))).shape
    (2, 8)
    """
    k, n = weight.shape
    line = 64 // weight.dtype.itemsize
    copy = aligned((k, -(-n // line) * line), weight.dtype)
    copy[:, :n] = weight
    return copy
