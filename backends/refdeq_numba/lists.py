"""Lists of the columns that a sample sends, from its mask (D-7): ascending, with the end of every block of 64 columns."""

from __future__ import annotations

import numpy as np

from refdeq_numba.compilation import uncounted
from refdeq_numba.compress import SHUFFLES_4, SHUFFLES_8, compress, has_shuffles
from refdeq_numba.simd import bits_of, count_ones, count_trailing_zeros

__all__ = ["BLOCK", "count_columns", "has_negative_zero", "has_tiny", "list_all", "list_columns"]

BLOCK = 64
"""Columns per block of a list: 64 columns of four panels stay in the first-level cache."""

_HAS_SHUFFLES = has_shuffles()
_STEP_8, _STEP_4 = 8, 4
_WORTH_SHUFFLING = 12  # sent of 64 from which going by eights is faster than bit by bit


@uncounted
def count_columns(n, mask, mask_at, bits, i):
    """Put the decisions of row i into its words of 64 bits; return how many columns it sends.

    The n decisions of the row begin at element `mask_at` of `mask`; beyond them nothing is read.
    """
    count = 0
    for block in range(n // BLOCK):
        bits[i, block] = bits_of(mask, mask_at + block * BLOCK)
        count += count_ones(bits[i, block])
    if n % BLOCK != 0:
        last, word = n // BLOCK, np.uint64(0)
        for place in range(n % BLOCK):
            word |= np.uint64(mask[mask_at + last * BLOCK + place]) << np.uint64(place)
        bits[i, last] = word
        count += count_ones(word)
    return count


@uncounted
def list_columns(n, bits, d, d_at, columns, values, ends, i):
    """List the sent columns of row i in ascending order with their differences, note where each block ends, return how many.

    The differences of this row, n of them, begin at element `d_at` of `d`. Rows of `columns` and `values` have room for
    ``compress.SLACK`` elements more.
    """
    count, index, value, begin = 0, columns.reshape(-1), values.reshape(-1), i * columns.shape[1]
    step = _STEP_8 if d.itemsize == 4 else _STEP_4
    for block in range(ends.shape[1] - 1):
        word, first = bits[i, block], block * BLOCK
        if _HAS_SHUFFLES and count_ones(word) >= _WORTH_SHUFFLING:
            while word != 0 and first + step <= n:
                pattern = np.int64(word & np.uint64((1 << step) - 1))
                table = SHUFFLES_8 if step == _STEP_8 else SHUFFLES_4
                compress(d, d_at + first, pattern, table, first, index, value, begin + count)
                count += count_ones(np.uint64(pattern))
                word >>= np.uint64(step)
                first += step
        while word != 0:
            j = first + count_trailing_zeros(word)
            index[begin + count], value[begin + count] = j, d[d_at + j]
            word &= word - np.uint64(1)
            count += 1
        ends[i, block + 1] = count
    return count


@uncounted
def list_all(n, d, d_at, columns, values, ends, i):
    """List every column of row i."""
    for j in range(n):
        columns[i, j], values[i, j] = j, d[d_at + j]
    for block in range(1, ends.shape[1]):
        ends[i, block] = min(n, block * BLOCK)


@uncounted
def has_negative_zero(bits, least, begin, end):
    """Whether a range of numbers, seen as integers of their size, holds a -0, which is `least`: adding +0 changes it alone."""
    found = False
    for j in range(begin, end):
        found |= bits[j] == least
    return found


@uncounted
def has_tiny(numbers, begin, count, least):
    """Whether any of `count` numbers from element `begin` on is below `least` without being a zero."""
    found = False
    for j in range(begin, begin + count):
        size = abs(numbers[j])
        found |= (size > 0) & (size < least)
    return found
