"""The judge's own reading of when samples stop (S-1, S-3, S-4), replayed from traced residuals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refdeq.types import Status, StopRule, Trace

__all__ = ["Expected", "returned_evaluation", "statuses"]


@dataclass(frozen=True)
class Expected:
    """Final status per sample, and who should have taken part in which evaluation."""

    final: np.ndarray
    active: np.ndarray


def statuses(trace: Trace, stop: StopRule) -> Expected:
    """Replay every stop decision, sample by sample, from the residuals the run itself recorded."""
    length, batch = trace.active.shape
    final = np.zeros(batch, dtype=np.int64)
    active = np.zeros((length, batch), dtype=bool)
    for b in range(batch):
        for t in range(length):
            active[t, b] = True
            final[b] = _decide(trace.residual[: t + 1, b], float(trace.scale[t, b]), t + 1, stop)
            if final[b] != Status.RUNNING:
                break
    return Expected(final, active)


def _decide(history: np.ndarray, scale: float, evaluations: int, stop: StopRule) -> int:
    """One sample's status, in the order S-3 gives."""
    residual = float(history[-1])
    if not (np.isfinite(residual) and np.isfinite(scale)):
        return int(Status.NONFINITE)
    if stop.rtol is not None and residual / (scale + stop.eps) <= stop.rtol:
        return int(Status.CONVERGED)
    if stop.atol is not None and residual <= stop.atol:
        return int(Status.CONVERGED)
    if stop.divergence is not None and residual > stop.divergence * history[0]:
        return int(Status.DIVERGED)
    if stop.stagnation is not None and evaluations > stop.stagnation[0]:
        window, ratio = stop.stagnation
        if not (history[-window:].min() < ratio * history[:-window].min()):
            return int(Status.STAGNATED)
    return int(Status.MAX_EVAL) if evaluations >= stop.max_eval else int(Status.RUNNING)


def returned_evaluation(trace: Trace, stop: StopRule, returned: str) -> np.ndarray:
    """Index of the evaluation whose argument each sample should return (S-4)."""
    last = trace.active.sum(axis=0) - 1
    if returned == "last":
        return np.asarray(last)
    relative = stop.rtol is not None and stop.atol is None
    measure = trace.residual / (trace.scale + stop.eps) if relative else trace.residual.copy()
    measure[~trace.active | np.isnan(measure)] = np.inf
    return np.asarray(measure.argmin(axis=0))
