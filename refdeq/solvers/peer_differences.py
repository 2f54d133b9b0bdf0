"""Anderson's method as SciPy does it: an inverse Jacobian from the last differences (S-9, in the place of S-7)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refdeq.kernels import Array, Kernels
from refdeq.solvers.history import inner, new_row
from refdeq.solvers.peer_root import PeerRoot, RootState, mix

__all__ = ["PeerDifferences"]


@dataclass(frozen=True, kw_only=True)
class PeerDifferences(PeerRoot):
    """``-H g = alpha g - sum c (dz + alpha dg)`` with ``(dG^T dG + w0^2 diag) c = dG^T g`` (S-9, in the place of S-7).

    Parameters
    ----------
    window : int
        Differences that are kept; 0 is damped Picard.
    w0 : float
        The diagonal of the Gram matrix is multiplied by ``1 + w0^2``: a relative ridge.
    """

    window: int = 5
    w0: float = 0.01

    def update(self, kernels: Kernels, moved: Array, changed: Array, state: RootState, active: np.ndarray) -> np.ndarray:
        """Keep the newest differences, and the Gram matrix of those of g."""
        dz, dg = state.columns["left"], state.columns["right"]
        for columns, row in ((dz, moved), (dg, changed)):
            kept = new_row(kernels, state.shape, state.dtype)
            kernels.copy_active(row, active, kept)
            columns.append(kept)
            del columns[: max(0, len(columns) - self.window)]
        n = len(dg)
        gram = np.zeros((len(active), n, n))
        old = state.numbers.get("gram", gram)
        kept_before = min(n - 1, old.shape[1]) if n else 0
        if kept_before:
            gram[:, :kept_before, :kept_before] = old[:, -kept_before:, -kept_before:]
        if n:
            gram[:, -1, :] = gram[:, :, -1] = inner(kernels, dg, dg[-1], active, self.coupled)
        state.numbers["gram"] = gram
        return np.zeros_like(active)

    def direct(self, kernels: Kernels, state: RootState, active: np.ndarray) -> np.ndarray:
        """Direction of the next step; a singular Gram matrix drops all differences."""
        dz, dg = state.columns["left"], state.columns["right"]
        weights = np.zeros((len(active), len(dg)))
        if dg:
            gram = state.numbers["gram"] * (1.0 + self.w0**2 * np.eye(len(dg)))
            rhs = inner(kernels, dg, state.residual, active, self.coupled)
            try:
                weights[active] = -np.linalg.solve(gram[active], rhs[active][..., None])[..., 0]
            except np.linalg.LinAlgError:
                dz.clear()
                dg.clear()
                weights = weights[:, :0]
        factors = [state.alpha, *weights.T, *(state.alpha[:, None] * weights).T]
        mix(kernels, [state.residual, *dz, *dg], factors, active, state.direction)
        unused, largest = np.zeros(len(active)), np.zeros(len(active))
        kernels.residual([state.direction], [state.direction], "linf", active, unused, largest)
        is_zero = bool(active.any()) and not largest[active].any()
        return active if is_zero else np.zeros_like(active)
