"""Per-sample decisions after an evaluation (S-2, S-3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from refdeq.kernels import Array, Kernels
from refdeq.types import Status, StopRule

__all__ = ["Criterion", "SampleCriterion", "decide", "relative"]


class Criterion(Protocol):
    """Who decides after an evaluation, and by which numbers. Ours is :class:`SampleCriterion`; dialects bring others (S-9)."""

    def measure(
        self,
        kernels: Kernels,
        z: Mapping[str, Array],
        f: Mapping[str, Array],
        active: np.ndarray,
        residual: np.ndarray,
        scale: np.ndarray,
    ) -> None:
        """Write residual and scale of the active samples."""

    def decide(self, residual: np.ndarray, scale: np.ndarray, n_eval: np.ndarray, history: Sequence[np.ndarray]) -> np.ndarray:
        """Status of each sample, RUNNING where it goes on."""

    def rank(self, residual: np.ndarray, scale: np.ndarray, n_eval: np.ndarray) -> np.ndarray:
        """What ``returned="lowest"`` compares (S-4); infinite for an evaluation that does not count."""


@dataclass(frozen=True)
class SampleCriterion:
    """Each sample decides for itself (S-1 to S-4)."""

    stop: StopRule

    def measure(
        self,
        kernels: Kernels,
        z: Mapping[str, Array],
        f: Mapping[str, Array],
        active: np.ndarray,
        residual: np.ndarray,
        scale: np.ndarray,
    ) -> None:
        """Residual and scale of each sample (S-2)."""
        kernels.residual([f[name] for name in z], list(z.values()), self.stop.norm, active, residual, scale)

    def decide(self, residual: np.ndarray, scale: np.ndarray, n_eval: np.ndarray, history: Sequence[np.ndarray]) -> np.ndarray:
        """Statuses in the order of S-3."""
        return decide(self.stop, residual, scale, n_eval, history)

    def rank(self, residual: np.ndarray, scale: np.ndarray, n_eval: np.ndarray) -> np.ndarray:
        """Relative residual when only ``rtol`` is given, else the absolute one (S-4)."""
        is_relative = self.stop.rtol is not None and self.stop.atol is None
        return relative(residual, scale, self.stop.eps) if is_relative else residual


def relative(residual: np.ndarray, scale: np.ndarray, eps: float) -> np.ndarray:
    """Relative residual ``||f - z|| / (||f|| + eps)`` (S-2), in float64.

    >>> relative(np.array([1.0]), np.array([4.0]), 1e-9).round(6)
    array([0.25])
    """
    with np.errstate(invalid="ignore"):
        return residual / (scale + eps)


def decide(
    stop: StopRule, residual: np.ndarray, scale: np.ndarray, n_eval: np.ndarray, history: Sequence[np.ndarray]
) -> np.ndarray:
    """Status of each sample after an evaluation, in the order of S-3.

    Parameters
    ----------
    stop : StopRule
    residual, scale : (B,) float64
        ``||f - z||`` and ``||f||``.
    n_eval : (B,) int64
        Evaluations so far, this one included.
    history : sequence of (B,) float64
        Residuals of all evaluations so far, this one included.

    Returns
    -------
    (B,) int64 of :class:`refdeq.types.Status`; RUNNING where the sample goes on

    Examples
    --------
    >>> one = np.array([1e-4])
    >>> int(decide(StopRule(atol=1e-3), one, one, np.array([1]), [one])[0]) == Status.CONVERGED
    True
    """
    status = np.full(len(residual), Status.RUNNING, dtype=np.int64)
    status[n_eval >= stop.max_eval] = Status.MAX_EVAL
    if stop.stagnation is not None and len(history) > stop.stagnation[0]:
        status[_stagnated(np.asarray(history), *stop.stagnation)] = Status.STAGNATED
    if stop.divergence is not None:
        status[residual > stop.divergence * history[0]] = Status.DIVERGED
    if stop.atol is not None:
        status[residual <= stop.atol] = Status.CONVERGED
    if stop.rtol is not None:
        status[relative(residual, scale, stop.eps) <= stop.rtol] = Status.CONVERGED
    status[~(np.isfinite(residual) & np.isfinite(scale))] = Status.NONFINITE
    return status


def _stagnated(history: np.ndarray, window: int, ratio: float) -> np.ndarray:
    """Whether the lowest residual of the last w evaluations is not below q times the lowest before them (S-3)."""
    improved: np.ndarray = history[-window:].min(axis=0) < ratio * history[:-window].min(axis=0)
    return ~improved
