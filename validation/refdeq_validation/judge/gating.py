"""The gate of a unit problem as the judge evaluates it: storage formats and flushed subnormals included.

Everything here is one rounding per operation on known bits, so decisions and references are known exactly, whatever the order
of sums.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from refdeq.types import DeltaRule, GateOverride
from refdeq_validation.judge import arithmetic
from refdeq_validation.judge.formats import FORMATS
from refdeq_validation.protocol.problem import Problem

__all__ = ["Decisions", "Gate", "flush", "stored"]

Array = np.ndarray[Any, Any]


class Decisions(NamedTuple):
    """What a gate did.

    Attributes
    ----------
    sent : array of bool
    d : array
        Gated difference, `u` at a dense start.
    r : array
        Next reference.
    margin : float64 array
        ``||delta| - tau|`` of every element.
    relative : float64 array
        The margin over the larger of the two; 0 for a tie.
    """

    sent: Array
    d: Array
    r: Array
    margin: Array
    relative: Array


def flush(values: Array, least: float) -> Array:
    """Numbers below `least` in magnitude become zeros of their sign (N-5); 0 flushes nothing.

    >>> flush(np.array([-1e-310, 1.0]), 2.0**-1022).tolist()
    [-0.0, 1.0]
    """
    return np.where(np.abs(values) < least, values * 0, values) if least else values


def stored(values: Array, storage: str | None) -> Array:
    """Values rounded once to a storage format, in their carrier (N-1)."""
    return values if storage is None else arithmetic.round_narrow(values, storage)


class Gate:
    """The gate of a problem's linear node (D-1 to D-5, D-10, D-11).

    Parameters
    ----------
    problem : Problem
    rule : DeltaRule
    subnormals : {"ieee", "ftz", "daz"}
        Whether subnormal results of the gate's operations are zeros, and whether its operands are (N-5).
    """

    def __init__(self, problem: Problem, rule: DeltaRule, subnormals: str = "ieee") -> None:
        self.rule, self.storage = rule, problem.storage
        override = rule.gates.get("z", GateOverride())
        threshold = rule.threshold if override.threshold is None else override.threshold
        self.granularity, self.tile = rule.granularity, rule.tile
        if override.granularity is not None:
            self.granularity, self.tile = override.granularity, override.tile
        tiny = FORMATS[problem.storage or problem.dtype].tiny
        self.least, self.daz = tiny * (subnormals != "ieee"), tiny * (subnormals == "daz")
        tau = np.asarray(threshold, dtype=np.float64)
        tau = stored(tau, self.storage).astype(problem.dtype)
        tau = tau.reshape(-1, *(1,) * (len(problem.shape) - 1)) if tau.ndim else tau
        self.tau = flush(tau, self.daz)
        narrow = rule.delta_dtype
        self.delta_dtype = None if narrow == problem.dtype else narrow
        self.narrow = self.storage if narrow is None else None

    def advance(self, u: Array, r: Array, start: Array) -> Decisions:
        """One evaluation; samples of which `start` holds begin densely (D-5)."""
        rule, least, daz = self.rule, self.least, self.daz
        delta, fires = arithmetic.decide_all(flush(u, daz), flush(r, daz), self.tau, rule.compare, self.delta_dtype)
        if self.narrow is not None or least:
            delta = flush(stored(delta, self.narrow), least)
            below = np.abs(delta) < self.tau if rule.compare == "ge" else np.abs(delta) <= self.tau
            fires = np.logical_not(below)
        sent = arithmetic.or_over_groups(fires, self.granularity, self.tile)
        d, following = arithmetic.next_reference(u, flush(r, daz), delta, sent, rule.memory, rule.feedback_format)
        if rule.memory == "feedback":
            following = np.where(sent, flush(stored(following, self.storage), least), r)
        elif rule.memory == "sent":
            following = np.where(sent, u, r)
        if start.any():
            lift = start.reshape(-1, *(1,) * (u.ndim - 1))
            sent, following, d = sent | lift, np.where(lift, u, following), np.where(lift, u, d)
        size = np.abs(delta).astype(np.float64)
        margin = np.abs(size - self.tau)
        top = np.maximum(size, self.tau)
        return Decisions(sent, d, following, margin, np.where(top == 0.0, 0.0, margin / top))
