"""The public calls: ``solve`` and ``gradient``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from refdeq import implicit
from refdeq.callable_map import CallableMap
from refdeq.cost import Cost, measure_cost
from refdeq.delta import DeltaMemory, check_memory
from refdeq.errors import ArgumentError, DTypeError, UnsupportedError
from refdeq.evaluation import Evaluator
from refdeq.graph import Cell
from refdeq.implicit import Gradient
from refdeq.kernels import Kernels
from refdeq.loop import LoopResult, Progress, iterate
from refdeq.recording import Recorder, empty_trace
from refdeq.reference import ReferenceKernels
from refdeq.registry import Backend, Plan, PlanRequest, load_backend
from refdeq.solution import Solution
from refdeq.solvers import Picard, Solver
from refdeq.types import DeltaRule, StopRule, Trace
from refdeq.validate_inputs import batch_of, check_values

__all__ = ["gradient", "solve"]

Hook = Callable[[Progress], bool | None]


def solve(
    cell: Cell | Callable[..., Any],
    x: Any = None,
    *,
    z0: Any = None,
    solver: Solver | None = None,
    stop: StopRule | None = None,
    delta: DeltaRule | None = None,
    backend: str | Backend = "reference",
    order: str = "strict",
    executor: str = "auto",
    threads: int = 1,
    warm: Solution | None = None,
    reuse: str = "state",
    returned: str = "last",
    polish: bool = False,
    verify: bool = False,
    trace: bool = False,
    on_evaluation: Hook | None = None,
) -> Solution:
    """Solve ``z = f(z, x)`` for every sample of a batch (S-1 to S-11, D-1 to D-12).

    Parameters
    ----------
    cell : Cell or callable
        A plain callable ``f(z, x)`` works wherever no delta rule is asked for (S-11); it needs `z0`.
    x : (B, ...) ndarray, or dict of injection name to ndarray
        In the cell's dtype (E-2); None for a cell without injections.
    z0 : (B, ...) ndarray, or dict of state name to ndarray, optional
        First argument; zeros by default.
    solver : Solver
        ``Picard()`` by default.
    stop : StopRule
        ``StopRule(rtol=1e-6, max_eval=100)`` by default.
    delta : DeltaRule, optional
        Without one every evaluation is dense.
    backend : str or Backend
        Name of an installed backend, or a backend object.
    order : {"strict", "fast"}
        Order of accumulation (N-6, N-7).
    executor : {"auto", "op", "fused"}
        ``auto`` takes a fused plan where the backend has one; ``fused`` insists on it.
    threads : int
        At least 1; results never depend on it.
    warm : Solution, optional
        An earlier solution of the same cell and batch to start from (D-9).
    reuse : {"state", "state+memory"}
        What is taken from `warm`.
    returned : {"last", "lowest"}
        S-4.
    polish : bool
        Make one more dense evaluation and return its value (S-4).
    verify : bool
        Report the residual of the dense f at the returned point (S-2b); costs one evaluation that no count contains.
    trace : bool
        Export everything that happened (S-10).
    on_evaluation : callable, optional
        Gets a :class:`refdeq.loop.Progress` between evaluations; returning False cancels. Runs at op level.

    Returns
    -------
    Solution

    Raises
    ------
    ArgumentError, ShapeError, DTypeError, MemoryMismatchError
        Bad input; nothing has been computed.
    BackendUnavailableError, UnsupportedError
        The backend cannot run here, or not this.

    Examples
    --------
    >>> import refdeq as rd
    >>> cell = rd.models.rnn(np.array([[0.5]]), np.array([[1.0]]), np.array([0.0]))
    >>> sol = rd.solve(cell, np.array([[1.0]]), stop=rd.StopRule(rtol=1e-9))
    >>> sol.converged, round(float(sol.z[0, 0]), 6)
    (True, 0.895219)
    """
    solver = Picard() if solver is None else solver
    stop = StopRule(rtol=1e-6, max_eval=100) if stop is None else stop
    _check_options(order=order, executor=executor, reuse=reuse, returned=returned, threads=threads)
    if not isinstance(cell, Cell):
        refused: dict[str, Any] = {"delta": delta, "warm": warm, "polish": polish or None, "verify": verify or None}
        if executor == "fused":
            refused["executor"] = executor
        return _solve_callable(cell, x, z0, solver, stop, returned, trace, on_evaluation, refused)
    injections = check_values("x", x, cell.graph.injections, cell.dtype)
    start = _start(cell, injections, z0, warm)
    batch = batch_of(start, injections)
    memory = _reused_memory(cell, delta, warm, reuse, batch)
    chosen = load_backend(backend) if isinstance(backend, str) else backend
    _check_backend(chosen, order, str(cell.dtype))
    kernels = chosen.kernels(order=order, threads=threads)
    with np.errstate(all="ignore"):
        evaluator = Evaluator(cell, kernels, injections, batch, delta, memory)
        plan, why = _plan(chosen, evaluator, solver, returned, order, executor, on_evaluation)
        if plan is not None:
            solution = _run_fused(plan, evaluator, stop, start, memory, threads, trace)
        else:
            solution = _run_loop(evaluator, kernels, solver, stop, start, returned, trace, on_evaluation, chosen)
        solution = replace(
            solution,
            executor=f"fused: {plan.name}" if plan is not None else f"op level ({why})",
            backend=chosen.info.name,
            order=order,
            x=injections,
            warnings=tuple(evaluator.warnings),
            memory=solution.memory if delta is not None else None,
        )
        return _finish(solution, cell, kernels, polish, verify)


def _check_options(**options: Any) -> None:
    allowed = {
        "order": ("strict", "fast"),
        "executor": ("auto", "op", "fused"),
        "reuse": ("state", "state+memory"),
        "returned": ("last", "lowest"),
    }
    for name, choices in allowed.items():
        if options[name] not in choices:
            raise ArgumentError(name, expected=f"one of {choices}", got=repr(options[name]))
    threads = options["threads"]
    if isinstance(threads, bool) or not isinstance(threads, int | np.integer) or threads < 1:
        raise ArgumentError("threads", expected="an integer >= 1", got=threads)


def _check_backend(backend: Backend, order: str, dtype: str) -> None:
    if order not in backend.info.orders:
        raise UnsupportedError(f"backend {backend.info.name!r} offers order {backend.info.orders}, not {order!r}")
    if dtype not in backend.info.dtypes:
        raise UnsupportedError(f"backend {backend.info.name!r} offers dtypes {backend.info.dtypes}, not {dtype}")


def _start(cell: Cell, injections: Mapping[str, np.ndarray], z0: Any, warm: Solution | None) -> dict[str, np.ndarray]:
    """First argument: z0, or the warm solution's point, or zeros."""
    if warm is not None and z0 is not None:
        raise ArgumentError("z0", hint="give either z0 or warm, not both")
    batch = len(next(iter(injections.values()))) if injections else None
    if warm is not None:
        return check_values("warm", warm.states, cell.graph.states, cell.dtype, batch)
    if z0 is not None:
        return check_values("z0", z0, cell.graph.states, cell.dtype, batch)
    if batch is None:
        raise ArgumentError("z0", hint="a cell without injections needs z0 to know the batch size")
    return {name: np.zeros((batch, *shape), dtype=cell.dtype) for name, shape in cell.graph.states.items()}


