"""One case for every delta rule of version 1, under which each of the others fails: compare, memory, start, bias, granularity.

The cases belong to family ``memory`` (Gemm) and ``conv``. Five samples part the choices: in the first, values of more bits than
a float16 (memory ``feedback``); in the second, differences at the threshold (compare); in the third, one element that fires
among small moves (granularity); in the fourth, first inputs below the threshold (start); in the fifth, moves of 3/4 of the
threshold, twice (``always`` against the others). The accumulator shows the bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from refdeq_validation.cases.building import SHORT, Array, Numbers, conv, gemm, ruled, started, unit
from refdeq_validation.cases.model import Case
from refdeq_validation.lab.session import CLAIMS, Lab
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.protocol.session import Session

__all__ = ["Misdeclared", "cases", "separator", "variants"]

GRANULARITIES: Mapping[str, tuple[str, ...]] = {
    "Gemm": ("element", "sample"),
    "Conv": ("element", "sample", "channel", "pixel", "tile"),
}
"""Where two of them are one (channel and element of a Gemm) only one is listed."""

TILE = (1, 2, 2)

TAU = 0.5


def variants(op: str) -> list[dict[str, Any]]:
    """Every rule of version 1 for an operator, as fields of a DeltaRule.

    >>> len(variants("Gemm")), len(variants("Conv"))
    (48, 120)
    """
    choices = product(
        ("gt", "ge"), ("sent", "always", "feedback"), ("dense", "zero"), ("separate", "folded"), GRANULARITIES[op]
    )
    return [
        {
            "compare": compare,
            "memory": memory,
            "feedback_format": "float16" if memory == "feedback" else None,
            "start": start,
            "bias": bias,
            "granularity": granularity,
            "tile": TILE if granularity == "tile" else None,
        }
        for compare, memory, start, bias, granularity in choices
    ]


def cases(dtype: str) -> Iterator[Case]:
    """The separators of both operators."""
    for op in GRANULARITIES:
        for variant in variants(op):
            yield separator(op, variant, dtype)


def separator(op: str, variant: Mapping[str, Any], dtype: str) -> Case:
    """The case of one rule."""
    names = [str(variant[name]) for name in ("compare", "memory", "start", "bias", "granularity")]
    slug = f"declared-{'-'.join(names)}-{SHORT[dtype]}"
    number = Numbers(f"declared-{op}", dtype)
    bias = number.array([5.0, -7.0, 3.0])
    if op == "Gemm":
        problem = gemm(number.signed("weight", (3, 6), 1, 7), bias, ruled(TAU, **variant))
    else:
        problem = conv(number.signed("weight", (3, 3, 2), 1, 7), bias, ruled(TAU, **variant), (3, 5))
    title = f"The rule {', '.join(names)}: every other rule of version 1 fails."
    bugs = ("MEMORY_RULE", "TIE_RULE", "START", "BIAS", "GRANULARITY")
    return unit("memory" if op == "Gemm" else "conv", slug, title, bugs, problem, started(*steps(number, problem.shape)))


@cache
def steps(number: Numbers, shape: tuple[int, ...]) -> tuple[Array, ...]:
    """Inputs of the five samples over three evaluations."""
    first = np.asarray(number.signed("first", (5, *shape), 1, 3))
    first[0] += number.integers("bits", shape, 1, 2047, 2.0**-12)
    first[3] = number.signed("small", shape, 1, 1, 0.25)
    second = first.copy()
    second[0] += number.signed("more bits", shape, 4097, 8191, 2.0**-12)
    ties = number.signed("ties", shape, 1, 1, TAU)
    second[1] += np.where(number.integers("tied", shape, 0, 1) == 1, ties, ties * number.array(0.5))
    second[2] += number.array(0.25)
    second[2].reshape(-1)[1] += number.array(2.0)
    second[4] += number.array(0.375)
    third = second.copy()
    third[0] += number.signed("rest", shape, 0, 4095, 2.0**-12)
    third[2] += number.array(0.125)
    third[4] += number.array(0.375)
    return first, second, third


class Misdeclared:
    """The lab, following another rule than the problem says."""

    def __init__(self, variant: Mapping[str, Any]) -> None:
        self.variant = dict(variant)

    def manifest(self) -> Mapping[str, Any]:
        """The claims of the lab."""
        return CLAIMS.manifest()

    def open(self, problem: Problem) -> Session:
        """Open the problem with the rule exchanged, but for its threshold and refresh."""
        assert problem.rule is not None
        return Lab().open(replace(problem, rule=replace(problem.rule, **self.variant)))
