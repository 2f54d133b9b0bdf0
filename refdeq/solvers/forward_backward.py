"""Forward-backward splitting: a damped step inside the Relu of a monotone operator network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from refdeq.checks import check_number
from refdeq.errors import ArgumentError
from refdeq.graph import Cell
from refdeq.kernels import Array, Kernels
from refdeq.solvers.base import Split
from refdeq.solvers.picard import Picard
from refdeq.solvers.splitting import MonotoneForm, Rewriter, match_form, monotone_constants

__all__ = ["ForwardBackward", "forward_backward_limit"]


def forward_backward_limit(cell: Cell) -> float:
    """Step length below which forward-backward splitting converges: ``2 m / ||I - W||^2`` (S-6b).

    With ``m > 0`` the least eigenvalue of the symmetric part of ``I - W``. Steps below it shrink the distance to the fixed
    point by ``sqrt(1 - 2 alpha m + alpha^2 ||I - W||^2)``, least at half the limit. Longer steps may converge all the same.

    Examples
    --------
    >>> import refdeq
    >>> cell = refdeq.models.monotone(np.eye(2), np.zeros((2, 2)), np.ones((2, 1)), np.zeros(2), m=1.0)
    >>> forward_backward_limit(cell)  # I - W = 2 I
    1.0
    """
    m, lipschitz = monotone_constants(cell)
    if not m > 0.0:
        raise ArgumentError(
            "alpha", got="'auto'", hint=f"I - W is not strongly monotone here: its constant is {m:.3g}, not > 0"
        )
    return 2.0 * m / lipschitz**2


@dataclass(frozen=True, kw_only=True)
class ForwardBackward:
    """Iteration ``z <- relu((1 - alpha) z + alpha (W z + beta))`` of a cell ``z <- relu(W z + beta)`` (S-6b).

    A splitting solver: it rewrites the cell, so that one evaluation costs one product with W, which a delta rule gates as it
    gates the cell's own. Reported are argument z and value relu(W z + beta), that is the residual of the cell. With
    ``alpha = 1`` it is Picard. Needs a monotone cell for its guarantee (:func:`forward_backward_limit`), not a contraction.

    Parameters
    ----------
    alpha : float or "auto"
        Step length > 0; ``1 - alpha`` is formed in float64 and both are rounded once to the dtype of z. "auto" takes half of
        the limit, where the guaranteed rate is best.

    Examples
    --------
    >>> import refdeq as rd
    >>> cell = rd.models.monotone(np.eye(1), np.array([[0.0]]), np.eye(1), np.zeros(1))  # z <- relu(-z + x)
    >>> sol = rd.solve(cell, np.array([[3.0]]), solver=ForwardBackward(alpha="auto"))
    >>> sol.converged, round(float(sol.z[0, 0]), 4)
    (True, 1.5)
    """

    alpha: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.alpha, str) or self.alpha != "auto":
            check_number("alpha", self.alpha, "a finite number > 0 or 'auto'", low=0.0, open_low=True, high=1e300)
            object.__setattr__(self, "alpha", float(self.alpha))

    @property
    def name(self) -> str:
        """Short name for tables."""
        return f"fb({self.alpha if self.alpha == 'auto' else format(self.alpha, 'g')})"

    def step_length(self, cell: Cell) -> float:
        """Return the alpha that a solve of `cell` takes."""
        return forward_backward_limit(cell) / 2.0 if self.alpha == "auto" else self.alpha

    def split(self, cell: Cell) -> Split:
        """Keep the cell whole, and append the damped step (S-6b)."""
        return self.rewrite(match_form(cell), self.step_length(cell))

    def rewrite(self, form: MonotoneForm, alpha: float) -> Split:
        """Rewrite a cell whose parts are known."""
        cell = form.cell
        new = Rewriter(cell, cell.graph.nodes)
        kept = new.node("Mul", form.state, new.parameter("rest", 1.0 - alpha), name="kept")
        moved = new.node("Mul", form.total, new.parameter("alpha", alpha), name="moved")
        following = new.project(new.node("Add", kept, moved, name="mixed"), form, "next")
        value = cell.graph.outputs[form.state]
        return Split(new.build(form.state, following), {form.state: form.state}, {form.state: value})

    def init(self, kernels: Kernels, z: Mapping[str, Array]) -> None:
        """No state beside z."""

    def step(
        self, kernels: Kernels, z: Mapping[str, Array], f: Mapping[str, Array], state: None, active: np.ndarray
    ) -> tuple[None, None]:
        """Take the value of the rewritten cell (S-6b)."""
        return Picard().step(kernels, z, f, state, active)
