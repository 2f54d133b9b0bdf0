"""Whether what a gate wrote is still there: every launch of the op level is told to a watch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from refdeq_gpu.arrays import DeviceArray

__all__ = ["Watch"]

_READERS = frozenset({"count_sent", "count_nonzero"})
"""Kernels that write to none of the arrays of a caller but their counters; of any other a watch assumes the worst."""


class Watch:
    """Watches the arrays of one gate, from when it advances.

    Examples
    --------
    >>> import numpy as np
    >>> d, other = (DeviceArray(np.zeros(6), (2, 3), "float64") for _ in range(2))
    >>> watch = Watch()
    >>> watch.begin(d)
    >>> watch.launched("count_nonzero", [d])
    >>> watch.token(d) is watch.token(d), watch.token(d, other)
    (True, None)
    >>> watch.launched("fill", [0.0, d.reshape(6)])
    >>> watch.token(d)
    """

    def __init__(self) -> None:
        self._buffers: tuple[Any, ...] = ()
        self._token = object()

    def begin(self, *arrays: DeviceArray) -> None:
        """Watch these arrays, which have just been written, and no longer those of before."""
        self._buffers, self._token = tuple(array.buffer for array in arrays), object()

    def launched(self, kernel: str, arguments: Iterable[Any]) -> None:
        """A kernel is launched, which may write to any array that it gets."""
        if self._buffers and kernel not in _READERS:
            touched = [argument.buffer for argument in arguments if isinstance(argument, DeviceArray)]
            if any(buffer is own for own in self._buffers for buffer in touched):
                self._buffers = ()

    def token(self, *arrays: DeviceArray | None) -> object | None:
        """The same object as long as nothing can have written to these arrays; None if one is not watched (any more).

        None among the arrays is no array.
        """
        given = [array.buffer for array in arrays if array is not None]
        is_watched = all(any(buffer is own for own in self._buffers) for buffer in given)
        return self._token if is_watched else None