def _reused_memory(cell: Cell, delta: DeltaRule | None, warm: Solution | None, reuse: str, batch: int) -> DeltaMemory | None:
    if reuse == "state":
        return None
    if warm is None or delta is None:
        raise ArgumentError("reuse", hint="'state+memory' needs both warm and delta")
    if warm.memory is None:
        raise ArgumentError("warm", hint="that solve had no delta rule, so there is no memory to reuse")
    check_memory(warm.memory, cell, delta, batch)
    return warm.memory


def _plan(
    backend: Backend,
    evaluator: Evaluator,
    solver: Solver,
    returned: str,
    order: str,
    executor: str,
    hook: Hook | None,
) -> tuple[Plan | None, str]:
    """Return the fused plan to run, or None and the reason."""
    if executor == "op":
        return None, "asked for"
    if hook is not None:
        reason = "a progress hook needs the loop"
    else:
        rule, graph = evaluator.rule, evaluator.cell.graph
        request = PlanRequest(
            graph=graph,
            solver=solver,
            gates={n.name: evaluator.gates[n.inputs[0]] for n in graph.linear_nodes if n.name in evaluator.gated},
            start="dense" if rule is None else rule.start,
            bias="separate" if rule is None else rule.bias,
            refresh=0 if rule is None else rule.refresh,
            returned=returned,
            order=order,
        )
        plan = backend.plan(request)
        if not hasattr(plan, "reason"):
            return plan, ""
        reason = plan.reason
    if executor == "fused":
        raise UnsupportedError(f"backend {backend.info.name!r} has no fused plan for this solve: {reason}")
    return None, reason


