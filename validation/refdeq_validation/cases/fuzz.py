"""Random cases for studies: any rule, any small geometry, any kind of number, drawn by SplitMix64 from one seed.

They are no part of a profile. A seed that breaks an implementation is worth a case of family ``fuzz_regression``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from refdeq.types import DeltaRule
from refdeq_validation.cases.draw import integers, splitmix64, uniform
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.protocol.problem import Problem

__all__ = ["fuzz_case"]

Array = np.ndarray[Any, Any]

LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100)
"""Around powers of two and vector widths; some primes."""


class _Dice:
    """Choices of one case, in a fixed order."""

    def __init__(self, seed: int) -> None:
        self._rolls = (int(roll) for roll in splitmix64(seed, "fuzz", 256))

    def pick(self, options: Sequence[Any]) -> Any:
        return options[next(self._rolls) % len(options)]

    def below(self, limit: int) -> int:
        return next(self._rolls) % limit


def fuzz_case(seed: int, dtype: str, steps: int = 4, storage: str | None = None) -> Case:
    """A random sequence of unit steps.

    Parameters
    ----------
    seed : int
    dtype : {"float32", "float64"}
    steps : int
        Steps after the reset.
    storage : {"float16", "bfloat16"}, optional
        N-1; with float32 only.

    Returns
    -------
    Case
        Level L2, judged by replay; without a witness.

    Examples
    --------
    >>> fuzz_case(3, "float32").id == fuzz_case(3, "float32").id
    True
    """
    dice = _Dice(seed)
    op = dice.pick(("Gemm", "Gemm", "Gemm", "Conv"))
    batch = dice.pick((1, 2, 3, 5))
    shape, weight_shape, attributes = _gemm(dice) if op == "Gemm" else _conv(dice)
    rule = _rule(dice, op, shape)
    weight = _stored(_numbers(dice, seed, "weight", weight_shape, dtype), storage)
    bias = None
    if dice.below(3) or rule.bias == "folded":
        bias = _stored(_numbers(dice, seed, "bias", (weight_shape[0],), dtype), storage)
    problem = Problem(op, dtype, shape, weight, bias, rule, attributes, storage=storage)
    calls = [Call("reset", {}, {"batch": batch})]
    u = _stored(_numbers(dice, seed, "u", (batch, *shape), dtype), storage)
    for step in range(steps):
        calls.append(Call("step", {"u": u}))
        u = _stored(_next(dice, seed, step, u, rule), storage)
    return Case(f"fuzz-{seed}", "L2", "fuzz_regression", problem, tuple(calls), ("ACCUMULATE", "MASK", "MEMORY_RULE"))


def _gemm(dice: _Dice) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    inputs = dice.pick(LENGTHS)
    return (inputs,), (dice.pick(LENGTHS[:-3]), inputs), {}


def _conv(dice: _Dice) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    rank = 1 + dice.below(2)
    group = dice.pick((1, 1, 2))
    channels, outputs = group * dice.pick((1, 2, 3)), group * dice.pick((1, 2))
    sites = tuple(4 + dice.below(5) for _ in range(rank))
    kernel = tuple(1 + dice.below(3) for _ in range(rank))
    attributes = {
        "strides": tuple(1 + dice.below(2) for _ in range(rank)),
        "pads": tuple(dice.below(3) for _ in range(2 * rank)),
        "dilations": tuple(1 + dice.below(2) for _ in range(rank)),
        "group": group,
    }
    widest = max(d * (k - 1) + 1 for d, k in zip(attributes["dilations"], kernel, strict=True))
    sites = tuple(max(n, widest) for n in sites)
    return (channels, *sites), (outputs, channels // group, *kernel), attributes


def _rule(dice: _Dice, op: str, shape: tuple[int, ...]) -> DeltaRule:
    grains = ("element", "element", "sample", "channel") if op == "Gemm" else ("element", "sample", "channel", "pixel", "tile")
    granularity = dice.pick(grains)
    memory = dice.pick(("sent", "always", "sent", "always", "feedback"))
    threshold: Any = dice.pick((0.0, 0.125, 0.1, 0.5, 2.0**-9))
    if dice.below(5) == 0:
        threshold = tuple(float(t) for t in itertools.islice(itertools.cycle((0.0, 0.25, 0.1, 1.0)), shape[0]))
    return DeltaRule(
        threshold=threshold,
        compare=dice.pick(("gt", "ge")),
        memory=memory,
        start=dice.pick(("dense", "zero")),
        bias=dice.pick(("separate", "separate", "folded")),
        granularity=granularity,
        tile=(1 + dice.below(3), 1 + dice.below(3), 1 + dice.below(2)) if granularity == "tile" else None,
        feedback_format=dice.pick(("float16", "bfloat16")) if memory == "feedback" else None,
        refresh=dice.pick((0, 0, 0, 2, 3)),
    )


def _numbers(dice: _Dice, seed: int, name: str, shape: tuple[int, ...], dtype: str) -> Array:
    """Full mantissas, small integers, halves around cancellation, or a wide range of exponents."""
    kind = dice.below(4)
    plain = uniform(seed, name, shape, dtype)
    if kind == 0:
        return plain
    if kind == 1:
        return integers(seed, name, shape, -8, 8, dtype)
    if kind == 2:
        return np.asarray(plain * np.array(2.0**-10, dtype) + integers(seed, name + "/base", shape, -1, 1, dtype))
    exponents = integers(seed, name + "/exponent", shape, -20, 20, "float64").astype(np.int64)
    return np.asarray(np.ldexp(plain, exponents).astype(dtype))


def _next(dice: _Dice, seed: int, step: int, u: Array, rule: DeltaRule) -> Array:
    """The next value: a move of part of the elements by about the threshold, far, hardly, or not at all."""
    drawn = splitmix64(seed, f"move{step}", u.size).reshape(u.shape)
    tau = np.max(np.asarray(rule.threshold)) or 0.25
    sizes = np.array([0.0, 0.0, 2.0**-20, 0.5 * tau, tau, -tau, 1.5 * tau, -3.0 * tau, 1.0, -2.0])
    move = sizes[(drawn % np.uint64(len(sizes))).astype(np.int64)]
    if dice.below(12) == 0:
        move.flat[dice.below(u.size)] = dice.pick((np.nan, np.inf, -np.inf))
    with np.errstate(invalid="ignore"):
        return np.asarray((u.astype(np.float64) + move).astype(u.dtype))


def _stored(values: Array, storage: str | None) -> Array:
    """Values of the storage format, by cutting the bits it has no room for; too large ones become infinite."""
    if storage is None:
        return values
    if storage == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(values.dtype)
    return (np.ascontiguousarray(values).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
