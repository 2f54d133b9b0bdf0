"""K4: which way sums are formed, and which plan runs, from counts and sizes alone.

What is chosen depends on the last counts that the host has, on sizes and on the costs of the device's record; never on a clock
or on what else the device does. One and the same solve on one device therefore always makes the same choices.

*Strict order*: every candidate is strict, so that a choice never changes a bit (N-6). A dense way that adds zeros is a
candidate only where it may: weights are finite (D-7), and no accumulator is -0, which adding +0 would turn into +0. That of a
gated Gemm (:mod:`refdeq_gpu.ways`) adds nothing for what was not sent, and is always a candidate. *Fast order*: ways
may differ within N-7. Those of the op level and of lists of tiles do not differ at all, because each sum has the same terms in
the same order by the same operation; tensor cores sum in another order, and are chosen by the declared precision, never from
counts. Whole plans of fully connected cells (:class:`BatchPlan`) may differ within N-7, and are chosen by the batch alone.

Users see what was chosen in ``Solution.executor``, through the notes of :func:`note` and :class:`BatchPlan`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError
from refdeq.registry import Executor, FusedResult, Plan
from refdeq.types import StopRule, Trace
from refdeq_gpu.plans.crossovers import WAYS, Costs

__all__ = ["FEW_ROWS", "LEAST_SPEED", "BatchPlan", "Choice", "Counts", "choose", "family", "note"]

LEAST_SPEED = 0.97
"""Least predicted speed, in units of the dense way's, of any way that is taken in its place (G15)."""

FEW_ROWS = 64
"""Samples below which one solve at a time has the whole device; not measured: it is the height of a tile of rows."""


@dataclass(frozen=True)
class Counts:
    """What one evaluation of a linear node sent, and could have sent.

    Attributes
    ----------
    rows, rows_sending : int
        Active samples, and those of them that sent anything.
    columns : int
        Elements of a sample that the gate watches.
    sent : int
        Elements sent, all samples together.
    tiles, tiles_listed : int
        Of a Conv: all (tile, tap, word of channels), and those listed; 0 of 0 otherwise.

    Examples
    --------
    >>> Counts(rows=4, rows_sending=2, columns=100, sent=20).share("axpy")
    0.05
    """

    rows: int
    rows_sending: int
    columns: int
    sent: int
    tiles: int = 0
    tiles_listed: int = 0

    def share(self, way: str) -> float:
        """Share of its work that a way has to do; nothing to do is a share of 0."""
        done, possible = {
            "dense": (1, 1),
            "row": (self.rows_sending, self.rows),
            "axpy": (self.sent, self.rows * self.columns),
            "tile": (self.tiles_listed, self.tiles),
        }[way]
        return done / possible if possible else 0.0


@dataclass(frozen=True)
class Choice:
    """A way, and why.

    Attributes
    ----------
    way : {"dense", "row", "axpy", "tile"}
    times : dict of way to float
        Predicted, in units of the dense way; of the candidates only.
    reason : str
    """

    way: str
    times: Mapping[str, float]
    reason: str


