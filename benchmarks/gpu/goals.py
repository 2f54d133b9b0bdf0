"""The goals G1 to G17 as data, and what became of them: ``python -m benchmarks.gpu.goals [FILE]`` prints the table.

A goal is *met* or *missed* by measurements of a real device only; without any it is *not measured*, and no figure is shown.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["GOALS", "UNMEASURED", "Goal", "Outcome", "evaluate", "figure_of", "is_evidence", "table"]


@dataclass(frozen=True)
class Goal:
    """One goal.

    Attributes
    ----------
    id, work, required, bound : str
        As people read them; the bound is that of the model, not a measurement.
    demands : mapping of point to least figure
        What a measurement of this goal is called in its id, and what it must reach.
    limits : mapping of point to greatest error
        Against the fixed point in float64; what is less exact has no figure, however fast it is.
    """

    id: str
    work: str
    required: str
    bound: str
    demands: Mapping[str, float]
    limits: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of one goal.

    Attributes
    ----------
    goal : Goal
    state : {"met", "missed", "not measured", "not run"}
    figures : str
    """

    goal: Goal
    state: str
    figures: str


GOALS: tuple[Goal, ...] = (
    Goal("G1", "batch 1, n = 16384, float32, density 0.10 (0.02), 30 evaluations; graph of dense cuBLAS", ">= 7.5 (>= 25)", "10.4 (42)",
         {"d0.10": 7.5, "d0.02": 25.0}),
    Goal("G2", "n = 8192, density 0.10 (0.02)", ">= 6.5 (>= 11)", "9.6 (17)", {"d0.10": 6.5, "d0.02": 11.0}),
    Goal("G3", "n = 4096, density 0.10", ">= 3.2", "4.7", {"d0.10": 3.2}),
    Goal("G4", "n = 1024 and 2048: eager loop with a check / graph / own dense", ">= 30 / >= 1.3 / no claim", "55 / 1.5-1.9 / 1.0-1.7",
         {"eager": 30.0, "graph": 1.3}),
    Goal("G5", "share of the measured read bandwidth, n = 16384: density >= 0.25 / 0.10", ">= 0.85 / >= 0.75", "1",
         {"d0.25": 0.85, "d0.10": 0.75}),
    Goal("G6", "microseconds of an evaluation with nothing sent: CuPy / Numba-CUDA", "<= 4 / <= 6", "3.3", {"cupy": 4.0, "cuda": 6.0}),
    Goal("G7", "65536 x 256, tile on chip, bf16, real trace, error <= 1e-3; graph of TF32", ">= 5", "9.2 at 0.3 of the rows", {"bf16": 5.0},
         {"bf16": 1e-3}),
    Goal("G8", "the same, bf16x3 with feedback, error <= 1e-6; graph of float32", ">= 5", "10.5 at 0.3 of the rows", {"bf16x3": 5.0},
         {"bf16x3": 1e-6}),
    Goal("G9", "65536 x 512, bf16 in a cluster; graph of TF32", ">= 3.5", "6.8 at 0.3 of the rows", {"cluster": 3.5}),
    Goal("G10", "swapping of rows against the same kernel without freezing", ">= 0.8 / mean share of active rows", "1 / share",
         {"swapping": 0.8}),
    Goal("G11", "Numba-CUDA, lists of rows and columns, <= 0.1 of the rows active; graph of float32", ">= 2.5", "about 4", {"rows": 2.5}),
    Goal("G12", "half a ConvGRU, 768 -> 256, 0.25 (0.10) active, TF32 class; cuDNN TF32", ">= 1.4 (>= 2.5)", "2.0 (3.6)",
         {"a0.25": 1.4, "a0.10": 2.5}),
    Goal("G13", "the same, bf16x3 with feedback, 1 / 0.25 / 0.10 active; cuDNN float32", ">= 1.8 / >= 5 / >= 9", "2.5 / 8.8 / 18",
         {"a1.00": 1.8, "a0.25": 5.0, "a0.10": 9.0}),
    Goal("G14", "density of tiles at which cuDNN TF32 is as fast", ">= 0.5", "0.57", {"crossing": 0.5}),
    Goal("G15", "the dispatcher at any density; graph of dense", ">= 0.97", "1", {"dispatch": 0.97}),
    Goal("G16", "equal bits over runs, grids and orders of rows; Numba-CUDA and CuPy equal on K1", "all", "all", {"equal": 1.0}),
    Goal("G17", "bf16x3 with feedback: error of the fixed point over that of dense float32", "<= 2", "0.8 on a CPU", {"error": 2.0}),
)  # fmt: skip

