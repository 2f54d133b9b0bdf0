"""Any backend of refdeq as an implementation of the protocol: one traced evaluation of a cell is one step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from refdeq.api import solve
from refdeq.delta import DeltaMemory, resolve_gates
from refdeq.errors import ArgumentError, DTypeError, ShapeError
from refdeq.gradients.differentiate import gradient
from refdeq.gradients.ift import Ift
from refdeq.graph import Cell
from refdeq.registry import Backend
from refdeq.solution import Solution
from refdeq.types import StopRule
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.protocol.problem_cells import WATCHED, solve_cell, solver_of, step_cell
from refdeq_validation.protocol.uninitialised import Poisoning

__all__ = ["BackendImplementation"]

Array = np.ndarray[Any, Any]

ONE = StopRule(max_eval=1)

_EXECUTORS = {"op": "op", "fused": "auto"}


class BackendImplementation:
    """A backend of refdeq, judged through the protocol.

    Parameters
    ----------
    backend : Backend
    order : {"strict", "fast"}
    path : {"op", "fused"}
        ``op`` runs operator by operator; ``fused`` takes a fused plan wherever the backend offers one, as users get it, and
        op level elsewhere. :attr:`executors` counts what ran.
    threads : int

    Examples
    --------
    >>> from refdeq.registry import load_backend
    >>> BackendImplementation(load_backend("reference"), "strict", "op").claims.name
    'reference strict op'
    """

    def __init__(self, backend: Backend, order: str, path: str, threads: int = 1) -> None:
        if order not in backend.info.orders:
            raise ArgumentError("order", expected=f"one of {', '.join(backend.info.orders)}", got=repr(order))
        paths = ("op", "fused") if backend.info.fused else ("op",)
        if path not in paths:
            raise ArgumentError("path", expected=f"one of {', '.join(paths)} for backend {backend.info.name}", got=repr(path))
        self.backend = Poisoning(backend)
        self.order, self.path, self.workers = order, path, threads
        self.executors: dict[str, int] = {}
        self.claims = _claims(backend, order, path)
        # problems are compared by identity: every case holds its own, and is run several times
        self._steps: WeakKeyDictionary[Problem, tuple[Cell, bool]] = WeakKeyDictionary()
        self._solves: WeakKeyDictionary[Problem, Cell] = WeakKeyDictionary()

    def manifest(self) -> Mapping[str, Any]:
        """What the backend declares, as a manifest."""
        return self.claims.manifest()

    def open(self, problem: Problem) -> BackendSession:
        """Build the cells of a problem; what they or the rule refuse raises here."""
        if problem.storage is not None:
            raise NotImplementedError("refdeq has no narrow storage of values (N-1)")
        return BackendSession(self, problem)

    def step_cell(self, problem: Problem) -> tuple[Cell, bool]:
        """The cell of unit steps, made once per problem."""
        if problem not in self._steps:
            self._steps[problem] = step_cell(problem)
        return self._steps[problem]

    def solve_cell(self, problem: Problem) -> Cell:
        """The cell of solves and gradients, made once per problem."""
        if problem not in self._solves:
            self._solves[problem] = solve_cell(problem)
        return self._solves[problem]

    def poison(self, value: float | None) -> None:
        """Fill every array that kernels ask for with `value` from now on; None leaves them as they come."""
        self.backend.value = value

    def options(self, threads: int | None = None) -> dict[str, Any]:
        """How every solve is made."""
        workers = self.workers if threads is None else threads
        return {"backend": self.backend, "order": self.order, "executor": _EXECUTORS[self.path], "threads": workers}

    def count(self, solution: Solution) -> None:
        """Note which executor ran."""
        kind = "fused" if solution.executor.startswith("fused") else "op"
        self.executors[kind] = self.executors.get(kind, 0) + 1


def _claims(backend: Backend, order: str, path: str) -> Claims:
    """Claims of one declaration of a backend: refdeq offers every rule, solver and group."""
    info = backend.info
    return Claims(
        name=f"{info.name} {order} {path}{' (simulated)' if info.simulated else ''}",
        version="1",
        offers=("state", "solve", "trace", "gradient"),
        ops=("Gemm", "Conv"),
        dtypes=info.dtypes,
        solvers=("picard", "krasnoselskii-mann", "anderson", "broyden"),
        activations=("Identity", "Relu", "LeakyRelu", "Tanh", "Sigmoid", "Sin", "Cos", "Exp"),
        compare=("gt", "ge"),
        memory=("sent", "always", "feedback"),
        start=("dense", "zero"),
        bias=("separate", "folded"),
        granularity=("element", "sample", "channel", "pixel", "tile"),
        order=order,
        multiply=info.multiply if order == "fast" else "same",
        rounding=info.rounding if order == "fast" else "nearest",
        inactive_columns=info.inactive_columns,
        determinism=info.determinism if order == "strict" else min(info.determinism, "R3"),
        activation=info.activation_in(order),
        activation_ulp=info.activation_ulp if info.activation_in(order) == "native" else 0.0,
        alignment="any",
        timeout=600.0,  # a call may compile kernels first, and on a busy machine that takes more than a minute
    )


class BackendSession:
    """One opened problem."""

    def __init__(self, implementation: BackendImplementation, problem: Problem) -> None:
        self.implementation, self.problem = implementation, problem
        self.cell, self.is_square = implementation.step_cell(problem)
        resolve_gates(self.cell.graph, problem.rule)
        self.batch: int | None = None
        self.workers: int | None = None
        self.memory: tuple[Array, Array, Array] | None = None
        self.mask: Array | None = None

    def threads(self, count: int) -> None:
        """Use so many threads from now on (R2)."""
        self.workers = count

    def reset(self, batch: int) -> None:
        """Forget the memory: the next solve starts from none (D-9)."""
        if isinstance(batch, bool) or not isinstance(batch, int | np.integer) or batch < 0:
            raise ArgumentError("batch", expected="an integer >= 0", got=repr(batch))
        self.batch, self.memory, self.mask = int(batch), None, None

    def set_state(self, r: Array, a: Array, count: Array) -> None:
        """Memory from given arrays (D-9)."""
        if not isinstance(count, np.ndarray) or count.ndim != 1 or count.dtype != np.int64:
            raise DTypeError("count", expected="(B,) int64", got=getattr(count, "dtype", type(count).__name__))
        if (count < 0).any():
            raise ArgumentError("count", expected="numbers >= 0", got=count.tolist())
        self._check("r", r, self.problem.shape, len(count))
        self._check("a", a, self.problem.out_shape, len(count))
        self.batch, self.memory = len(count), (r.copy(), a.copy(), count.copy())
        self.mask = np.zeros(r.shape, dtype=bool)

    def get_state(self, r: Array, a: Array) -> None:
        """Write the memory of the last solve, or what a reset makes it (D-5, D-6)."""
        batch = self._opened()
        self._check("r", r, self.problem.shape, batch)
        self._check("a", a, self.problem.out_shape, batch)
        if self.memory is not None:
            r[...], a[...] = self.memory[:2]
            return
        rule, bias = self.problem.rule, self.problem.bias
        r[...] = 0.0
        a[...] = 0.0
        if rule is not None and rule.bias == "folded" and bias is not None:
            a[...] += bias.reshape(-1, *(1,) * (a.ndim - 2))

    def step(self, u: Array, mask: Array, y: Array) -> None:
        """One evaluation, as a traced solve of the cell ``z <- (A z + b) + x`` with x = -0.0, which changes no bits."""
        problem, batch = self.problem, self._opened()
        self._check("u", u, problem.shape, batch)
        self._check("mask", mask, problem.shape, batch, "bool")
        self._check("y", y, problem.out_shape, batch)
        if batch == 0:
            return  # a solve of nobody makes no evaluation
        x, z0 = None, {"z": u}
        if self.is_square:
            x = np.full(u.shape, -0.0, u.dtype)
        else:
            z0["y"] = np.zeros(y.shape, y.dtype)
        solution = self._solve(self.cell, x, z0, stop=ONE, trace=True)
        trace = solution.trace
        assert trace is not None
        mask[...] = trace.mask[WATCHED][0] if problem.gate_rule is not None else True
        y[...] = trace.f["z" if self.is_square else "y"][0]

    def solve(self, x: Array, z0: Array, *, keep: bool, trace: bool) -> Mapping[str, Array]:
        """Solve the problem's cell, from kept or fresh memory."""
        problem = self.problem
        batch = self._opened() if keep else _batch_of("z0", z0)
        self._check("z0", z0, problem.shape, batch)
        self._check("x", x, problem.out_shape, batch)
        if not keep:
            self.reset(batch)
        options = {"solver": solver_of(problem.solver), "returned": problem.returned}
        solution = self._solve(self.whole, {"x": x}, {"z": z0}, stop=problem.stop, trace=trace, **options)
        names = ("status", "n_eval", "residual", "scale")
        results = {"z": solution.states["z"], **{name: getattr(solution, name) for name in names}}
        return results | (_trace(solution) if trace else {})

    def gradient(self, x: Array, z: Array, cotangent: Array, *, jacobian: str) -> Mapping[str, Array]:
        """Implicit gradient by GMRES to a few roundings; ``frozen-mask`` freezes the masks of the session's last evaluation."""
        problem = self.problem
        batch = _batch_of("z", z) if jacobian == "dense" else self._opened()
        self._check("x", x, problem.out_shape, batch)
        for name, array in (("z", z), ("cotangent", cotangent)):
            self._check(name, array, problem.shape, batch)
        point = self._carrier(self.whole, {"z": z}, problem.stop, batch)
        point.x = {"x": x}
        tight = StopRule(rtol=8.0 * float(np.finfo(problem.dtype).eps), max_eval=1000)
        found = gradient(self.whole, point, cotangent, method=Ift(solver="gmres", stop=tight), jacobian=jacobian)
        results = {"v": found.adjoint["z"], "x": found.injections["x"], "weight": found.parameters["W"]}
        return results | ({} if problem.bias is None else {"bias": found.parameters["b"]})

    def close(self) -> None:
        """Nothing to free."""

    @property
    def whole(self) -> Cell:
        """The cell of solves and gradients."""
        return self.implementation.solve_cell(self.problem)

    def _opened(self) -> int:
        if self.batch is None:
            raise ArgumentError("session", hint="call reset or set_state first")
        return self.batch

    def _check(self, name: str, array: Any, shape: tuple[int, ...], batch: int, dtype: str | None = None) -> None:
        """Refuse what is no array of this batch, shape and dtype (E-2)."""
        wanted = np.dtype(dtype or self.problem.dtype)
        if not isinstance(array, np.ndarray):
            raise ArgumentError(name, expected="a NumPy array", got=type(array).__name__)
        if array.dtype != wanted:
            raise DTypeError(name, expected=wanted, got=array.dtype)
        if array.shape != (batch, *shape):
            raise ShapeError(name, expected=(batch, *shape), got=array.shape)

    def _solve(self, cell: Cell, x: Any, z0: dict[str, Array], **options: Any) -> Solution:
        """Solve from the session's memory and keep what the solve leaves there."""
        rule = self.problem.rule
        common = {"delta": rule, **self.implementation.options(self.workers), **options}
        if self.memory is None or self.problem.gate_rule is None:
            solution = solve(cell, x, z0=z0, **common)
        else:
            warm = self._carrier(cell, z0, common["stop"], self._opened())
            solution = solve(cell, x, warm=warm, reuse="state+memory", **common)
        self.implementation.count(solution)
        if solution.memory is not None and self.problem.gate_rule is not None:
            memory = solution.memory
            self.memory = memory.r[WATCHED], memory.a["linear"], memory.count
            self.mask = memory.mask[WATCHED]
        return solution

    def _carrier(self, cell: Cell, states: dict[str, Array], stop: StopRule, batch: int) -> Solution:
        """A solution that brings states and the session's memory into a solve."""
        memory, zeros, ones = None, np.zeros(batch), np.ones(batch, dtype=np.int64)
        if self.memory is not None and self.problem.rule is not None:
            r, a, count = self.memory
            assert self.mask is not None
            memory = DeltaMemory({WATCHED: r}, {WATCHED: self.mask}, {"linear": a}, count, cell.digest, self.problem.rule)
        parts = {"cost": None, "memory": memory, "trace": None, "executor": "given", "backend": "", "order": ""}
        return Solution(states, ones, ones, zeros, zeros, stop, **parts)  # type: ignore[arg-type]


def _batch_of(name: str, array: Any) -> int:
    """Length of axis 0 of what should be an array with a batch."""
    if not isinstance(array, np.ndarray) or not array.ndim:
        raise ArgumentError(name, expected="a NumPy array with a batch axis", got=type(array).__name__)
    return len(array)


def _trace(solution: Solution) -> dict[str, Array]:
    """What the protocol calls ``trace.*``."""
    trace = solution.trace
    assert trace is not None
    found = {"trace.z": trace.z["z"], "trace.f": trace.f["z"], "trace.residual": trace.residual, "trace.scale": trace.scale}
    found["trace.active"] = trace.active
    for part in (trace.r, trace.mask):
        if part:
            found["trace.r" if part is trace.r else "trace.mask"] = part[WATCHED]
    return found | ({"trace.a": trace.a["linear"]} if trace.a else {})
