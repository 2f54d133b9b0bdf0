"""Running a kernel over the active samples, on several threads when there is enough to do.

A sample is computed by one thread from start to end, so results cannot depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

__all__ = ["PerThread", "Workers"]

_ELEMENTS_PER_THREAD = 200_000
"""Elementary operations below which handing work to another thread (tens of microseconds) is not worth it."""


class PerThread:
    """An argument of which every thread gets one of its own, made when first needed and kept.

    Parameters
    ----------
    make : callable without arguments
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: list[Any] = []

    def of(self, thread: int) -> Any:
        """What thread number `thread` gets."""
        while len(self._made) <= thread:
            self._made.append(self._make())
        return self._made[thread]


class Workers:
    """A fixed number of threads, started when first needed.

    Parameters
    ----------
    threads : int
        At least 1.

    Examples
    --------
    >>> def kernel(rows, first, last, out):
    ...     out[rows[first:last]] = 1
    >>> out = np.zeros(3)
    >>> Workers(2).run(kernel, np.array([0, 2]), 1, out)
    >>> out
    array([1., 0., 1.])
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    @property
    def threads(self) -> int:
        """At most so many work at the same time."""
        return self._threads

    def run(self, kernel: Callable[..., None], rows: np.ndarray, work_per_row: int, *arguments: Any) -> None:
        """Call ``kernel(rows, first, last, *arguments)`` so that every row is treated once.

        Parameters
        ----------
        kernel : callable
            Compiled without the interpreter lock.
        rows : (R,) int64
            Samples to treat; nothing is called when there are none.
        work_per_row : int
            Elementary operations per sample, roughly.
        *arguments
            Passed on; of a :class:`PerThread`, each thread gets its own.
        """
        if len(rows) == 0:
            return
        parts = max(1, min(self._threads, len(rows), len(rows) * work_per_row // _ELEMENTS_PER_THREAD))
        bounds = [len(rows) * part // parts for part in range(parts + 1)]
        if parts > 1 and self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads - 1, thread_name_prefix="refdeq_numba")
        own = [[x.of(part) if isinstance(x, PerThread) else x for x in arguments] for part in range(parts)]
        others = [
            self._pool.submit(kernel, rows, bounds[part], bounds[part + 1], *own[part])
            for part in range(1, parts)
            if self._pool is not None
        ]
        try:
            kernel(rows, bounds[0], bounds[1], *own[0])
        finally:
            for other in others:
                other.result()
