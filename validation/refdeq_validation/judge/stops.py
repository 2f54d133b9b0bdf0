"""The judge's own reading of when samples stop (S-1, S-3, S-4), replayed from traced residuals."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from refdeq.types import Status, StopRule, Trace

__all__ = ["Expected", "final_status", "returned_evaluation", "status_of", "statuses"]

_RUNNING, _CONVERGED, _MAX_EVAL = int(Status.RUNNING), int(Status.CONVERGED), int(Status.MAX_EVAL)
_BREAKDOWN, _CANCELLED = int(Status.BREAKDOWN), int(Status.CANCELLED)
_NONFINITE, _DIVERGED, _STAGNATED = int(Status.NONFINITE), int(Status.DIVERGED), int(Status.STAGNATED)


@dataclass(frozen=True)
class Expected:
    """Final status per sample, and who should have taken part in which evaluation."""

    final: np.ndarray
    active: np.ndarray

    def asking(self, t: int) -> np.ndarray:
        """Samples that evaluation `t` did not end: for which the solver is asked for a step."""
        ended = (self.active.sum(axis=0) - 1 == t) & (self.final != _RUNNING)
        return np.asarray(self.active[t] & ~ended)

    def completed(self, status: np.ndarray, may_break: np.ndarray, cancelled: int | None) -> np.ndarray:
        """Final statuses with what no residual shows: a solver's breakdown where it was possible, a caller's cancellation."""
        final, n_eval = self.final.copy(), self.active.sum(axis=0)
        running = final == _RUNNING
        if cancelled is not None:
            final[running & (n_eval == cancelled)] = _CANCELLED
            running &= n_eval != cancelled
        final[running & may_break & (status == _BREAKDOWN)] = _BREAKDOWN
        return final


def statuses(trace: Trace, stop: StopRule, status: np.ndarray | None = None) -> Expected:
    """Replay every stop decision, sample by sample, from the residuals the run itself recorded.

    A sample stays RUNNING here that the rule did not end before the trace ends, or before what ended it is no matter of
    residuals, by its own `status`: a breakdown, a cancellation.
    """
    lengths = np.full(trace.active.shape[1], len(trace.active), dtype=np.int64)
    if status is not None:
        other = (status == _BREAKDOWN) | (status == _CANCELLED)
        lengths[other] = trace.active.sum(axis=0)[other]
    final = np.zeros(trace.active.shape[1], dtype=np.int64)
    active = np.zeros(trace.active.shape, dtype=bool)
    rtol, atol, divergence = (np.nan if limit is None else float(limit) for limit in (stop.rtol, stop.atol, stop.divergence))
    limits = (rtol, atol, divergence)
    window, ratio = (0, 0.0) if stop.stagnation is None else stop.stagnation
    numbers = (float(stop.eps), int(window), float(ratio), int(stop.max_eval))
    _walk(trace.residual, trace.scale, limits, *numbers, lengths, final, active)
    return Expected(final, active)


def final_status(residual: np.ndarray, scale: np.ndarray, stop: StopRule, n_eval: int) -> np.ndarray:
    """Status after evaluation `n_eval`, by a rule without divergence and stagnation, from its residuals alone."""
    rtol, atol = (np.nan if limit is None else float(limit) for limit in (stop.rtol, stop.atol))
    nonfinite = ~(np.isfinite(residual) & np.isfinite(scale))
    converged = (residual / (scale + stop.eps) <= rtol) | (residual <= atol)
    last = _MAX_EVAL if n_eval >= stop.max_eval else _RUNNING
    return np.where(nonfinite, _NONFINITE, np.where(converged, _CONVERGED, last)).astype(np.int64)


def status_of(history: np.ndarray, scale: float, stop: StopRule) -> int:
    """Status of one sample after its last evaluation, from the residuals of all of them (S-3)."""
    rtol, atol, divergence = (np.nan if limit is None else float(limit) for limit in (stop.rtol, stop.atol, stop.divergence))
    limits = (rtol, atol, divergence)
    window, ratio = (0, 0.0) if stop.stagnation is None else stop.stagnation
    decided: int = _decide(history, float(scale), limits, float(stop.eps), int(window), float(ratio), int(stop.max_eval))
    return decided


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _walk(
    residual: np.ndarray,
    scale: np.ndarray,
    limits: tuple[float, float, float],
    eps: float,
    window: int,
    ratio: float,
    max_eval: int,
    lengths: np.ndarray,
    final: np.ndarray,
    active: np.ndarray,
) -> None:
    """Follow each sample until its first final status; an absent limit is NaN, with which no comparison holds."""
    for b in range(residual.shape[1]):
        for t in range(lengths[b]):
            active[t, b] = True
            final[b] = _decide(residual[: t + 1, b], scale[t, b], limits, eps, window, ratio, max_eval)
            if final[b] != _RUNNING:
                break


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _decide(
    history: np.ndarray,
    scale: float,
    limits: tuple[float, float, float],
    eps: float,
    window: int,
    ratio: float,
    max_eval: int,
) -> int:
    """One sample's status, in the order S-3 gives."""
    rtol, atol, divergence = limits
    residual = history[-1]
    if not (np.isfinite(residual) and np.isfinite(scale)):
        return _NONFINITE
    if residual / (scale + eps) <= rtol:
        return _CONVERGED
    if residual <= atol:
        return _CONVERGED
    if residual > divergence * history[0]:
        return _DIVERGED
    if 0 < window < len(history) and not (history[-window:].min() < ratio * history[:-window].min()):
        return _STAGNATED
    return _MAX_EVAL if len(history) >= max_eval else _RUNNING


def returned_evaluation(trace: Trace, stop: StopRule, returned: str) -> np.ndarray:
    """Index of the evaluation whose argument each sample should return (S-4)."""
    last = trace.active.sum(axis=0) - 1
    if returned == "last":
        return np.asarray(last)
    relative = stop.rtol is not None and stop.atol is None
    measure = trace.residual / (trace.scale + stop.eps) if relative else trace.residual.copy()
    measure[~trace.active | np.isnan(measure)] = np.inf
    return np.asarray(measure.argmin(axis=0))
