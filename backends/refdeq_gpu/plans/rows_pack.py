"""Weights for the tensor cores: a float32 matrix as a sum of bfloat16 matrices, in the order in which lanes read fragments."""

from __future__ import annotations

import numpy as np

from refdeq.formats import round_to_format

__all__ = ["WARP_COLUMNS", "bfloat16_parts", "pack_pieces", "padded_width"]

WARP_COLUMNS = 32
"""Columns of a tile that one warp owns."""


def padded_width(n: int) -> int:
    """Columns of a tile: a multiple of 64, so that rows of the tile fill whole cycles of its exchanged chunks.

    >>> padded_width(17), padded_width(256)
    (64, 256)
    """
    return -(-n // 64) * 64


def bfloat16_parts(weight: np.ndarray, count: int) -> np.ndarray:
    """Parts, ``(count, ...)``, each the bfloat16 rounding of what those before it left (docs/bounds.md, section 3).

    What is not finite has the first part only. Three parts hold every float32 whose last bits are not below bfloat16's range.

    >>> parts = bfloat16_parts(np.float32([1.2345678]), 3)
    >>> parts.sum(axis=0) == np.float32([1.2345678])
    array([ True])
    """
    parts, left = np.zeros((count, *weight.shape), dtype=np.float32), np.array(weight, dtype=np.float32)
    for part in parts:
        part[...] = round_to_format(left, "bfloat16")
        with np.errstate(invalid="ignore"):
            left = np.where(np.isfinite(part), left - part, np.float32(0)).astype(np.float32)
    return parts


def pack_pieces(weight: np.ndarray, count: int) -> np.ndarray:
    """Words of the fragments of B = weight (K, N), padded with zeros to a square of whole tiles.

    Word ``[part, step, warp, pair, lane, i]`` holds, for tile ``t = 2 pair + i // 2`` of 8 columns of the warp, the rows
    ``16 step + 8 (i % 2) + 2 (lane % 4)`` and the next of column ``32 warp + 8 t + lane // 4``.

    Parameters
    ----------
    weight : (n, n) float32 array
        Inner index first.
    count : int
        Number of parts.

    Returns
    -------
    int32 array, flat

    Examples
    --------
    >>> pack_pieces(np.eye(17, dtype=np.float32), 2).size
    4096
    """
    n, width = len(weight), padded_width(len(weight))
    parts = np.zeros((count, width, width), dtype=np.float32)
    parts[:, :n, :n] = bfloat16_parts(weight, count)
    halves = (parts.view(np.uint32) >> 16).astype(np.uint32)
    # inner rows: step, half (8 rows), thread of the quad, neighbour; columns: warp, pair, tile of the pair, group
    split = halves.reshape(count, width // 16, 2, 4, 2, width // WARP_COLUMNS, 2, 2, 8)
    words = split[:, :, :, :, 0] | (split[:, :, :, :, 1] << 16)
    # now: part, step, half, quad, warp, pair, tile, group -> part, step, warp, pair, group, quad, tile, half
    ordered = words.transpose(0, 1, 4, 5, 7, 3, 6, 2)
    return np.ascontiguousarray(ordered).reshape(-1).view(np.int32)
