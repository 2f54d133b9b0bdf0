"""Broyden's method on one sample: the inverse Jacobian of g as ``-I`` and a sum of outer products (S-8)."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq_validation.lab.rows import combine, inner
from refdeq_validation.protocol.problem import Problem

__all__ = ["BroydenStep"]

Array = np.ndarray[Any, Any]

DECREASE, SHORTEST, LONGEST, BACKTRACKS = 1e-4, 0.5, 0.5, 2


class BroydenStep:
    """Outer products of one sample; pair k stands in slot ``k mod window``.

    Parameters
    ----------
    problem : Problem
    window, update, line_search
        As in S-8; ``line_search`` is None or ``"armijo"``.
    """

    def __init__(
        self, problem: Problem, window: int | None = None, update: str = "good", line_search: str | None = None
    ) -> None:
        self.problem, self.window, self.update_form, self.line_search = problem, window, update, line_search
        self.u: dict[int, Array] = {}
        self.v: dict[int, Array] = {}
        self.count = 0
        self.base = self.old = self.direction = np.zeros(0)
        self.started, self.phi, self.length, self.refused = False, np.inf, 1.0, 0

    def step(self, z: Array, f: Array) -> Array | None:
        """Accept the argument and step from it, or try a shorter step from the last one."""
        now, value = z.ravel(), f.ravel()
        residual = self.combine([1.0, -1.0], [value, now])
        phi = inner(residual, residual)
        if self.too_long(phi):
            self.shorten(phi)
            return self.combine([1.0, self.length], [self.base, self.direction]).reshape(z.shape)
        if self.started and phi > 0.0 and not self.update(now, residual):
            return None
        slots = sorted(self.u)
        products = [-inner(self.v[slot], residual) for slot in slots]
        following = self.combine([1.0, *products], [value, *(self.u[slot] for slot in slots)])
        self.base, self.old = now.copy(), residual.copy()
        self.direction = self.combine([1.0, -1.0], [following, now])
        self.phi, self.length, self.refused, self.started = phi, 1.0, 0, True
        return following.reshape(z.shape)

    def combine(self, weights: list[float], columns: list[Array]) -> Array:
        """Combination of rows in float64, rounded once."""
        return combine(self.problem, weights, columns)

    def too_long(self, phi: float) -> bool:
        """Whether the line search refuses the last step (S-8)."""
        if self.line_search is None or not self.started or self.refused >= BACKTRACKS:
            return False
        return not phi <= (1.0 - 2.0 * DECREASE * self.length) * self.phi

    def shorten(self, phi: float) -> None:
        """Length of the next trial: the minimiser of the parabola, kept within its limits."""
        length, before = self.length, self.phi
        fitted = np.float64(length * (length * before)) / (phi - before + 2.0 * length * before)
        self.length = float(np.clip(fitted, SHORTEST * length, LONGEST * length))
        self.refused = self.refused + 1

    def update(self, now: Array, residual: Array) -> bool:
        """Add the pair of the step just made; false where the denominator or u is unusable (S-8)."""
        dz = self.combine([1.0, -1.0], [now, self.base])
        dg = self.combine([1.0, -1.0], [residual, self.old])
        slot = self.count if self.window is None else self.count % self.window
        slots = [other for other in sorted(self.u) if other != slot]  # a full ring drops its oldest pair first
        us, vs = [self.u[other] for other in slots], [self.v[other] for other in slots]
        v = dg
        if self.update_form == "good":
            v = self.combine([-1.0, *(inner(u, dz) for u in us)], [dz, *vs])
        reciprocal = float(np.float64(1.0) / np.float64(inner(v, dg)))
        if not np.isfinite(reciprocal):
            return False
        images = [-reciprocal * inner(other, dg) for other in vs]
        u = self.combine([reciprocal, reciprocal, *images], [dz, dg, *us])
        if not np.isfinite(inner(u, u)):
            return False
        self.u[slot], self.v[slot] = u, v
        self.count = self.count + 1
        return True
