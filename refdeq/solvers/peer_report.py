"""What a peer records of a solve, kept while it runs, and the report made of it at the end (S-9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq.solvers.peer_rules import PeerRules

__all__ = ["DialectReport", "PeerRecord"]

MODES = ("abs", "rel")


@dataclass(frozen=True, eq=False)
class DialectReport:
    """What the peer would have returned (S-9).

    Numbers of the whole batch stand in arrays without a batch axis where the peer forms one norm of the batch (both locuslab
    generations, jaxopt, SciPy) or one mean (hopdeq).

    Attributes
    ----------
    dialect : Dialect
    states : dict of state name to (B, ...) ndarray
        The point the peer would return.
    abs_trace, rel_trace : ndarray
        Residuals of the iterates, with the peer's head and padding: (B, T), or (T, B) where the peer keeps a list of steps, or
        (T,).
    abs_lowest, rel_lowest : (B,) or () float64
    lowest_step : (B,) or () int64
        The peer's number of the iterate with the lowest residual of the tested kind; 0 when there is none.
    nstep : (B,) or () int64
        What the peer calls its number of steps: that of the lowest iterate, of the last one, or the number of tests (SciPy).
    prot_break : bool
        Whether the protective break ended the solve.
    """

    dialect: Any
    states: Mapping[str, np.ndarray]
    abs_trace: np.ndarray
    rel_trace: np.ndarray
    abs_lowest: np.ndarray
    rel_lowest: np.ndarray
    lowest_step: np.ndarray
    nstep: np.ndarray
    prot_break: bool

    @property
    def result(self) -> Any:
        """The point: the one array when there is one state, else a dict by state name."""
        return next(iter(self.states.values())) if len(self.states) == 1 else dict(self.states)

    @property
    def lowest(self) -> np.ndarray:
        """The lowest residual of the tested kind."""
        return self.abs_lowest if self.dialect.rules.mode == "abs" else self.rel_lowest


class PeerRecord:
    """Residuals of the iterates so far, pooled as the peer pools them; P numbers each, one per sample or one per batch.

    Attributes
    ----------
    iterate : int
        Number of the latest iterate; -1 before the first.
    measure : (P,) float64
        Latest residual of the kind that is tested.
    is_lower : (P,) bool
        Whether the latest is the lowest so far, by the residual that is tested.
    tests : int
        Tests made.
    ended, broke : bool
        Whether a rule of the peer ended the solve, and whether that was the protective break.
    """

    def __init__(self, rules: PeerRules, batch: int, last: int) -> None:
        self._rules, self._last = rules, last
        numbers = batch if rules.pool == "samples" else 1
        self.iterate, self.tests, self.ended, self.broke = -1, 0, False, False
        self.measure = np.full(numbers, np.nan)
        self.is_lower = np.zeros(numbers, dtype=bool)
        self._traces: dict[str, list[np.ndarray]] = {mode: [] for mode in MODES}
        self._lowest = {mode: np.full(numbers, rules.lowest_start) for mode in MODES}
        self._lowest_iterate = {mode: np.full(numbers, -rules.offset) for mode in MODES}

    def append(self, absolute: np.ndarray, scale: np.ndarray) -> None:
        """Take in the residuals of the next iterate, one per sample."""
        self.iterate += 1
        latest = dict(zip(MODES, self._rules.pooled(absolute, scale), strict=True))
        self.measure = latest[self._rules.mode]
        if self.iterate < self._rules.first_recorded:
            return
        for mode in MODES:
            self._traces[mode].append(latest[mode])
            lower = latest[mode] < self._lowest[mode]
            if self._rules.latest_is_lowest:
                lower = np.ones_like(lower)
            if mode == self._rules.mode:
                self.is_lower = lower
            self._lowest[mode] = np.where(lower, latest[mode], self._lowest[mode])
            self._lowest_iterate[mode] = np.where(lower, self.iterate, self._lowest_iterate[mode])

    def trace(self, mode: str) -> list[np.ndarray]:
        """Recorded residuals so far, without head and padding."""
        return self._traces[mode]

    def lowest_iterate(self, mode: str) -> np.ndarray:
        """Number of the lowest iterate so far; minus the peer's offset when there is none."""
        return self._lowest_iterate[mode]

    def report(self, dialect: Any, states: Mapping[str, np.ndarray]) -> DialectReport:
        """Make the peer's report."""
        mode, offset = self._rules.mode, self._rules.offset
        lowest_step = self._shaped(self._lowest_iterate[mode] + offset)
        made = np.full_like(lowest_step, max(self.iterate, 0) + offset if self._rules.counts == "made" else self.tests)
        return DialectReport(
            dialect=dialect,
            states=states,
            abs_trace=self._filled("abs"),
            rel_trace=self._filled("rel"),
            abs_lowest=self._shaped(self._lowest["abs"]),
            rel_lowest=self._shaped(self._lowest["rel"]),
            lowest_step=lowest_step,
            nstep=lowest_step if self._rules.counts == "lowest" else made,
            prot_break=self.broke,
        )

    def _shaped(self, numbers: np.ndarray) -> np.ndarray:
        """Without the axis of length one where the batch has one number."""
        out: np.ndarray = numbers if self._rules.pool == "samples" else numbers[0]
        return np.asarray(out)

    def _filled(self, mode: str) -> np.ndarray:
        """A trace with head and padding."""
        rules, rows = self._rules, list(self._traces[mode])
        if rules.head is not None:
            rows.insert(0, np.full_like(self._lowest[mode], rules.head))
        if rules.length is not None:
            if not self.ended:  # but a residual that is not finite: the peer records NaN to the end of its budget
                rows += [np.full_like(self._lowest[mode], np.nan)] * (self._last - max(self.iterate, rules.first_recorded - 1))
            rows += [self._lowest[mode]] * (rules.length - len(rows))
        table = np.array(rows).reshape(len(rows), len(self._lowest[mode]))
        if rules.pool != "samples":
            return table[:, 0]
        return table.T.copy() if rules.layout == "samples first" else table
