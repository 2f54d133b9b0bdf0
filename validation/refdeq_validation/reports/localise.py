"""Where a tensor fails: the narrowest plain pattern of its failing indices, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["pattern"]

Array = np.ndarray[Any, Any]

MODULI = (2, 3, 4, 8, 16, 32, 64)
"""Vector widths, tiles and unroll factors that kernels use."""

FEWEST = 3
"""Failing indices along an axis below which a residue class is chance, not a pattern."""

LISTED = 4
"""Failing indices along an axis that are listed one by one."""


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
        Parts joined by ``and``, one for each axis that narrows the set; after ``within`` where they hold more than what fails;
        ``every element`` when all fail; None when nothing is known, or nothing narrows it.

    Examples
    --------
    >>> pattern([7, 15], (2, 8))
    'the last index of axis 1'
    >>> pattern([24, 26, 28, 30], (4, 8))
    'the last index of axis 0 and axis 1 = 0 mod 2'
    >>> pattern([0, 9], (2, 8))
    'within the first 2 indices of axis 1'
    """
    if not len(places) or not len(shape):
        return None
    flat = np.unique(np.asarray(places, np.int64))
    if len(flat) == int(np.prod(shape)):
        return "every element"
    indices = [np.unique(index) for index in np.unravel_index(flat, tuple(shape))]
    texts = [_along(axis, index, int(shape[axis]), len(flat)) for axis, index in enumerate(indices)]
    parts = " and ".join(text for text in texts if text)
    whole = all(text or len(index) == length for text, index, length in zip(texts, indices, shape, strict=True))
    exact = whole and math.prod(len(index) for index in indices) == len(flat)
    return (parts if exact or len(flat) == 1 else f"within {parts}") if parts else None


def _along(axis: int, index: Array, length: int, failing: int) -> str | None:
    """What is special about the failing indices along one axis; None when all of them occur, or nothing is."""
    if len(index) == length or (failing == 1 and 0 < index[0] < length - 1):
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
    if len(index) <= LISTED:
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
