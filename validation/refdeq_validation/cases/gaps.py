"""Cases that planted bugs asked for: each is the only one that notices some mutant of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refdeq.types import DeltaRule, StopRule
from refdeq_validation.cases.building import SHORT, Numbers, conv, gemm, prepared, started, unit
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.cases.solving import cell, rule_of, solved, solves
from refdeq_validation.protocol.problem import Problem

__all__ = ["cases"]


def cases(dtype: str) -> Iterator[Case]:
    """Relu at NaN and -0; starts, sessions and frozen samples that other families leave out; a difference that rounds twice."""
    yield nan_through_relu(dtype)
    yield zero_through_relu(dtype)
    yield dense_start_of_everything(dtype)
    yield sessions_out_of_step(dtype)
    yield counts_of_frozen_samples(dtype)
    yield sites_beyond_128(dtype)
    yield more_columns_than_elements(dtype)
    if dtype == "float64":
        yield rounded_once(dtype)


def nan_through_relu(dtype: str) -> Case:
    """An injection of NaN in front of Relu: max(x, 0) of many instructions prefers the number."""
    slug = f"nan-through-relu-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = cell(number, 4, rule_of("refdeq"), activation="Relu", stop=StopRule(rtol=2.0**-6, max_eval=6))
    x, z0 = number.full("x", (3, 4)), number.full("z0", (3, 4))
    x[1, 2] = np.nan
    title = "NaN passes through Relu and ends its sample; the others go on."
    return solved("L2", "solver", slug, title, ("SPECIAL_VALUES", "STOP_RULE"), problem, solves(x, z0))


def zero_through_relu(dtype: str) -> Case:
    """A kept accumulator of -0 and an injection of -0: their sum is -0, and Relu gives +0 (E-2)."""
    slug = f"zero-through-relu-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    rule = DeltaRule(threshold=1.0)
    stop = StopRule(max_eval=2)
    problem = Problem("Gemm", dtype, (2,), number.array([[0.5, 0.25], [0.0, 0.5]]), None, rule, activation="Relu", stop=stop)
    r, a = number.array([[0.25, 0.5]]), number.array([[-0.0, 0.5]])
    calls = (
        Call("set_state", {"r": r, "a": a, "count": np.array([1], np.int64)}),
        *solves(number.array([[-0.0, 0.75]]), r, keep=True),
    )
    title = "Relu of -0 is +0: only a state that was given reaches it."
    return solved("L2", "warm", slug, title, ("SPECIAL_VALUES",), problem, calls)


def dense_start_of_everything(dtype: str) -> Case:
    """A first input with NaN and infinities: a dense start reads them (N-2, D-5)."""
    slug = f"dense-start-not-finite-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(number.signed("weight", (3, 4), 1, 4), number.integers("bias", (3,), -2, 2), DeltaRule(threshold=1.0))
    first, second = number.signed("u", (4, 4), 1, 8), number.signed("v", (4, 4), 1, 8)
    first[0, 1], first[1, 2], first[2, 0] = np.inf, np.nan, -np.inf
    second[3] = first[3] + number.array([0.5, 2.0, 0.0, -3.0])
    title = "A dense start reads inputs that are not finite; the sample beside them goes on."
    return unit("special", slug, title, ("SPECIAL_VALUES", "START"), problem, started(first, second), exact=False)


def sessions_out_of_step(dtype: str) -> Case:
    """Two sessions of one problem at different counts: each is refreshed at its own."""
    slug = f"refresh-of-two-sessions-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    rule = DeltaRule(threshold=2.0, memory="always", refresh=3)
    problem = gemm(number.signed("weight", (3, 4), 1, 4), None, rule)
    inputs = [number.integers(f"u{t}", (2, 4), -6, 6) for t in range(8)]
    order = (0, 0, 1, 0, 1, 0, 1, 1)
    calls = [Call("reset", options={"batch": 2, "session": session}) for session in (0, 1)]
    calls += [Call("step", {"u": u}, {"session": session}) for u, session in zip(inputs, order, strict=True)]
    title = "Sessions that are not in step are refreshed at their own evaluations."
    return unit("reset", slug, title, ("STATE_LEAK", "REFRESH"), problem, calls)


def counts_of_frozen_samples(dtype: str) -> Case:
    """Samples that finish early do not count on: a warm solve refreshes each at its own evaluation (S-1, D-9, D-12)."""
    slug = f"counts-of-frozen-samples-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    rule = DeltaRule(threshold=0.0625, memory="always", refresh=4)
    problem = cell(number, 4, rule, scale=0.375, stop=StopRule(atol=2.0**-4, max_eval=7))
    x = number.full("x", (4, 4)) * number.array([[4.0], [1.0], [0.25], [0.0625]])
    z0 = number.full("z0", (4, 4))
    calls = (*solves(x, z0), *solves(x + number.array(0.75), z0, keep=True))
    title = "A finished sample's count stands still, so that its refresh in the next solve comes when it is due."
    return solved("L2", "warm", slug, title, ("FREEZING", "REFRESH", "WARM_START"), problem, calls)


def sites_beyond_128(dtype: str) -> Case:
    """A signal of 260 sites: an index of eight bits wraps, signed or not."""
    slug = f"sites-beyond-128-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = conv(number.signed("weight", (2, 1, 3), 1, 4), None, DeltaRule(threshold=1.0), (1, 260), pads=(1, 1))
    r, a = number.integers("r", (1, 1, 260), -3, 3), number.integers("a", (1, 2, 260), -3, 3)
    calls = prepared(r, a, number.integers("u", (1, 1, 260), -3, 3))
    title = "Every site of a long signal gets its own terms."
    return unit("conv", slug, title, ("OVERFLOW", "INDEXING"), problem, calls)


def more_columns_than_elements(dtype: str) -> Case:
    """A window wider than the state: its columns depend on each other, and the older ones are left out (S-7)."""
    slug = f"more-columns-than-elements-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    solver = {"name": "anderson", "window": 5, "safeguard": None}
    problem = cell(number, 2, None, scale=0.75, solver=solver, stop=StopRule(max_eval=7))
    title = "Of five columns of two elements no more than two are used."
    calls = solves(number.full("x", (3, 2)), number.full("z0", (3, 2)))
    return solved("L2", "solver", slug, title, ("SOLVER_STEP",), problem, calls)


def rounded_once(dtype: str) -> Case:
    """Just above half a unit of bfloat16, by less than float32 sees: rounding by way of float32 goes down."""
    slug = f"bfloat16-by-way-of-float32-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    rule = DeltaRule(threshold=0.5, memory="feedback", feedback_format="bfloat16")
    problem = gemm(number.array([[1.0, -1.0, 4.0], [0.5, 2.0, 1.0]]), None, rule)
    u = number.array([[1.0 + 2.0**-8 + 2.0**-40, -1.0 - 3 * 2.0**-8 + 2.0**-40, 0.25]])
    calls = prepared(number.array([[0.0, 0.0, 0.0]]), number.array([[1.0, -2.0]]), u)
    title = "A float64 difference is rounded to bfloat16 once."
    return unit("memory", slug, title, ("MEMORY_RULE", "PRECISION_DOWNGRADE"), problem, calls)
