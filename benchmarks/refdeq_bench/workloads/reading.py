"""Streaming reads: how fast this machine can bring an array in at all, for what is bound by memory (P1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from refdeq_bench.workloads.case import Contender

__all__ = ["reads"]

Way = Callable[[np.ndarray], object]


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
    pool = ThreadPoolExecutor(threads) if threads > 1 else None
    found = []
    for name, way in WAYS.items():
        run = partial(way, flat)
        if pool is not None and name != "dot":  # BLAS has threads of its own
            run = partial(_on_threads, pool, way, parts)
        found.append(Contender(f"read ({name})", run, "other", {"bytes": float(flat.nbytes)}))
    return found


def _dot(part: np.ndarray) -> object:
    return np.dot(part, part)


def _on_threads(pool: ThreadPoolExecutor, way: Way, parts: Sequence[np.ndarray]) -> object:
    return list(pool.map(way, parts))


WAYS: dict[str, Way] = {"max": np.max, "sum": np.add.reduce, "dot": _dot}