def _run_loop(
    evaluator: Evaluator,
    kernels: Kernels,
    solver: Solver,
    stop: StopRule,
    start: Mapping[str, np.ndarray],
    returned: str,
    trace: bool,
    hook: Hook | None,
    backend: Backend,
) -> Solution:
    z = {name: kernels.upload(array) for name, array in start.items()}
    recorder = Recorder(evaluator, kernels, native=backend.info.activation == "native") if trace else None
    result = iterate(evaluator, kernels, solver, stop, z, returned=returned, recorder=recorder, hook=hook)
    counters = (evaluator.macs, evaluator.sent, evaluator.nonzero, evaluator.dense_nonzero)
    cost = measure_cost(evaluator.cell, result.n_eval, *counters)
    return _solution(result, kernels, stop, cost, evaluator.memory(), _recorded(recorder, len(result.status)))


def _recorded(recorder: Recorder | None, batch: int) -> Trace | None:
    return recorder.trace() if recorder is not None and batch > 0 else None


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
    )


def _run_fused(
    plan: Plan,
    evaluator: Evaluator,
    stop: StopRule,
    start: Mapping[str, np.ndarray],
    memory: DeltaMemory | None,
    threads: int,
    trace: bool,
) -> Solution:
    cell, kernels = evaluator.cell, evaluator.kernels
    hoisted = {node.name: kernels.download(evaluator.values[node.name]) for node in cell.graph.hoisted}
    hoisted |= {name: kernels.download(evaluator.values[name]) for name in cell.graph.injections}
    buffers = None
    if trace:
        x_only = {node.name: hoisted[node.name] for node in cell.graph.hoisted}
        buffers = empty_trace(cell.graph, evaluator.batch, stop.max_eval, evaluator.gates, evaluator.gated, x_only)
    out = plan.bind(cell.parameters, threads=threads).run(start, hoisted, memory, stop, buffers)
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
        executor="fused",
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


def _finish(solution: Solution, cell: Cell, kernels: Kernels, polish: bool, verify: bool) -> Solution:
    """Polish and verify with dense evaluations at the returned point (S-2b, S-4)."""
    if not (polish or verify) or len(solution.status) == 0:
        return solution
    batch = len(solution.status)
    dense = Evaluator(cell, kernels, solution.x, batch)
    everyone = np.ones(batch, dtype=bool)
    if polish:
        f = dense.evaluate({name: kernels.upload(v) for name, v in solution.states.items()}, everyone)
        states = {name: kernels.download(value) for name, value in f.items()}
        solution = replace(solution, states=states, n_eval=solution.n_eval + 1, polished=True)
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
    if stop.atol is not None:
        met |= residual <= stop.atol
    if stop.rtol is not None:
        met |= residual <= stop.rtol * (scale + stop.eps)
    missed = int((~met & (solution.status == 1)).sum())
    if not missed:
        return []
    return [f"{missed} of {len(met)} samples converged by the delta-evaluated residual but not by the dense one"]


