"""Gates that differ from the rest of their rule, and nodes that no gate is in front of (D-11)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from refdeq.types import DeltaRule, GateOverride
from refdeq_validation.cases import sequences, shapes
from refdeq_validation.cases.building import SHORT, Array, Numbers, conv, gemm, prepared, ruled, started, unit
from refdeq_validation.cases.model import Case
from refdeq_validation.protocol.problem import Problem

__all__ = ["cases"]

UNIFORM = ("uniform-mask",)


def cases(dtype: str) -> Iterator[Case]:
    """Overridden thresholds and granularities of the gate of z, and the list of dense nodes, on a Gemm and on a Conv."""
    channels = {"Gemm": (0.5, 4.0, 1.0, 0.25, 8.0, 2.0, 0.5), "Conv": (0.5, 4.0)}
    for op in ("Gemm", "Conv"):
        yield overridden(dtype, op, "threshold-down", ruled(64.0, gates={"z": GateOverride(threshold=0.75)}))
        yield overridden(dtype, op, "threshold-up", ruled(0.0, gates={"z": GateOverride(threshold=0.75)}, refresh=3))
        yield overridden(dtype, op, "threshold-per-channel", ruled(1.0, gates={"z": GateOverride(threshold=channels[op])}))
        shared = GateOverride(granularity="sample")
        yield overridden(dtype, op, "granularity-sample", ruled(8.0, gates={"z": shared}))
        alone = GateOverride(granularity="element", threshold=0.75)
        yield overridden(dtype, op, "granularity-element", ruled(1.0, granularity="sample", gates={"z": alone}))
        for start, bias in (("dense", "separate"), ("zero", "folded")):
            yield ungated(dtype, op, start, bias)
    tile = GateOverride(granularity="tile", tile=(2, 3, 1))
    yield overridden(dtype, "Conv", "granularity-tile", ruled(8.0, granularity="channel", gates={"z": tile}))


def overridden(dtype: str, op: str, name: str, rule: DeltaRule) -> Case:
    """Four steps whose decisions are those of the override."""
    slug = f"override-{name}-{SHORT[dtype]}"
    number = Numbers(f"{op}-{slug}", dtype)
    problem = _problem(number, op, rule)
    steps = _walk(number, problem, 5)
    title = f"The gate of z overrides the rule: {name.replace('-', ' ')}."
    bugs = ("GRANULARITY" if name.startswith("granularity") else "THRESHOLD", "MASK")
    return unit("memory" if op == "Gemm" else "conv", slug, title, bugs, problem, started(*steps))


def ungated(dtype: str, op: str, start: str, bias: str) -> Case:
    """A node in the list of dense ones: what would be dropped counts, and a reference or accumulator does not."""
    slug = f"dense-node-{start}-{bias}-{SHORT[dtype]}"
    number = Numbers(f"{op}-{slug}", dtype)
    rule: dict[str, Any] = {"start": start, "bias": bias, "dense": ("linear",)}
    problem = _problem(number, op, ruled(4.0, **rule))
    steps = _walk(number, problem, 3)
    r = number.integers("r", steps[0].shape, -4, 4)
    a = number.signed("a", (2, *problem.out_shape), 40, 99)
    calls = (*started(*steps), *prepared(r, a, *steps[::-1]))
    title = "A node that the rule lists as dense has no gate: its output is A u + b at every step."
    bugs = ("MASK", "ACCUMULATE", "MEMORY_RULE")
    return unit("memory" if op == "Gemm" else "conv", slug, title, bugs, problem, calls, flags=UNIFORM)


def _problem(number: Numbers, op: str, rule: DeltaRule) -> Problem:
    """A Gemm of 7 inputs, or a convolution of two channels on 4 x 5 sites, of small integers."""
    if op == "Gemm":
        return gemm(*sequences.plain(number), rule)
    weight = shapes.distinct(3, 18, number.dtype).reshape(3, 2, 3, 3)
    return conv(weight, number.signed("bias", (3,), 1, 9), rule, (2, 4, 5), pads=(1, 1, 1, 1))


def _walk(number: Numbers, problem: Problem, steps: int) -> list[Array]:
    """Values that move by up to 1 everywhere, and in one element of one sample in turn by 9."""
    values = [number.integers("start", (2, *problem.shape), -8, 8, 0.5)]
    for t in range(1, steps):
        u = values[-1] + number.integers(f"walk{t}", values[0].shape, -4, 4, 0.25)
        u.reshape(2, -1)[t % 2, 3 * t % int(np.prod(problem.shape))] += number.array(9.0)
        values.append(np.asarray(u))
    return values