AT_MOST = {"G6", "G17"}
"""Goals whose figure must not exceed the number; the others must reach it."""
UNMEASURED = {"G9": "no kernel spreads a tile over a cluster of multiprocessors"}
"""Goals that no run has a measurement of, with the reason."""


def is_evidence(facts: Mapping[str, Any]) -> bool:
    """Whether the figures of a run mean anything.

    >>> is_evidence({"simulated": False, "small": True})
    False
    """
    return not facts["simulated"] and not facts.get("small", False)


def evaluate(runs: Sequence[Mapping[str, Any]]) -> list[Outcome]:
    """Judge every goal by stored runs; those of simulated devices and tries say nothing."""
    measured = [entry for run in runs if is_evidence(run["facts"]) for entry in run["measurements"]]
    return [_judge(goal, [entry for entry in measured if entry["goal"] == goal.id]) for goal in GOALS]


def _judge(goal: Goal, entries: Sequence[Mapping[str, Any]]) -> Outcome:
    if not entries:
        return Outcome(goal, "not measured", "")
    states, texts = [], []
    for point, required in goal.demands.items():
        worst = figure_of(goal, point, entries)
        if worst is None:
            states.append("not run")
            texts.append(f"{point}: not run")
            continue
        is_met = worst <= required if goal.id in AT_MOST else worst >= required
        states.append("met" if is_met else "missed")
        texts.append(f"{point}: {worst:.3g}")
    state = "missed" if "missed" in states else "not run" if "not run" in states else "met"
    return Outcome(goal, state, "; ".join(texts))


def figure_of(goal: Goal, point: str, entries: Sequence[Mapping[str, Any]]) -> float | None:
    """The worst figure of a goal at a point; None where nothing was measured there.

    A measurement belongs to a point that is one of the parts of its id, between slashes.
    """
    own = [entry for entry in entries if entry["goal"] == goal.id and point in entry["id"].split("/")]
    if point in goal.limits:
        own = [entry for entry in own if _is_within(entry["error"].get("vs_f64_fixedpoint"), goal.limits[point])]
    figures = [figure for figure in map(_figure, own) if figure is not None]
    return (max if goal.id in AT_MOST else min)(figures, default=None)


def _is_within(error: float | None, limit: float) -> bool:
    return error is not None and error <= limit


def _figure(entry: Mapping[str, Any]) -> float | None:
    """The number a measurement has; a ratio whose A/A is more than a third of its gain is none."""
    if entry["error"].get("figure") is not None:
        return float(entry["error"]["figure"])
    ratio = entry["ratio"]
    if ratio is None or entry["spread"] > abs(ratio["median"] - 1.0) / 3.0:
        return None
    return float(ratio["median"])


def table(outcomes: Sequence[Outcome]) -> str:
    """The goals as a Markdown table."""
    lines = ["| goal | work, baseline | asked | bound of the model | state | figures |", "|---|---|---|---|---|---|"]
    for outcome in outcomes:
        goal = outcome.goal
        lines.append(
            f"| {goal.id} | {goal.work} | {goal.required} | {goal.bound} | {outcome.state} | {outcome.figures or 'none'} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Print the table of the files named, or of all stored ones."""
    from benchmarks.gpu.records import load

    stored = Path(__file__).resolve().parents[1] / "results" / "gpu"
    paths = [Path(argument) for argument in arguments] or sorted(stored.glob("*.json"))
    print(table(evaluate([load(path) for path in paths])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