def _solve_callable(
    f: Callable[..., Any],
    x: Any,
    z0: Any,
    solver: Solver,
    stop: StopRule,
    returned: str,
    trace: bool,
    hook: Hook | None,
    refused: Mapping[str, Any],
) -> Solution:
    """Solve a plain callable (S-11)."""
    if not callable(f):
        raise ArgumentError("cell", expected="a Cell or a callable f(z, x)", got=type(f).__name__)
    for name, value in refused.items():
        if value is not None:
            raise ArgumentError(name, hint="a plain callable has no graph; build a Cell for this (S-11)")
    if not isinstance(z0, np.ndarray) or z0.ndim < 1:
        raise ArgumentError("z0", expected="a NumPy array with a batch axis", got=type(z0).__name__)
    if z0.dtype not in (np.float32, np.float64):
        raise DTypeError("z0", expected="float32 or float64", got=z0.dtype)
    kernels = ReferenceKernels()
    with np.errstate(all="ignore"):
        recorder = Recorder(None, kernels) if trace else None
        z = {"z": kernels.upload(z0)}
        result = iterate(CallableMap(f, x, z0), kernels, solver, stop, z, returned=returned, recorder=recorder, hook=hook)
        solution = _solution(result, kernels, stop, None, None, _recorded(recorder, len(z0)))
    return replace(solution, executor="plain callable", x={"x": x})


def gradient(
    cell: Cell | Callable[..., Any],
    solution: Solution,
    cotangent: Any,
    *,
    jacobian: str = "dense",
    stop: StopRule | None = None,
    vjp: Callable[..., Any] | None = None,
) -> Gradient:
    """Implicit gradient of a loss at a solution (G-1): one adjoint solve, one VJP through f.

    Parameters
    ----------
    cell : Cell or callable
        What was solved.
    solution : Solution
    cotangent : (B, ...) ndarray, or dict of state name to ndarray
        ``dL/dz*`` in the cell's dtype.
    jacobian : {"dense", "frozen-mask"}
        J of the dense cell, or of the delta-evaluated cell with its final masks frozen.
    stop : StopRule, optional
        For the adjoint Picard iteration; ``StopRule(rtol=1e-6, max_eval=200)`` by default.
    vjp : callable, optional
        For a plain callable: ``vjp(z, x, v)`` returns ``J^T v`` (S-11).

    Returns
    -------
    Gradient

    Examples
    --------
    >>> import refdeq as rd
    >>> cell = rd.models.rnn(np.array([[0.5]]), np.array([[1.0]]), np.array([0.0]))
    >>> sol = rd.solve(cell, np.array([[1.0]]), stop=rd.StopRule(rtol=1e-12))
    >>> grad = rd.gradient(cell, sol, np.ones((1, 1)), stop=rd.StopRule(rtol=1e-12))
    >>> slope = 1 - float(sol.z[0, 0]) ** 2  # dz/db = slope / (1 - W slope) for z = tanh(W z + U x + b)
    >>> abs(float(grad.parameters["b"][0]) - slope / (1 - 0.5 * slope)) < 1e-9
    True
    """
    stop = StopRule(rtol=1e-6, max_eval=200) if stop is None else stop
    if jacobian not in ("dense", "frozen-mask"):
        raise ArgumentError("jacobian", expected="'dense' or 'frozen-mask'", got=repr(jacobian))
    if not isinstance(cell, Cell):
        if vjp is None:
            raise ArgumentError("vjp", hint="the gradient of a plain callable needs vjp(z, x, v) (S-11)")
        return implicit.callable_gradient(vjp, solution, cotangent, stop)
    masks = None
    if jacobian == "frozen-mask":
        if solution.memory is None:
            raise ArgumentError("jacobian", hint="'frozen-mask' needs a solution made with a delta rule")
        masks = solution.memory.mask
    batch = len(solution.status)
    v = check_values("cotangent", cotangent, cell.graph.states, cell.dtype, batch)
    return implicit.gradient(cell, solution.states, solution.x, v, stop, masks)
