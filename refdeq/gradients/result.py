"""What a gradient call returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq.cost import Cost
from refdeq.types import Status

__all__ = ["Gradient"]

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False, repr=False)
class Gradient:
    """Gradient of a loss through a solve (G-1, G-2).

    Attributes
    ----------
    parameters : dict of parameter name to ndarray
        Summed over the batch, so a sample whose adjoint is not finite makes them not finite (N-2): leave it out with ``where``.
        Empty for plain callables, as are the injections.
    injections : dict of injection name to (B, ...) ndarray
    initial : dict of state name to (B, ...) ndarray
        With respect to the first state of the unrolled steps (``Unrolled``: of the whole iteration; ``Phantom``: the solution
        it starts from, which it treats as a constant). Zero for methods at the fixed point, which does not depend on it.
    adjoint : dict of state name to (B, ...) ndarray
        What was pulled through f: ``v = (I - J^T)^-1 dL/dz*`` or its approximation; for unrolled methods the sum of the
        cotangents of all evaluations of f.
    states : dict of state name to (B, ...) ndarray
        The point at which the cotangent belongs: the returned z of the solve, or the last unrolled state.
    status : (B,) int64 of :class:`refdeq.types.Status`
        MAX_EVAL for methods of a fixed number of steps (they ask for no tolerance), unless they met a number not finite.
    n_eval : (B,) int64
        Products ``J^T v``, beside the one VJP through f that ends every method at the fixed point.
    residual : (B,) float64
        ``||J^T v + g - v||``, of the delta-evaluated map under a rule (S-2b). For unrolled methods the norm of what is left
        of the cotangent at their first state, which is the same number when that state is the fixed point.
    residual_dense : (B,) float64 or None
        The same in the l2 norm without a rule, from the VJP that ends every method at the fixed point; None for unrolled ones.
    method : str
        Name of the method, with its parameters.
    jacobian : {"dense", "frozen-mask"}
    cost : Cost or None
        Of an adjoint iteration that ran as a cell (``Ift`` with a delta rule or a backend).
    """

    parameters: Arrays
    injections: Arrays
    initial: Arrays
    adjoint: Arrays
    states: Arrays
    status: np.ndarray
    n_eval: np.ndarray
    residual: np.ndarray
    method: str
    jacobian: str = "dense"
    cost: Cost | None = None
    residual_dense: np.ndarray | None = None

    @property
    def z(self) -> Any:
        """State at which the cotangent was taken: the one array when there is one state, else a dict by state name."""
        return next(iter(self.states.values())) if len(self.states) == 1 else self.states

    @property
    def converged(self) -> bool:
        """Whether every adjoint met a tolerance; True for an empty batch."""
        return bool(np.all(self.status == Status.CONVERGED))

    def __repr__(self) -> str:
        values, counts = np.unique(self.status, return_counts=True)
        ends = ", ".join(f"{Status(int(v)).name} {int(c)}" for v, c in zip(values, counts, strict=True))
        parts = [f"{self.method}, {self.jacobian}", f"{len(self.status)} samples: {ends or 'none'}"]
        if self.cost is not None:
            parts.append(f"{100 * self.cost.saved:.1f} % of MACs saved")
        return f"Gradient({'; '.join(parts)})"
