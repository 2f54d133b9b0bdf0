"""Truncated Neumann series of the adjoint, and its first term (G-2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refdeq.checks import check_integer, check_number
from refdeq.gradients.problem import Problem, pull_at_fixed_point
from refdeq.gradients.result import Gradient
from refdeq.reference import ReferenceKernels

__all__ = ["Jfb", "Neumann"]


@dataclass(frozen=True)
class Neumann:
    """``v = tau sum_{i<k} B^i g`` with ``B = (1 - tau) I + tau J^T`` (G-2).

    What is missing is exactly ``B^k v*``: the series converges where the spectral radius of B is below 1, and a damping
    ``tau < 1`` brings there what oscillates, at the price of slower decay. The sum is formed as k damped Picard steps on the
    adjoint map from 0 (S-6), so it equals that solve bit for bit; the first of them needs no product.

    Parameters
    ----------
    k : int
        Number of terms, at least 1; takes ``k - 1`` products.
    damping : float
        tau in (0, 2].

    Examples
    --------
    >>> import refdeq as rd
    >>> cell = rd.models.rnn(np.array([[0.5]]), np.array([[1.0]]), np.array([0.0]))
    >>> sol = rd.solve(cell, np.array([[0.0]]))  # z = 0, where J = W = 1/2
    >>> float(rd.gradient(cell, sol, np.ones((1, 1)), method=Neumann(3)).adjoint["z"][0, 0])
    1.75
    """

    k: int
    damping: float = 1.0

    def __post_init__(self) -> None:
        check_integer("k", self.k, low=1)
        check_number("damping", self.damping, "a number in (0, 2]", low=0.0, open_low=True, high=2.0)

    @property
    def name(self) -> str:
        """Short name for tables."""
        return f"neumann({self.k}, {self.damping:g})"

    def estimate(self, problem: Problem) -> Gradient:
        """Sum the series, then one VJP through f (G-2)."""
        kernels, point, g = ReferenceKernels(), problem.map.linearise(problem.states), problem.cotangent(problem.states)
        everyone = np.ones(problem.batch, dtype=bool)
        v = {s: np.zeros_like(array) for s, array in g.items()}
        for i in range(self.k):
            back = point.transpose(v) if i else v
            for s in v:
                kernels.relax(v[s], back[s] + g[s], self.damping, everyone, v[s])
        return pull_at_fixed_point(problem, self, point, g, v, np.full(problem.batch, self.k - 1))


@dataclass(frozen=True)
class Jfb:
    """Jacobian-free backpropagation: ``v = g``, the first term of the Neumann series (G-2).

    Where ``||J|| < 1`` it points the right way in state space: ``<g, v*> >= (1 - ||J||) ||v*||^2``. In parameter space that
    needs ``df/dtheta`` to be well conditioned beside the contraction.

    Examples
    --------
    >>> Jfb().name
    'jfb'
    """

    @property
    def name(self) -> str:
        """Short name for tables."""
        return "jfb"

    def estimate(self, problem: Problem) -> Gradient:
        """One VJP through f with the cotangent itself (G-2)."""
        point, g = problem.map.linearise(problem.states), problem.cotangent(problem.states)
        v = {s: array.copy() for s, array in g.items()}
        return pull_at_fixed_point(problem, self, point, g, v, np.zeros(problem.batch, dtype=np.int64))
