"""Backtracking line search of SciPy and of the codes that copied it, as a function of the values seen so far (S-9)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["PeerSearch", "batch_square", "next_trial"]


@dataclass(frozen=True)
class PeerSearch:
    """Armijo backtracking on ``phi(s) = ||g(z + s p)||^2`` with the slope taken to be ``-phi(0)`` (S-9).

    Accepted is a step with ``phi(s) <= phi(0) - c1 s phi(0)``. Tried are s = 1, the minimiser of the parabola through what is
    known, then minimisers of cubics. After a refused cubic trial, half the step before it is used for the next cubic, with the
    value of the trial: the originals' two conditions, too short and too close, leave nothing between them. Below `smallest` the
    search gives up and takes the full step.

    Attributes
    ----------
    tests_parabola : bool
        Whether the second trial may be accepted. SciPy tests it; the copy in the DEQ codes goes on to the first cubic.
    c1, smallest : float
    """

    tests_parabola: bool
    c1: float = 1e-4
    smallest: float = 1e-2


def batch_square(residual: np.ndarray, active: np.ndarray) -> np.float64:
    """``||g||^2`` over the active samples, added in ascending order.

    >>> float(batch_square(np.array([3.0, 4.0, 7.0]), np.array([True, True, False])))
    25.0
    """
    total = np.float64(0.0)
    for value in residual[active]:
        total = total + value * value
    return total


def next_trial(search: PeerSearch, start: np.float64, values: Sequence[np.float64]) -> tuple[float, bool]:
    """Step to try next, or the accepted one (S-9).

    The search is replayed from the values, so that whoever has them, solver or criterion, comes to the same answer and nobody
    has to keep the search itself.

    Parameters
    ----------
    search : PeerSearch
    start : float64
        ``phi(0)``.
    values : sequence of float64
        ``phi`` of the trials so far, in the order they were made.

    Returns
    -------
    step : float
    accepted : bool
        Whether `step` is that of the last trial, now accepted, rather than one to be tried.

    Examples
    --------
    >>> next_trial(PeerSearch(True), np.float64(4.0), [])
    (1.0, False)
    >>> next_trial(PeerSearch(True), np.float64(4.0), [np.float64(1.0)])
    (1.0, True)
    >>> next_trial(PeerSearch(True), np.float64(4.0), [np.float64(16.0)])
    (0.125, False)
    """
    trials = _trials(search, start)
    step = next(trials)
    for value in values:
        try:
            step = trials.send(value)
        except StopIteration:
            return float(step), True
    # a trial at the step of the one before it costs no evaluation; the generator has used the known value
    return float(step), False


def _trials(search: PeerSearch, start: np.float64) -> Generator[np.float64, np.float64, None]:
    """Yield steps, take their values, and return when the last one is accepted."""
    slope = -start

    def enough(step: np.float64, value: np.float64) -> bool:
        return bool(value <= start + search.c1 * step * slope)

    longer = np.float64(1.0)
    at_longer = yield longer
    if enough(longer, at_longer):
        return
    step = -slope / 2.0 / (at_longer - start - slope)
    at_step = yield step
    if search.tests_parabola and enough(step, at_step):
        return
    tried, at_tried = step, at_step
    while step > search.smallest:
        shorter = _cubic(start, slope, longer, at_longer, step, at_step)
        if shorter != tried:
            tried, at_tried = shorter, (yield shorter)
        if enough(shorter, at_tried):
            return
        if step - shorter > step / 2.0 or 1.0 - shorter / step < 0.96:
            shorter = step / 2.0  # keeps the value of the longer trial, as the originals do
        longer, at_longer, step, at_step = step, at_step, shorter, at_tried
    if tried != 1.0:
        yield np.float64(1.0)


def _cubic(
    start: np.float64, slope: np.float64, s0: np.float64, value0: np.float64, s1: np.float64, value1: np.float64
) -> np.float64:
    """Minimiser of the cubic with phi(0), phi'(0) and two values given."""
    factor = s0**2 * s1**2 * (s1 - s0)
    rest0, rest1 = value0 - start - slope * s0, value1 - start - slope * s1
    a = (s0**2 * rest1 - s1**2 * rest0) / factor
    b = (-(s0**3) * rest1 + s1**3 * rest0) / factor
    return np.float64((-b + np.sqrt(np.abs(b**2 - 3.0 * a * slope))) / (3.0 * a))
