"""What ``refdeq solve`` found out, as plain data; the tables on the console show parts of it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq import __version__
from refdeq.commands.solve_input import Problem
from refdeq.commands.solve_run import History, Outcome, Request, iterated_cell
from refdeq.cost_official import OFFICIAL_NOTE
from refdeq.ops.base import size
from refdeq.solution import Solution
from refdeq.stopping import relative
from refdeq.types import SEMANTICS_VERSION, Status

__all__ = [
    "Measure",
    "Report",
    "carried",
    "cost_data",
    "describe_options",
    "measures",
    "plain",
    "status_rows",
    "to_json",
    "worst_samples",
]

SCHEMA = "refdeq-solve/1"
WORST = 5
"""Samples listed one by one."""


@dataclass(frozen=True)
class Report:
    """One solve with everything said about it.

    Attributes
    ----------
    problem : Problem
    request : Request
    backend_reason : str
    outcome : Outcome
    files : dict of {"plot", "trace", "out"} to path
        Written files.
    """

    problem: Problem
    request: Request
    backend_reason: str
    outcome: Outcome
    files: Mapping[str, str]


def plain(value: Any) -> Any:
    """JSON data of a value: arrays as lists, dataclasses as objects, and numbers that JSON lacks as words.

    >>> plain({"residual": np.array([0.5, np.nan, -np.inf])})
    {'residual': [0.5, 'NaN', '-Infinity']}
    """
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value if isinstance(value, str | bool | int | float | None) else str(value)


def describe_options(request: Request) -> dict[str, Any]:
    """The options of a solve as JSON data, enough to make it again."""
    dialect = request.dialect
    data: dict[str, Any] = {
        "solver": {"name": request.solver.name, "class": type(request.solver).__name__, **plain(request.solver)},
        "stop": plain(request.stop),
        "delta": plain(request.delta),
        "dialect": None if dialect is None else {"name": dialect.label, "options": plain(dict(dialect.options))},
        "backend": request.backend.info.name,
    }
    for name in ("order", "executor", "threads", "returned", "polish", "verify"):
        data[name] = getattr(request, name)
    return data


def _range(values: np.ndarray) -> dict[str, Any]:
    """Least, median and largest; NaN counts as larger than everything."""
    ranked = np.sort(values)
    return {"min": ranked[0], "median": ranked[(len(ranked) - 1) // 2], "max": ranked[-1]}


def status_rows(solution: Solution) -> list[dict[str, Any]]:
    """One row per status that occurs: how many samples, their evaluations and residuals, and what the status means.

    A median of evaluations or residuals is that of a sample: the lower of the two middle ones where the number is even.
    """
    rows = []
    for status, count in solution.counts().items():
        chosen = solution.status == status
        rows.append(
            {
                "status": status.name,
                "samples": count,
                "evaluations": _range(solution.n_eval[chosen]),
                "residual": _range(solution.residual[chosen]),
                "residual_rel": _range(solution.residual_rel[chosen]),
                "sentence": status.sentence,
            }
        )
    return rows


def worst_samples(solution: Solution) -> list[int]:
    """Samples that did not converge first, then by relative residual, the largest (or not finite) first."""
    badness = np.where(np.isfinite(solution.residual_rel), solution.residual_rel, np.inf)
    order = np.lexsort((-badness, solution.status == Status.CONVERGED))
    return [int(index) for index in order[:WORST]]


@dataclass(frozen=True)
class Measure:
    """A residual over the evaluations, with the tolerance it is compared to.

    Attributes
    ----------
    label : str
    values : (T, B) float64
        A sample that is finished keeps its last residual.
    tolerance : float or None
    """

    label: str
    values: np.ndarray
    tolerance: float | None


def carried(values: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Values of (T, B) evaluations, each sample's last one kept where it no longer takes part.

    >>> carried(np.array([[4.0, 3.0], [2.0, np.nan]]), np.array([[True, True], [True, False]])).tolist()
    [[4.0, 3.0], [2.0, 3.0]]
    """
    steps = np.where(active, np.arange(len(active))[:, None], 0)
    latest: np.ndarray = np.take_along_axis(values, np.maximum.accumulate(steps, axis=0), axis=0)
    return latest


