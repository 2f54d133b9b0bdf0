"""Sessions of unit steps that touch every branch of their judge: cases, and the claims under which they are judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from refdeq_validation.cases.draw import integers, uniform
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.lab.session import CLAIMS
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.problem import Problem

from refdeq.types import DeltaRule

STRICT = CLAIMS
FAST = Claims.from_manifest({**CLAIMS.manifest(), "claims": {**CLAIMS.manifest()["claims"], "order": "fast"}})


def gemm(dtype: str, shift: bool = True, **rule: Any) -> Problem:
    weight = uniform(1, "weight", (4, 6), dtype)
    bias = uniform(2, "bias", (4,), dtype) if shift else None
    return Problem("Gemm", dtype, (6,), weight, bias, DeltaRule(**{"threshold": 0.25, **rule}))


def conv(dtype: str, shape: tuple[int, ...] = (4, 5), kernel: tuple[int, ...] = (3,), **rule: Any) -> Problem:
    attributes = rule.pop("attributes", {})
    weight = uniform(1, "weight", (2, shape[0] // attributes.get("group", 1), *kernel), dtype)
    bias = uniform(2, "bias", (2,), dtype)
    return Problem("Conv", dtype, shape, weight, bias, DeltaRule(**{"threshold": 0.25, **rule}), attributes)


def walk(problem: Problem, batch: int = 2, steps: int = 4, seed: int = 3) -> tuple[Call, ...]:
    """A reset and steps whose inputs move about the threshold: some elements are sent, some are not."""
    u, calls = uniform(seed, "start", (batch, *problem.shape), problem.dtype), [Call("reset", options={"batch": batch})]
    for t in range(steps):
        calls.append(Call("step", {"u": u}))
        u = u + u.dtype.type(0.5) * uniform(seed, f"move {t}", u.shape, problem.dtype)
    return tuple(calls)


def case(name: str, problem: Problem, calls: tuple[Call, ...], expect: str = "replay") -> Case:
    return Case(name, "L1", "bound", problem, calls, ("VACUOUS",), expect)


def ties(problem: Problem) -> tuple[Call, ...]:
    """Differences exactly at the threshold 0.25, one ulp beside it, and far from it."""
    one = np.dtype(problem.dtype).type(0.25)
    row = np.array([one, -one, np.nextafter(one, one + 1), np.nextafter(one, one - 1), one + one, 0], problem.dtype)
    zero, state = np.zeros((1, 6), problem.dtype), np.zeros((1, 4), problem.dtype)
    count = np.ones(1, np.int64)
    return (Call("set_state", {"r": zero, "a": state, "count": count}), Call("step", {"u": row[None]}))


def specials(problem: Problem) -> tuple[Call, ...]:
    """NaN, infinities, signed zeros, subnormals, and what follows them."""
    tiny = float(np.finfo(problem.dtype).smallest_subnormal)
    rows = [
        [1.0, 1.0, -1.0, 0.0, 1.0, 0.0],
        [np.nan, np.inf, -np.inf, -0.0, 1.0 + tiny, tiny],
        [1.0, np.inf, np.inf, 0.0, 1.0, -tiny],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    ]
    return (Call("reset", options={"batch": 1}), *(Call("step", {"u": np.array([r], problem.dtype)}) for r in rows))


def given_state(problem: Problem) -> tuple[Call, ...]:
    """A state set from outside, at another count for every sample, one of them 0."""
    r = uniform(5, "r", (4, *problem.shape), problem.dtype)
    a = uniform(6, "a", (4, *problem.out_shape), problem.dtype)
    calls = [Call("set_state", {"r": r, "a": a, "count": np.array([0, 1, 2, 5])})]
    calls += [Call("step", {"u": r + uniform(7 + t, "u", r.shape, problem.dtype)}) for t in range(3)]
    return tuple(calls)


def two_sessions(problem: Problem) -> tuple[Call, ...]:
    first, second = walk(problem), walk(problem, batch=3, seed=9)
    other = [Call(call.name, call.arrays, {**call.options, "session": 1}) for call in second]
    return tuple(call for pair in zip(first, other, strict=True) for call in pair)


def refusals(problem: Problem) -> tuple[Call, ...]:
    """Wrong shapes, dtypes and sizes between good calls."""
    good, u = walk(problem), np.zeros((2, problem.shape[0] + 1), problem.dtype)
    wrong = (Call("step", {"u": u}, refused=True), Call("reset", options={"batch": -1}, refused=True))
    other = Call("step", {"u": np.zeros((2, *problem.shape), "float16")}, refused=True)
    return (*good[:2], *wrong, *good[2:3], other, *good[3:])


def exact_walk(problem: Problem) -> tuple[Call, ...]:
    u = [integers(t, "exact", (2, *problem.shape), -3, 3, problem.dtype) for t in range(4)]
    return (Call("reset", options={"batch": 2}), *(Call("step", {"u": v}) for v in u))


def runs() -> Iterator[tuple[Case, Claims]]:
    """Cases with the claims under which they are judged; every one is answered rightly by the plain implementation."""
    for dtype in ("float32", "float64"):
        for name, problem in problems(dtype):
            made = case(f"{name}-{dtype}", problem, walk(problem))
            yield made, STRICT
            if name in ("plain", "folded", "folded-zero-refresh", "conv-2d", "no-bias", "refresh"):
                yield made, FAST
        plain = gemm(dtype)
        yield case(f"ties-gt-{dtype}", plain, ties(plain)), STRICT
        yield case(f"ties-ge-{dtype}", gemm(dtype, compare="ge"), ties(plain)), STRICT
        for memory in ("sent", "always"):
            special = gemm(dtype, memory=memory, threshold=0.0)
            special.weight[0, 3] = np.nan
            yield case(f"special-{memory}-{dtype}", special, specials(special)), STRICT
            yield case(f"special-fast-{memory}-{dtype}", special, specials(special)), FAST
        for name, problem in (("plain", plain), ("zero", gemm(dtype, start="zero", refresh=2, shift=False))):
            yield case(f"given-{name}-{dtype}", problem, given_state(problem)), STRICT
        yield case(f"sessions-{dtype}", plain, two_sessions(plain)), STRICT
        yield case(f"refused-{dtype}", plain, refusals(plain)), STRICT


def problems(dtype: str) -> Iterator[tuple[str, Problem]]:
    """Every rule and every geometry that the judge of steps knows."""
    yield "plain", gemm(dtype)
    yield "no-bias", gemm(dtype, shift=False)
    yield "ge-always-zero", gemm(dtype, compare="ge", memory="always", start="zero")
    yield "folded", gemm(dtype, bias="folded")
    yield "folded-zero-refresh", gemm(dtype, bias="folded", start="zero", memory="always", refresh=2)
    yield "refresh", gemm(dtype, refresh=2, memory="always")
    yield "feedback-half", gemm(dtype, memory="feedback", feedback_format="float16")
    yield "feedback-bfloat", gemm(dtype, memory="feedback", feedback_format="bfloat16", bias="folded")
    yield "thresholds", gemm(dtype, threshold=(0.0, 0.1, 0.2, 0.3, 0.4, float("inf")))
    yield "sample", gemm(dtype, granularity="sample", threshold=0.45)
    yield "narrow", gemm(dtype, delta_dtype="float16")
    yield "nothing", gemm(dtype, threshold=float("inf"))
    yield "everything", gemm(dtype, threshold=0.0, compare="ge")
    yield "conv-1d", conv(dtype, attributes={"pads": (1, 2), "strides": (2,), "group": 2})
    yield "conv-2d", conv(dtype, (2, 4, 3), (2, 3), attributes={"pads": (1, 0, 0, 1), "dilations": (2, 1)})
    yield "conv-folded", conv(dtype, bias="folded", start="zero", refresh=3)
    yield "conv-channel", conv(dtype, granularity="channel", threshold=(0.1, 0.2, 0.4, 0.45))
    yield "conv-pixel", conv(dtype, granularity="pixel", threshold=0.4)
    yield "conv-tile", conv(dtype, (2, 4, 3), (2, 2), granularity="tile", tile=(3, 2, 1), threshold=0.4)
    yield "conv-tile-1d", conv(dtype, granularity="tile", tile=(1, 2, 3), threshold=0.4)
