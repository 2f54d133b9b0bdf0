"""Anderson acceleration of one sample (S-7)."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq_validation.lab.least_squares import eliminate, normalised, with_ridge
from refdeq_validation.lab.rows import combine, inner
from refdeq_validation.protocol.problem import Problem

__all__ = ["AndersonStep"]

Array = np.ndarray[Any, Any]


class AndersonStep:
    """Window of one sample: columns stand in a ring, column i in slot ``i mod window``.

    Parameters
    ----------
    problem : Problem
    window, mixing, ridge, ridge_scale, form, restart, safeguard, warmup
        As in S-7.
    """

    def __init__(
        self,
        problem: Problem,
        window: int = 20,
        mixing: float = 1.0,
        ridge: float = 0.0,
        ridge_scale: str = "trace",
        form: str = "differences",
        restart: int | None = None,
        safeguard: float | None = 2.0,
        warmup: int = 0,
    ) -> None:
        self.problem, self.window, self.mixing = problem, window, mixing
        self.ridge, self.ridge_scale, self.form = ridge, ridge_scale, form
        self.restart, self.safeguard, self.warmup = restart, safeguard, warmup
        self.values: dict[int, Array] = {}
        self.residuals: dict[int, Array] = {}
        self.gram = np.zeros((window, window))
        self.last_value = self.last_residual = np.zeros(0)
        self.empty()

    def empty(self) -> None:
        """Forget all columns."""
        self.count, self.steps, self.best = 0, 0, np.inf

    def step(self, z: Array, f: Array) -> Array | None:
        """Add a column, find the weights, mix."""
        value = f.ravel()
        residual = self.difference(value, z.ravel())
        self.maybe_restart(inner(residual, residual))
        if self.form == "weights":
            self.append(value, residual)
        elif self.steps > 0:
            self.append(self.difference(value, self.last_value), self.difference(residual, self.last_residual))
        self.last_value, self.last_residual = value.copy(), residual.copy()
        self.steps = self.steps + 1
        return self.mix(value, residual).reshape(z.shape)

    def difference(self, left: Array, right: Array) -> Array:
        """Difference in float64, rounded once."""
        return combine(self.problem, [1.0, -1.0], [left, right])

    def maybe_restart(self, squared: float) -> None:
        """Empty the window when it is due, and note the lowest residual since."""
        if self.restart is not None and self.steps >= self.restart:
            self.empty()
        if self.safeguard is not None and self.count >= self.window and squared > self.safeguard**2 * self.best:
            self.empty()
        self.best = min(self.best, squared)

    def append(self, value: Array, residual: Array) -> None:
        """Write one column and its row of the Gram matrix."""
        slot = self.count % self.window
        self.values[slot], self.residuals[slot] = value, residual
        self.count = self.count + 1
        for other in range(min(self.count, self.window)):
            product = inner(self.residuals[other], residual)
            self.gram[slot, other] = product
            self.gram[other, slot] = product

    def newest_first(self) -> list[int]:
        """Slots in use, from the newest column to the oldest."""
        used = min(self.count, self.window) if self.steps > self.warmup else 0
        return [(self.count - 1 - age) % self.window for age in range(used)]

    def mix(self, value: Array, residual: Array) -> Array:
        """Next argument from the newest evaluation and the columns (S-7)."""
        slots = self.newest_first()
        gram = with_ridge(self.gram[np.ix_(slots, slots)], self.ridge, self.ridge_scale)
        if self.form == "weights":
            newest, weights = self.sum_to_one(slots, gram)
        else:
            products = np.array([inner(self.residuals[slot], residual) for slot in slots])
            newest, weights = 1.0, {slot: -x for slot, x in zip(slots, eliminate(gram, products).tolist(), strict=True)}
        order = sorted(weights)
        mixed = [newest, *(weights[slot] for slot in order)]
        columns = [value, *(self.values[slot] for slot in order)]
        rest = 1.0 - self.mixing
        if rest != 0.0:
            mixed = [*mixed, *(-rest * weight for weight in mixed)]
            columns = [*columns, residual, *(self.residuals[slot] for slot in order)]
        return combine(self.problem, mixed, columns)

    def sum_to_one(self, slots: list[int], gram: Array) -> tuple[float, dict[int, float]]:
        """Weights of the form that mixes pairs; while it warms up, all on the newest pair."""
        if not slots:
            return 0.0, {(self.count - 1) % self.window: 1.0}
        return 0.0, dict(zip(slots, normalised(gram).tolist(), strict=True))
