"""Parts that generators of solves and gradients share: contractive cells of named numbers, calls, solvers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refdeq.types import DeltaRule, StopRule
from refdeq_validation.cases.building import Numbers
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.protocol.problem import Problem

__all__ = ["PRESETS", "SOLVERS", "STRAIGHT", "cell", "convolution", "rule_of", "solved", "solves"]

Array = np.ndarray[Any, Any]

PRESETS = ("dense", "refdeq", "paper", "deltadeq-code", "delta-network")
"""Delta rules by name; ``dense`` is none."""

STRAIGHT: Mapping[str, Mapping[str, Any]] = {
    "picard": {"name": "picard"},
    "damped": {"name": "krasnoselskii-mann", "alpha": 0.9},
}
"""Solvers without a window: their steps are known in bits."""

SOLVERS: Mapping[str, Mapping[str, Any]] = {
    **STRAIGHT,
    "anderson": {"name": "anderson", "window": 2},
    "anderson-mixed": {"name": "anderson", "window": 3, "mixing": 0.7, "ridge": 0.05, "ridge_scale": "trace"},
    "anderson-diagonal": {"name": "anderson", "window": 3, "ridge": 0.1, "ridge_scale": "diagonal", "safeguard": None},
    "anderson-weights": {"name": "anderson", "window": 3, "form": "weights", "mixing": 0.8, "ridge": 0.01},
    "anderson-restart": {"name": "anderson", "window": 2, "restart": 3, "warmup": 1},
    "broyden": {"name": "broyden"},
    "broyden-window": {"name": "broyden", "window": 2},
    "broyden-bad": {"name": "broyden", "update": "bad"},
    "broyden-search": {"name": "broyden", "line_search": "armijo"},
}
"""Every solver of the text, by what is particular about it."""


def rule_of(preset: str, threshold: float = 0.015625, **changes: Any) -> DeltaRule | None:
    """The rule of a preset, or None for ``dense``.

    >>> rule_of("dense") is None
    True
    """
    return None if preset == "dense" else DeltaRule.preset(preset, threshold=threshold, **changes)


def cell(
    number: Numbers,
    size: int,
    rule: DeltaRule | None,
    *,
    scale: float = 0.25,
    bias: bool = True,
    activation: str = "Tanh",
    solver: Mapping[str, Any] | None = None,
    stop: StopRule | None = None,
    returned: str = "last",
) -> Problem:
    """A Gemm cell of full-mantissa weights in ``[-scale, scale)``, a contraction for a scale of about ``1 / sqrt(2 size)``."""
    weight = number.full("weight", (size, size)) * np.dtype(number.dtype).type(scale)
    return Problem(
        "Gemm",
        number.dtype,
        (size,),
        weight,
        number.full("bias", (size,)) if bias else None,
        rule,
        activation=activation,
        solver=STRAIGHT["picard"] if solver is None else solver,
        stop=StopRule(rtol=2.0**-9, max_eval=9) if stop is None else stop,
        returned=returned,
    )


def convolution(number: Numbers, rule: DeltaRule | None, **options: Any) -> Problem:
    """A cell of one convolution of two channels on 4 x 5 sites that keeps the shape."""
    weight = number.full("weight", (2, 2, 3, 3)) * np.dtype(number.dtype).type(0.125)
    stop = options.pop("stop", StopRule(rtol=2.0**-8, max_eval=6))
    return Problem(
        "Conv",
        number.dtype,
        (2, 4, 5),
        weight,
        number.full("bias", (2,)),
        rule,
        attributes={"pads": (1, 1, 1, 1)},
        activation=options.pop("activation", "Tanh"),
        stop=stop,
        **options,
    )


def solves(x: Array, z0: Array, *, trace: bool = True, keep: bool = False, twin: bool = False) -> tuple[Call, ...]:
    """A solve, and the same without a trace from a reset state where `twin`."""
    calls = [Call("solve", {"x": x, "z0": z0}, {"keep": keep, "trace": trace})]
    if twin:
        calls.append(Call("solve", {"x": x, "z0": z0}, {"keep": False, "trace": False}))
    return tuple(calls)


def solved(
    level: str,
    family: str,
    slug: str,
    title: str,
    bug_types: Sequence[str],
    problem: Problem,
    calls: Sequence[Call],
    flags: Sequence[str] = (),
) -> Case:
    """A case of solves or gradients; what it requires follows from its level and calls."""
    batch = len(next(iter(calls[-1].arrays.values())))
    opened = calls[0].name in ("reset", "set_state")
    first = () if opened else (Call("reset", options={"batch": batch}),)
    needs = {call.name for call in calls} & {"solve", "gradient"}
    requires: list[str] = ["state"] * (problem.rule is not None)
    requires += [name for name in ("solve", "gradient") if name in needs]
    requires += ["trace"] * any(call.options.get("trace") for call in calls)
    expect = {"L2": "replay", "L3": "replay", "L4": "invariant", "L5": "certificate", "L6": "gradient"}[level]
    return Case(
        slug=slug,
        level=level,
        family=family,
        problem=problem,
        calls=(*first, *calls),
        bug_types=tuple(bug_types),
        expect=expect,
        requires=tuple(requires),
        title=title,
        flags=tuple(flags),
    )
