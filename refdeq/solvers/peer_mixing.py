"""Anderson mixing as the peers do it: weights that sum to 1 from a bordered system, with everything they choose differently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from refdeq.kernels import Array, Kernels
from refdeq.solvers.history import inner, new_ring, row_shape

__all__ = ["MixingState", "PeerMixing", "bordered_weights"]


@dataclass
class MixingState:
    """Columns of a batch; all its samples are at the same step.

    Attributes
    ----------
    arguments, values, residuals : list of (B, N) backend arrays
        z, f and f - z of the columns, by slot.
    rows : list of (B, N) backend arrays
        Room for one step.
    gram : (B, window, window) float64
        Inner products of the residuals, slot by slot.
    evaluations, columns : int
    """

    arguments: list[Array]
    values: list[Array]
    residuals: list[Array]
    rows: list[Array]
    gram: np.ndarray
    evaluations: int = 0
    columns: int = 0


@dataclass(frozen=True, kw_only=True)
class PeerMixing:
    """Anderson mixing of the peers (S-9, in the place of S-7).

    ``z <- mixing * sum(w f) + (1 - mixing) * sum(w z)`` with the weights of :func:`bordered_weights`.

    Parameters
    ----------
    label : str
    window : int
    ridge : float
        Absolute.
    mixing : float
    first_mix : int
        Number of the first evaluation (from 0) whose argument is mixed; arguments before it are Picard's, undamped.
    every : int
        Only evaluations whose number is a multiple of this one have a mixed argument.
    coupled : bool
        One set of weights for the whole batch, taken as one vector.
    safeguard : bool
        Picard's argument instead, where ``||f - z'|| / ||z'|| >= ||f - z|| / ||z||`` for the newest f and z and the mixed z'.
    repeats : bool
        The second argument is evaluated twice, the second time from one column alone.
    """

    label: str
    window: int
    ridge: float
    mixing: float = 1.0
    first_mix: int = 2
    every: int = 1
    coupled: bool = False
    safeguard: bool = False
    repeats: bool = False

    @property
    def name(self) -> str:
        """Short name for tables."""
        return self.label

    def init(self, kernels: Kernels, z: Mapping[str, Array]) -> MixingState:
        """Return empty columns."""
        shape, dtype = row_shape(kernels, z)
        arguments, values, residuals = (new_ring(kernels, shape, dtype, self.window) for _ in range(3))
        gram = np.zeros((shape[0], self.window, self.window))
        return MixingState(arguments, values, residuals, new_ring(kernels, shape, dtype, 2), gram)

    def step(
        self, kernels: Kernels, z: Mapping[str, Array], f: Mapping[str, Array], state: MixingState, active: np.ndarray
    ) -> tuple[MixingState, np.ndarray | None]:
        """Keep the newest column and mix (S-9)."""
        slot = state.columns % self.window
        kernels.flatten(list(z.values()), active, state.arguments[slot])
        kernels.flatten([f[name] for name in z], active, state.values[slot])
        _combine(kernels, [state.values[slot], state.arguments[slot]], [1.0, -1.0], active, state.residuals[slot])
        products = inner(kernels, state.residuals, state.residuals[slot], active, self.coupled)
        state.gram[active, slot] = products[active]
        state.gram[active, :, slot] = products[active]
        again = self.repeats and state.evaluations == 1
        state.columns += 0 if again else 1
        state.evaluations += 1
        if state.evaluations < self.first_mix or state.evaluations % self.every != 0:
            kernels.unflatten(state.values[slot], active, list(z.values()))
            return state, None
        broken = self._mix(kernels, slot, state, active)
        kernels.unflatten(state.rows[0], active & ~broken, list(z.values()))
        return state, broken

    def _mix(self, kernels: Kernels, slot: int, state: MixingState, active: np.ndarray) -> np.ndarray:
        """Mixed argument in ``rows[0]``; returns the samples whose system is singular."""
        n = min(state.columns, self.window)
        weights = np.zeros((len(active), n))
        weights[active] = bordered_weights(state.gram[active, :n, :n], self.ridge)
        broken = active & ~np.isfinite(weights).all(axis=1)
        good = active & ~broken
        both = np.concatenate([self.mixing * weights, (1.0 - self.mixing) * weights], axis=1)
        kernels.combine([*state.values[:n], *state.arguments[:n]], both, good, state.rows[0])
        if self.safeguard:
            mixed, (value, argument) = state.rows[0], (state.values[slot], state.arguments[slot])
            worse = ~(_distance(kernels, value, mixed, good) < _distance(kernels, value, argument, good))
            kernels.copy_active(value, good & worse, mixed)
        return broken


def bordered_weights(gram: np.ndarray, ridge: float) -> np.ndarray:
    """Weights that sum to 1 and minimise ``w^T (gram + ridge I) w``, by elimination in the bordered system (S-9).

    Parameters
    ----------
    gram : (B, n, n) float64
    ridge : float

    Returns
    -------
    (B, n) float64
        NaN for a sample whose system is singular.

    Examples
    --------
    >>> bordered_weights(np.diag([1.0, 3.0])[None], 0.0)
    array([[0.75, 0.25]])
    """
    batch, n = gram.shape[:2]
    system = np.zeros((batch, n + 1, n + 1))
    system[:, 0, 1:] = system[:, 1:, 0] = 1.0
    system[:, 1:, 1:] = gram + ridge * np.eye(n)
    unit = np.zeros((n + 1, 1))
    unit[0] = 1.0
    out = np.full((batch, n), np.nan)
    for b in range(batch):  # one by one: a singular system must not take the batch with it
        try:
            out[b] = np.linalg.solve(system[b], unit)[1:, 0]
        except np.linalg.LinAlgError:
            continue
    return out


def _combine(kernels: Kernels, columns: list[Array], weights: list[float], active: np.ndarray, out: Array) -> None:
    kernels.combine(columns, np.broadcast_to(np.array(weights), (len(active), len(weights))), active, out)


def _distance(kernels: Kernels, value: Array, point: Array, active: np.ndarray) -> np.ndarray:
    """``||value - point|| / ||point||`` per sample."""
    distance, size, unused = (np.full(len(active), np.nan) for _ in range(3))
    kernels.residual([value], [point], "l2", active, distance, unused)
    kernels.residual([point], [point], "l2", active, unused, size)
    ratio: np.ndarray = distance / size
    return ratio
