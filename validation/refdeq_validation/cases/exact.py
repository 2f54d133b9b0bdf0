"""Family ``exact``: integers and dyadic fractions whose sums are representable in every order: bits are asked of everyone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from refdeq_validation.cases.building import SHORT, Numbers, gemm, prepared, ruled, started, unit
from refdeq_validation.cases.model import Case

__all__ = ["cases"]


def cases(dtype: str) -> Iterator[Case]:
    """Sums of integers: small, near the budget of the format, cancelling, one column at a time, over several steps."""
    yield from integers(dtype)
    yield from walks(dtype)
    yield from columns(dtype)
    yield from budgets(dtype)
    yield cancelling(dtype)
    yield zero_rows(dtype)


def integers(dtype: str) -> Iterator[Case]:
    """Plain steps of small integers from a given state, with and without bias."""
    for compare, bias in product(("gt", "ge"), (True, False)):
        slug = f"integer-sums-{compare}-{'bias' if bias else 'plain'}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        shift = number.signed("bias", (9,), 17, 31) if bias else None
        problem = gemm(number.signed("weight", (9, 13), 1, 7), shift, ruled(2.0, compare=compare))
        r, a = number.integers("r", (3, 13), -6, 6), number.integers("a", (3, 9), -200, 200)
        u = r + number.integers("change", (3, 13), -5, 5)
        title = "Integers from a given state: every sum is exact, whatever its order."
        yield unit("exact", slug, title, ("ACCUMULATE", "BIAS", "INDEXING", "VACUOUS"), problem, prepared(r, a, u))


def walks(dtype: str) -> Iterator[Case]:
    """Five steps of sixteenths from a reset under every memory, start and bias."""
    for memory, start, bias in product(("sent", "always", "feedback"), ("dense", "zero"), ("separate", "folded")):
        slug = f"five-steps-{memory}-{start}-{bias}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        narrow = {"feedback_format": "bfloat16"} if memory == "feedback" else {}
        rule = ruled(0.5, memory=memory, start=start, bias=bias, **narrow)
        problem = gemm(number.signed("weight", (7, 10), 1, 15, 0.125), number.signed("bias", (7,), 1, 9), rule)
        steps = [number.integers(f"u{t}", (2, 10), -24, 24, 0.0625) for t in range(5)]
        title = f"Sixteenths over five steps, memory {memory}, start {start}, bias {bias}: the accumulator stays exact."
        yield unit("exact", slug, title, ("ACCUMULATE", "MEMORY_RULE", "START", "BIAS"), problem, started(*steps))


def columns(dtype: str) -> Iterator[Case]:
    """One input sent per sample and every weight different: a wrong index gives another integer."""
    for size in (7, 16, 33):
        slug = f"one-column-of-{size}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        weight = number.array(np.arange(1, 3 * size + 1).reshape(3, size))
        problem = gemm(weight, None, ruled(0.5))
        r = number.integers("r", (size, size), -3, 3)
        u = r + number.array(np.eye(size)) * number.signed("change", (size, size), 1, 3)
        a = number.integers("a", (size, 3), -9, 9)
        title = "Sample b sends input b alone; all weights differ."
        yield unit("exact", slug, title, ("INDEXING", "TAIL", "MASK"), problem, prepared(r, a, u))


def budgets(dtype: str) -> Iterator[Case]:
    """Odd integers just below the largest exactly representable one: any narrower accumulator or bias loses the last bit."""
    top = 2.0**23 if dtype == "float32" else 2.0**52
    for where in ("accumulator", "bias", "weight"):
        slug = f"last-bit-of-{where}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        weight, bias = number.signed("weight", (6, 8), 1, 7), number.signed("bias", (6,), 1, 9)
        a = number.integers("a", (3, 6), -9, 9)
        if where == "accumulator":
            a = np.where(a < 0, -1, 1) * (top + 2.0 * a + 1.0).astype(dtype)
        elif where == "bias":
            bias = np.sign(bias) * (top + 2.0 * bias + 1.0).astype(dtype)
        else:
            weight = np.sign(weight) * (top / 8.0 + 2.0 * weight + 1.0).astype(dtype)
        problem = gemm(weight.astype(dtype), bias.astype(dtype), ruled(0.5))
        r = number.integers("r", (3, 8), -3, 3)
        moved = number.array(np.eye(3, 8)) + (number.array(np.eye(3, 8, 4)) if where != "weight" else 0)
        u = (r + moved * number.signed("change", (3, 8), 1, 2)).astype(dtype)
        title = f"Odd integers near the largest exact one in the {where}."
        bugs = ("PRECISION_DOWNGRADE", "BIAS" if where == "bias" else "ACCUMULATE")
        yield unit("exact", slug, title, bugs, problem, prepared(r, a.astype(dtype), u))


def cancelling(dtype: str) -> Case:
    """Large terms that leave a small remainder: any lost bit is the whole answer."""
    slug = f"cancels-to-one-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    large = number.integers("weight", (5, 6), 100_001, 200_001)
    weight = np.concatenate([large, -large, number.signed("rest", (5, 1), 1, 3)], axis=1)
    problem = gemm(weight, None, ruled(0.5))
    change = number.signed("change", (2, 6), 1, 3)
    u = np.concatenate([change, change, number.signed("last", (2, 1), 1, 2)], axis=1)
    u[1, 6] = 0.25
    r, a = np.zeros((2, 13), dtype), number.signed("a", (2, 5), 1, 9)
    title = "Terms of 10^5 that cancel exactly but for a few units."
    return unit("exact", slug, title, ("ACCUMULATE", "PRECISION_DOWNGRADE", "MASK"), problem, prepared(r, a, u))


def zero_rows(dtype: str) -> Case:
    """Rows without weight and samples without change beside ordinary ones: those must keep their bits."""
    slug = f"zero-rows-stay-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    weight = number.signed("weight", (8, 9), 1, 5)
    weight[::2] = 0.0
    r = number.integers("r", (4, 9), -4, 4)
    u = r + number.integers("change", (4, 9), -3, 3)
    u[1] = r[1]
    a = number.full("a", (4, 8)) * number.array(np.arange(8) % 2 == 0) + number.integers("b", (4, 8), -5, 5) * number.array(
        np.arange(8) % 2 == 1
    )
    problem = gemm(weight, None, ruled(1.0))
    title = "Rows of zero weights keep the bits of their accumulator, and so does a sample that sends nothing."
    return unit("exact", slug, title, ("ACCUMULATE", "INDEXING"), problem, prepared(r, a, u), exact=False)
