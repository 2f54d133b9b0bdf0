"""Implicit differentiation: the adjoint fixed point by any solver, or by GMRES (G-1, G-2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from refdeq.api import solve
from refdeq.checks import check_choice, check_integer
from refdeq.errors import ArgumentError
from refdeq.gradients.adjoint_cell import adjoint_cell
from refdeq.gradients.gmres import solve_by_gmres
from refdeq.gradients.linearisation import Arrays, CellPoint, Point
from refdeq.gradients.problem import Problem, norms, pull_at_fixed_point
from refdeq.gradients.result import Gradient
from refdeq.gradients.reuse import forward_inverse
from refdeq.gradients.splitting_adjoint import splitting_adjoint
from refdeq.loop import iterate
from refdeq.reference import ReferenceKernels
from refdeq.registry import Backend
from refdeq.solvers import ForwardBackward, PeacemanRachford, Picard, Solver, SplittingSolver
from refdeq.types import DeltaRule, StopRule

__all__ = ["Ift"]


@dataclass(frozen=True, kw_only=True)
class Ift:
    """Solve ``v = J^T v + g``, then one VJP through f (G-1).

    Every sample has its own tolerance, count and status; one that diverges does not touch the adjoints of the others.

    Parameters
    ----------
    solver : Solver or "gmres"
        Any solver of the package, or SciPy's GMRES sample by sample. A splitting solves the adjoint of a monotone cell by
        itself, with the transposed inverse of the forward solve (:mod:`refdeq.gradients.splitting_adjoint`); its tolerance is
        for the equation of ``u = D v``, the reported residual still that of v. Other cells are refused.
    stop : StopRule
        In GMRES every product counts.
    start : {"cotangent", "zero"}
        First v: g, which is one step ahead, or 0.
    reuse : {None, "forward"}
        With a forward solve by Broyden, whose state holds ``H``, close to the inverse of ``J - I``: start from ``-H^T g``
        instead, and let a Broyden adjoint solver go on from the transposed columns. On a tanh cell of 64 units with
        ``|W| = 1.5`` that takes 16 evaluations to 1e-6 instead of 26; the start alone saves one or two.
    restart : int
        Krylov vectors that GMRES keeps, at least 1.
    delta : DeltaRule, optional
        Run the adjoint iteration as a cell (:func:`refdeq.gradients.adjoint_cell.adjoint_cell`) with this rule: the gates
        watch the slope times v. ``Gradient.cost`` has the multiply-accumulates.
    backend, order, threads
        As in :func:`refdeq.solve`, for an adjoint iteration that runs as a cell. It does with a delta rule, and with anything
        but the defaults here; else products are those of the reverse walk.

    Examples
    --------
    >>> Ift(solver="gmres", stop=StopRule(rtol=1e-10)).name
    'ift(gmres)'
    >>> Ift(start="random")
    Traceback (most recent call last):
    ...
    refdeq.errors.ArgumentError: start: expected one of ('cotangent', 'zero'), got 'random'
    """

    solver: Solver | Literal["gmres"] = field(default_factory=Picard)
    stop: StopRule = field(default_factory=lambda: StopRule(rtol=1e-6, max_eval=200))
    start: Literal["cotangent", "zero"] = "cotangent"
    reuse: Literal["forward"] | None = None
    restart: int = 30
    delta: DeltaRule | None = None
    backend: str | Backend = "reference"
    order: str = "strict"
    threads: int = 1

    def __post_init__(self) -> None:
        is_solver = hasattr(self.solver, "init") and hasattr(self.solver, "step") and not isinstance(self.solver, type)
        if not is_solver and self.solver != "gmres":
            raise ArgumentError("solver", expected="a solver such as Picard(), or 'gmres'", got=repr(self.solver))
        known = isinstance(self.solver, ForwardBackward | PeacemanRachford)
        if is_solver and isinstance(self.solver, SplittingSolver) and not known:
            raise ArgumentError("solver", expected="ForwardBackward or PeacemanRachford as a splitting", got=self.solver)
        if not isinstance(self.stop, StopRule):
            raise ArgumentError("stop", expected="a StopRule", got=repr(self.stop))
        check_choice("start", self.start, ("cotangent", "zero"))
        check_choice("reuse", self.reuse, (None, "forward"))
        check_integer("restart", self.restart, low=1)
        if not isinstance(self.delta, DeltaRule | None):
            raise ArgumentError("delta", expected="a DeltaRule or None", got=repr(self.delta))
        check_choice("order", self.order, ("strict", "fast"))
        check_integer("threads", self.threads, low=1)
        if self.solver == "gmres" and self._as_cell:
            raise ArgumentError("solver", hint="GMRES takes products; a delta rule or a backend needs a solver that iterates")
        if self.solver == "gmres" and self.stop.rtol is None and self.stop.atol is None:
            raise ArgumentError("stop", hint="GMRES needs a tolerance: give rtol or atol")

    @property
    def name(self) -> str:
        """Short name for tables."""
        parts = [self.solver if isinstance(self.solver, str) else self.solver.name]
        parts += ["delta"] if self.delta is not None else []
        parts += ["reuse"] if self.reuse is not None else []
        return f"ift({', '.join(parts)})"

    @property
    def _as_cell(self) -> bool:
        return (self.delta, self.backend, self.order, self.threads) != (None, "reference", "strict", 1)

    def estimate(self, problem: Problem) -> Gradient:
        """Adjoint solve at the returned point, then one VJP through f (G-1)."""
        point, g = problem.map.linearise(problem.states), problem.cotangent(problem.states)
        solver, v = self._prepared(problem, g)
        if isinstance(solver, ForwardBackward | PeacemanRachford):
            return self._solved_by_splitting(problem, point, g, v, solver)
        if self._as_cell:
            return self._solved_as_cell(problem, point, g, v, solver)
        if isinstance(solver, str):
            status, n_eval, residual = solve_by_gmres(point, g, v, self.stop, self.restart)
            return pull_at_fixed_point(problem, self, point, g, v, n_eval, (status, residual))
        result = iterate(_AdjointMap(point, g), ReferenceKernels(), solver, self.stop, v)
        solved = (result.status, result.residual)
        return pull_at_fixed_point(problem, self, point, g, result.z, result.n_eval, solved)

    def _prepared(self, problem: Problem, g: Arrays) -> tuple[Any, Arrays]:
        """The solver, with what the forward solve knows of J if that is asked for, and the first v."""
        if self.reuse is not None:
            inverse = forward_inverse(problem)
            return inverse.given_to(self.solver), inverse.start(g)
        if self.start == "zero":
            return self.solver, {s: np.zeros_like(array) for s, array in g.items()}
        return self.solver, {s: array.copy() for s, array in g.items()}

    def _solved_by_splitting(
        self, problem: Problem, point: Point, g: Arrays, v: Arrays, solver: ForwardBackward | PeacemanRachford
    ) -> Gradient:
        """The adjoint of a monotone cell by the iteration of the forward solve: u first, then ``v = g + W^T u``."""
        if not isinstance(point, CellPoint):
            raise ArgumentError("method", hint="a splitting needs a Cell, not a plain callable (S-11)")
        adjoint = splitting_adjoint(point, g, solver)
        solution = solve(
            adjoint.cell,
            adjoint.injections,
            z0={s: adjoint.injections["slope"] * array for s, array in v.items()},
            solver=adjoint,
            stop=self.stop,
            delta=self.delta,
            backend=self.backend,
            order=self.order,
            threads=self.threads,
        )
        back = point.transpose(solution.states)
        v = {s: g[s] + back[s] for s in g}
        again = point.transpose(v)
        residual = norms({s: again[s] + g[s] - v[s] for s in g}, self.stop.norm)
        return pull_at_fixed_point(problem, self, point, g, v, solution.n_eval, (solution.status, residual), solution.cost)

    def _solved_as_cell(self, problem: Problem, point: Point, g: Arrays, v: Arrays, solver: Solver) -> Gradient:
        """The adjoint iteration as an ordinary solve of the adjoint cell."""
        if not isinstance(point, CellPoint):
            raise ArgumentError("method", hint="a delta rule or a backend needs a Cell, not a plain callable (S-11)")
        adjoint = adjoint_cell(point.cell, tuple(point.frozen))
        solution = solve(
            adjoint.cell,
            adjoint.injections(point.values, g, point.frozen),
            z0=v,
            solver=solver,
            stop=self.stop,
            delta=self.delta,
            backend=self.backend,
            order=self.order,
            threads=self.threads,
        )
        solved = (solution.status, solution.residual)
        return pull_at_fixed_point(problem, self, point, g, solution.states, solution.n_eval, solved, solution.cost)


class _AdjointMap:
    """The map ``v -> J^T v + g`` whose fixed point is the adjoint (G-1)."""

    def __init__(self, point: Point, g: Arrays) -> None:
        self._point, self._g = point, g

    def evaluate(self, z: Mapping[str, np.ndarray], active: np.ndarray) -> Arrays:
        back = self._point.transpose(z)
        return {name: back[name] + self._g[name] for name in z}
