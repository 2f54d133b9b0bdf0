"""The gate, in plain NumPy (D-1 to D-5, D-10)."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq.types import DeltaRule
from refdeq_validation.lab.formats import narrowed, store
from refdeq_validation.lab.roundings import flushed
from refdeq_validation.lab.style import Style
from refdeq_validation.protocol.problem import Problem

__all__ = ["gate"]

Array = np.ndarray[Any, Any]


def gate(u: Array, r: Array, rule: DeltaRule, problem: Problem, style: Style) -> tuple[Array, Array, Array]:
    """Mask, gated difference and next reference of one evaluation that is not a dense start."""
    delta = flushed(style, difference(u, r, rule, problem))
    mask = share(decide(delta, threshold_of(rule, u, problem), rule), rule)
    d = np.where(mask, delta, u.dtype.type(0))
    return mask, *remember(u, r, d, mask, rule, problem)


def difference(u: Array, r: Array, rule: DeltaRule, problem: Problem) -> Array:
    """Difference (D-1)."""
    if rule.delta_dtype is None:
        return store(problem, u - r)
    narrow = np.dtype(rule.delta_dtype)
    return np.asarray((u.astype(narrow) - r.astype(narrow)).astype(u.dtype))


def threshold_of(rule: DeltaRule, u: Array, problem: Problem) -> Array:
    """Threshold, rounded once, shaped against a sample."""
    tau = store(problem, np.asarray(rule.threshold, dtype=np.float64))
    return tau.reshape(-1, *(1,) * (u.ndim - 2)) if tau.ndim else tau


def decide(delta: Array, tau: Array, rule: DeltaRule) -> Array:
    """Elementwise decisions (D-2)."""
    if rule.compare == "ge":
        return ~np.asarray(np.abs(delta) < tau)
    return ~np.asarray(np.abs(delta) <= tau)


def share(sent: Array, rule: DeltaRule) -> Array:
    """Decisions shared over groups (D-10)."""
    if rule.granularity == "element":
        return sent
    if rule.granularity == "sample":
        return np.broadcast_to(sent.any(axis=tuple(range(1, sent.ndim)), keepdims=True), sent.shape).copy()
    if rule.granularity == "channel":
        axes = tuple(range(2, sent.ndim))
        return np.broadcast_to(sent.any(axis=axes, keepdims=True), sent.shape).copy() if axes else sent
    if rule.granularity == "pixel":
        return np.broadcast_to(sent.any(axis=1, keepdims=True), sent.shape).copy()
    assert rule.tile is not None
    height, width, channels = rule.tile
    steps = (channels, width) if sent.ndim == 3 else (channels, height, width)
    out = sent.copy()
    for corner in np.ndindex(*(-(-n // step) for n, step in zip(sent.shape[1:], steps, strict=True))):
        block = (slice(None), *(slice(i * step, i * step + step) for i, step in zip(corner, steps, strict=True)))
        out[block] = sent[block].any(axis=tuple(range(1, sent.ndim)), keepdims=True)
    return out


def remember(u: Array, r: Array, d: Array, mask: Array, rule: DeltaRule, problem: Problem) -> tuple[Array, Array]:
    """Gated difference as it is propagated, and next reference (D-4)."""
    if rule.memory == "always":
        return d, u.copy()
    if rule.memory == "sent":
        return d, np.where(mask, u, r)
    q = narrowed(d, str(rule.feedback_format))
    return q, np.where(mask, store(problem, r + q), r)
