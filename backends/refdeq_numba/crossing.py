"""Measuring crossovers: every kernel on the same inputs at many densities, interleaved, and where one overtakes another."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from refdeq_numba import gemm
from refdeq_numba.dispatch import DEFAULTS, Crossovers
from refdeq_numba.panels import pack_panels
from refdeq_numba.scratch import make_scratch

__all__ = ["DENSITIES", "WAYS", "choose", "measure", "overtakes"]

DENSITIES = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

WAYS = {
    "lists at once": Crossovers(whole=1.0, one_block=1.0, two_blocks=1.0),
    "lists by two blocks": Crossovers(whole=1.0, one_block=1.0, two_blocks=0.0),
    "lists by one block": Crossovers(whole=1.0, one_block=0.0, two_blocks=0.0),
    "whole": Crossovers(whole=0.0, one_block=0.0, two_blocks=0.0),
}
"""Every way to treat a block of samples, as the crossovers that leave no other choice."""

_SIZE, _SAMPLES = 256, 480


def measure(dtype: str, rounds: int, advance: Callable[[], None]) -> dict[str, list[float]]:
    """Return seconds per way, one for each of ``DENSITIES``: the least of `rounds` interleaved runs.

    Parameters
    ----------
    dtype : str
    rounds : int
    advance : callable
        Called after each density.
    """
    rng = np.random.default_rng(0)
    panels = pack_panels(rng.standard_normal((_SIZE, _SIZE)).astype(dtype))
    scratch = make_scratch(_SIZE, panels.width, np.dtype(dtype))
    a = np.zeros((_SAMPLES, _SIZE), dtype=dtype)
    least = np.int32(-(2**31)) if a.itemsize == 4 else np.int64(-(2**63))
    rest = None, (a.reshape(-1).view(least.dtype), least), scratch, a
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for density in DENSITIES:
        mask = rng.random(a.shape) < density
        d = np.where(mask, rng.standard_normal(a.shape), 0.0).astype(dtype)
        inputs = np.arange(_SAMPLES), 0, _SAMPLES, d, mask, False, panels
        fastest = dict.fromkeys(WAYS, np.inf)
        for _ in range(rounds + 1):  # the first warms up
            for way, forced in WAYS.items():
                fastest[way] = min(fastest[way], _timed(gemm.gemm_panels, *inputs, forced, *rest))
        for way, value in fastest.items():
            seconds[way].append(value)
        advance()
    return seconds


def _timed(kernel: Callable[..., None], *arguments: Any) -> float:
    begin = time.perf_counter()
    kernel(*arguments)
    return time.perf_counter() - begin


def overtakes(densities: tuple[float, ...], slow_start: list[float], fast_end: list[float]) -> float:
    """Density from which on the second way is never slower than the first, halfway to the one before; 1 when there is none.

    >>> overtakes((0.1, 0.3, 0.5), [1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    0.2
    >>> overtakes((0.1, 0.3), [1.0, 1.0], [2.0, 2.0])
    1.0
    """
    first = len(densities)
    while first > 0 and fast_end[first - 1] <= slow_start[first - 1]:
        first -= 1
    if first == len(densities):
        return 1.0
    return 0.0 if first == 0 else round((densities[first - 1] + densities[first]) / 2, 4)


def choose(seconds: dict[str, list[float]]) -> Crossovers:
    """Crossovers from the times of :func:`measure`."""
    at_once, by_two, by_one, whole = (seconds[way] for way in WAYS)
    lists = [min(times) for times in zip(at_once, by_two, by_one, strict=True)]
    two = overtakes(DENSITIES, at_once, [min(pair) for pair in zip(by_two, by_one, strict=True)])
    one = overtakes(DENSITIES, [min(pair) for pair in zip(at_once, by_two, strict=True)], by_one)
    return DEFAULTS._replace(whole=overtakes(DENSITIES, lists, whole), one_block=max(one, two), two_blocks=two)
