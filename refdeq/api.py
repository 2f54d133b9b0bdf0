"""The public call ``refdeq.solve``: checks, and the way a solve takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from refdeq.checks import check_choice, check_integer
from refdeq.delta import DeltaMemory, check_memory
from refdeq.errors import ArgumentError, DTypeError, UnsupportedError
from refdeq.evaluation import Evaluator
from refdeq.execution import choose_plan, finish, run_callable, run_fused, run_loop
from refdeq.graph import Cell
from refdeq.kernels import Kernels
from refdeq.loop import Hook
from refdeq.registry import Backend, load_backend
from refdeq.solution import Solution
from refdeq.solvers import Dialect, Picard, Solver, Split, SplittingSolver, as_dialect
from refdeq.types import DeltaRule, StopRule
from refdeq.validate_inputs import batch_of, check_values

__all__ = ["solve"]


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
    returned: str | None = None,
    dialect: Dialect | str | None = None,
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
        S-4; ``last`` by default.
    dialect : Dialect or str, optional
        Solve as a peer does (S-9): what :func:`refdeq.dialect` makes, or ``name/method`` with the peer's defaults. It brings
        its own `solver`, `stop` and `returned`, and adds the peer's report to the solution.
    polish : bool
        Make one more dense evaluation of every sample and return its value (S-4); counted in ``n_eval`` and ``cost.macs``.
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
    if dialect is not None:
        dialect = as_dialect(dialect)
        _check_alone(solver=solver, stop=stop, returned=returned)
        solver, stop = dialect.solver, dialect.stop
    solver = Picard() if solver is None else solver
    stop = StopRule(rtol=1e-6, max_eval=100) if stop is None else stop
    returned = "last" if returned is None else returned
    _check_kinds(solver=solver, stop=stop, delta=delta, warm=warm)
    _check_options(order=order, executor=executor, reuse=reuse, returned=returned, threads=threads, hook=on_evaluation)
    if not isinstance(cell, Cell):
        plain = {"delta": delta, "backend": backend, "order": order, "executor": executor, "warm": warm, "reuse": reuse}
        _check_callable(cell, z0, {**plain, "polish": polish, "verify": verify}, solver)
        with np.errstate(all="ignore"):
            return run_callable(cell, x, z0, solver, stop, returned, trace, on_evaluation, dialect)
    injections = check_values("x", x, cell.graph.injections, cell.dtype)
    split = _split(cell, solver, delta)
    iterated = cell if split is None else split.cell  # whose f the loop evaluates and the gates watch
    start = _start(iterated, injections, z0, _iterate_of(warm, solver, split))
    batch = batch_of(start, injections)
    memory = _reused_memory(iterated, delta, warm, reuse, batch)
    chosen = _backend(backend, order, str(cell.dtype))
    kernels = chosen.kernels(order=order, threads=threads)
    with np.errstate(all="ignore"):
        evaluator = Evaluator(iterated, kernels, injections, batch, delta, memory)
        plan, why = choose_plan(chosen, evaluator, solver, returned, order, executor, on_evaluation, dialect, stop)
        native = chosen.info.activation_in(order) == "native"
        if plan is not None:
            solution = run_fused(plan, evaluator, stop, start, memory, threads, trace, native)
        else:
            hook = on_evaluation
            solution = run_loop(evaluator, kernels, solver, stop, start, returned, trace, hook, native, split, dialect)
        solution = replace(
            solution,
            executor=f"fused: {plan.name}{solution.executor}" if plan is not None else f"op level ({why}){_noted(kernels)}",
            backend=chosen.info.name,
            order=order,
            solver=solver.name,
            iterate=solution.iterate if returned == "last" else {},
            x={name: array.copy() for name, array in injections.items()},
            warnings=tuple(evaluator.warnings),
            memory=solution.memory if delta is not None else None,
        )
        return finish(solution, cell, kernels, polish, verify)


def _check_kinds(*, solver: Any, stop: Any, delta: Any, warm: Any) -> None:
    if isinstance(solver, type) or not (hasattr(solver, "init") and hasattr(solver, "step")):
        raise ArgumentError("solver", expected="a solver such as Picard()", got=repr(solver))
    if not isinstance(stop, StopRule):
        raise ArgumentError("stop", expected="a StopRule", got=repr(stop))
    if not isinstance(delta, DeltaRule | None):
        raise ArgumentError("delta", expected="a DeltaRule or None", got=repr(delta))
    if not isinstance(warm, Solution | None):
        raise ArgumentError("warm", expected="a Solution or None", got=type(warm).__name__)


def _check_alone(**others: Any) -> None:
    for name, value in others.items():
        if value is not None:
            raise ArgumentError(name, hint="a dialect brings its own; give its options to refdeq.dialect")


def _noted(kernels: Kernels) -> str:
    """What the primitives say of the ways that they chose, for ``Solution.executor``; most have nothing to say."""
    note = getattr(kernels, "note", None)
    said = note() if note is not None else ""
    return f"; {said}" if said else ""


def _check_options(*, order: Any, executor: Any, reuse: Any, returned: Any, threads: Any, hook: Any) -> None:
    check_choice("order", order, ("strict", "fast"))
    check_choice("executor", executor, ("auto", "op", "fused"))
    check_choice("reuse", reuse, ("state", "state+memory"))
    check_choice("returned", returned, ("last", "lowest"))
    check_integer("threads", threads, low=1)
    if hook is not None and not callable(hook):
        raise ArgumentError("on_evaluation", expected="a callable or None", got=type(hook).__name__)


def _check_callable(f: Any, z0: Any, options: Mapping[str, Any], solver: Solver) -> None:
    """Refuse what needs a graph (S-11), and a first argument that does not say what z is."""
    if not callable(f):
        raise ArgumentError("cell", expected="a Cell or a callable f(z, x)", got=type(f).__name__)
    if isinstance(solver, SplittingSolver):
        raise ArgumentError("solver", hint=f"{solver.name} rewrites a graph, a plain callable has none; build a Cell for this")
    defaults = {"backend": "reference", "order": "strict", "reuse": "state"}
    for name, value in options.items():
        if value not in (None, False, defaults.get(name)) and (name, value) not in (("executor", "auto"), ("executor", "op")):
            raise ArgumentError(name, hint="a plain callable has no graph; build a Cell for this (S-11)")
    if not isinstance(z0, np.ndarray) or z0.ndim < 1:
        raise ArgumentError("z0", expected="a NumPy array with a batch axis", got=type(z0).__name__)
    if z0.dtype not in (np.float32, np.float64):
        raise DTypeError("z0", expected="float32 or float64", got=z0.dtype)


def _backend(backend: Any, order: str, dtype: str) -> Backend:
    """Load a backend by name, or take it as it is, and refuse an order or dtype that it does not offer."""
    if not isinstance(backend, str) and not hasattr(backend, "kernels"):
        raise ArgumentError("backend", expected="a backend or its name", got=repr(backend))
    chosen: Backend = load_backend(backend) if isinstance(backend, str) else backend
    if order not in chosen.info.orders:
        raise UnsupportedError(f"backend {chosen.info.name!r} offers order {chosen.info.orders}, not {order!r}")
    if dtype not in chosen.info.dtypes:
        raise UnsupportedError(f"backend {chosen.info.name!r} offers dtypes {chosen.info.dtypes}, not {dtype}")
    return chosen


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


def _split(cell: Cell, solver: Solver, delta: DeltaRule | None) -> Split | None:
    """Rewrite the cell for a splitting solver; a delta rule needs a linear node in what comes out (D-11)."""
    if not isinstance(solver, SplittingSolver):
        return None
    split = solver.split(cell)
    if delta is not None and not split.cell.graph.linear_nodes:
        raise UnsupportedError(
            f"{solver.name} leaves no linear node for a delta rule to gate: a product per frequency needs the whole signal; "
            "use ForwardBackward, or PeacemanRachford(inverse='dense')"
        )
    return split


def _iterate_of(warm: Solution | None, solver: Solver, split: Split | None) -> Solution | None:
    """A warm solution with the splitting's own variable in place of z, where the same splitting left one (D-9, S-6b)."""
    if warm is None or split is None or warm.solver != solver.name or not warm.iterate:
        return warm
    return replace(warm, states=dict(warm.iterate))


def _reused_memory(cell: Cell, delta: DeltaRule | None, warm: Solution | None, reuse: str, batch: int) -> DeltaMemory | None:
    if reuse == "state":
        return None
    if warm is None or delta is None:
        raise ArgumentError("reuse", hint="'state+memory' needs both warm and delta")
    if warm.memory is None:
        raise ArgumentError("warm", hint="that solve had no delta rule, so there is no memory to reuse")
    check_memory(warm.memory, cell, delta, batch)
    return warm.memory
