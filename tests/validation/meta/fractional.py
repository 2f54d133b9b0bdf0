"""The bound of one accumulate (N-7) and the numbers on both sides of it, in fractions: nothing is shared with the judge."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from refdeq_validation.cases.model import Case
from refdeq_validation.protocol.transcript import Transcript

SLACK = Fraction(1, 10**6)
"""The judge may evaluate its bound in float64 and round it up; a millionth is far more than that and far less than an ulp."""


def beside_the_bound(made: Case, honest: Transcript) -> Iterator[tuple[bool, tuple[int, int], Transcript]]:
    """Transcripts of a single step whose accumulator has one number at the edge: inside (True), or the next one outside."""
    results, problem = honest.answers[1].results, made.problem
    for row in np.ndindex(results["a"].shape):
        total, gauge, k = _sum(made, results, row)
        dtype = np.dtype(problem.dtype)
        u, eta = Fraction(float(np.finfo(dtype).eps)) / 2, Fraction(float(np.finfo(dtype).smallest_subnormal)) / 2
        limit = (k + 1) * u * gauge + k * eta
        own = k * Fraction(1, 2**53) * gauge if dtype == np.float32 else Fraction(0)
        for direction in (np.inf, -np.inf):
            inside = _last_within(total, limit * (1 - SLACK), dtype.type(direction))
            outside = _last_within(total, (limit + own) * (1 + SLACK), dtype.type(direction))
            yield True, row, _with(honest, row, inside, problem.bias)
            yield False, row, _with(honest, row, np.nextafter(outside, dtype.type(direction)), problem.bias)


def _sum(made: Case, results: dict[str, np.ndarray], row: tuple[int, ...]) -> tuple[Fraction, Fraction, int]:
    """Exact value, gauge and number of terms of one element of the accumulator after the step."""
    problem, (b, i) = made.problem, row
    rule, first, u = problem.rule, made.calls[0], made.calls[1].arrays["u"]
    assert rule is not None
    given = first.name == "set_state"
    count = int(first.arrays["count"][b]) if given else 0
    r = first.arrays["r"][b] if given else np.zeros_like(u[b])
    start = Fraction(float(first.arrays["a"][row])) if given else Fraction(0)
    d, sent = u[b] - r, results["mask"][b]
    if count == 0 and rule.start == "dense":
        d, sent, start = u[b], np.ones_like(sent), Fraction(0)
    elif rule.refresh and count > 0 and count % rule.refresh == 0:
        d, sent, start = results["r"][b], np.ones_like(sent), Fraction(0)
    terms = [Fraction(float(problem.weight[i, j])) * Fraction(float(d[j])) for j in np.flatnonzero(sent)]
    return start + sum(terms), abs(start) + sum(map(abs, terms)), len(terms)


def _last_within(total: Fraction, limit: Fraction, direction: np.floating) -> np.floating:
    """The number farthest from `total` in a direction whose distance is at most `limit`."""
    value = type(direction)(float(total))
    while abs(Fraction(float(value)) - total) > limit:
        value = np.nextafter(value, type(direction)(float(total)))
        assert value != type(direction)(float(total)) or abs(Fraction(float(value)) - total) <= limit
    while abs(Fraction(float(np.nextafter(value, direction))) - total) <= limit:
        value = np.nextafter(value, direction)
    return value


def _with(honest: Transcript, row: tuple[int, ...], value: np.floating, bias: np.ndarray | None) -> Transcript:
    """The transcript with this number in the accumulator, and the output that belongs to it."""
    changed = copy.deepcopy(honest)
    results = changed.answers[1].results
    results["a"][row] = value
    results["y"][row] = value if bias is None else value + bias[row[1]]
    return changed
