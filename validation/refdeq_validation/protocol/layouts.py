"""Layouts in memory that an implementation takes rightly or refuses, and outputs that it must refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError

__all__ = ["LAYOUTS", "SPOILED", "laid_out", "spoiled"]

Array = np.ndarray[Any, Any]

LAYOUTS = ("fortran", "reversed", "strided", "broadcast", "misaligned", "swapped")
"""Layouts in memory in which a case may hand over an input; an implementation takes them rightly or refuses."""


def laid_out(values: Array, layout: str) -> Array:
    """The same values in another layout in memory.

    Parameters
    ----------
    values : ndarray
    layout : str
        One of ``LAYOUTS``. ``broadcast`` has stride 0 on the batch axis: every sample is the first. ``swapped`` has the other
        byte order.

    Examples
    --------
    >>> laid_out(np.arange(6.0).reshape(2, 3), "reversed").strides
    (-24, 8)
    """
    if layout == "fortran":
        return np.asfortranarray(values)
    if layout == "reversed":
        return np.ascontiguousarray(values[::-1])[::-1]
    if layout == "strided":
        wide = np.full((*values.shape[:-1], 2 * values.shape[-1]), np.nan, values.dtype)
        wide[..., ::2] = values
        return wide[..., ::2]
    if layout == "broadcast":
        return np.broadcast_to(values[:1].copy(), values.shape)
    if layout == "swapped":
        return values.astype(values.dtype.newbyteorder())
    if layout == "misaligned":
        raw = np.zeros(values.nbytes + 1, np.uint8)
        moved = np.ndarray(values.shape, values.dtype, raw.data, 1)
        moved[...] = values
        return moved
    raise ArgumentError("layout", expected=f"one of {', '.join(LAYOUTS)}", got=repr(layout))


_WRONG: Mapping[str, Callable[[Array, Array], tuple[Array, Array]]] = {
    "mask short": lambda mask, y: (mask[:, :-1].copy(), y),
    "mask dtype": lambda mask, y: (mask.astype(y.dtype), y),
    "mask bytes": lambda mask, y: (mask.view(np.uint8), y),
    "y short": lambda mask, y: (mask, y[:, :-1].copy()),
    "y batch": lambda mask, y: (mask, np.concatenate([y, y])),
    "y dtype": lambda mask, y: (mask, y.astype("float64" if y.dtype == np.float32 else "float32")),
    "y rank": lambda mask, y: (mask, y[None].copy()),
}

SPOILED = tuple(_WRONG)
"""Outputs of a step with a wrong shape or dtype, by name."""


def spoiled(how: str, mask: Array, y: Array) -> tuple[Array, Array]:
    """Outputs that an implementation must refuse, in place of these.

    >>> spoiled("y short", np.zeros((2, 3), bool), np.zeros((2, 3)))[1].shape
    (2, 2)
    """
    if how not in _WRONG:
        raise ArgumentError("outputs", expected=f"one of {', '.join(SPOILED)}", got=repr(how))
    return _WRONG[how](mask, y)