def measures(request: Request, history: History) -> list[Measure]:
    """What the stop rule looks at: the relative residual, the absolute one, or both.

    A dialect that pools the residuals of the batch compares none of a sample with its tolerance.
    """
    stop, found = request.stop, []
    pooled = request.dialect is not None and request.dialect.rules.pool != "samples"
    if stop.rtol is not None or stop.atol is None:
        values = relative(history.residual, history.scale, stop.eps)
        found.append(Measure("relative residual", carried(values, history.active), None if pooled else stop.rtol))
    if stop.atol is not None:
        found.append(Measure("residual", carried(history.residual, history.active), None if pooled else stop.atol))
    return found


def _history_data(history: History | None) -> dict[str, Any] | None:
    """Residual and scale of every evaluation a sample made, one list per sample."""
    if history is None:
        return None
    samples = range(history.active.shape[1])
    return {name: [getattr(history, name)[history.active[:, b], b].tolist() for b in samples] for name in ("residual", "scale")}


def cost_data(report: Report) -> dict[str, Any] | None:
    """Cost of a solve (C-1 to C-3) as plain data, with the share that each gate sent; None where nothing was counted."""
    solution = report.outcome.solution
    if solution.cost is None:
        return None
    cost = solution.cost
    graph = iterated_cell(report.problem, report.request.solver).graph
    # a polishing evaluation passes no gate
    evaluations = int(solution.n_eval.sum()) - (len(solution.n_eval) if solution.polished else 0)
    return {
        "macs": cost.macs,
        "macs_dense": cost.macs_dense,
        "saved": cost.saved,
        "macs_hoisted": cost.macs_hoisted,
        "by_node": cost.by_node,
        "by_gate": {
            gate: {"sent": sent, "elements": size(graph.shapes[gate]) * evaluations} for gate, sent in cost.by_gate.items()
        },
        "overhead": cost.overhead,
        "official": None if cost.official is None else {**plain(cost.official), "note": OFFICIAL_NOTE},
    }


def _dialect_data(solution: Solution) -> dict[str, Any] | None:
    """What the peer reports of itself (S-9), without the point, which is the solution's."""
    report = solution.dialect
    if report is None:
        return None
    names = ("abs_trace", "rel_trace", "abs_lowest", "rel_lowest", "lowest_step", "nstep", "prot_break")
    return {name: getattr(report, name) for name in names}


def to_json(report: Report) -> str:
    """The one JSON object of ``--json``; numbers that JSON lacks are the strings NaN, Infinity and -Infinity."""
    problem, solution, graph = report.problem, report.outcome.solution, report.problem.cell.graph
    samples: dict[str, Any] = {
        "status": [Status(int(status)).name for status in solution.status],
        **{name: getattr(solution, name) for name in ("n_eval", "residual", "scale", "residual_rel", "residual_dense")},
        "macs": None if solution.cost is None else solution.cost.macs_per_sample,
    }
    data = {
        "schema": SCHEMA,
        "refdeq": __version__,
        "semantics": SEMANTICS_VERSION,
        "cell": {
            "source": problem.source,
            "digest": problem.cell.digest,
            "dtype": graph.dtype,
            "states": graph.states,
            "injections": graph.injections,
            "nodes": len(graph.nodes),
            "parameters": sum(array.size for array in problem.cell.parameters.values()),
        },
        "input": {"source": problem.input_source, "samples": problem.samples, "z0": problem.z0 is not None},
        "options": describe_options(report.request),
        "backend_reason": report.backend_reason,
        "executor": solution.executor,
        "seconds": report.outcome.seconds,
        "converged": solution.converged,
        "statuses": status_rows(solution),
        "worst": worst_samples(solution),
        "samples": samples,
        "history": _history_data(report.outcome.history),
        "cost": cost_data(report),
        "dialect": _dialect_data(solution),
        "warnings": solution.warnings,
        "files": dict(report.files),
    }
    return json.dumps(plain(data), indent=2, allow_nan=False)
