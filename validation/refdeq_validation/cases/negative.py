"""Family ``negative``: what must be refused, what may be refused, and that nothing changes when it is (level L8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from refdeq_validation.cases.building import SHORT, Array, Numbers, conv, gemm, prepared, ruled, started
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.protocol.layouts import LAYOUTS, SPOILED
from refdeq_validation.protocol.problem import Problem

__all__ = ["IN_PROCESS", "cases"]

IN_PROCESS = "in-process"
"""Flag of cases about arrays in memory, which mean nothing to an implementation in a process of its own."""

BATCH = 3

Wrong = Callable[[Array], Any]

INPUTS: Mapping[str, tuple[str, Wrong]] = {
    "lacks-an-axis": ("has one axis too few", lambda u: u[..., 0]),
    "has-an-axis-too-many": ("has one axis too many", lambda u: u[..., None]),
    "is-one-number": ("is a single number", lambda u: u.ravel()[0].reshape(())),
    "is-flat": ("has no batch axis", lambda u: u[0]),
    "is-short": ("has one element too few", lambda u: u[..., :-1]),
    "is-long": ("has one element too many", lambda u: np.concatenate([u, u[..., :1]], axis=-1)),
    "is-transposed": ("has its first two axes exchanged", lambda u: np.swapaxes(u, 0, 1)),
    "is-one-sample-for-all": ("has one sample, which must not be broadcast", lambda u: u[:1]),
    "has-a-sample-too-many": ("has another batch, without a reset", lambda u: np.concatenate([u, u[:1]])),
    "has-a-sample-too-few": ("has another batch, without a reset", lambda u: u[:-1]),
    "is-empty": ("has batch 0 where there are samples", lambda u: u[:0]),
    "is-the-other-float": ("has the other dtype", lambda u: u.astype("float64" if u.dtype == np.float32 else "float32")),
    "is-half": ("is float16", lambda u: u.astype("float16")),
    "is-integer": ("is int32", lambda u: u.astype("int32")),
    "is-boolean": ("is bool", lambda u: u != 0),
    "is-complex": ("is complex", lambda u: u.astype("complex64" if u.dtype == np.float32 else "complex128")),
}
"""Inputs of a step that must be refused: slug, what is wrong, how it is made from a right one."""

STATES: Mapping[str, tuple[str, str, Wrong]] = {
    "reference-is-short": ("r", "the reference has one element too few", lambda r: r[..., :-1]),
    "reference-is-the-other-float": ("r", "the reference has the other dtype", INPUTS["is-the-other-float"][1]),
    "reference-is-flat": ("r", "the reference has no batch axis", lambda r: r[0]),
    "accumulator-is-short": ("a", "the accumulator has one element too few", lambda a: a[..., :-1]),
    "accumulator-is-the-other-float": ("a", "the accumulator has the other dtype", INPUTS["is-the-other-float"][1]),
    "accumulator-has-other-batch": ("a", "the accumulator has another batch than the reference", lambda a: a[:-1]),
    "count-is-long": ("count", "there are more counts than samples", lambda count: np.concatenate([count, count[:1]])),
    "count-is-negative": ("count", "a count is negative", lambda count: -count),
    "count-is-fractional": ("count", "the counts are floating-point numbers", lambda count: count.astype("float64")),
}
"""States that must be refused: slug, array, what is wrong, how it is made from a right one."""


def cases(dtype: str) -> Iterator[Case]:
    """Refusals around good steps, on a Gemm and on a Conv."""
    for op in ("Gemm", "Conv"):
        made = _Maker(op, dtype)
        yield from made.inputs()
        yield from made.states()
        yield from made.beginnings()
        yield from made.outputs()
        yield from made.layouts()
    yield from _Maker("Gemm", dtype).solves()


class _Maker:
    """Cases of one operator and dtype: small integers, so that what is accepted is exact."""

    def __init__(self, op: str, dtype: str) -> None:
        self.op, self.dtype = op, dtype
        number = Numbers(f"negative-{op}-{dtype}", dtype)
        if op == "Gemm":
            weight, bias = number.signed("weight", (6, 5), 1, 7), number.signed("bias", (6,), 1, 7)
            self.problem: Problem = gemm(weight, bias, ruled(0.5))
        else:
            weight, bias = number.signed("weight", (4, 2, 2, 3), 1, 3), number.signed("bias", (4,), 1, 7)
            self.problem = conv(weight, bias, ruled(0.5), (2, 4, 5), pads=(1, 0, 0, 1))
        shape, out = (BATCH, *self.problem.shape), (BATCH, *self.problem.out_shape)
        self.us = [number.integers(f"u{t}", shape, -9, 9, 0.25) for t in range(3)]
        self.state = {
            "r": number.integers("r", shape, -9, 9, 0.25),
            "a": number.signed("a", out, 1, 40),
            "count": np.array([1, 2, 3], dtype=np.int64),
        }

    def case(self, slug: str, title: str, calls: tuple[Call, ...], bugs: tuple[str, ...] = ("CONTRACT",), **more: Any) -> Case:
        """A case of this family; what it requires follows from its calls unless it is given."""
        requires = more.pop("requires", ("state",) if any(call.name == "set_state" for call in calls) else ())
        problem = more.pop("problem", self.problem)
        full = f"{slug}-{self.op.lower()}-{SHORT[self.dtype]}"
        return Case(full, "L8", "negative", problem, calls, bugs, expect="error", requires=requires, title=title, **more)

    def around(self, bad: Call) -> tuple[Call, ...]:
        """A given state, a good step, the bad call, and two good steps that show that it changed nothing."""
        good = prepared(self.state["r"], self.state["a"], *self.us)
        return (*good[:2], bad, *good[2:])

    def inputs(self) -> Iterator[Case]:
        """Steps whose input is wrong."""
        for slug, (what, make) in INPUTS.items():
            bad = Call("step", {"u": np.ascontiguousarray(make(self.us[1]))}, refused=True)
            if bad.arrays["u"].shape == self.us[1].shape and bad.arrays["u"].dtype == self.us[1].dtype:
                continue  # square: exchanging axes changes nothing
            yield self.case(f"input-{slug}", f"A step whose input {what} is refused.", self.around(bad))
            begun = started(*self.us)
            title = f"After a reset and a step, one whose input {what} is refused."
            yield self.case(f"begun-{slug}", title, (*begun[:2], bad, *begun[2:]), ("CONTRACT", "STATE_LEAK"))

    def states(self) -> Iterator[Case]:
        """States that are wrong."""
        for slug, (name, what, make) in STATES.items():
            wrong = {**self.state, name: np.ascontiguousarray(make(self.state[name]))}
            bugs = ("CONTRACT", "STATE_LEAK")
            yield self.case(
                slug, f"set_state is refused when {what}.", self.around(Call("set_state", wrong, refused=True)), bugs
            )

    def beginnings(self) -> Iterator[Case]:
        """Calls that come too early, batches that are none, and the batch of nobody."""
        begin = started(*self.us)
        early = Call("step", {"u": self.us[0]}, refused=True)
        yield self.case("step-before-reset", "A step before any reset is refused.", (early, *begin), ("CONTRACT", "RESET"))
        for slug, batch in (("negative", -1), ("fractional", 2.5), ("textual", "3")):
            bad = Call("reset", options={"batch": batch}, refused=True)
            title = f"A reset to a batch of {batch!r} is refused."
            yield self.case(f"{slug}-batch", title, self.around(bad), ("CONTRACT", "RESET"))
        nobody = np.zeros((0, *self.problem.shape), self.dtype)
        empty = (Call("reset", options={"batch": 0}), Call("step", {"u": nobody}), Call("step", {"u": nobody}))
        yield self.case(
            "empty-batch", "A batch of nobody is stepped, then one of three.", (*empty, *begin), ("CONTRACT", "CAPACITY")
        )

    def outputs(self) -> Iterator[Case]:
        """Outputs of a wrong shape or dtype."""
        for how in SPOILED:
            bad = Call("step", {"u": self.us[1]}, {"outputs": how}, refused=True)
            slug, title = f"output-{how.replace(' ', '-')}", f"A step is refused whose output is wrong: {how}."
            yield self.case(slug, title, self.around(bad), flags=(IN_PROCESS,))

    def layouts(self) -> Iterator[Case]:
        """Inputs in other layouts, and an input that shares memory with the output: right or refused, never wrong."""
        for layout in LAYOUTS:
            u = np.repeat(self.us[1][:1], BATCH, axis=0) if layout == "broadcast" else self.us[1]
            odd = Call("step", {"u": u}, {"layout": {"u": layout}, "may_refuse": True})
            title = f"A {layout} input gives the bits it always gives, or is refused."
            bugs = ("CONTRACT", "INDEXING")
            yield self.case(f"layout-{layout}", title, self.around(odd), bugs, flags=(IN_PROCESS,))
            begun = (Call("reset", options={"batch": BATCH}), odd, *(Call("step", {"u": u}) for u in self.us))
            yield self.case(f"begun-{layout}", f"A dense start from a {layout} input.", begun, bugs, flags=(IN_PROCESS,))
            state = {
                name: array if name == "count" else np.repeat(array[:1], BATCH, axis=0) for name, array in self.state.items()
            }
            arrays = state if layout == "broadcast" else self.state
            odd = Call("set_state", arrays, {"layout": {"r": layout, "a": layout}, "may_refuse": True})
            title = f"A {layout} state is taken as it is, or refused."
            yield self.case(f"state-layout-{layout}", title, self.around(odd), bugs, flags=(IN_PROCESS,))
        if self.op != "Gemm":
            return
        number = Numbers(f"overlap-{self.dtype}", self.dtype)
        problem = gemm(number.signed("weight", (5, 5), 1, 7), number.signed("bias", (5,), 1, 7), ruled(0.5))
        bad = Call("step", {"u": self.us[1]}, {"overlaps": "u", "may_refuse": True})
        good = prepared(self.state["r"], number.signed("a", (BATCH, 5), 1, 40), *self.us)
        title = "A step into the memory of its own input gives the bits it always gives, or is refused."
        calls = (*good[:2], bad, *good[2:])
        yield self.case("output-is-input", title, calls, ("CONTRACT", "ALIASING"), flags=(IN_PROCESS,), problem=problem)

    def solves(self) -> Iterator[Case]:
        """Solves and gradients whose arguments are wrong, around good steps."""
        number = Numbers(f"negative-solve-{self.dtype}", self.dtype)
        problem = gemm(number.signed("weight", (5, 5), 1, 7, 0.03125), number.signed("bias", (5,), 1, 7), ruled(0.5))
        right = {"x": number.integers("x", (BATCH, 5), -9, 9, 0.25), "z0": self.us[0]}
        good = prepared(self.state["r"], number.signed("a", (BATCH, 5), 1, 40), *self.us)
        for slug in ("is-short", "is-flat", "is-the-other-float", "has-a-sample-too-many", "is-integer"):
            what, make = INPUTS[slug]
            for name in ("x", "z0"):
                bad = Call("solve", {**right, name: np.ascontiguousarray(make(right[name]))}, refused=True)
                title = f"A solve is refused whose {name} {what}."
                calls = (*good[:2], bad, *good[2:])
                yield self.case(f"solve-{name}-{slug}", title, calls, problem=problem, requires=("state", "solve"))
            points = {"x": right["x"], "z": right["z0"], "cotangent": self.us[1]}
            points["cotangent"] = np.ascontiguousarray(make(points["cotangent"]))
            bad = Call("gradient", points, {"jacobian": "dense"}, refused=True)
            title = f"A gradient is refused whose cotangent {what}."
            calls = (*good[:2], bad, *good[2:])
            yield self.case(f"cotangent-{slug}", title, calls, problem=problem, requires=("state", "gradient"))
        points = {"x": right["x"], "z": right["z0"], "cotangent": self.us[1]}
        bad = Call("gradient", points, {"jacobian": "sparse"}, refused=True)
        calls = (*good[:2], bad, *good[2:])
        title = "A gradient by a Jacobian that does not exist is refused."
        yield self.case("unknown-jacobian", title, calls, problem=problem, requires=("state", "gradient"))
