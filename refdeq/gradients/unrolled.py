"""Backpropagation through damped Picard steps: from the solution, or through a whole iteration (G-2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq.checks import check_integer, check_number
from refdeq.gradients.linearisation import Arrays, Point
from refdeq.gradients.problem import Method, Problem, norms, truncated
from refdeq.gradients.result import Gradient
from refdeq.reference import ReferenceKernels
from refdeq.validate_inputs import check_values

__all__ = ["Phantom", "Unrolled"]

_NO_MASKS = "unrolled steps evaluate f densely, where the solve left no masks; use Ift, Neumann or Jfb"


@dataclass(frozen=True)
class Phantom:
    """Backpropagation through k damped Picard steps from the solution, which itself is taken as a constant (G-2).

    The forward value moves too: the loss, and so the cotangent, belong to the k-th state (``Gradient.z``). Pass the cotangent
    as a function of z to have it evaluated there. At the exact fixed point the gradient equals that of ``Neumann(k, damping)``.

    Parameters
    ----------
    k : int
        Number of steps, at least 1; all their values are kept.
    damping : float
        tau in (0, 2]: ``z <- fl((1 - tau) z) + fl(tau f)``, as in S-6.

    Examples
    --------
    >>> Phantom(5, 0.5).name
    'phantom(5, 0.5)'
    """

    k: int
    damping: float = 1.0

    def __post_init__(self) -> None:
        check_integer("k", self.k, low=1)
        check_number("damping", self.damping, "a number in (0, 2]", low=0.0, open_low=True, high=2.0)

    @property
    def name(self) -> str:
        """Short name for tables."""
        return f"phantom({self.k}, {self.damping:g})"

    def estimate(self, problem: Problem) -> Gradient:
        """Unroll from the returned point (G-2)."""
        problem.refuse_frozen_masks(_NO_MASKS)
        return _through_steps(problem, self, self.k, self.damping, problem.states)


@dataclass(frozen=True, eq=False)
class Unrolled:
    """Backpropagation through k damped Picard steps from `z0` (G-2).

    The exact gradient of the k-th state, converged or not, and the only method whose gradient with respect to the initial state
    is not zero by definition. Memory grows with k: the values of every evaluation are kept.

    Parameters
    ----------
    k : int
        Number of steps, at least 1.
    damping : float
        tau in (0, 2], as in S-6.
    z0 : (B, ...) ndarray, or dict of state name to ndarray, optional
        First state; zeros by default.

    Examples
    --------
    >>> Unrolled(20).name
    'unrolled(20, 1)'
    """

    k: int
    damping: float = 1.0
    z0: Any = None

    def __post_init__(self) -> None:
        check_integer("k", self.k, low=1)
        check_number("damping", self.damping, "a number in (0, 2]", low=0.0, open_low=True, high=2.0)

    @property
    def name(self) -> str:
        """Short name for tables."""
        return f"unrolled({self.k}, {self.damping:g})"

    def estimate(self, problem: Problem) -> Gradient:
        """Unroll from `z0`; of the solution only its injection is used (G-2)."""
        problem.refuse_frozen_masks(_NO_MASKS)
        start = {s: np.zeros_like(array) for s, array in problem.states.items()}
        if self.z0 is not None:
            first = next(iter(start.values()))
            shapes = {s: array.shape[1:] for s, array in start.items()}
            given = check_values("z0", self.z0, shapes, first.dtype, len(problem.solution.status))
            start = {s: given[s][problem.rows] for s in start}
        return _through_steps(problem, self, self.k, self.damping, start)


def _through_steps(problem: Problem, method: Method, k: int, damping: float, start: Arrays) -> Gradient:
    """Steps forward, keeping every point, then the same steps in reverse."""
    z, tape = _forward(problem, k, damping, start)
    left = problem.cotangent(z)
    dtype = next(iter(left.values())).dtype.type
    alpha, beta = dtype(damping), dtype(1.0 - damping)
    adjoint = {s: np.zeros_like(array) for s, array in z.items()}
    parameters: Arrays = {}
    injections: Arrays = {}
    while tape:
        v = left if damping == 1.0 else {s: alpha * array for s, array in left.items()}
        pulled = tape.pop().pull(v)  # popped, so that its values are free before the next walk
        parameters, injections = _plus(parameters, pulled.parameters), _plus(injections, pulled.injections)
        adjoint = _plus(adjoint, v)
        left = pulled.states if damping == 1.0 else {s: beta * left[s] + pulled.states[s] for s in left}
    return Gradient(
        parameters=parameters,
        injections=injections,
        initial=left,
        adjoint=adjoint,
        states=z,
        status=truncated(z, adjoint, left),
        n_eval=np.full(problem.batch, k),
        residual=norms(left),
        method=method.name,
        jacobian=problem.jacobian,
    )


def _forward(problem: Problem, k: int, damping: float, start: Arrays) -> tuple[Arrays, list[Point]]:
    """State after k damped steps (S-6), and the point of each."""
    kernels, everyone = ReferenceKernels(), np.ones(problem.batch, dtype=bool)
    z = {s: array.copy() for s, array in start.items()}
    tape: list[Point] = []
    for _ in range(k):
        point = problem.map.linearise(z)
        f = point.value
        for s in z:
            kernels.relax(z[s], f[s], damping, everyone, z[s])
        tape.append(point)
    return z, tape


def _plus(total: Mapping[str, np.ndarray], more: Mapping[str, np.ndarray]) -> Arrays:
    return {name: total[name] + array if name in total else array for name, array in more.items()}
