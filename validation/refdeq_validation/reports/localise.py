"""Where a tensor fails: the narrowest plain pattern of its failing indices, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["pattern"]

Array = np.ndarray[Any, Any]

MODULI = (2, 3, 4, 8, 16, 32, 64)
"""Vector widths, tiles and unroll factors that kernels use."""

FEWEST = 3
"""Failing indices along an axis below which a residue class is chance, not a pattern."""


def pattern(places: Sequence[int], shape: Sequence[int]) -> str | None:
    """Describe the failing elements of a tensor.

    Parameters
    ----------
    places : sequence of int
        Flat indices (C order) of failing elements.
    shape : sequence of int
        Of the tensor; axis 0 is the batch.

    Returns
    -------
    str or None
        One sentence, parts joined by ``and``, one for each axis that narrows the set; ``every element`` when all fail; None
        when nothing is known, or nothing narrows it.

    Examples
    --------
    >>> pattern([4, 6, 12, 14], (2, 8))
    'indices 4, 6 of axis 1'
    >>> pattern([7, 15], (2, 8))
    'the last index of axis 1'
    >>> pattern([24, 26, 28, 30], (4, 8))
    'the last index of axis 0 and axis 1 = 0 mod 2'
    """
    if not len(places) or not len(shape):
        return None
    size = int(np.prod(shape))
    flat = np.unique(np.asarray(places, np.int64))
    if len(flat) == size:
        return "every element"
    axes = np.unravel_index(flat, tuple(shape))
    parts = [text for axis, index in enumerate(axes) if (text := _along(axis, np.unique(index), int(shape[axis])))]
    return " and ".join(parts) or None


def _along(axis: int, index: Array, length: int) -> str | None:
    """What is special about the failing indices along one axis; None when all of them occur, or nothing is."""
    if len(index) == length or length == 1:
        return None
    if len(index) == 1:
        return _single(axis, int(index[0]), length)
    name = f"axis {axis}"
    if len(index) >= FEWEST:
        residue = _residue(index, length)
        if residue is not None:
            return f"{name} = {residue[0]} mod {residue[1]}"
    if int(index[-1]) - int(index[0]) + 1 == len(index):
        if index[-1] == length - 1:
            return f"the last {len(index)} indices of {name}"
        if index[0] == 0:
            return f"the first {len(index)} indices of {name}"
        return f"indices {index[0]} to {index[-1]} of {name}"
    if len(index) <= 4:
        return f"indices {', '.join(map(str, index))} of {name}"
    return None


def _single(axis: int, index: int, length: int) -> str:
    if index == length - 1:
        return f"the last index of axis {axis}"
    return f"the first index of axis {axis}" if index == 0 else f"index {index} of axis {axis}"


def _residue(index: Array, length: int) -> tuple[int, int] | None:
    """Residue and modulus of the largest listed modulus whose class is exactly the failing set."""
    for modulus in reversed(MODULI):
        residue = int(index[0]) % modulus
        if np.array_equal(index, np.arange(residue, length, modulus)):
            return residue, modulus
    return None
