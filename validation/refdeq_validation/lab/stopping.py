"""Residuals and decisions of one sample (S-2, S-3)."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq.types import Status, StopRule
from refdeq_validation.lab.rows import norm

__all__ = ["decide", "measure", "rank", "relative"]

Array = np.ndarray[Any, Any]


def measure(z: Array, f: Array, stop: StopRule) -> tuple[float, float]:
    """Residual ``||f - z||`` and scale ``||f||``, in float64 (S-2)."""
    value, argument = f.ravel().astype(np.float64), z.ravel().astype(np.float64)
    return norm(value - argument, stop.norm), norm(value, stop.norm)


def relative(residual: float, scale: float, stop: StopRule) -> float:
    """Relative residual (S-2)."""
    return float(np.float64(residual) / np.float64(scale + stop.eps))


def decide(stop: StopRule, residuals: list[float], scale: float) -> Status:
    """Status after an evaluation, from all residuals so far; the first that holds decides (S-3)."""
    residual = residuals[-1]
    if not (np.isfinite(residual) and np.isfinite(scale)):
        return Status.NONFINITE
    if stop.rtol is not None and relative(residual, scale, stop) <= stop.rtol:
        return Status.CONVERGED
    if stop.atol is not None and residual <= stop.atol:
        return Status.CONVERGED
    if stop.divergence is not None and residual > stop.divergence * residuals[0]:
        return Status.DIVERGED
    if stop.stagnation is not None and len(residuals) > stop.stagnation[0]:
        window, ratio = stop.stagnation
        if not min(residuals[-window:]) < ratio * min(residuals[:-window]):
            return Status.STAGNATED
    if len(residuals) >= stop.max_eval:
        return Status.MAX_EVAL
    return Status.RUNNING


def rank(residual: float, scale: float, stop: StopRule) -> float:
    """What ``returned="lowest"`` compares: relative only where only ``rtol`` is given (S-4)."""
    if stop.rtol is not None and stop.atol is None:
        return relative(residual, scale, stop)
    return residual