def choose(counts: Counts | None, costs: Costs, candidates: Sequence[str], *, may_fill: bool = True) -> Choice:
    """The way that is predicted to take the least time.

    Parameters
    ----------
    counts : Counts or None
        The last ones; None before the first, which counts as everything sent.
    costs : Costs
    candidates : sequence of {"dense", "row", "axpy", "tile"}
        Ways that there are kernels for; of equal predictions the first in the order dense, row, axpy, tile is taken.
    may_fill : bool
        Whether zeros may be added for what is not sent; the dense way and whole rows are no candidates without it (D-7, N-6).

    Returns
    -------
    Choice

    Examples
    --------
    >>> from refdeq_gpu.plans.crossovers import DEFAULTS
    >>> choose(Counts(8, 8, 256, 100), DEFAULTS, ("dense", "axpy")).way
    'axpy'
    >>> choose(Counts(8, 8, 256, 2000), DEFAULTS, ("dense", "axpy")).way
    'dense'
    >>> choose(Counts(8, 8, 256, 2000), DEFAULTS, ("dense", "axpy"), may_fill=False).way
    'axpy'
    """
    allowed = [way for way in ("dense", *WAYS) if way in candidates and (may_fill or way not in ("dense", "row"))]
    times = {
        way: 1.0 if way == "dense" else costs.ways[way].time(_share(counts, way)) for way in allowed if _is_known(way, costs)
    }
    if "dense" in times:
        times = {way: time for way, time in times.items() if way == "dense" or time <= 1.0 / LEAST_SPEED}
    if not times:
        if not allowed:
            expected = "a way" if may_fill else "a way that adds no zeros"
            raise ArgumentError("candidates", expected=expected, got=tuple(candidates))
        return Choice(allowed[0], {}, f"nothing is known of {', '.join(allowed)} on this device")
    way = min(times, key=lambda name: times[name])
    return Choice(way, times, f"{way} {times[way]:.2f} of dense; {costs.describe()}")


def _is_known(way: str, costs: Costs) -> bool:
    return way == "dense" or way in costs.ways


def _share(counts: Counts | None, way: str) -> float:
    return 1.0 if counts is None else counts.share(way)


def note(chosen: Mapping[str, int]) -> str:
    """What the choices of a solve were, for ``FusedResult.note`` and ``Solution.executor``.

    >>> note({"dense": 1, "axpy": 3})
    'sums 25% dense, 75% axpy'
    """
    total = sum(chosen.values())
    ways = [f"{chosen[way] / total:.0%} {way}" for way in ("dense", *WAYS) if chosen.get(way)]
    return f"sums {', '.join(ways)}" if ways else ""


# Plans -----------------------------------------------------------------------------------------------------------------------


def family(batch: int) -> str:
    """Family of plans for a fully connected cell: one solve over the whole device, or many rows side by side.

    >>> family(1), family(1000)
    ('fc', 'rows')
    """
    return "fc" if batch < FEW_ROWS else "rows"


@dataclass(frozen=True)
class BatchPlan:
    """Two plans for one request, of which the size of the batch chooses (S-1: samples do not see each other).

    Attributes
    ----------
    plans : dict of family ("fc" and "rows") to Plan
    """

    plans: Mapping[str, Plan]

    @property
    def name(self) -> str:
        """Both names; the note of a result says which ran."""
        return f"{self.plans['fc'].name}, from {FEW_ROWS} samples {self.plans['rows'].name}"

    def bind(self, parameters: Mapping[str, np.ndarray], *, threads: int) -> BatchExecutor:
        """Bind the parameters; each plan prepares its weights when it first runs."""
        return BatchExecutor(self, parameters, threads)


class BatchExecutor:
    """A :class:`BatchPlan` with its parameters.

    Parameters
    ----------
    plan : BatchPlan
    parameters : dict of str to array
    threads : int
    """

    def __init__(self, plan: BatchPlan, parameters: Mapping[str, np.ndarray], threads: int) -> None:
        self._plan, self._parameters, self._threads = plan, parameters, threads
        self._bound: dict[str, Executor] = {}

    def run(
        self,
        z0: Mapping[str, np.ndarray],
        hoisted: Mapping[str, np.ndarray],
        memory: Any,
        stop: StopRule,
        trace: Trace | None,
    ) -> FusedResult:
        """Solve every sample by the plan that suits the batch (see :class:`refdeq.registry.Executor`)."""
        batch = len(next(iter(z0.values())))
        chosen = family(batch)
        if chosen not in self._bound:
            self._bound[chosen] = self._plan.plans[chosen].bind(self._parameters, threads=self._threads)
        result = self._bound[chosen].run(z0, hoisted, memory, stop, trace)
        said = f"{self._plan.plans[chosen].name} for {batch} samples"
        return replace(result, note=f"{said}; {result.note}" if result.note else said)
