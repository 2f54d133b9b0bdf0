"""Streaming reads: how fast this machine can bring an array in at all, for what is bound by memory (P1)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from refdeq_bench.workloads.case import Contender

__all__ = ["reads"]


def reads(array: np.ndarray, threads: int) -> list[Contender]:
    """A few simple ways to read every element once; the fastest of them is the bandwidth.

    The array should be as large as what it stands for, so that it is in the same cache, or in none.

    Parameters
    ----------
    array : contiguous ndarray
    threads : int
        Parts that are read at a time.
    """
    flat = array.reshape(-1)
    parts = np.array_split(flat, threads)
    ways: dict[str, Callable[[np.ndarray], object]] = {
        "max": np.max,
        "sum": np.add.reduce,
        "dot": lambda part: np.dot(part, part),
    }
    found = []
    for name, way in ways.items():
        run: Callable[[], object] = lambda way=way: way(flat)  # noqa: E731 (it is stored, not called by a name)
        if threads > 1 and name != "dot":  # BLAS has threads of its own
            pool = ThreadPoolExecutor(threads)
            run = lambda way=way, pool=pool: list(pool.map(way, parts))  # noqa: E731
        found.append(Contender(f"read ({name})", run, "other", {"bytes": float(flat.nbytes)}))
    return found
