"""Family ``solver``: residuals that fall, rise and fall again, exactly, so that every rule of stopping shows itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from refdeq.types import StopRule
from refdeq_validation.cases.building import SHORT, Numbers
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.cases.solving import cell, rule_of, solved, solves
from refdeq_validation.protocol.problem import Problem

__all__ = ["cases"]

Array = np.ndarray[Any, Any]

VALLEY = [[0.25, 0.0], [0.0, 2.0]]
"""From (1, 2^-6) residuals fall to 0.09 and rise again."""

SWING = [[0.0, 5.0], [0.25, 0.0]]
"""From (1, 0) residuals are 1, 1/4, 5/4, 5/16, 25/16."""

DRIFT = [[1.0, 0.0], [0.0, 1.0]]
"""Residuals stay, arguments grow: relative residuals fall."""


def cases(dtype: str) -> Iterator[Case]:
    """Divergence, stagnation and the lowest point on such histories; NaN in each norm; activations at their ends; refusals."""
    rules: dict[str, tuple[list[list[float]], StopRule, str]] = {
        "valley-divergence": (VALLEY, StopRule(divergence=3.0, max_eval=9), "last"),
        "valley-stagnation": (VALLEY, StopRule(stagnation=(1, 2.5), max_eval=9), "last"),
        "valley-stagnation-window": (VALLEY, StopRule(stagnation=(3, 1.0), max_eval=9), "last"),
        "valley-lowest": (VALLEY, StopRule(max_eval=6), "lowest"),
        "swing-lowest": (SWING, StopRule(max_eval=5), "lowest"),
        "swing-stagnation": (SWING, StopRule(stagnation=(2, 1.0), max_eval=7), "last"),
        "drift-lowest-relative": (DRIFT, StopRule(rtol=2.0**-20, max_eval=4), "lowest"),
        "drift-lowest-absolute": (DRIFT, StopRule(atol=2.0**-20, rtol=2.0**-20, max_eval=4), "lowest"),
    }
    for title, (weight, stop, returned) in rules.items():
        slug = f"{title}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = Problem("Gemm", dtype, (2,), number.array(weight), None, None, stop=stop, returned=returned)
        x = number.array([[1.0, 2.0**-6], [1.0, 0.0], [0.5, 2.0**-4]])
        words = f"Residuals known exactly: {title.replace('-', ' ')}."
        bugs = ("STOP_RULE", "RETURNED")
        yield solved("L2", "solver", slug, words, bugs, problem, solves(x, np.zeros_like(x), twin=True))
    for norm in ("l2", "linf"):
        slug = f"nan-in-{norm}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        stop = StopRule(atol=2.0**-6, norm=norm, max_eval=5)
        problem = cell(number, 3, rule_of("refdeq"), stop=stop)
        x, z0 = number.full("x", (3, 3)), number.full("z0", (3, 3))
        x[1, 1] = np.nan
        words = f"One NaN among three elements, norm {norm}: the sample ends, the others go on."
        yield solved("L2", "solver", slug, words, ("SPECIAL_VALUES", "STOP_RULE"), problem, solves(x, z0, twin=True))
    for activation in ("Tanh", "Sigmoid", "Exp", "Sin"):
        yield ends(dtype, activation)
    yield refused(dtype)
    yield unopened(dtype)


def ends(dtype: str, activation: str) -> Case:
    """Arguments near zero, in the middle, and far out on either side (N-8)."""
    slug = f"ends-of-{activation.lower()}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = cell(number, 6, None, bias=False, scale=2.0**-20, activation=activation, stop=StopRule(max_eval=2))
    far = 20.0 if activation == "Exp" else 745.0
    x = number.array([[2.0**-30, 1e-5, -1e-3, 0.03125, 0.25, -0.5], [-far, far, -9.5, 9.5, 19.0, -40.0]])
    x[1, 4:] = number.array([19.0, -20.0]) if activation == "Exp" else x[1, 4:]
    words = f"{activation} near zero and at its ends: bits under strict, ulp otherwise."
    bugs = ("PRECISION_DOWNGRADE", "SPECIAL_VALUES")
    return solved("L2", "solver", slug, words, bugs, problem, solves(x, np.zeros_like(x), twin=True))


def unopened(dtype: str) -> Case:
    """A warm solve before anything has been opened is refused (D-9)."""
    slug = f"kept-memory-of-nothing-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = cell(number, 4, rule_of("refdeq"), stop=StopRule(max_eval=3))
    arrays = {"x": number.full("x", (2, 4)), "z0": number.full("z0", (2, 4))}
    calls = [
        Call("reset", options={"batch": 2}),
        Call("solve", arrays, {"keep": True, "trace": True, "session": 1}, refused=True),
        Call("solve", arrays, {"keep": False, "trace": True}),
    ]
    words = "A session that holds nothing refuses a warm solve; another session is not disturbed."
    return solved("L2", "warm", slug, words, ("WARM_START", "CONTRACT"), problem, calls)


def refused(dtype: str) -> Case:
    """Kept memory of another batch is refused, and nothing changes (D-9)."""
    slug = f"kept-memory-of-another-batch-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = cell(number, 4, rule_of("refdeq"), stop=StopRule(max_eval=3))
    x, z0 = number.full("x", (3, 4)), number.full("z0", (3, 4))
    keep = {"keep": True, "trace": True}
    calls = [
        Call("reset", options={"batch": 3}),
        Call("solve", {"x": x, "z0": z0}, {"keep": False, "trace": True}),
        Call("solve", {"x": x[:2], "z0": z0[:2]}, keep, refused=True),
        Call("solve", {"x": x, "z0": z0}, keep),
    ]
    words = "A warm solve of another batch is refused; the one after it finds the memory as it was."
    return solved("L2", "warm", slug, words, ("WARM_START", "CONTRACT"), problem, calls)
