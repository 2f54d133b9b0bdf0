"""Kernels that cut their loops: tiles with tails, chunks per thread, partial sums in a workspace."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq_validation.lab.gather import Block

__all__ = ["column_slices", "row_chunks", "tiles"]

Array = np.ndarray[Any, Any]

ROWS, COLUMNS = 4, 8
"""Outputs and columns of one tile."""

THREADS = 3

SLICES = 2


def tiles(block: Block) -> None:
    """Tiles of outputs and columns; what does not fill a tile is done in a tail."""
    outputs, columns = block.weight.shape
    whole_rows, whole_columns = outputs - outputs % ROWS, columns - columns % COLUMNS
    for top in range(0, whole_rows, ROWS):
        rows = slice(top, top + ROWS)
        for left in range(0, whole_columns, COLUMNS):
            tile(block, rows, left, left + COLUMNS)
        tile(block, rows, whole_columns, columns)
    rows = slice(whole_rows, outputs)
    tile(block, rows, 0, columns)


def tile(block: Block, rows: slice, first: int, last: int) -> None:
    """Columns of one tile in ascending order, for the rows that sent them."""
    for k in range(first, last):
        some = block.sent[:, k]
        block.a[some, rows] = block.a[some, rows] + block.weight[rows, k] * block.values[some, k, None]


def row_chunks(block: Block) -> None:
    """Chunks of outputs, one per thread; each thread reads all columns and writes its own outputs."""
    outputs = len(block.weight)
    chunk = -(-outputs // THREADS)
    for thread in range(THREADS):
        rows = slice(thread * chunk, min((thread + 1) * chunk, outputs))
        for k in range(block.weight.shape[1]):
            some = block.sent[:, k]
            total = block.a[some, rows] + block.weight[rows, k] * block.values[some, k, None]
            block.a[some, rows] = total


def column_slices(block: Block) -> None:
    """Slices of columns, each summed into its own part of a workspace; the parts are added in ascending order."""
    columns = block.weight.shape[1]
    length = -(-columns // SLICES)
    workspace = borrow((SLICES, *block.a.shape), block.a.dtype)
    workspace[...] = 0
    for part in range(SLICES):
        for k in range(part * length, min((part + 1) * length, columns)):
            some = block.sent[:, k]
            workspace[part, some] = workspace[part, some] + block.weight[:, k] * block.values[some, k, None]
    for part in range(SLICES):
        block.a = block.a + workspace[part]


POOL: dict[tuple[tuple[int, ...], str], Array] = {}
"""Workspaces that were used before: memory is never handed out clean."""


def borrow(shape: tuple[int, ...], dtype: Any) -> Array:
    """A workspace, with whatever its last user left in it."""
    key = (shape, str(dtype))
    if key not in POOL:
        POOL[key] = np.full(shape, np.nan, dtype)
    return POOL[key]
