"""Family ``determinism``: the same bits again, with other threads, in other company, in the declared order (level L7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from refdeq.types import StopRule
from refdeq_validation.cases.building import SHORT, Array, Numbers, conv, gemm, ruled
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.protocol.problem import Problem

__all__ = ["cases", "solve_cases"]

REPEATS = 6
"""Times that a call is made in the cases of R1: one, and at least five again."""

POSITIONS = ((1, 0), (2, 0), (2, 1), (3, 1), (5, 0), (5, 4), (8, 3), (17, 16))
"""Batch sizes, and where in the batch the sample is that R3 is about."""


def cases(dtype: str) -> Iterator[Case]:
    """Full mantissas, so that another order of summation shows; the ladder R1 to R5."""
    for op in ("Gemm", "Conv"):
        made = _Maker(op, dtype)
        yield from made.repeated()
        yield made.threaded()
        yield from made.in_company()
        yield made.ordered()
        yield made.zeros()


class _Maker:
    """Cases of one operator and dtype."""

    def __init__(self, op: str, dtype: str) -> None:
        self.op, self.dtype = op, dtype
        self.number = Numbers(f"determinism-{op}-{dtype}", dtype)
        self.problem = self.made(37, 29) if op == "Gemm" else self.made(3, 5)

    def made(self, inputs: int, outputs: int) -> Problem:
        """A problem of full mantissas."""
        number = self.number
        bias = number.full(f"bias {outputs}", (outputs,))
        if self.op == "Gemm":
            return gemm(number.full(f"weight {inputs}", (outputs, inputs)), bias, ruled(0.25))
        weight = number.full(f"weight {inputs}", (outputs, inputs, 3, 2))
        return conv(weight, bias, ruled(0.25), (inputs, 6, 7), pads=(1, 0, 1, 1))

    def state(self, problem: Problem, batch: int, tag: str = "") -> dict[str, Array]:
        """A state somewhere in a run."""
        number = self.number
        r = number.full(f"r{tag}", (batch, *problem.shape))
        a = number.full(f"a{tag}", (batch, *problem.out_shape))
        return {"r": r, "a": a, "count": np.arange(1, batch + 1, dtype=np.int64)}

    def case(
        self, slug: str, title: str, calls: Sequence[Call], level: str, problem: Problem | None = None, **more: Any
    ) -> Case:
        """A case that needs one level of the ladder."""
        full = f"{slug}-{self.op.lower()}-{SHORT[self.dtype]}"
        bugs = more.pop("bugs", ("DETERMINISM", "RACE"))
        problem = self.problem if problem is None else problem
        requires = ("state", level)
        return Case(full, "L7", "determinism", problem, tuple(calls), bugs, "bitwise", requires, title, **more)

    def repeated(self) -> Iterator[Case]:
        """R1: the same step from the same state, with steps of other batches in another session in between."""
        problem, state = self.problem, self.state(self.problem, 4)
        u, calls = self.number.full("u", (4, *problem.shape)), []
        for i in range(REPEATS):
            calls += [Call("set_state", state), Call("step", {"u": u}, {"same": "step"})]
            batch = (1, 7, 2, 9, 3, 5)[i]
            other = self.number.full(f"other {i}", (batch, *problem.shape))
            calls += [Call("reset", options={"batch": batch, "session": 1}), Call("step", {"u": other}, {"session": 1})]
        yield self.case("repeated", f"One step made {REPEATS} times, other work in between.", calls, "R1")
        us, calls = [self.number.full(f"run {t}", (3, *problem.shape)) for t in range(4)], []
        for i in range(REPEATS):
            calls.append(Call("reset", options={"batch": 3}))
            calls += [Call("step", {"u": u}, {"same": f"step {t}"}) for t, u in enumerate(us)]
            if i == 2:
                calls += [
                    Call("reset", options={"batch": 11}),
                    Call("step", {"u": self.number.full("more", (11, *problem.shape))}),
                ]
        yield self.case(
            "repeated-runs", f"A run of four steps made {REPEATS} times.", calls, "R1", bugs=("DETERMINISM", "STATE_LEAK")
        )

    def threaded(self) -> Case:
        """R2: the same step with one, two, three and eight threads."""
        problem = self.made(320, 288) if self.op == "Gemm" else self.made(5, 8)
        state, u = self.state(problem, 13, " wide"), self.number.full("u wide", (13, *problem.shape))
        calls = []
        for count in (1, 2, 3, 8, 1):
            calls += [
                Call("threads", options={"count": count}),
                Call("set_state", state),
                Call("step", {"u": u}, {"same": "step"}),
            ]
        return self.case("threads", "One step with one, two, three and eight threads.", calls, "R2", problem)

    def in_company(self) -> Iterator[Case]:
        """R3: one sample alone and at several places of batches; the same batch in another order."""
        problem = self.problem
        alone, u = self.state(problem, 1, " alone"), self.number.full("u alone", (1, *problem.shape))
        after = self.number.full("u after", (1, *problem.shape))
        alone["count"] = np.array([3], dtype=np.int64)
        for company in ("others", "poisoned"):
            calls: list[Call] = []
            for batch, at in POSITIONS:
                state, us = (
                    self.state(problem, batch, f" of {batch}"),
                    self.number.full(f"u of {batch}", (batch, *problem.shape)),
                )
                if company == "poisoned":
                    us[np.arange(batch) % 2 == 0] = np.nan
                    us[np.arange(batch) % 2 == 1] = np.inf
                for name, array in state.items():
                    array[at] = alone[name][0]
                us[at], following = u[0], np.flip(us, 0).copy()
                following[at] = after[0]
                calls.append(Call("set_state", state))
                for tag, values in (("first", us), ("second", following)):
                    calls.append(Call("step", {"u": values}, {"same": tag, "rows": [at]}))
            title = f"A sample gives the same bits alone and at any place of any batch ({company})."
            yield self.case(f"batch-{company}", title, calls, "R3", bugs=("DETERMINISM", "STATE_LEAK", "TAIL"))
        state, us = self.state(problem, 6, " six"), self.number.full("u six", (6, *problem.shape))
        calls = [Call("set_state", state), Call("step", {"u": us}, {"same": "all", "rows": list(range(6))})]
        for order in ([5, 4, 3, 2, 1, 0], [2, 0, 4, 1, 5, 3]):
            back = [order.index(i) for i in range(6)]
            calls.append(Call("set_state", {name: array[order] for name, array in state.items()}))
            calls.append(Call("step", {"u": us[order]}, {"same": "all", "rows": back}))
        yield self.case("batch-order", "The samples of a batch in three orders.", calls, "R3", bugs=("DETERMINISM", "INDEXING"))

    def ordered(self) -> Case:
        """R4: a sum that cancels, whose bits any other order changes."""
        problem = self.made(64, 7) if self.op == "Gemm" else self.made(7, 4)
        r = np.zeros((3, *problem.shape), self.dtype)
        size = self.number.array(2.0 ** (np.arange(r.size).reshape(r.shape) % 13))
        u = np.asarray(self.number.full("u order", r.shape) * size)
        a = self.number.full("a order", (3, *problem.out_shape))
        calls = [Call("set_state", {"r": r, "a": a, "count": np.ones(3, dtype=np.int64)}), Call("step", {"u": u})]
        title = "A sum of very different terms has the bits of the declared order."
        return self.case("order", title, calls, "R4", problem, bugs=("DETERMINISM", "ORDER", "PRECISION_DOWNGRADE"))

    def zeros(self) -> Case:
        """R5: signs of zero in accumulators, references and outputs."""
        whole = self.problem
        plain = Problem(whole.op, self.dtype, whole.shape, whole.weight, None, whole.rule, whole.attributes)
        state = self.state(plain, 2, " zero")
        state["a"] = np.copysign(self.number.array(0.0), state["a"])
        state["r"] = np.copysign(self.number.array(0.0), state["r"])
        still, moved = -state["r"], self.number.full("u zero", state["r"].shape)
        calls = [Call("set_state", state), Call("step", {"u": still}), Call("step", {"u": moved}), Call("step", {"u": -moved})]
        return self.case("zeros", "Zeros keep their signs where nothing is sent.", calls, "R5", plain, bugs=("SPECIAL_VALUES",))


def solve_cases(dtype: str) -> Iterator[Case]:
    """Whole solves: repeated, and one sample in several batches (R1, R3)."""
    number = Numbers(f"determinism-solve-{dtype}", dtype)
    weight = np.asarray(number.full("weight", (11, 11)) * number.array(0.125))
    stop = StopRule(rtol=1e-4, max_eval=12)
    x, after = number.full("x", (1, 11)), number.full("x after", (1, 11))
    for solver in ({"name": "picard"}, {"name": "krasnoselskii-mann", "alpha": 0.75}, {"name": "anderson", "window": 3}):
        rule = None if solver["name"] == "anderson" else ruled(0.01)
        bias = number.full("bias", (11,))
        problem = Problem("Gemm", dtype, (11,), weight, bias, rule, activation="Relu", solver=solver, stop=stop)
        calls = []
        for batch, at in POSITIONS[:6]:
            xs = number.full(f"x of {batch}", (batch, 11))
            xs[at] = x[0]
            z0 = np.zeros((batch, 11), dtype)
            calls.append(Call("solve", {"x": xs, "z0": z0}, {"trace": True, "same": "solve", "rows": [at]}))
            xs = np.flip(xs, 0).copy()
            xs[at] = after[0]
            calls.append(Call("solve", {"x": xs, "z0": z0}, {"trace": True, "same": "again", "rows": [at]}))
        name = str(solver["name"])
        title = f"A sample is solved ({name}) to the same bits alone and at any place of any batch."
        slug, requires = f"solve-batch-{name}-{SHORT[dtype]}", ("state", "solve", "trace", "R3")
        bugs = ("DETERMINISM", "FREEZING", "STATE_LEAK")
        yield Case(slug, "L7", "determinism", problem, tuple(calls), bugs, "bitwise", requires, title)
