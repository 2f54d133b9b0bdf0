"""What a gradient method is given: a checked problem, and what every method has to hand back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from refdeq.cost import Cost
from refdeq.errors import ArgumentError
from refdeq.gradients.linearisation import Arrays, Differentiable, Point
from refdeq.gradients.result import Gradient
from refdeq.kernels import Kernels
from refdeq.reference import ReferenceKernels
from refdeq.solution import Solution
from refdeq.types import Status

__all__ = ["Method", "Problem", "norms", "pull_at_fixed_point", "truncated"]


@dataclass(frozen=True, eq=False)
class Problem:
    """A loss at a solution, checked (G-1).

    Attributes
    ----------
    map : Differentiable
        What was solved.
    solution : Solution
    states : dict of state name to (B, ...) ndarray
        The returned point, of the samples that take part.
    cotangent : callable
        ``cotangent(states) -> dL/dz`` there, per state.
    jacobian : {"dense", "frozen-mask"}
    rows : (B,) int64
        The samples of the solution that take part.
    """

    map: Differentiable
    solution: Solution
    states: Arrays
    cotangent: Callable[[Arrays], Arrays]
    jacobian: str
    rows: np.ndarray

    @property
    def batch(self) -> int:
        """Number of samples that take part."""
        return len(self.rows)

    def refuse_frozen_masks(self, why: str) -> None:
        """Raise ``ArgumentError`` unless the Jacobian is the dense one."""
        if self.jacobian != "dense":
            raise ArgumentError("jacobian", expected="'dense' for this method", got=repr(self.jacobian), hint=why)


class Method(Protocol):
    """A frozen configuration of a gradient estimator (G-2)."""

    @property
    def name(self) -> str:
        """Short name for tables, with the parameters."""

    def estimate(self, problem: Problem) -> Gradient:
        """Return the gradient."""


def norms(arrays: Mapping[str, np.ndarray], norm: str = "l2") -> np.ndarray:
    """Norm of every sample over all states, by the pinned tree of S-2; (B,) float64."""
    parts = list(arrays.values())
    out, unused = np.empty(len(parts[0])), np.empty(len(parts[0]))
    kernels: Kernels = ReferenceKernels()
    kernels.residual(parts, [np.zeros_like(part) for part in parts], norm, np.ones(len(out), dtype=bool), out, unused)
    return out


def truncated(*parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Status of methods that ask for no tolerance: MAX_EVAL, or NONFINITE where any of `parts` is not finite (S-3)."""
    finite = np.logical_and.reduce([np.isfinite(norms(arrays, "linf")) for arrays in parts])
    return np.where(finite, Status.MAX_EVAL, Status.NONFINITE)


def pull_at_fixed_point(
    problem: Problem,
    method: Method,
    point: Point,
    g: Arrays,
    v: Arrays,
    n_eval: np.ndarray,
    solved: tuple[np.ndarray, np.ndarray] | None = None,
    cost: Cost | None = None,
) -> Gradient:
    """One VJP through f at the solution, with the adjoint `v` (G-1).

    Parameters
    ----------
    solved : (status, residual), optional
        Of the adjoint solve. Without it the method took a fixed number of steps; the residual is then that which the VJP
        gives for nothing.
    """
    pulled = point.pull(v)
    dense = norms({s: pulled.states[s] + g[s] - v[s] for s in v})
    status, residual = (truncated(v, {"residual": dense[:, None]}), dense) if solved is None else solved
    return Gradient(
        parameters=pulled.parameters,
        injections=pulled.injections,
        initial={s: np.zeros_like(array) for s, array in v.items()},
        adjoint=v,
        states=problem.states,
        status=status,
        n_eval=n_eval,
        residual=residual,
        method=method.name,
        jacobian=problem.jacobian,
        cost=cost,
        residual_dense=dense,
    )
