"""Families ``memory`` and ``ramp``: what the reference becomes, over enough steps for the rules to part."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refdeq_validation.cases.building import SHORT, Numbers, gemm, prepared, ruled, started, unit
from refdeq_validation.cases.model import Case

__all__ = ["cases"]

RAMP = {"gt": 100, "ge": 40}
"""Steps of a ramp."""


def cases(dtype: str) -> Iterator[Case]:
    """Ramps, values that return, references that take bits, feedback of what rounding dropped."""
    for memory in ("sent", "always", "feedback"):
        for compare in ("gt", "ge"):
            yield ramp(dtype, memory, compare)
        yield returning(dtype, memory)
        yield held_back(dtype, memory)
        yield repeated(dtype, memory)
    for memory in ("sent", "always"):
        yield takes_the_bits(dtype, memory)
        yield per_channel_ramp(dtype, memory)
        yield shared_decision(dtype, memory)
    for narrow in ("float16", "bfloat16"):
        yield rounded_difference(dtype, narrow)
        yield rounding_ties(dtype, narrow)
        yield converges(dtype, narrow)
        yield narrow_range(dtype, narrow)


def fed(memory: str, narrow: str = "bfloat16") -> dict[str, str]:
    """The fields of a rule that a memory needs."""
    return {"memory": memory, "feedback_format": narrow} if memory == "feedback" else {"memory": memory}


def ramp(dtype: str, memory: str, compare: str) -> Case:
    """A slow ramp of 0.4 tau per step: always loses all of it, sent none."""
    slug = f"slow-ramp-lost-{memory}-{compare}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(
        number.signed("weight", (3, 5), 1, 7), number.signed("bias", (3,), 1, 7), ruled(0.625, compare=compare, **fed(memory))
    )
    start = number.integers("start", (1, 5), -4, 4)
    slope = number.array([[0.25, -0.25, 0.125, 0.0, 0.25]])
    steps = [np.asarray(start + number.array(t) * slope) for t in range(RAMP[compare] + 1)]
    title = f"{RAMP[compare]} steps of 0.4 tau: memory {memory} parts from the others."
    return unit("ramp", slug, title, ("MEMORY_RULE", "ACCUMULATE"), problem, started(*steps))


def per_channel_ramp(dtype: str, memory: str) -> Case:
    """Ramps against thresholds of their own: each is sent at another rhythm."""
    slug = f"ramp-rhythms-{memory}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    tau = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
    problem = gemm(
        number.signed("weight", (4, 6), 1, 7), number.signed("bias", (4,), 1, 7), ruled(tau, memory=memory, compare="ge")
    )
    start = number.integers("start", (2, 6), -4, 4)
    slope = number.array([[0.1875] * 6, [-0.375] * 6])
    steps = [np.asarray(start + number.array(t) * slope) for t in range(30)]
    title = "One slope against thresholds from 1/4 to 8: each input is sent at another rhythm, or never."
    return unit("ramp", slug, title, ("MEMORY_RULE", "THRESHOLD"), problem, started(*steps))


def returning(dtype: str, memory: str) -> Case:
    """Values that move away by less than tau twice and come back."""
    slug = f"away-and-back-{memory}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(number.signed("weight", (5, 7), 1, 7), number.signed("bias", (5,), 1, 7), ruled(1.0, **fed(memory)))
    base = number.integers("base", (3, 7), -4, 4)
    away = number.signed("away", (3, 7), 1, 7, 0.25)
    steps = [np.asarray(base + number.array(factor) * away) for factor in (0, 0.5, 1, 1.5, 1, 0.5, 0, -1, 0)]
    title = f"Values go away in small steps and come back, memory {memory}."
    return unit("memory", slug, title, ("MEMORY_RULE",), problem, started(*steps))


def held_back(dtype: str, memory: str) -> Case:
    """From a state in which reference and accumulator disagree: the accumulator is added to, never formed anew."""
    slug = f"accumulator-formed-anew-{memory}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(number.signed("weight", (4, 9), 1, 7), number.signed("bias", (4,), 1, 7), ruled(0.75, **fed(memory)))
    r, a = number.integers("r", (2, 9), -4, 4), number.signed("a", (2, 4), 100, 200)
    steps, u = [], r
    for t in range(4):
        u = u + number.integers(f"change{t}", (2, 9), -3, 3, 0.5)
        steps.append(u)
    title = "The accumulator given is not that of the reference given: four steps add to it."
    bugs = ("ACCUMULATE", "MEMORY_RULE")
    return unit("memory", slug, title, bugs, problem, prepared(r, a, *steps))


def repeated(dtype: str, memory: str) -> Case:
    """The same input again sends nothing more (but what feedback left)."""
    slug = f"same-input-again-{memory}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(number.signed("weight", (4, 6), 1, 7), number.signed("bias", (4,), 1, 7), ruled(0.375, **fed(memory)))
    first = number.integers("first", (2, 6), -9, 9, 0.25)
    second = first + number.integers("change", (2, 6), -3, 3, 0.25)
    title = "Every input twice: the second time nothing is sent."
    bugs = ("MEMORY_RULE", "MASK")
    return unit("memory", slug, title, bugs, problem, started(first, first, second, second, first))


def takes_the_bits(dtype: str, memory: str) -> Case:
    """References so large that r + fl(u - r) is not u."""
    slug = f"reference-by-addition-{memory}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(number.full("weight", (5, 8)), number.full("bias", (5,)), ruled(0.25, memory=memory))
    r = np.asarray(number.signed("r", (3, 8), 1, 8) + number.full("r fraction", (3, 8)))
    u = np.asarray(number.full("u", (3, 8)) * number.array(2.0**-6))
    u[:, 3] = r[:, 3] + number.array(0.125)
    again = np.asarray(u + number.full("v", (3, 8)) * number.array(0.5))
    title = "u much smaller than r: the reference takes the bits of u, r + (u - r) has others."
    calls = prepared(r, number.full("a", (3, 5)), u, again)
    return unit("memory", slug, title, ("MEMORY_RULE", "ALIASING"), problem, calls, exact=False)


def shared_decision(dtype: str, memory: str) -> Case:
    """One decision per sample: the reference moves for all of it or (under sent) for none."""
    slug = f"reference-of-a-sample-{memory}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    rule = ruled(1.0, memory=memory, granularity="sample")
    problem = gemm(number.signed("weight", (4, 6), 1, 7), number.signed("bias", (4,), 1, 7), rule)
    steps = [number.integers("start", (3, 6), -4, 4)]
    for t in range(5):
        u = steps[-1] + number.integers(f"change{t}", (3, 6), -1, 1, 0.5)
        u[t % 3, (2 * t) % 6] += number.array(2.0)
        steps.append(np.asarray(u))
    title = f"One decision per sample over five steps, memory {memory}."
    return unit("memory", slug, title, ("GRANULARITY", "MEMORY_RULE"), problem, started(*steps))


def rounded_difference(dtype: str, narrow: str) -> Case:
    """Differences of more bits than the narrow format: what is dropped stays in the next difference."""
    slug = f"dropped-by-{narrow}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    rule = ruled(0.25, memory="feedback", feedback_format=narrow)
    problem = gemm(number.signed("weight", (4, 7), 1, 7), number.signed("bias", (4,), 1, 7), rule)
    steps = [number.integers("start", (2, 7), -2047, 2047, 2.0**-9)]
    for t in range(4):
        steps.append(np.asarray(number.integers(f"u{t}", (2, 7), -8191, 8191, 2.0**-11)))
    steps.append(np.asarray(steps[-1] + number.integers("last", (2, 7), -700, 700, 2.0**-11)))
    title = f"Feedback in {narrow}: reference r + q, and A q in the accumulator."
    return unit("memory", slug, title, ("MEMORY_RULE", "PRECISION_DOWNGRADE"), problem, started(*steps))


def rounding_ties(dtype: str, narrow: str) -> Case:
    """Differences halfway between two numbers of the narrow format: to even."""
    slug = f"halfway-in-{narrow}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    bits = 11 if narrow == "float16" else 8
    steps = np.arange(8) * 2 + 1
    difference = number.array(1.0 + steps * 2.0**-bits)
    u = np.stack([difference, -difference, difference * number.array(0.5), difference + number.array(2.0 ** -(bits + 4))])
    u[3, ::3] = 0.125
    rule = ruled(0.25, memory="feedback", feedback_format=narrow)
    problem = gemm(number.signed("weight", (4, 8), 1, 7), None, rule)
    title = f"Differences halfway between two {narrow} numbers round to even; just above they round up."
    calls = prepared(np.zeros_like(u), number.signed("a", (4, 4), 1, 9), u, u)
    return unit("memory", slug, title, ("MEMORY_RULE", "PRECISION_DOWNGRADE"), problem, calls)


def converges(dtype: str, narrow: str) -> Case:
    """The same full-mantissa input again and again at tau = 0: each step sends what the last rounding dropped."""
    slug = f"sends-the-rest-{narrow}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    rule = ruled([0.0] * 5 + [0.5], memory="feedback", feedback_format=narrow, start="zero")
    problem = gemm(number.full("weight", (3, 6)), number.full("bias", (3,)), rule)
    u = number.full("u", (2, 6))
    u[:, 5] = 0.25
    title = f"The same input at threshold 0: the rest of each {narrow} rounding follows until nothing is left."
    return unit("memory", slug, title, ("MEMORY_RULE",), problem, started(*[u] * 7), exact=False)


def narrow_range(dtype: str, narrow: str) -> Case:
    """Differences beyond the range of the narrow format and below its least subnormal."""
    slug = f"range-of-{narrow}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    large = [65504.0, 65519.0, 65520.0, -70000.0] if narrow == "float16" else [3.0e38, 1.0e30, -1.0e38, 65520.0]
    small = (
        [2.0**-24, 2.0**-25, 1.5 * 2.0**-24, 2.0**-26] if narrow == "float16" else [2.0**-130, 2.0**-120, 3 * 2.0**-128, 0.0]
    )
    row = number.array([*large, *small, 1.0, 0.0])
    rule = ruled([0.0] * 9 + [0.5], memory="feedback", feedback_format=narrow)
    problem = gemm(number.signed("weight", (3, 10), 1, 3, 2.0**-4), None, rule)
    u = np.stack([row, -row, np.roll(row, 3)])
    u[:, 9] = 0.25
    u[2, :4], u[1, :3] = 1.0, number.array([2.0, 3.0, 4.0])
    title = f"Differences at the ends of the range of {narrow}: infinity, subnormals, zero."
    calls = prepared(np.zeros_like(u), number.signed("a", (3, 3), 1, 9), u)
    return unit("memory", slug, title, ("MEMORY_RULE", "SPECIAL_VALUES"), problem, calls, exact=False)
