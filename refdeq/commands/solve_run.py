"""The solve behind ``refdeq solve``: in one piece, or in chunks of samples so that traces stay small and progress can be shown.

The residual of every evaluation is in the trace and nowhere else. Samples are independent under strict order (S-1, N-6), so a
large batch is solved chunk by chunk; of each chunk's trace only residual and scale are kept. Where samples may influence each
other (dialects, coupled solvers, fast order), or where the whole trace is asked for, the batch stays in one piece.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refdeq.api import solve
from refdeq.commands.solve_input import Problem
from refdeq.cost import Cost
from refdeq.cost_official import OfficialCost
from refdeq.errors import ArgumentError
from refdeq.execution import finish
from refdeq.graph import Cell
from refdeq.loop import Progress
from refdeq.ops.base import size
from refdeq.registry import Backend
from refdeq.solution import Solution
from refdeq.solvers import Dialect, Solver, SplittingSolver
from refdeq.types import DeltaRule, StopRule, Trace

__all__ = ["History", "Outcome", "Request", "iterated_cell", "run"]

CHUNK_BYTES = 96_000_000
"""Size of the traces held at a time."""
UNTRACED_SAMPLES = 2048
"""Samples per chunk where nothing is traced; small enough for a progress bar."""
HISTORY_BYTES = 16_000_000_000
"""Residuals are recorded unasked while all traces together stay below this: a gigabyte takes up to half a second."""


@dataclass(frozen=True)
class Request:
    """Options of one solve, already checked and built.

    Attributes
    ----------
    history : bool or None
        Whether to record the residual of every evaluation; None decides by size.
    trace : bool
        Whether to keep the whole trace.
    dialect : Dialect or None
        With one, `solver`, `stop` and `returned` are those that it brings.
    The others are those of :func:`refdeq.solve`.
    """

    solver: Solver
    stop: StopRule
    delta: DeltaRule | None
    backend: Backend
    order: str
    executor: str
    threads: int
    returned: str
    polish: bool
    verify: bool
    history: bool | None
    trace: bool
    dialect: Dialect | None = None


@dataclass(frozen=True)
class History:
    """Residual and scale of T evaluations of B samples (S-2); ``active`` says who took part.

    Attributes
    ----------
    active : (T, B) bool
    residual, scale : (T, B) float64
        NaN where a sample did not take part.
    """

    active: np.ndarray
    residual: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What came of it: the solution of the whole batch, the residuals on the way, and the seconds it took."""

    solution: Solution
    history: History | None
    seconds: float


Hook = Callable[[int, Progress | None], None]
"""Told the samples that are done, and what goes on inside a chunk where that can be seen."""


def run(problem: Problem, request: Request, advance: Hook | None = None) -> Outcome:
    """Solve every sample.

    Parameters
    ----------
    problem : Problem
    request : Request
    advance : callable, optional
        Shows progress. Between evaluations it is told only where watching changes nothing, at op level; a fused plan is never
        given up for it.

    Returns
    -------
    Outcome
    """
    start = time.perf_counter()
    watched = request.trace or _records(problem, request)
    spans = _spans(problem, request, watched)
    if len(spans) == 1:
        solution = _solve(problem, request, spans[0], watched, advance)
        history = None if solution.trace is None else _history(solution.trace)
    else:
        solution, history = _solve_in_chunks(problem, request, spans, watched, advance)
    if not request.backend.info.fused and request.executor == "auto":
        solution = replace(solution, executor=f"op level (backend {request.backend.info.name} has no fused plans)")
    return Outcome(solution, history, time.perf_counter() - start)


def _solve_in_chunks(
    problem: Problem, request: Request, spans: Sequence[slice], watched: bool, advance: Hook | None
) -> tuple[Solution, History | None]:
    """Solve chunk by chunk; polish and verification come at the end, because what they say is about the whole batch."""
    plain, parts, histories = replace(request, polish=False, verify=False), [], []
    for rows in spans:
        part = _solve(problem, plain, rows, watched, advance)
        if part.trace is not None:
            histories.append(_history(part.trace))
        parts.append(replace(part, trace=None, memory=None, solver_state=None))
    joined = replace(_joined(parts), x=problem.x)
    kernels = request.backend.kernels(order=request.order, threads=request.threads)
    with np.errstate(all="ignore"):
        solution = finish(joined, problem.cell, kernels, request.polish, request.verify)
    return solution, _stacked(histories) if histories else None


def _history(trace: Trace) -> History:
    return History(trace.active, trace.residual, trace.scale)


