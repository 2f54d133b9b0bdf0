"""Workspaces of the sums at op level, one per thread, kept from call to call."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refdeq_numba.compress import SLACK
from refdeq_numba.lists import BLOCK
from refdeq_numba.panels import aligned

__all__ = ["ROWS", "Scratch", "make_scratch"]

ROWS = 48
"""Samples per block, a multiple of both sizes of groups; they share each panel while it is in cache."""


class Scratch(NamedTuple):
    """What one thread needs to accumulate a block of samples of `k` columns.

    ``bits`` (R, blocks), decisions as bits; ``columns`` and ``values`` (R, L) and ``ends``
    (R, blocks + 1), the lists;
    ``filled`` (R, L), differences of samples that are treated whole, zeros where nothing is sent; ``tails`` (R, width),
    accumulators of the last panel when it is not a whole one. ``a_at``, ``d_at``, ``filled_at`` and ``tails_at`` say where each
    sample begins; ``whole`` and ``listed`` are lists of samples of the block, ``own`` is 0, 1, 2, ...
    """

    bits: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    ends: np.ndarray
    filled: np.ndarray
    tails: np.ndarray
    a_at: np.ndarray
    d_at: np.ndarray
    filled_at: np.ndarray
    tails_at: np.ndarray
    whole: np.ndarray
    listed: np.ndarray
    own: np.ndarray


def make_scratch(k: int, width: int, dtype: np.dtype) -> Scratch:
    """Allocate a workspace for weights of `k` columns and panels of `width` outputs.

    >>> make_scratch(100, 16, np.dtype("float32")).columns.shape
    (48, 136)
    """
    length = -(-max(k, 1) // BLOCK) * BLOCK
    at = [np.zeros(ROWS, dtype=np.int64) for _ in range(4)]
    return Scratch(
        bits=np.zeros((ROWS, length // BLOCK), dtype=np.uint64),
        columns=np.zeros((ROWS, length + SLACK), dtype=np.int32),
        values=np.zeros((ROWS, length + SLACK), dtype=dtype),
        ends=np.zeros((ROWS, length // BLOCK + 1), dtype=np.int64),
        filled=aligned((ROWS, length), dtype),
        tails=aligned((ROWS, width), dtype),
        a_at=at[0],
        d_at=at[1],
        filled_at=np.arange(ROWS, dtype=np.int64) * length,
        tails_at=np.arange(ROWS, dtype=np.int64) * width,
        whole=at[2],
        listed=at[3],
        own=np.arange(ROWS, dtype=np.int64),
    )
