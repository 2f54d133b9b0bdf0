"""Legal orders of summation beside the strict one (N-7): each takes a block and gives its next accumulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from refdeq_validation.cases.draw import splitmix64
from refdeq_validation.lab.gather import Block
from refdeq_validation.lab.roundings import add, fused, pieces, product
from refdeq_validation.lab.style import Style

__all__ = ["ORDERS"]

Array = np.ndarray[Any, Any]


def along(block: Block, style: Style, total: Array, columns: Sequence[int]) -> Array:
    """Add the sent terms of some columns to `total`, in the order given."""
    for k in columns:
        term = product(style, block.weight[:, k], block.values[:, k, None])
        total = np.where(block.sent[:, k, None], add(style, total, term), total)
    return total


def ascending(block: Block, style: Style) -> Array:
    """The strict order, for other products and sums."""
    return along(block, style, block.a, range(block.weight.shape[1]))


def descending(block: Block, style: Style) -> Array:
    """From the last column to the first."""
    return along(block, style, block.a, range(block.weight.shape[1])[::-1])


def shuffled(block: Block, style: Style) -> Array:
    """A fixed order without a pattern."""
    return along(block, style, block.a, np.argsort(splitmix64(1, "order", block.weight.shape[1])).tolist())


def blocked(block: Block, style: Style) -> Array:
    """Partial sums of four columns, each added to the accumulator."""
    total = block.a
    for first in range(0, block.weight.shape[1], 4):
        columns = range(first, min(first + 4, block.weight.shape[1]))
        total = add(style, total, along(block, style, np.zeros_like(total), columns))
    return total


def pairwise(block: Block, style: Style) -> Array:
    """A balanced tree."""

    def tree(first: int, last: int) -> Array:
        if last - first <= 1:
            return along(block, style, np.zeros_like(block.a), range(first, last))
        middle = (first + last) // 2
        return add(style, tree(first, middle), tree(middle, last))

    return add(style, block.a, tree(0, block.weight.shape[1]))


def split(block: Block, style: Style) -> Array:
    """Three interleaved partial sums, added at the end."""
    parts = [along(block, style, np.zeros_like(block.a), range(s, block.weight.shape[1], 3)) for s in range(3)]
    return add(style, block.a, add(style, add(style, parts[0], parts[1]), parts[2]))


def compensated(block: Block, style: Style) -> Array:
    """Kahan's summation."""
    total, lost = block.a, np.zeros_like(block.a)
    for k in range(block.weight.shape[1]):
        term = product(style, block.weight[:, k], block.values[:, k, None]) - lost
        following = total + term
        sent = block.sent[:, k, None]
        lost = np.where(sent & np.isfinite(following), (following - total) - term, np.where(sent, 0, lost))
        total = np.where(sent, following, total)
    return total


def contracted(block: Block, style: Style) -> Array:
    """Fused multiply-adds in ascending order."""
    total = block.a
    for k in range(block.weight.shape[1]):
        following = fused(total, block.weight[:, k], block.values[:, k, None])
        total = np.where(block.sent[:, k, None], following, total)
    return total


def widened(block: Block, style: Style) -> Array:
    """float64 products and sums, rounded once."""
    total = block.a.astype(np.float64)
    for k in range(block.weight.shape[1]):
        term = block.weight[:, k].astype(np.float64) * block.values[:, k, None].astype(np.float64)
        total = np.where(block.sent[:, k, None], total + term, total)
    return total.astype(block.a.dtype)


def emulated(name: str, count: int, depth: int) -> Callable[[Block, Style], Array]:
    """Products of numbers in `count` narrow pieces; pairs of pieces whose places add up to less than `depth`."""

    def order(block: Block, style: Style) -> Array:
        total = block.a
        for k in range(block.weight.shape[1]):
            left = pieces(block.weight[:, k], name, count)
            right = pieces(block.values[:, k, None], name, count)
            term = np.zeros_like(total)
            for place in reversed(range(depth)):
                for i in range(min(place + 1, count)):
                    if place - i < count:
                        term = term + left[i] * right[place - i]
            exact = np.isfinite(block.weight[:, k]) & np.isfinite(block.values[:, k, None])
            term = np.where(exact, term, block.weight[:, k] * block.values[:, k, None])
            total = np.where(block.sent[:, k, None], total + term, total)
        return total

    return order


def with_zeros(block: Block, style: Style) -> Array:
    """Dense, with zeros where nothing was sent: every column is read (D-7, ``inactive_columns = "read"``)."""
    total = block.a
    for k in range(block.weight.shape[1]):
        values = np.where(block.sent[:, k], block.values[:, k], block.values.dtype.type(0))
        term = product(style, block.weight[:, k], values[:, None])
        total = np.where(block.inside[:, k, None], add(style, total, term), total)
    return total


def library(block: Block, style: Style) -> Array:
    """One matrix product of the library, added to the accumulator; every column is read."""
    return np.asarray(block.a + np.where(block.sent, block.values, block.values.dtype.type(0)) @ block.weight.T)


ORDERS: Mapping[str, Callable[[Block, Style], Array]] = {
    "ascending": ascending,
    "reverse": descending,
    "random": shuffled,
    "blocked": blocked,
    "pairwise": pairwise,
    "split-k": split,
    "kahan": compensated,
    "fma": contracted,
    "wide": widened,
    "bfloat16x2": emulated("bfloat16", 2, 2),
    "bfloat16x3": emulated("bfloat16", 3, 3),
    "tf32x3": emulated("tf32", 2, 2),
    "zeros": with_zeros,
    "library": library,
}
"""By the name that a style gives its kernel."""