def _solve(problem: Problem, request: Request, rows: slice, watched: bool, advance: Hook | None) -> Solution:
    watching = None
    if advance is not None and (request.executor == "op" or not request.backend.info.fused):

        def watching(progress: Progress) -> None:
            advance(rows.start + progress.finished, progress)

    how: dict[str, Any] = {"dialect": request.dialect}
    if request.dialect is None:
        how = {"solver": request.solver, "stop": request.stop, "returned": request.returned}
    try:
        solution = solve(
            problem.cell,
            {name: array[rows] for name, array in problem.x.items()},
            z0=None if problem.z0 is None else {name: array[rows] for name, array in problem.z0.items()},
            delta=request.delta,
            backend=request.backend,
            order=request.order,
            executor=request.executor,
            threads=request.threads,
            polish=request.polish,
            verify=request.verify,
            trace=watched,
            on_evaluation=watching,
            **how,
        )
    except MemoryError as error:
        hint = "smaller --max-eval or fewer samples" + (", or no --trace" if request.trace else "")
        raise ArgumentError("INPUT", hint=f"the solve does not fit in memory: {hint}") from error
    if advance is not None:
        advance(rows.stop, None)
    return solution


def iterated_cell(problem: Problem, solver: Solver) -> Cell:
    """The cell whose values the gates watch: a splitting's rewritten one, else the cell itself."""
    return _rewritten(problem.cell, solver) if isinstance(solver, SplittingSolver) else problem.cell


@functools.lru_cache(maxsize=1)
def _rewritten(cell: Cell, solver: SplittingSolver) -> Cell:
    return solver.split(cell).cell


def _traced_bytes(problem: Problem, request: Request) -> int:
    """Upper bound of a sample's trace: z and f, every value of the loop, and r and mask of every watched value."""
    graph = iterated_cell(problem, request.solver).graph
    numbers = 2 * sum(size(graph.shapes[name]) for name in graph.states)
    numbers += sum(size(graph.shapes[node.name]) for node in graph.loop_nodes)
    gates = {node.inputs[0] for node in graph.linear_nodes} if request.delta is not None else set()
    watched = sum(size(graph.shapes[name]) for name in gates)
    return request.stop.max_eval * ((numbers + watched) * problem.cell.dtype.itemsize + watched)


def _records(problem: Problem, request: Request) -> bool:
    if request.history is not None:
        return request.history
    return _traced_bytes(problem, request) * problem.samples <= HISTORY_BYTES


def _spans(problem: Problem, request: Request, watched: bool) -> list[slice]:
    """Chunks of samples; one where the samples are not independent, or none may be dropped."""
    samples = problem.samples
    coupled = request.dialect is not None or getattr(request.solver, "coupled", False)
    independent = request.order == "strict" and not coupled
    if request.trace or not independent or samples == 0:
        return [slice(0, samples)]
    length = max(1, CHUNK_BYTES // _traced_bytes(problem, request)) if watched else UNTRACED_SAMPLES
    return [slice(first, min(first + length, samples)) for first in range(0, samples, length)]


def _stacked(parts: Sequence[History]) -> History:
    """Histories side by side; chunks that ended earlier are filled up with evaluations in which they took no part."""
    length = max(len(part.active) for part in parts)

    def filled(arrays: list[np.ndarray], blank: Any) -> np.ndarray:
        return np.concatenate(
            [np.pad(array, ((0, length - len(array)), (0, 0)), constant_values=blank) for array in arrays], axis=1
        )

    return History(
        filled([part.active for part in parts], False),
        filled([part.residual for part in parts], np.nan),
        filled([part.scale for part in parts], np.nan),
    )


def _joined(parts: Sequence[Solution]) -> Solution:
    """One solution of the whole batch; what only a chunk knows of (memory, the solver's state) is dropped."""

    def along(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    first = parts[0]
    costs = [part.cost for part in parts if part.cost is not None]
    return replace(
        first,
        states={name: np.concatenate([part.states[name] for part in parts]) for name in first.states},
        status=along("status"),
        n_eval=along("n_eval"),
        residual=along("residual"),
        scale=along("scale"),
        cost=_total_cost(costs) if len(costs) == len(parts) else None,
        warnings=tuple(dict.fromkeys(sentence for part in parts for sentence in part.warnings)),
        iterate={},
    )


def _total_cost(parts: Sequence[Cost]) -> Cost:
    first, official = parts[0], [part.official for part in parts if part.official is not None]
    overhead = first.overhead
    for part in parts[1:]:
        overhead += part.overhead
    return replace(
        first,
        macs=sum(part.macs for part in parts),
        macs_dense=sum(part.macs_dense for part in parts),
        macs_per_sample=np.concatenate([part.macs_per_sample for part in parts]),
        by_node={name: sum(part.by_node[name] for part in parts) for name in first.by_node},
        by_gate={name: sum(part.by_gate[name] for part in parts) for name in first.by_gate},
        macs_hoisted=sum(part.macs_hoisted for part in parts),
        overhead=overhead,
        official=_total_official(official) if official else None,
    )


def _total_official(parts: Sequence[OfficialCost]) -> OfficialCost:
    return OfficialCost(
        flops=sum(part.flops for part in parts),
        flops_dense=sum(part.flops_dense for part in parts),
        zeros=sum(part.zeros for part in parts),
        elements=sum(part.elements for part in parts),
    )
