"""Kernels that compact what was sent before they multiply: active lists with a capacity, sparse rows, packed bit masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq_validation.lab.gather import Block

__all__ = ["active_list", "packed_mask", "sparse_rows"]

Array = np.ndarray[Any, Any]

CAPACITY = 8
"""Entries of one active list."""

WORD = 32
"""Bits of one word of a packed mask."""


def active_list(block: Block) -> None:
    """One list of sent columns per row; a full list is worked off and filled again."""
    columns = np.zeros(CAPACITY, np.int64)
    values = np.zeros(CAPACITY, block.values.dtype)
    for row in range(len(block.values)):
        used = 0
        for k in range(block.values.shape[1]):
            if block.sent[row, k]:
                columns[used] = k
                values[used] = block.values[row, k]
                used = used + 1
            if used == CAPACITY:
                work_off(block, row, columns, values, used)
                used = 0
        work_off(block, row, columns, values, used)


def work_off(block: Block, row: int, columns: Array, values: Array, used: int) -> None:
    """Add the products of one list, in its order."""
    for entry in range(used):
        block.a[row] = block.a[row] + block.weight[:, columns[entry]] * values[entry]


def sparse_rows(block: Block) -> None:
    """Compressed sparse rows: pointers into one array of columns and one of values."""
    counts = block.sent.sum(axis=1)
    pointers = np.zeros(len(counts) + 1, np.int64)
    pointers[1:] = np.cumsum(counts)
    columns = np.nonzero(block.sent)[1].astype(np.int64)
    values = block.values[block.sent]
    for row in range(len(counts)):
        first, last = pointers[row], pointers[row + 1]
        for entry in range(first, last):
            block.a[row] = block.a[row] + block.weight[:, columns[entry]] * values[entry]


def packed_mask(block: Block) -> None:
    """One bit per column, in words; bits are taken from the lowest up."""
    for row in range(len(block.values)):
        words = pack(block.sent[row])
        for word, bits in enumerate(words):
            while bits:
                bit = (bits & -bits).bit_length() - 1
                k = word * WORD + bit
                block.a[row] = block.a[row] + block.weight[:, k] * block.values[row, k]
                bits = bits & (bits - 1)


def pack(sent: Array) -> list[int]:
    """Masks as words, the first column in the lowest bit; bits behind the last column are zero."""
    words = [0] * (-(-len(sent) // WORD))
    for k in range(len(sent)):
        if sent[k]:
            words[k // WORD] = words[k // WORD] | (1 << (k % WORD))
    return words
