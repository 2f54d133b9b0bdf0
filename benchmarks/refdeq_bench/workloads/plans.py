"""What the workloads of whole solves share: bound fused plans, x-only values, and the compiled activation of a backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

import refdeq as rd
from refdeq.delta import DeltaMemory, resolve_gates
from refdeq.errors import UnsupportedError
from refdeq.evaluation import Evaluator
from refdeq.graph import Cell
from refdeq.kernels import Kernels
from refdeq.registry import Executor, FusedResult, PlanRequest, Refusal, load_backend
from refdeq.solvers import Solver
from refdeq_bench.checking import WrongResultError

__all__ = ["activation", "bound_plan", "memory_of", "one_thread_of_blas", "require_macs", "x_only"]


def bound_plan(
    backend: str, cell: Cell, rule: rd.DeltaRule | None, *, order: str, threads: int, solver: Solver | None = None
) -> Executor:
    """The fused plan of a backend, its weights laid out.

    Raises
    ------
    BackendUnavailableError, UnsupportedError
        The backend cannot run, or has no fused plan for this.
    """
    gates = {}
    if rule is not None:
        specs = resolve_gates(cell.graph, rule)[0]
        gates = {node.name: specs[node.inputs[0]] for node in cell.graph.linear_nodes if node.inputs[0] in specs}
    request = PlanRequest(
        graph=cell.graph,
        solver=solver or rd.Picard(),
        gates=gates,
        start="dense",
        bias="separate",
        refresh=0,
        returned="last",
        order=order,
    )
    plan = load_backend(backend).plan(request)
    if isinstance(plan, Refusal):
        raise UnsupportedError(f"backend {backend!r} has no fused plan for this: {plan.reason}")
    return plan.bind(cell.parameters, threads=threads)


def x_only(cell: Cell, x: Mapping[str, np.ndarray], kernels: Kernels) -> dict[str, np.ndarray]:
    """Values of the nodes that depend on the injections only; what they cost is in no figure."""
    batch = len(next(iter(x.values())))
    return {name: kernels.download(value) for name, value in Evaluator(cell, kernels, dict(x), batch).values.items()}


def memory_of(result: FusedResult) -> DeltaMemory:
    """Delta memory to go on from."""
    return DeltaMemory(r=result.r, mask=result.mask, a=result.a, count=result.count)


def activation(kernels: Kernels, op: str) -> Callable[[np.ndarray], None]:
    """An activation of the backend over a whole array in place, so that baselines run the same compiled code."""
    function = kernels.ops[op]

    def activate(values: np.ndarray) -> None:
        function([values], [True], {}, np.ones(len(values), dtype=bool), values)

    return activate


def one_thread_of_blas() -> Callable[[], AbstractContextManager[Any]] | None:
    """A context in which BLAS takes one thread, cheap to enter; None where threadpoolctl is missing."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    controller = ThreadpoolController()
    return lambda: controller.limit(limits=1, user_api="blas")


def no_limit() -> AbstractContextManager[Any]:
    """Leave BLAS as it is."""
    return nullcontext()


def require_macs(name: str, found: int, expected: int) -> None:
    """Refuse a solve that did less, or more, work than it was built to do.

    Raises
    ------
    WrongResultError
    """
    if found != expected:
        raise WrongResultError(f"{name}: {found} multiply-accumulates, {expected} expected; it is not timed")
