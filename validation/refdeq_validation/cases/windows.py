"""Family ``solver``: what solvers with a window do when things go wrong: growth, dependence, solved samples, refused steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from refdeq.types import StopRule
from refdeq_validation.cases.building import SHORT, Numbers
from refdeq_validation.cases.model import Case
from refdeq_validation.cases.solving import cell, solved, solves
from refdeq_validation.protocol.problem import Problem

__all__ = ["cases"]

BUDGET = StopRule(max_eval=9)


def cases(dtype: str) -> Iterator[Case]:
    """Windows that are emptied, columns that depend on each other, line searches, magnitudes beyond the squares of a dtype."""
    yield from emptied(dtype)
    yield from searched(dtype)
    yield dependent(dtype)
    yield resting(dtype)
    for name in ("anderson", "broyden"):
        yield large(dtype, name)


def _case(dtype: str, slug: str, title: str, solver: Mapping[str, Any], scale: float, size: int = 4, batch: int = 3) -> Case:
    slug = f"{slug}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = cell(number, size, None, solver=solver, scale=scale, stop=BUDGET, activation="Sin")
    x, z0 = number.full("x", (batch, size)) * number.array(2.0), number.full("z0", (batch, size))
    return solved("L2", "solver", slug, title, ("SOLVER_STEP",), problem, solves(x, z0, twin=True))


def emptied(dtype: str) -> Iterator[Case]:
    """The safeguard, a restart, a warm-up, and none of them."""
    rules: dict[str, dict[str, Any]] = {
        "safeguard": {"window": 1, "safeguard": 1.5},
        "usual-safeguard": {"window": 1},
        "no-safeguard": {"window": 2, "safeguard": None},
        "restart": {"window": 4, "restart": 3, "safeguard": None},
        "warm-up": {"window": 3, "warmup": 3, "safeguard": None},
        "weights-warm-up": {"window": 3, "warmup": 2, "form": "weights", "ridge": 0.01},
    }
    for title, options in rules.items():
        words = f"Anderson on an expanding map with {title.replace('-', ' ')}: the window holds what it should."
        yield _case(dtype, f"window-{title}", words, {"name": "anderson", **options}, 2.5)


def searched(dtype: str) -> Iterator[Case]:
    """Steps that the Armijo rule refuses, up to its limit."""
    for update in ("good", "bad"):
        solver = {"name": "broyden", "update": update, "line_search": "armijo"}
        words = f"Broyden ({update}) on an expanding map: steps are refused, shortened from where they began, and then taken."
        yield _case(dtype, f"line-search-{update}", words, solver, 2.5, batch=5)


def dependent(dtype: str) -> Case:
    """One unknown and a window of three: two columns of three depend on the newest."""
    slug = f"dependent-columns-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    solver = {"name": "anderson", "window": 3, "safeguard": None}
    problem = cell(number, 1, None, solver=solver, scale=0.5, stop=StopRule(max_eval=6))
    x, z0 = number.array([[0.5], [-1.5], [2.5]]), number.array([[0.25], [0.5], [-1.0]])
    title = "Columns that depend on newer ones are left out: with one unknown the step is a secant step."
    return solved("L2", "solver", slug, title, ("SOLVER_STEP",), problem, solves(x, z0, twin=True))


def resting(dtype: str) -> Case:
    """A sample that is solved exactly and has a budget to spend: no denominator is formed, and it stays."""
    slug = f"resting-sample-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    weight = number.array([[0.5, 0.0], [0.25, 0.5]])
    problem = Problem("Gemm", dtype, (2,), weight, None, None, solver={"name": "broyden"}, stop=StopRule(max_eval=5))
    x, z0 = number.array([[1.0, 0.0], [1.0, 0.5]]), number.array([[2.0, 1.0], [0.0, 0.25]])
    title = "A sample at its fixed point goes on being there until its budget ends; the other is solved."
    return solved("L2", "solver", slug, title, ("SOLVER_STEP", "STOP_RULE"), problem, solves(x, z0, twin=True))


def large(dtype: str, name: str) -> Case:
    """Residuals whose squares leave the range of float32: inner products are formed in float64 (S-7, S-8)."""
    slug = f"large-residuals-{name}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = cell(
        number, 4, None, bias=False, solver={"name": name}, scale=0.375, activation="Identity", stop=StopRule(max_eval=5)
    )
    x = number.full("x", (2, 4)) * number.array(2.0**70)
    title = f"Residuals of 2^70 under {name}: squares beyond float32."
    return solved("L2", "solver", slug, title, ("SOLVER_STEP", "OVERFLOW"), problem, solves(x, np.zeros_like(x), twin=True))
