"""Interleaved timing on a device: variants take turns, events bracket many calls, ratios are formed within a round.

On a simulated device nothing is timed: every variant is called once, to show that it runs, and its time is None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

__all__ = ["FEW", "Clock", "CupyClock", "Samples", "Settings", "SimulatedClock", "measure", "ratio_of", "spread_of", "summary"]

Call = Callable[[], Any]


class Clock(Protocol):
    """Times calls that launch work."""

    is_simulated: bool

    def microseconds(self, call: Call, replays: int) -> float:
        """Device time of one call, from events around `replays` of them."""


class CupyClock:
    """CUDA events on the current stream."""

    is_simulated = False

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy

    def microseconds(self, call: Call, replays: int) -> float:
        """Device time of one call in microseconds."""
        cuda = self._cupy.cuda
        first, last = cuda.Event(), cuda.Event()
        first.record()
        for _ in range(replays):
            call()
        last.record()
        last.synchronize()
        return float(cuda.get_elapsed_time(first, last)) * 1000.0 / replays


class SimulatedClock:
    """Calls once and measures nothing."""

    is_simulated = True

    def microseconds(self, call: Call, replays: int) -> float:
        """NaN, after one call."""
        call()
        return float("nan")


@dataclass(frozen=True)
class Settings:
    """How long and how often.

    Attributes
    ----------
    warm_ups : int
    samples : int
        Rounds; every variant has one sample in each.
    replays : int
        Least calls of a sample.
    sample_us : float
        Least length of a sample.
    """

    warm_ups: int = 5
    samples: int = 11
    replays: int = 5
    sample_us: float = 20_000.0


FEW = Settings(warm_ups=1, samples=3, replays=1, sample_us=0.0)
"""For a try, whose times are not used."""

Samples = Mapping[str, np.ndarray]
AGAIN = "again"
"""Name of the second entry of the first variant: A/A."""


def measure(clock: Clock, variants: Mapping[str, Call], settings: Settings) -> Samples:
    """Microseconds per call of every variant in every round; the first one twice, the second time as ``again``.

    Rounds begin with another variant each time, so that no variant always follows the same one.
    """
    calls = dict(variants)
    first = next(iter(calls))
    calls[AGAIN] = calls[first]
    if clock.is_simulated:
        return {name: np.array([clock.microseconds(call, 1)]) for name, call in calls.items()}
    replays = {name: _replays(clock, call, settings) for name, call in calls.items()}
    names = list(calls)
    found = {name: np.empty(settings.samples) for name in names}
    for i in range(settings.samples):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            found[name][i] = clock.microseconds(calls[name], replays[name])
    return found


def _replays(clock: Clock, call: Call, settings: Settings) -> int:
    for _ in range(settings.warm_ups):
        call()
    once = max(0.1, clock.microseconds(call, 3))
    return max(settings.replays, int(settings.sample_us / once)) if once < settings.sample_us else 1


def summary(samples: np.ndarray) -> dict[str, float] | None:
    """Median and the tenth and ninetieth percentile; None where nothing was timed.

    >>> summary(np.array([1.0, 2.0, 3.0]))["median"]
    2.0
    >>> summary(np.array([np.nan])) is None
    True
    """
    if not np.isfinite(samples).all():
        return None
    low, middle, high = (float(value) for value in np.percentile(samples, [10, 50, 90]))
    return {"median": middle, "p10": low, "p90": high, "samples": float(len(samples))}


def ratio_of(samples: Samples, baseline: str, name: str) -> dict[str, float] | None:
    """Baseline over variant, round by round: median and the tenth and ninetieth percentile.

    >>> ratio_of({"a": np.array([2.0, 4.0]), "b": np.array([1.0, 2.0])}, "a", "b")["median"]
    2.0
    """
    ratios = samples[baseline] / samples[name]
    if not np.isfinite(ratios).all():
        return None
    low, middle, high = (float(value) for value in np.percentile(ratios, [10, 50, 90]))
    return {"median": middle, "low": low, "high": high}


def spread_of(samples: Samples) -> float:
    """A/A: how far the first variant is from itself; 0 where nothing was timed."""
    first = next(iter(samples))
    ratio = ratio_of(samples, first, AGAIN)
    return 0.0 if ratio is None else max(ratio["high"], 1.0 / ratio["low"]) - 1.0
