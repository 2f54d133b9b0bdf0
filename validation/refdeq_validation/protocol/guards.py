"""Arrays an implementation is handed: between guard bands, full of canaries, off their alignment, watched afterwards."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["LARGE", "PLACEMENTS", "UNDISTURBED", "Guarded", "Placement", "scribble"]

Array = np.ndarray[Any, Any]

BAND = 16
"""Elements of a guard band on either side."""

LARGE = 1 << 26
"""Bytes above which an array is handed over as it is: huge cases use broadcast views that have no room of their own."""

_LINE = 64


@dataclass(frozen=True)
class Placement:
    """How the arrays of one execution are placed, and what is done around the calls.

    Attributes
    ----------
    name : str
    canary : float
        What outputs, guard bands and uninitialised memory are full of. NaN shows in every sum; a number shows where NaN would
        be expected, or swallowed by a maximum.
    misaligned : bool
        Arrays start one byte off their alignment; one element off a cache line where the claims say ``natural``.
    prelude : bool
        The calls are first made with other inputs in the same sessions: what they leave behind must not show.
    scribbles : bool
        Everything passed in and everything returned is overwritten after each call: nothing may be kept or handed out.
    """

    name: str
    canary: float
    misaligned: bool = False
    prelude: bool = False
    scribbles: bool = True


PLACEMENTS = (
    Placement("NaN, fresh sessions", math.nan),
    Placement("2^100, reused sessions, misaligned", 2.0**100, misaligned=True, prelude=True),
)
"""Every case is executed under each of these."""

UNDISTURBED = Placement("undisturbed", math.nan, scribbles=False)
"""Tells whether a failure comes from an array that somebody kept."""


class Guarded:
    """One array between two guard bands.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    placement : Placement
    alignment : {"any", "natural"}
        What the implementation claims to accept.
    values : ndarray, optional
        An input: the array holds them and cannot be written. Without, an output: full of canaries.

    Examples
    --------
    >>> out = Guarded((2,), np.dtype("float32"), PLACEMENTS[0], "any")
    >>> out.array.fill(1.0)
    >>> out.broken()
    ''
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], placement: Placement, alignment: str, values: Array | None = None
    ) -> None:
        size, item = math.prod(shape), dtype.itemsize
        self._raw = np.empty(size * item + 2 * BAND * item + 2 * _LINE, np.uint8)
        self._first = -self._raw.ctypes.data % _LINE + BAND * item + _shift(placement, alignment, item)
        self._last = self._first + size * item
        head = self._first - BAND * item
        band = np.ndarray((size + 2 * BAND,), dtype, self._raw.data, head) if size or BAND else None
        assert band is not None
        _fill(band, placement.canary)
        self.array: Array = np.ndarray(shape, dtype, self._raw.data, self._first)
        self.is_input = values is not None
        if values is not None:
            self.array[...] = values
            self.array.flags.writeable = False
        self._extent = slice(head, self._last + BAND * item)
        self._before = self._raw[self._extent].tobytes()
        self._item = item

    def broken(self) -> str:
        """What was written that must not be: a guard band, or an input; empty when nothing was."""
        now, margin = self._raw[self._extent].tobytes(), BAND * self._item
        if now[:margin] != self._before[:margin]:
            return "memory before the array was written"
        if now[len(now) - margin :] != self._before[len(now) - margin :]:
            return "memory after the array was written"
        if self.is_input and now != self._before:
            return "an input was written"
        return ""

    def is_written(self) -> bool:
        """Whether every byte of a mask is 0 or 1; those never written are neither."""
        return bool((self._raw[self._first : self._last] <= 1).all())

    def scribble(self, salt: int = 0) -> None:
        """Overwrite the array, whoever may still look at it."""
        payload = np.ndarray(self.array.shape, self.array.dtype, self._raw.data, self._first)
        scribble(payload, salt)
        self._before, self.is_input = self._raw[self._extent].tobytes(), True


def _shift(placement: Placement, alignment: str, item: int) -> int:
    if not placement.misaligned:
        return 0
    return 1 if alignment == "any" else item


def _fill(array: Array, canary: float) -> None:
    """Fill with the canary; bytes that are no truth values, and integers that are no counts, for other kinds."""
    if array.dtype.kind == "f":
        array[...] = canary
    else:
        array.view(np.uint8)[...] = 0x5A if math.isnan(canary) else 0xA5


def scribble(array: Array, salt: int = 0) -> None:
    """Overwrite with numbers that nobody computes, others for each salt: an array handed out twice shows.

    >>> values = np.zeros(2)
    >>> scribble(values)
    >>> bool((values == 0).any())
    False
    """
    if array.dtype.kind == "f":
        array[...] = -1.2345e30 * (1 + salt % 50) if array.dtype.itemsize > 2 else -1.0 - salt % 50
    elif array.dtype == bool:
        np.logical_not(array, out=array)
    elif array.dtype.kind in "iu":
        array[...] = 77 + salt % 50
    else:
        array[...] = 0
