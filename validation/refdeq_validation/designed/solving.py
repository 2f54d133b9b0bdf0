"""Designed cases of solvers with a window, and of splittings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from refdeq.graph import Cell
from refdeq.models import monotone
from refdeq.solvers import Anderson, Broyden, ForwardBackward, PeacemanRachford
from refdeq.types import StopRule
from refdeq_validation.designed.graphs import every_operator_cell, linear_cell
from refdeq_validation.designed.parts import Case, rules

__all__ = ["solver_cases"]

SOLVERS: dict[str, Any] = {
    "anderson": Anderson(window=3),
    "anderson-weights": Anderson(window=3, form="weights", mixing=0.8, ridge=1e-3),
    "anderson-absolute": Anderson(window=3, ridge=1e-3, ridge_scale="absolute"),
    "broyden": Broyden(window=3),
    "broyden-bad": Broyden(update="bad", line_search="armijo"),
}

SPLITTINGS: dict[str, Any] = {"forward-backward": ForwardBackward(), "peaceman-rachford": PeacemanRachford(alpha=0.75)}


def solver_cases(dtype: str) -> Iterator[Case]:
    """Every solver beyond the damped iteration, dense and under two rules; op level where a backend has no plan for it."""
    rng = np.random.default_rng(41)
    stop = StopRule(rtol=1e-4, max_eval=9)
    cell = linear_cell(9, dtype, activation="Tanh", bias=True)
    x = rng.standard_normal((3, 9)).astype(dtype)
    chosen = [("dense", None), *(pair for pair in rules(0.01) if pair[0] in ("refdeq", "delta-network"))]
    for title, solver in SOLVERS.items():
        for preset, rule in chosen:
            name = f"solver-{title}-{preset}-{dtype}"
            yield Case(name, "graph", cell, x, np.zeros_like(x), rule, stop, solver)
    cell = every_operator_cell(dtype)  # two states: a window holds them joined
    x = rng.standard_normal((3, *cell.graph.injections["x"])).astype(dtype)
    both = {name: np.zeros((3, *shape), dtype) for name, shape in cell.graph.states.items()}
    for title in ("anderson", "broyden"):
        yield Case(f"solver-{title}-two-states-{dtype}", "graph", cell, x, both, None, stop, SOLVERS[title])
    cell = _monotone(rng, dtype)
    x = rng.standard_normal((3, 7)).astype(dtype)
    for title, solver in SPLITTINGS.items():
        for preset, rule in chosen:
            name = f"solver-{title}-{preset}-{dtype}"
            yield Case(name, "graph", cell, x, np.zeros_like(x), rule, stop, solver)


def _monotone(rng: np.random.Generator, dtype: str) -> Cell:
    """A cell ``z <- relu(W z + U x + b)`` whose ``I - W`` is strongly monotone."""
    a, b, u = (rng.standard_normal((7, 7)) / 3.0 for _ in range(3))
    return monotone(a, b, u, rng.standard_normal(7), m=0.5).astype(dtype)
