"""Running one validated solve: through the loop, through a fused plan, or for a plain callable; then polish and verify."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from refdeq.callable_map import CallableMap
from refdeq.cost import Cost, measure_cost
from refdeq.delta import DeltaMemory, refresh_interval
from refdeq.errors import UnsupportedError
from refdeq.evaluation import Evaluator
from refdeq.graph import Cell
from refdeq.kernels import Kernels
from refdeq.loop import Hook, LoopResult, iterate
from refdeq.recording import Recorder, empty_trace
from refdeq.reference import ReferenceKernels
from refdeq.registry import Backend, Plan, PlanRequest, countable
from refdeq.solution import Solution
from refdeq.solvers import Dialect, Solver, Split, SplittingSolver
from refdeq.solvers.peer_criterion import PeerCriterion
from refdeq.stopping import relative
from refdeq.types import Status, StopRule, Trace

__all__ = ["choose_plan", "finish", "run_callable", "run_fused", "run_loop"]

_LONGEST_BUFFERS = 1000
"""Evaluations up to which a fused solve gets trace buffers for its whole budget at once."""


def choose_plan(
    backend: Backend,
    evaluator: Evaluator,
    solver: Solver,
    returned: str,
    order: str,
    executor: str,
    hook: Hook | None,
    dialect: Dialect | None = None,
    stop: StopRule | None = None,
) -> tuple[Plan | None, str]:
    """Return the fused plan to run, or None and the reason."""
    if executor == "op":
        return None, "asked for"
    if hook is not None:
        reason = "a progress hook needs the loop"
    elif dialect is not None:
        reason = "a dialect decides in the loop"
    elif isinstance(solver, SplittingSolver):
        reason = "a splitting forms its residual in the loop"
    else:
        rule, graph = evaluator.rule, evaluator.cell.graph
        request = PlanRequest(
            graph=graph,
            solver=solver,
            gates={n.name: evaluator.gates[n.inputs[0]] for n in graph.linear_nodes if n.name in evaluator.gated},
            start="dense" if rule is None else rule.start,
            bias="separate" if rule is None else rule.bias,
            refresh=refresh_interval(rule),
            returned=returned,
            order=order,
            stop=StopRule() if stop is None else countable(stop),
        )
        plan = backend.plan(request)
        if not hasattr(plan, "reason"):
            return plan, ""
        reason = plan.reason
    if executor == "fused":
        raise UnsupportedError(f"backend {backend.info.name!r} has no fused plan for this solve: {reason}")
    return None, reason


def run_loop(
    evaluator: Evaluator,
    kernels: Kernels,
    solver: Solver,
    stop: StopRule,
    start: Mapping[str, np.ndarray],
    returned: str,
    trace: bool,
    hook: Hook | None,
    native: bool,
    split: Split | None = None,
    dialect: Dialect | None = None,
) -> Solution:
    """Solve a cell through the loop, operator by operator; `native` says what its activations are (N-8)."""
    z = {name: kernels.upload(array) for name, array in start.items()}
    criterion = None if dialect is None else dialect.criterion(kernels, z)
    recorder = Recorder(evaluator, kernels, native=native) if trace else None
    result = iterate(
        evaluator,
        kernels,
        solver,
        stop,
        z,
        returned=returned,
        recorder=recorder,
        hook=hook,
        criterion=criterion,
        split=split,
        values=evaluator.values,
    )
    counters = (evaluator.macs, evaluator.sent, evaluator.nonzero, evaluator.dense_nonzero)
    cost = measure_cost(evaluator.cell, result.n_eval, *counters)
    solution = _solution(result, kernels, stop, cost, evaluator.memory(), recorder.trace() if recorder else None)
    return solution if dialect is None or criterion is None else _as_peer(solution, kernels, dialect, criterion)


def _as_peer(solution: Solution, kernels: Kernels, dialect: Dialect, criterion: PeerCriterion) -> Solution:
    """What the peer returns in the place of the last argument, and its report (S-9)."""
    states = {name: kernels.download(value) for name, value in criterion.returned().items()}
    report = criterion.record.report(dialect, {name: array.copy() for name, array in states.items()})
    return replace(solution, states=states, residual=criterion.residual, scale=criterion.scale, dialect=report)


def _solution(
    result: LoopResult, kernels: Kernels, stop: StopRule, cost: Cost | None, memory: DeltaMemory | None, trace: Trace | None
) -> Solution:
    return Solution(
        states={name: kernels.download(value) for name, value in result.z.items()},
        status=result.status,
        n_eval=result.n_eval,
        residual=result.residual,
        scale=result.scale,
        stop=stop,
        cost=cost,
        memory=memory,
        trace=trace,
        executor="op level",
        backend="reference",
        order="strict",
        iterate={name: kernels.download(value) for name, value in result.iterate.items()},
        solver_state=result.state,
    )


def run_fused(
    plan: Plan,
    evaluator: Evaluator,
    stop: StopRule,
    start: Mapping[str, np.ndarray],
    memory: DeltaMemory | None,
    threads: int,
    trace: bool,
    native: bool,
) -> Solution:
    """Solve a cell in one compiled routine of the backend; `native` says what its activations are (N-8)."""
    cell, kernels = evaluator.cell, evaluator.kernels
    hoisted = {node.name: kernels.download(evaluator.values[node.name]) for node in cell.graph.hoisted}
    hoisted |= {name: kernels.download(evaluator.values[name]) for name in cell.graph.injections}
    buffers, budget, bound = None, countable(stop), plan.bind(cell.parameters, threads=threads)
    if trace and budget.max_eval > _LONGEST_BUFFERS:
        # Buffers for what is made, not for what is allowed: a first solve finds it out. The second takes the same decisions,
        # because that the budget is used up is what a sample is told last (S-3), after every other reason to stop.
        made = bound.run(start, hoisted, memory, budget, None).n_eval
        budget = replace(budget, max_eval=max(1, int(made.max(initial=0))))
    if trace:
        x_only = {node.name: hoisted[node.name] for node in cell.graph.hoisted}
        buffers = empty_trace(cell.graph, evaluator.batch, budget.max_eval, evaluator.gates, evaluator.gated, x_only, native)
    out = bound.run(start, hoisted, memory, budget, buffers)
    after = DeltaMemory(out.r, out.mask, out.a, out.count, cell.digest, evaluator.rule)
    return Solution(
        states=out.z,
        status=out.status,
        n_eval=out.n_eval,
        residual=out.residual,
        scale=out.scale,
        stop=stop,
        cost=measure_cost(cell, out.n_eval, out.macs, out.sent, out.nonzero, {}),
        memory=after,
        trace=_shortened(buffers),
        executor=f"; {out.note}" if out.note else "",
        backend="",
        order="",
    )


def _shortened(trace: Trace | None) -> Trace | None:
    """Drop the evaluations that no sample made."""
    if trace is None:
        return None
    length = int(trace.active.any(axis=1).sum())
    parts: dict[str, Any] = {
        part: {name: array[:length] for name, array in getattr(trace, part).items()}
        for part in ("z", "f", "r", "mask", "a", "values")
    }
    return replace(trace, active=trace.active[:length], residual=trace.residual[:length], scale=trace.scale[:length], **parts)


def finish(solution: Solution, cell: Cell, kernels: Kernels, polish: bool, verify: bool) -> Solution:
    """Polish and verify with dense evaluations at the returned point (S-2b, S-4)."""
    if not (polish or verify):
        return solution
    batch = len(solution.status)
    dense = Evaluator(cell, kernels, solution.x, batch)
    everyone = np.ones(batch, dtype=bool)
    if polish:
        f = dense.evaluate({name: kernels.upload(v) for name, v in solution.states.items()}, everyone)
        states = {name: kernels.download(value) for name, value in f.items()}
        cost = None if solution.cost is None else solution.cost.plus_dense_evaluation(cell)
        solution = replace(solution, states=states, n_eval=solution.n_eval + 1, cost=cost, polished=True, iterate={})
    if not verify:
        return solution
    z = {name: kernels.upload(value) for name, value in solution.states.items()}
    f = dense.evaluate(z, everyone)
    residual, scale = np.empty(batch), np.empty(batch)
    kernels.residual([f[name] for name in z], list(z.values()), solution.stop.norm, everyone, residual, scale)
    sentences = [*solution.warnings, *_verdict(solution, residual, scale)]
    return replace(solution, residual_dense=residual, warnings=tuple(sentences))


def _verdict(solution: Solution, residual: np.ndarray, scale: np.ndarray) -> list[str]:
    """Warn where the dense residual misses the tolerance that the delta-evaluated one met (S-2b)."""
    stop = solution.stop
    met = np.zeros(len(residual), dtype=bool)
    if solution.dialect is not None:
        size = sum(value.size for value in solution.states.values())
        met |= solution.dialect.dialect.rules.met(residual, scale, size)
        stop = replace(stop, rtol=None, atol=None)
    if stop.atol is not None:
        met |= residual <= stop.atol
    if stop.rtol is not None:
        met |= relative(residual, scale, stop.eps) <= stop.rtol
    missed = int((~met & (solution.status == Status.CONVERGED)).sum())
    if not missed:
        return []
    is_gated = solution.cost is not None and bool(solution.cost.by_gate)
    seen = "the delta-evaluated residual" if is_gated else "the residual of the solve"
    return [f"{missed} of {len(met)} samples converged by {seen} but not by the dense one"]


def run_callable(
    f: Callable[..., Any],
    x: Any,
    z0: np.ndarray,
    solver: Solver,
    stop: StopRule,
    returned: str,
    trace: bool,
    hook: Hook | None,
    dialect: Dialect | None = None,
) -> Solution:
    """Solve a plain callable ``f(z, x)`` on the whole batch (S-11)."""
    kernels = ReferenceKernels()
    recorder = Recorder(None, kernels) if trace else None
    z = {"z": kernels.upload(z0)}
    criterion = None if dialect is None else dialect.criterion(kernels, z)
    evaluator = CallableMap(f, x, z0)
    result = iterate(evaluator, kernels, solver, stop, z, returned=returned, recorder=recorder, hook=hook, criterion=criterion)
    solution = _solution(result, kernels, stop, None, None, recorder.trace() if recorder else None)
    if dialect is not None and criterion is not None:
        solution = _as_peer(solution, kernels, dialect, criterion)
    return replace(solution, executor="plain callable", x={"x": x})
