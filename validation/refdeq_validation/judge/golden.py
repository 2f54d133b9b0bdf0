"""The golden run of a solve, as far as it is certain: an enclosure followed through every decision of the stop rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq.types import Status
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.judge import stops
from refdeq_validation.judge.calls import Memory
from refdeq_validation.judge.enclosure import Enclosure, Known
from refdeq_validation.protocol.manifest import Claims

__all__ = ["Golden", "golden"]

Array = np.ndarray[Any, Any]


@dataclass
class Golden:
    """Where each sample ends, and whether that is certain.

    Attributes
    ----------
    certain : (B,) bool
        No decision of the sample was ambiguous, of its gate and of the stop rule alike.
    status, n_eval : (B,) int64
    z, r, a : Known
        Last argument, and the state after it.
    decisions, ambiguous : int
        Of gates, up to where each sample ended or became uncertain.
    exact : bool
        Bits are known.
    """

    certain: Array
    status: Array
    n_eval: Array
    z: Known
    r: Known
    a: Known
    decisions: int
    ambiguous: int
    exact: bool


def golden(case: Case, claims: Claims, before: Memory, call: Call) -> Golden:
    """Follow a solve by Picard or Krasnoselskii-Mann from its arguments and the state before it.

    Parameters
    ----------
    case : Case
    claims : Claims
        They say how far an implementation may be from the centre.
    before : Memory
    call : Call
        The solve.
    """
    stop, batch = case.problem.stop, len(call.arrays["z0"])
    enclosure = Enclosure(case, claims, before, call.arrays["x"], call.arrays["z0"])
    certain, running = np.ones(batch, bool), np.ones(batch, bool)
    status, n_eval = np.full(batch, int(Status.RUNNING), np.int64), np.zeros(batch, np.int64)
    ends = [_copy(known) for known in (enclosure.z, enclosure.r, enclosure.a)]
    history: list[Array] = []
    decisions = ambiguous = 0
    while running.any():
        rows = np.flatnonzero(running)
        done = enclosure.evaluate()
        residual, scale = enclosure.residual(done)
        history.append(residual.value)
        n_eval[rows] += 1
        if case.problem.rule is not None:
            decisions += done.ambiguous[rows].size
            ambiguous += int(done.ambiguous[rows].sum())
        certain[rows] &= ~done.ambiguous[rows].reshape(len(rows), -1).any(axis=1)
        decided, sure = _decided(enclosure, np.array(history), residual, scale, stop)
        certain[rows] &= sure[rows]
        status[rows] = decided[rows]
        for end, known in zip(ends, (done.z, enclosure.r, enclosure.a), strict=True):
            end.value[rows], end.error[rows] = known.value[rows], known.error[rows]
        running = running & (status == Status.RUNNING) & certain
        enclosure.step(done, running)
    return Golden(certain, status, n_eval, ends[0], ends[1], ends[2], decisions, ambiguous, enclosure.exact)


def _decided(enclosure: Enclosure, history: Array, residual: Known, scale: Known, stop: Any) -> tuple[Array, Array]:
    """Statuses by the centre, and whether radii leave them certain (the three-valued stop test of section 3.4)."""
    batch = history.shape[1]
    centre = np.array([stops.status_of(history[:, b].copy(), scale.value[b], stop) for b in range(batch)], np.int64)
    if enclosure.exact:
        return centre, np.ones(batch, bool)
    sure = np.isfinite(residual.value) & np.isfinite(residual.error) & np.isfinite(scale.error)
    sure &= (stop.divergence is None) & (stop.stagnation is None)
    low, high = np.maximum(residual.value - residual.error, 0.0), residual.value + residual.error
    least, most = np.maximum(scale.value - scale.error, 0.0), scale.value + scale.error
    margin = 1.0 + 2.0**-48  # the quotient itself has two roundings
    if stop.rtol is not None:
        ends = low / ((most + stop.eps) * margin), high * margin / (least + stop.eps)
        sure &= (ends[0] > stop.rtol) | (ends[1] <= stop.rtol)
    if stop.atol is not None:
        sure &= (low > stop.atol) | (high <= stop.atol)
    return centre, np.asarray(sure)


def _copy(known: Known) -> Known:
    return Known(known.value.copy(), known.error.copy())
