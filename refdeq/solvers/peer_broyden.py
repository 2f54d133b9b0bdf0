"""Broyden's methods as the peers do them: sums of outer products added to ``-alpha I`` (S-9, in the place of S-8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from refdeq.kernels import Array, Kernels
from refdeq.solvers.history import inner, new_row
from refdeq.solvers.peer_root import PeerRoot, RootState, mix

__all__ = ["PeerBroyden"]


@dataclass(frozen=True, kw_only=True)
class PeerBroyden(PeerRoot):
    """``H = -alpha I + sum u v^T`` with ``u = (dz - H dg) / <v, dg>`` (S-9, in the place of S-8).

    Parameters
    ----------
    method : {"good", "bad"}
        ``v = H^T dz`` or ``v = dg``.
    window : int, optional
        Pairs that are kept; all of them when None.
    reduction : {"overwrite", "oldest", "restart"}
        How the window is kept: the new pair is computed with all the old ones and then takes the place of the oldest; or the
        oldest, or all, are dropped before it is computed. The last two end for good, as in SciPy, once there are more pairs
        than unknowns.
    zero : {"null", "break", "reset"}
        What a zero denominator does: a pair of zeros where also ``dz - H dg = 0`` (the peers' NaN that becomes 0), else
        BREAKDOWN; BREAKDOWN always; or all pairs are dropped (SciPy), and BREAKDOWN only when the direction is zero.
    """

    method: Literal["good", "bad"] = "good"
    window: int | None = None
    reduction: Literal["overwrite", "oldest", "restart"] = "overwrite"
    zero: Literal["null", "break", "reset"] = "null"

    def update(self, kernels: Kernels, moved: Array, changed: Array, state: RootState, active: np.ndarray) -> np.ndarray:
        """Add the pair of one step."""
        self._reduce(state)
        us, vs = state.columns["left"], state.columns["right"]
        u, v = (new_row(kernels, state.shape, state.dtype) for _ in range(2))
        if self.method == "good":
            self._multiply(kernels, us, vs, moved, state, active, v)
        else:
            kernels.copy_active(changed, active, v)
        self._multiply(kernels, vs, us, changed, state, active, u)
        mix(kernels, [moved, u], [1.0, -1.0], active, u)
        with np.errstate(divide="ignore"):
            factor = 1.0 / inner(kernels, [v], changed, active, self.coupled)[:, 0]
        usable = active & np.isfinite(factor)
        mix(kernels, [u], [factor], usable, u)
        broken: np.ndarray = active & ~usable
        if self.zero == "reset" and broken.any():
            us.clear()
            vs.clear()
            return np.zeros_like(active)
        self._keep(us, u, state)
        self._keep(vs, v, state)
        state.numbers["pairs"] = np.array(int(state.numbers.get("pairs", 0)) + 1)
        if self.zero == "null":
            broken &= _largest(kernels, u, broken) != 0.0
        return broken

    def direct(self, kernels: Kernels, state: RootState, active: np.ndarray) -> np.ndarray:
        """``-H g``."""
        us, vs = state.columns["left"], state.columns["right"]
        self._multiply(kernels, vs, us, state.residual, state, active, state.direction)
        mix(kernels, [state.direction], [-1.0], active, state.direction)
        if self.zero != "reset":
            return np.zeros_like(active)
        is_zero = bool(active.any()) and not _largest(kernels, state.direction, active)[active].any()
        return active if is_zero else np.zeros_like(active)

    def _multiply(
        self,
        kernels: Kernels,
        read: list[Array],
        written: list[Array],
        row: Array,
        state: RootState,
        active: np.ndarray,
        out: Array,
    ) -> None:
        """``-alpha row + sum <read, row> written``: H times a row, or its transpose with the columns exchanged."""
        weights = [-state.alpha]
        if read:
            weights += list(inner(kernels, read, row, active, self.coupled).T)
        mix(kernels, [row, *written], weights, active, out)

    def _reduce(self, state: RootState) -> None:
        """Make room before a pair is computed, as SciPy does."""
        us, vs = state.columns["left"], state.columns["right"]
        unknowns = state.shape[1] * (state.shape[0] if self.coupled else 1)
        if self.window is None or self.reduction == "overwrite" or len(us) > unknowns:
            return
        while len(us) > self.window - 1:
            drop = 1 if self.reduction == "oldest" else len(us)
            del us[:drop], vs[:drop]

    def _keep(self, columns: list[Array], row: Array, state: RootState) -> None:
        if self.window is not None and self.reduction == "overwrite" and len(columns) == self.window:
            columns[int(state.numbers["pairs"]) % self.window] = row
        else:
            columns.append(row)


def _largest(kernels: Kernels, row: Array, active: np.ndarray) -> np.ndarray:
    """Largest magnitude in the row of each active sample; NaN wins."""
    unused, largest = np.zeros(len(active)), np.zeros(len(active))
    kernels.residual([row], [row], "linf", active, unused, largest)
    return largest
