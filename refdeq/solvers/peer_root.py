"""What the peers' root finders for ``g(z) = f(z) - z`` share: accepted points, directions, trial steps (S-9)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refdeq.kernels import Array, Kernels
from refdeq.solvers.history import inner, new_ring, row_shape
from refdeq.solvers.peer_search import PeerSearch, batch_square, next_trial

__all__ = ["PeerRoot", "RootState"]


@dataclass
class RootState:
    """Where the method stands; all samples of the batch are at the same step.

    Attributes
    ----------
    point, residual, direction : (B, N) backend arrays
        Last accepted z, its g, and the direction of the step from there.
    rows : list of (B, N) backend arrays
        Room for one step: z, g, and the differences of both.
    shape, dtype
        Of one row array.
    alpha : (B,) float64
        The first inverse Jacobian is ``-alpha I``.
    columns : dict of str to list of (B, N) backend arrays
        What the inverse Jacobian is made of.
    square : float64
        ``||g||^2`` of the batch at the accepted point.
    numbers : dict of str to ndarray
        Host numbers beside the columns.
    trials : list of float64
        The same at the trials since.
    accepted : int
        Accepted points, the first argument included.
    """

    point: Array
    residual: Array
    direction: Array
    rows: list[Array]
    shape: tuple[int, int]
    dtype: str
    alpha: np.ndarray
    columns: dict[str, list[Array]]
    square: np.float64
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    trials: list[np.float64] = field(default_factory=list)
    accepted: int = 0


@dataclass(frozen=True, kw_only=True)
class PeerRoot(ABC):
    """Quasi-Newton method of a peer; the inverse Jacobian is that of a subclass.

    Parameters
    ----------
    label : str
    alpha : float, optional
        The first inverse Jacobian is ``-alpha I``; None is SciPy's ``0.5 max(||z0||, 1) / ||g0||``, or 1 where ``g0 = 0``.
    stepsize : float
        Step without a line search.
    search : PeerSearch, optional
        One line search for the whole batch.
    coupled : bool
        The batch is one vector.
    """

    label: str
    alpha: float | None = 1.0
    stepsize: float = 1.0
    search: PeerSearch | None = None
    coupled: bool = False

    @property
    def name(self) -> str:
        """Short name for tables."""
        return self.label

    def init(self, kernels: Kernels, z: Mapping[str, Array]) -> RootState:
        """Return the state before the first evaluation."""
        shape, dtype = row_shape(kernels, z)
        point, residual, direction, *rows = new_ring(kernels, shape, dtype, 7)
        alpha = np.full(shape[0], np.nan if self.alpha is None else self.alpha)
        columns: dict[str, list[Array]] = {"left": [], "right": []}
        return RootState(point, residual, direction, rows, shape, dtype, alpha, columns, np.float64(np.nan))

    def step(
        self, kernels: Kernels, z: Mapping[str, Array], f: Mapping[str, Array], state: RootState, active: np.ndarray
    ) -> tuple[RootState, np.ndarray | None]:
        """Judge the trial, or take a step from an accepted point (S-9)."""
        argument, residual, moved, changed = state.rows
        kernels.flatten(list(z.values()), active, argument)
        kernels.flatten([f[name] for name in z], active, residual)
        mix(kernels, [residual, argument], [1.0, -1.0], active, residual)
        square = self._square(kernels, f, z, active)
        if self.search is not None and state.accepted:
            state.trials.append(square)
            step, accepted = next_trial(self.search, state.square, state.trials)
            if not accepted:
                self._propose(kernels, step, state, active, z)
                return state, None
        broken = np.zeros_like(active)
        if state.accepted:
            mix(kernels, [argument, state.point], [1.0, -1.0], active, moved)
            mix(kernels, [residual, state.residual], [1.0, -1.0], active, changed)
            broken |= self.update(kernels, moved, changed, state, active)
        else:
            self._scale(kernels, argument, residual, state, active)
        good = active & ~broken
        kernels.copy_active(argument, good, state.point)
        kernels.copy_active(residual, good, state.residual)
        broken |= self.direct(kernels, state, good)
        state.square, state.trials, state.accepted = square, [], state.accepted + 1
        self._propose(kernels, self.stepsize if self.search is None else 1.0, state, active & ~broken, z)
        return state, broken

    @abstractmethod
    def update(self, kernels: Kernels, moved: Array, changed: Array, state: RootState, active: np.ndarray) -> np.ndarray:
        """Take in the differences of z and g between two accepted points; return the broken samples."""

    @abstractmethod
    def direct(self, kernels: Kernels, state: RootState, active: np.ndarray) -> np.ndarray:
        """Write minus the inverse Jacobian times g to ``state.direction``; return the broken samples."""

    def _square(self, kernels: Kernels, f: Mapping[str, Array], z: Mapping[str, Array], active: np.ndarray) -> np.float64:
        if self.search is None:
            return np.float64(np.nan)
        norm, unused = np.zeros(len(active)), np.zeros(len(active))
        kernels.residual([f[name] for name in z], list(z.values()), "l2", active, norm, unused)
        return batch_square(norm, active)

    def _scale(self, kernels: Kernels, argument: Array, residual: Array, state: RootState, active: np.ndarray) -> None:
        """Settle alpha at the first evaluation (S-9)."""
        if self.alpha is not None:
            return
        size = np.sqrt(inner(kernels, [argument], argument, active, self.coupled)[:, 0])
        first = np.sqrt(inner(kernels, [residual], residual, active, self.coupled)[:, 0])
        state.alpha[:] = np.where(first > 0.0, 0.5 * np.maximum(size, 1.0) / np.where(first > 0.0, first, 1.0), 1.0)

    def _propose(self, kernels: Kernels, step: float, state: RootState, active: np.ndarray, z: Mapping[str, Array]) -> None:
        mix(kernels, [state.point, state.direction], [1.0, step], active, state.rows[0])
        kernels.unflatten(state.rows[0], active, list(z.values()))


def mix(kernels: Kernels, columns: Sequence[Array], weights: Sequence[Any], active: np.ndarray, out: Array) -> None:
    """Combine columns with weights that are numbers, or one number per sample."""
    table = np.empty((len(active), len(columns)))
    for i, weight in enumerate(weights):
        table[:, i] = weight
    kernels.combine(list(columns), table, active, out)
