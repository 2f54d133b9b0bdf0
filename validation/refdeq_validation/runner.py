"""Running backends for the judge: one traced solve in, plain data out. The judge proper never imports this."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from refdeq.api import solve
from refdeq.graph import Cell
from refdeq.registry import Backend, load_backend
from refdeq.solution import Solution
from refdeq.solvers import PeacemanRachford, Picard, SplittingSolver
from refdeq.types import DeltaRule, StopRule
from refdeq_validation.designed.families import Case
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.models import declared
from refdeq_validation.judge.replay import replay
from refdeq_validation.judge.run import Run
from refdeq_validation.judge.splitting import judge_resolvent
from refdeq_validation.judge.verdicts import Findings
from refdeq_validation.protocol.manifest import Claims

__all__ = ["judge_case", "judge_solve", "run_data"]


def run_data(
    cell: Cell,
    solution: Solution,
    z0: dict[str, np.ndarray],
    rule: DeltaRule | None,
    solver: Any,
    order: str,
    warm: Solution | None,
    returned: str = "last",
    cancelled: int | None = None,
    native_ulp: float | None = None,
) -> Run:
    """Turn a traced solution into the plain data the judge reads; `native_ulp` is that of native activations (N-8)."""
    memory = None
    if warm is not None and warm.memory is not None:
        memory = {"r": warm.memory.r, "a": warm.memory.a, "count": warm.memory.count}
    after = {} if solution.memory is None else vars(solution.memory)
    cost = solution.cost
    assert solution.trace is not None
    assert cost is not None
    split = solver.split(cell) if isinstance(solver, SplittingSolver) else None
    iterated = cell if split is None else split.cell
    return Run(
        graph=iterated.graph.to_dict(),
        parameters=dict(iterated.parameters),
        x=dict(solution.x),
        z0=z0,
        rule=rule,
        stop=solution.stop,
        alpha=getattr(solver, "alpha", 1.0),
        order=order,
        memory=memory,
        trace=solution.trace,
        z=solution.states,
        status=solution.status,
        n_eval=solution.n_eval,
        residual=solution.residual,
        scale=solution.scale,
        after=after,
        sent=cost.by_gate,
        macs=cost.by_node,
        zeros=None if cost.official is None else (cost.official.zeros, cost.official.elements),
        returned=returned,
        solver=solver_data(solver, cell),
        native_ulp=native_ulp,
        cancelled=cancelled,
        split=None if split is None else {"argument": dict(split.argument), "value": dict(split.value)},
    )


def solver_data(solver: Any, cell: Cell) -> dict[str, Any]:
    """Name and options of a solver, as the judge reads them.

    >>> from refdeq.models import rnn
    >>> from refdeq.solvers import KrasnoselskiiMann
    >>> solver_data(KrasnoselskiiMann(alpha=0.5), rnn(np.eye(1), np.eye(1), np.zeros(1)))
    {'name': 'krasnoselskii-mann', 'alpha': 0.5}
    """
    if isinstance(solver, SplittingSolver):
        names = {"ForwardBackward": "forward-backward", "PeacemanRachford": "peaceman-rachford"}
        return {"name": names[type(solver).__name__], "alpha": float(solver.step_length(cell))}  # type: ignore[attr-defined]
    names = {"KrasnoselskiiMann": "krasnoselskii-mann", "Picard": "picard", "Anderson": "anderson", "Broyden": "broyden"}
    options = {entry.name: getattr(solver, entry.name) for entry in fields(solver)}
    if options.get("line_search") is not None:
        search = options["line_search"]
        options["line_search"] = {entry.name: getattr(search, entry.name) for entry in fields(search)}
    return {"name": names[type(solver).__name__], **options}


def judge_solve(
    cell: Cell,
    x: Any,
    *,
    rule: DeltaRule | None,
    stop: StopRule,
    backend: str | Backend,
    order: str = "strict",
    executor: str = "auto",
    threads: int = 1,
    solver: Any = None,
    z0: np.ndarray | dict[str, np.ndarray] | None = None,
    warm: Solution | None = None,
    judged_as: str | None = None,
    returned: str = "last",
    verify: bool = False,
) -> tuple[Solution, Findings]:
    """Solve with a trace and judge every transition.

    Parameters
    ----------
    solver : solver, optional
        Any of the package; of splittings those of Gemm cells. Picard by default.
    judged_as : {"strict", "fast"}, optional
        The declaration to judge by; `order` by default.
    returned : {"last", "lowest"}
        S-4.
    verify : bool
        Also let the backend report its dense residual (S-2b).

    Returns
    -------
    Solution, Findings
    """
    solver = Picard() if solver is None else solver
    solution = solve(
        cell,
        x,
        z0=z0 if warm is None else None,
        solver=solver,
        stop=stop,
        delta=rule,
        backend=backend,
        order=order,
        executor=executor,
        threads=threads,
        warm=warm,
        reuse="state" if warm is None or rule is None else "state+memory",
        trace=True,
        returned=returned,
        verify=verify,
    )
    if len(solution.status) == 0:
        return solution, Findings()
    start = _start(cell, solution, z0, warm)
    findings = Findings()
    if isinstance(solver, PeacemanRachford):
        linear = next(node for node in cell.graph.linear_nodes if node.op == "Gemm")
        given = cell.parameters[linear.inputs[1]]
        weight = given if linear.attributes.get("transB", 0) else given.T
        v = solver.split(cell).cell.parameters["V"]
        judge_resolvent(weight, v, solver.step_length(cell), Comparer(findings))
    info = load_backend(backend).info if isinstance(backend, str) else backend.info
    native_ulp = info.activation_ulp if info.activation_in(order) == "native" else None
    memory = warm if rule is not None else None
    run = run_data(cell, solution, start, rule, solver, judged_as or order, memory, returned, native_ulp=native_ulp)
    if order == "fast" and (info.multiply, info.rounding) != ("same", "nearest"):
        claims = Claims(name=info.name, order="fast", multiply=info.multiply, rounding=info.rounding)
        run = replace(run, model=declared(claims, cell.graph.dtype))
    findings.merge(replay(run))
    return solution, findings


def _start(
    cell: Cell, solution: Solution, z0: np.ndarray | dict[str, np.ndarray] | None, warm: Solution | None
) -> dict[str, np.ndarray]:
    if warm is not None:
        return warm.states
    batch = len(solution.status)
    if z0 is not None:
        return z0 if isinstance(z0, dict) else {next(iter(cell.graph.states)): z0}
    return {name: np.zeros((batch, *shape), dtype=cell.dtype) for name, shape in cell.graph.states.items()}


def judge_case(case: Case, backend: Backend, order: str, executor: str, judged_as: str | None = None) -> Findings:
    """Judge a designed case on one execution path, and its second part if it has one.

    The same solve without a trace must give the same bits (S-10, and nothing may leak from one solve into the next).
    """
    path: dict[str, Any] = {"backend": backend, "order": order, "executor": executor}
    common: dict[str, Any] = {"rule": case.rule, "solver": case.solver, "stop": case.stop, "judged_as": judged_as, **path}
    common["returned"] = case.returned
    warm = case.warm()
    traced, findings = judge_solve(case.cell, case.x, z0=case.z0, warm=warm, **common)
    plain = solve(
        case.cell,
        case.x,
        z0=case.z0 if warm is None else None,
        solver=case.solver,
        stop=case.stop,
        delta=case.rule,
        warm=warm,
        reuse="state" if warm is None else "state+memory",
        returned=case.returned,
        **path,
    )
    _compare_solutions(Comparer(findings), traced, plain)
    if case.then is not None:
        _, continued = judge_solve(case.cell, case.then, warm=traced, **common)
        findings.merge(continued)
    return findings


def _compare_solutions(compare: Comparer, traced: Solution, plain: Solution) -> None:
    """Bits of an untraced solve against those of the traced one (S-10)."""
    for state, value in traced.states.items():
        compare.bits("state", -1, f"untraced z[{state}]", value, plain.states[state])
    for name in ("status", "n_eval", "residual", "scale"):
        compare.bits("state", -1, f"untraced {name}", getattr(traced, name), getattr(plain, name))
    if traced.memory is None or plain.memory is None:
        return
    for part in ("r", "a", "mask"):
        for name, value in getattr(traced.memory, part).items():
            compare.bits("memory", -1, f"untraced {part}[{name}]", value, getattr(plain.memory, part)[name])
