"""Interleaved timing: contenders take turns in one process, and only figures of the same round are divided by each other.

A shared machine drifts by more than the differences of interest. What survives is the ratio of two contenders in one round,
so every round times all of them, each round begins with another one, and the median over the rounds is taken. The first
contender is entered twice (*A/A*): what its ratio to itself is away from 1 is what the machine's noise alone can make of a
ratio.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Clock", "Measured", "Noise", "Ratio", "Settings", "interval_of_median", "measure", "turns"]

Clock = Callable[[], float]
CONFIDENCE = 0.95
"""Of the intervals around medians, where there are rounds enough to have it."""
FEWEST_ROUNDS = 5
"""Rounds that are made however long they take, unless fewer were asked for."""


@dataclass(frozen=True)
class Settings:
    """How long and how often.

    Attributes
    ----------
    rounds : int
        Turns of every contender.
    sample_seconds : float
        A sample is as many calls as take about this long; a longer call is a sample by itself.
    most_calls : int
        Calls per sample, at most.
    pause_seconds : float
        Rest before every sample: threads of BLAS spin for a while after their work is done, and would do it on our time.
    budget_seconds : float
        Fewer rounds are made when all of them would take longer, but ``FEWEST_ROUNDS`` are.
    """

    rounds: int = 15
    sample_seconds: float = 0.01
    most_calls: int = 20_000
    pause_seconds: float = 0.001
    budget_seconds: float = math.inf


@dataclass(frozen=True)
class Ratio:
    """How many times as fast: seconds of the baseline over seconds of the contender, round by round.

    Attributes
    ----------
    median : float
    low, high : float
        Interval of the median at the level `confidence`.
    q1, q3 : float
        Quartiles of the rounds.
    confidence : float
    """

    median: float
    low: float
    high: float
    q1: float
    q3: float
    confidence: float

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> Ratio:
        """Summarise one ratio per round.

        >>> Ratio.of([2.0, 2.0, 1.0, 3.0, 2.0]).median
        2.0
        """
        low, high, confidence = interval_of_median(values)
        q1, middle, q3 = (float(value) for value in np.percentile(values, [25, 50, 75]))
        return cls(middle, low, high, q1, q3, confidence)


@dataclass(frozen=True)
class Noise:
    """A/A: the ratio of the first contender to itself.

    Attributes
    ----------
    ratio : Ratio
        1 on a machine without noise.
    """

    ratio: Ratio

    @property
    def spread(self) -> float:
        """How far the quartiles of the rounds are from 1, as a factor less 1: a quarter of the rounds is worse."""
        return max(self.ratio.q3, 1.0 / self.ratio.q1) - 1.0

    @property
    def of_median(self) -> float:
        """How far the interval of the median is from 1, likewise: what a ratio of medians may be off by noise alone."""
        return max(self.ratio.high, 1.0 / self.ratio.low) - 1.0


@dataclass(frozen=True)
class Measured:
    """Seconds per call of every contender in every round.

    Attributes
    ----------
    seconds : dict of name to (rounds,) float64
    again : (rounds,) float64
        The second entry of the first contender.
    calls : dict of name to int
        Calls per sample.
    """

    seconds: Mapping[str, np.ndarray]
    again: np.ndarray
    calls: Mapping[str, int] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        """Turns that every contender had."""
        return len(self.again)

    def median(self, name: str) -> float:
        """Median seconds per call."""
        return float(np.median(self.seconds[name]))

    def quartiles(self, name: str) -> tuple[float, float]:
        """First and third quartile of the seconds per call."""
        q1, q3 = (float(value) for value in np.percentile(self.seconds[name], [25, 75]))
        return q1, q3

    def ratio(self, baseline: str, name: str) -> Ratio:
        """How many times as fast as `baseline` the contender `name` is."""
        return Ratio.of(self.seconds[baseline] / self.seconds[name])

    def fastest(self, names: Sequence[str]) -> str:
        """The name with the least median."""
        return min(names, key=self.median)

    def noise(self) -> Noise:
        """A/A of this run."""
        first = next(iter(self.seconds.values()))
        return Noise(Ratio.of(first / self.again))


def interval_of_median(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Distribution-free interval of the median, from order statistics.

    The median lies outside [x_(k), x_(n+1-k)] with probability ``2 P(Bin(n, 1/2) < k)``, whatever the distribution of
    independent samples. The largest k that keeps at least 95 % is taken; with fewer than 6 values not even the extremes do,
    and what they do keep is returned.

    Parameters
    ----------
    values : (n,) floats, n >= 1

    Returns
    -------
    low, high, confidence : float

    Examples
    --------
    >>> interval_of_median(range(1, 16))
    (4.0, 12.0, 0.96484375)
    >>> interval_of_median([3.0, 1.0, 2.0])
    (1.0, 3.0, 0.75)
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    outside, k = 2.0 * 0.5**n, 1
    while k + 1 <= (n + 1) // 2:
        more = outside + 2.0 * math.comb(n, k) * 0.5**n
        if 1.0 - more < CONFIDENCE:
            break
        outside, k = more, k + 1
    return float(ordered[k - 1]), float(ordered[n - k]), max(0.0, 1.0 - outside)


def turns(names: Sequence[str], rounds: int) -> list[list[str]]:
    """Who comes when: round r begins with the r-th name, so that nobody always follows the same rest.

    >>> turns("abc", 2)
    [['a', 'b', 'c'], ['b', 'c', 'a']]
    """
    names = list(names)
    return [names[r % len(names) :] + names[: r % len(names)] for r in range(rounds)]


def measure(
    contenders: Mapping[str, Callable[[], object]],
    settings: Settings | None = None,
    *,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
    advance: Callable[[int, int], None] = lambda done, rounds: None,
) -> Measured:
    """Time contenders by turns; the first one is entered a second time, as A/A.

    Parameters
    ----------
    contenders : dict of name to callable
        Each is called twice before anything counts: the first call may compile.
    settings : Settings, optional
    clock, sleep : callable
        Replaced in tests.
    advance : callable
        Told the rounds done and the rounds planned.

    Returns
    -------
    Measured

    Examples
    --------
    >>> measured = measure({"sum": lambda: sum(range(100))}, Settings(rounds=3, sample_seconds=1e-5))
    >>> measured.rounds, measured.noise().ratio.median > 0
    (3, True)
    """
    settings = settings or Settings()
    first = next(iter(contenders))
    calls, round_seconds = {}, 0.0
    for name, run in contenders.items():
        run()
        once = _seconds(run, 1, clock)
        if once < settings.sample_seconds:  # a short first look sees mostly the clock and cold caches
            once = min(once, _seconds(run, 1, clock))
        calls[name] = _calls(once, settings)
        round_seconds += (2 if name == first else 1) * (once * calls[name] + settings.pause_seconds)
    rounds = _rounds(round_seconds, settings)
    # the second entry stands as far from the first as it can: neighbours in time would differ less than rounds do
    order = list(contenders)
    order.insert((len(order) + 1) // 2, "")
    seconds: dict[str, list[float]] = {name: [] for name in order}
    for done, turn in enumerate(turns(order, rounds)):
        for name in turn:
            sleep(settings.pause_seconds)
            whose = name or first
            seconds[name].append(_seconds(contenders[whose], calls[whose], clock))
        advance(done + 1, rounds)
    again = np.array(seconds.pop(""))
    return Measured({name: np.array(seconds[name]) for name in contenders}, again, calls)


def _seconds(run: Callable[[], object], calls: int, clock: Clock) -> float:
    """Mean seconds of that many calls."""
    begin = clock()
    for _ in range(calls):
        run()
    return (clock() - begin) / calls


def _calls(once: float, settings: Settings) -> int:
    if once <= 0.0:  # below the resolution of the clock
        return settings.most_calls
    return max(1, min(settings.most_calls, math.ceil(settings.sample_seconds / once)))


def _rounds(round_seconds: float, settings: Settings) -> int:
    """Rounds that fit in the budget, an odd number of them so that the median is one of them."""
    if round_seconds * settings.rounds <= settings.budget_seconds:
        return settings.rounds
    fitting = int(settings.budget_seconds / round_seconds)
    return min(settings.rounds, max(FEWEST_ROUNDS, fitting - (fitting + 1) % 2))
