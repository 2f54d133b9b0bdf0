"""Families ``sequence``, ``reset`` and ``warm``: many steps, refreshes, new beginnings, two sessions, states carried over."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from refdeq_validation.cases.building import SHORT, Array, Numbers, gemm, prepared, ruled, started, unit
from refdeq_validation.cases.memory import fed
from refdeq_validation.cases.model import Call, Case

__all__ = ["cases"]

PARTS = ("separate", "folded")


def cases(dtype: str) -> Iterator[Case]:
    """Long runs and refreshes; resets of every kind; states that are set, kept and forgotten."""
    yield from runs(dtype)
    yield from resets(dtype)
    yield from warm(dtype)


def walk(number: Numbers, batch: int, inputs: int, steps: int, tag: str = "") -> list[Array]:
    """Values that wander in quarters: about half of the changes exceed 1/2."""
    values = [number.integers(f"start{tag}", (batch, inputs), -8, 8, 0.5)]
    for t in range(steps - 1):
        values.append(np.asarray(values[-1] + number.integers(f"walk{tag}{t}", (batch, inputs), -4, 4, 0.25)))
    return values


def calm(number: Numbers, batch: int, inputs: int, steps: int, tag: str = "") -> list[Array]:
    """Values that move by 1/8, and in one sample per step by much more: what shared decisions need."""
    values = [number.integers(f"start{tag}", (batch, inputs), -8, 8, 0.5)]
    for t in range(steps - 1):
        u = values[-1] + number.array(0.125 * (-1) ** t)
        u[(t + len(tag)) % batch, (3 * t) % inputs] += number.array(9.0)
        values.append(np.asarray(u))
    return values


def plain(number: Numbers, inputs: int = 7, outputs: int = 5) -> tuple[Array, Array]:
    """Weight and bias of small integers."""
    return number.signed("weight", (outputs, inputs), 1, 7), number.signed("bias", (outputs,), 3, 9)


def runs(dtype: str) -> Iterator[Case]:
    """Twelve steps under each memory; refreshes of several periods; thresholds per channel; granularity."""
    for memory, start in product(("sent", "always", "feedback"), ("dense", "zero")):
        slug = f"twelve-steps-{memory}-{start}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = gemm(*plain(number), ruled(0.5, start=start, **fed(memory)))
        title = f"Twelve steps, memory {memory}, start {start}."
        calls = started(*walk(number, 2, 7, 12))
        yield unit("sequence", slug, title, ("ACCUMULATE", "MEMORY_RULE", "STATE_LEAK"), problem, calls)
    for period, memory, bias in (
        (1, "sent", "separate"),
        (2, "always", "separate"),
        (3, "sent", "folded"),
        (4, "feedback", "separate"),
    ):
        slug = f"refresh-every-{period}-{memory}-{bias}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = gemm(*plain(number), ruled(1.0, refresh=period, bias=bias, **fed(memory)))
        title = f"A dense refresh every {period} evaluation{'s' if period > 1 else ''}, memory {memory}, bias {bias}."
        calls = started(*walk(number, 2, 7, 2 * period + 3))
        yield unit("sequence", slug, title, ("REFRESH", "MEMORY_RULE"), problem, calls)
    slug = f"refresh-restores-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(*plain(number), ruled(0.5, refresh=5, memory="always", compare="ge"))
    base, slope = number.integers("base", (2, 7), -4, 4), number.signed("slope", (2, 7), 1, 3, 0.125)
    steps = [np.asarray(base + number.array(t) * slope) for t in range(11)]
    title = "Under always the refresh brings back what small changes lost."
    yield unit("sequence", slug, title, ("REFRESH", "MEMORY_RULE"), problem, started(*steps))
    for granularity in ("element", "sample"):
        slug = f"thresholds-per-input-{granularity}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        tau = [0.25, 0.5, 1.0, 2.0, 4.0, 0.75, 1.5]
        problem = gemm(*plain(number), ruled(tau, granularity=granularity, compare="ge"))
        title = f"A threshold per input over eight steps, granularity {granularity}."
        values = calm(number, 3, 7, 8) if granularity == "sample" else walk(number, 3, 7, 8)
        calls = started(*values)
        yield unit("sequence", slug, title, ("THRESHOLD", "GRANULARITY"), problem, calls)
    slug = f"mask-of-the-step-before-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(*plain(number, 6), ruled(0.5))
    base, jump = number.integers("base", (2, 6), -4, 4), number.signed("jump", (2, 6), 1, 4)
    steps = [base]
    for t in range(6):
        steps.append(np.asarray(steps[-1] + jump * number.array((np.arange(6) + t) % 3 == 0) + number.array(0.25 * (-1) ** t)))
    title = "The elements that move change from step to step: a mask used again sends the wrong ones."
    yield unit("sequence", slug, title, ("MASK", "STATE_LEAK"), problem, started(*steps))
    for name in ("float16", "float32") if dtype == "float64" else ("float16",):
        slug = f"difference-in-{name}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = gemm(*plain(number), ruled(0.5, delta_dtype=name))
        steps = [number.full(f"u{t}", (2, 7)) * number.array(4.0) for t in range(4)]
        title = f"Differences formed in {name}, as declared."
        yield unit("sequence", slug, title, ("PRECISION_DOWNGRADE", "THRESHOLD"), problem, started(*steps), exact=False)


def resets(dtype: str) -> Iterator[Case]:
    """A reset between steps, with another batch, of two sessions, after a refresh; under both starts and both biases."""
    for start, bias in product(("dense", "zero"), PARTS):
        slug = f"reset-forgets-{start}-{bias}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = gemm(*plain(number), ruled(0.75, start=start, bias=bias))
        first, second = walk(number, 2, 7, 3, "a"), walk(number, 2, 7, 3, "b")
        title = f"A reset between two runs of three steps, start {start}, bias {bias}."
        calls = (*started(*first), *started(*second))
        yield unit("reset", slug, title, ("RESET", "START", "BIAS", "STATE_LEAK"), problem, calls)
        slug = f"another-batch-{start}-{bias}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = gemm(*plain(number), ruled(0.75, start=start, bias=bias))
        calls = tuple(call for b in (2, 5, 1, 3) for call in started(*walk(number, b, 7, 2, str(b))))
        title = f"Batches of 2, 5, 1 and 3, a reset before each, start {start}, bias {bias}."
        yield unit("reset", slug, title, ("RESET", "STATE_LEAK", "START"), problem, calls)
        slug = f"two-sessions-{start}-{bias}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = gemm(*plain(number), ruled(0.75, start=start, bias=bias))
        one, two = started(*walk(number, 2, 7, 4, "a")), started(*walk(number, 2, 7, 4, "b"), session=1)
        mixed = tuple(call for pair in zip(one, two, strict=True) for call in pair)
        title = f"Two sessions of one problem, step by step in turns, start {start}, bias {bias}."
        yield unit("reset", slug, title, ("STATE_LEAK", "RESET"), problem, mixed)
    slug = f"sessions-of-two-batches-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(*plain(number), ruled(0.75))
    one, two = started(*walk(number, 4, 7, 3, "a")), started(*walk(number, 1, 7, 3, "b"), session=1)
    title = "Two sessions with batches of 4 and 1; the second is reset while the first goes on."
    calls = (*one[:2], *two[:3], one[2], *started(*walk(number, 2, 7, 2, "c"), session=1), one[3])
    yield unit("reset", slug, title, ("STATE_LEAK", "RESET"), problem, calls)
    slug = f"reset-twice-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(*plain(number), ruled(0.75, refresh=3))
    title = "Resets without a step between, and in the phase of a refresh: the count begins again."
    runs_of = [started(*walk(number, 2, 7, n, str(n))) for n in (3, 2, 5)]
    calls = (*runs_of[0], runs_of[1][0], *runs_of[1], *runs_of[2])
    yield unit("reset", slug, title, ("RESET", "REFRESH"), problem, calls)
    for memory in ("always", "feedback"):
        slug = f"reset-of-{memory}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = gemm(*plain(number), ruled(0.75, start="zero", granularity="sample", **fed(memory)))
        calls = (*started(*calm(number, 3, 7, 3, "a")), *started(*calm(number, 3, 7, 3, "bc")))
        title = f"A reset under memory {memory} with shared decisions and a start from zero."
        yield unit("reset", slug, title, ("RESET", "START"), problem, calls)
    slug = f"first-inputs-below-threshold-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(*plain(number), ruled(2.0, start="zero", bias="folded"))
    steps = [number.integers("u0", (2, 7), -8, 8, 0.25), number.integers("u1", (2, 7), -12, 12, 0.25)]
    title = "A start from zero sends only what exceeds the threshold, onto an accumulator that holds the folded bias."
    yield unit("reset", slug, title, ("START", "BIAS"), problem, started(*steps))


def warm(dtype: str) -> Iterator[Case]:
    """States that are set: in the phase of a refresh, per sample, before and after a reset, of another batch."""
    for bias, memory in product(PARTS, ("sent", "always")):
        slug = f"continues-from-state-{bias}-{memory}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = gemm(*plain(number), ruled(0.75, bias=bias, memory=memory))
        r, a = number.integers("r", (3, 7), -8, 8, 0.5), number.integers("a", (3, 5), -99, 99, 0.5)
        steps = [np.asarray(r + number.integers(f"c{t}", (3, 7), -6, 6, 0.25)) for t in range(3)]
        title = f"A state that is set, then three steps, bias {bias}, memory {memory}."
        yield unit("warm", slug, title, ("WARM_START", "MEMORY_RULE"), problem, prepared(r, a, *steps))
    for start in ("dense", "zero"):
        slug = f"phase-of-refresh-{start}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = gemm(*plain(number), ruled(0.75, refresh=3, start=start))
        r, a = number.integers("r", (4, 7), -8, 8, 0.5), number.integers("a", (4, 5), -99, 99, 0.5)
        steps = [np.asarray(r + number.integers(f"c{t}", (4, 7), -6, 6, 0.25)) for t in range(4)]
        title = f"Samples at evaluations 0, 1, 2 and 5 of a refresh period of 3, start {start}."
        calls = prepared(r, a, *steps, count=[0, 1, 2, 5])
        yield unit("warm", slug, title, ("WARM_START", "REFRESH", "START"), problem, calls)
    slug = f"state-set-midway-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(*plain(number), ruled(0.75))
    r, a = number.integers("r", (3, 7), -8, 8, 0.5), number.integers("a", (3, 5), -99, 99, 0.5)
    steps = [np.asarray(r + number.integers(f"c{t}", (3, 7), -6, 6, 0.25)) for t in range(2)]
    title = "A state set in the midst of a run, of another batch: what was there is gone."
    calls = (*started(*walk(number, 2, 7, 3)), *prepared(r, a, *steps))
    yield unit("warm", slug, title, ("WARM_START", "STATE_LEAK"), problem, calls)
    slug = f"reset-after-state-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(*plain(number), ruled(0.75, bias="folded"))
    r, a = number.integers("r", (2, 7), -8, 8, 0.5), number.integers("a", (2, 5), -99, 99, 0.5)
    title = "A state, a step, a reset and two steps: nothing of the state is left."
    calls = (*prepared(r, a, r + number.signed("c", (2, 7), 0, 3)), *started(*walk(number, 2, 7, 2)))
    yield unit("warm", slug, title, ("RESET", "WARM_START"), problem, calls)
    slug = f"states-of-two-sessions-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(*plain(number), ruled(0.75))
    pairs = []
    for session in (0, 1):
        r, a = number.integers(f"r{session}", (2, 7), -8, 8, 0.5), number.integers(f"a{session}", (2, 5), -99, 99, 0.5)
        steps = [np.asarray(r + number.integers(f"c{session}{t}", (2, 7), -6, 6, 0.25)) for t in range(2)]
        pairs.append(prepared(r, a, *steps, session=session))
    mixed: tuple[Call, ...] = tuple(call for pair in zip(*pairs, strict=True) for call in pair)
    title = "States set in two sessions, whose steps take turns."
    yield unit("warm", slug, title, ("STATE_LEAK", "WARM_START"), problem, mixed)
