"""What a forward solve by Broyden knows about the Jacobian, used for the adjoint (G-2).

At its end it holds ``H``, close to the inverse of ``J - I`` in the directions it has stepped in. The adjoint equation
``(J^T - I) v = -g`` has the transposed matrix: ``-H^T g`` is a first v, and H transposed (its columns exchanged) is where
Broyden's method can go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError
from refdeq.gradients.linearisation import Arrays
from refdeq.gradients.problem import Problem
from refdeq.kernels import Array, Kernels
from refdeq.reference import ReferenceKernels
from refdeq.solvers import Solver
from refdeq.solvers.broyden import Broyden, BroydenState

__all__ = ["ForwardInverse", "forward_inverse"]


@dataclass(frozen=True, eq=False)
class ForwardInverse:
    """Columns of ``H = -I + sum_i u_i v_i^T`` of the samples that take part, each (B, N)."""

    u: list[np.ndarray]
    v: list[np.ndarray]

    def start(self, g: Arrays) -> Arrays:
        """``-H^T g``, per state."""
        kernels, first = ReferenceKernels(), next(iter(g.values()))
        everyone = np.ones(len(first), dtype=bool)
        row = np.zeros((len(first), sum(int(np.prod(a.shape[1:])) for a in g.values())), dtype=first.dtype)
        products = np.zeros((len(first), len(self.u)))
        kernels.flatten(list(g.values()), everyone, row)
        kernels.inner(self.u, row, everyone, products)
        kernels.combine([row, *self.v], np.concatenate([np.ones((len(first), 1)), -products], axis=1), everyone, row)
        out = {s: np.empty_like(array) for s, array in g.items()}
        kernels.unflatten(row, everyone, list(out.values()))
        return out

    def given_to(self, solver: Any) -> Any:
        """`solver`, beginning from H transposed if it is Broyden's; others use the start alone."""
        return _Continued(solver, self.v, self.u) if isinstance(solver, Broyden) else solver


@dataclass(frozen=True, eq=False)
class _Continued(Solver):
    """Broyden's method that begins with columns of another solve."""

    solver: Broyden
    u: list[np.ndarray]
    v: list[np.ndarray]

    @property
    def name(self) -> str:
        return self.solver.name

    def init(self, kernels: Kernels, z: Mapping[str, Array]) -> BroydenState:
        return self.solver.init(kernels, z, (self.u, self.v))

    def step(
        self, kernels: Kernels, z: Mapping[str, Array], f: Mapping[str, Array], state: BroydenState, active: np.ndarray
    ) -> tuple[BroydenState, np.ndarray]:
        return self.solver.step(kernels, z, f, state, active)


def forward_inverse(problem: Problem) -> ForwardInverse:
    """Take the columns out of the solution; raises ``ArgumentError`` when another solver made it."""
    state = problem.solution.solver_state
    if not isinstance(state, BroydenState):
        made_by = problem.solution.solver or type(state).__name__
        raise ArgumentError("reuse", expected="a solution made by Broyden, at op level", got=made_by)
    u, v = ([_host(column)[problem.rows] for column in side] for side in (state.u, state.v))
    return ForwardInverse(u, v)


def _host(column: Array) -> np.ndarray:
    if not isinstance(column, np.ndarray):
        raise ArgumentError("reuse", expected="a solution of a backend in host memory", got=type(column).__name__)
    return column
