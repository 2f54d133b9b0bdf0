"""What the demonstrations measure: one solve of a trained model in chunks of samples, watched evaluation by evaluation.

A trace of the whole image would take gigabytes; samples are independent, so each chunk is solved with a trace, reduced to the
few numbers the figures need, and dropped. Iterate ``k`` below is ``z_k``, the argument of evaluation ``k + 1`` (``z_0 = 0``);
the last one is what the solve returns (S-4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from refdeq.api import solve
from refdeq.cost_official import OfficialCost
from refdeq.errors import SolveError
from refdeq.models import TrainedModel
from refdeq.registry import Backend
from refdeq.solution import Solution
from refdeq.types import DeltaRule, Status, StopRule, Trace

__all__ = ["CONVERGED_BELOW", "SETTLED_RTOL", "Observed", "Run", "iterates_of", "run"]

CONVERGED_BELOW = 0.01
"""A dimension counts as converged at iterate k when ``|z_k - z_(k-1)|`` is below this (the sine example of DeltaDEQ)."""
SETTLED_RTOL = 1e-3
"""A sample has settled once its relative residual stays at or below this."""
TRACE_BYTES = 96_000_000
"""Size of the traces held at a time."""
UNTRACED_SAMPLES = 2048
"""Samples per chunk where nothing is traced; small enough for a progress bar."""


@dataclass
class Observed:
    """What was seen of a solve; T evaluations, B samples, n dimensions, readout of k values.

    Attributes
    ----------
    change : (T - 1, n) float64
        Mean over the samples of ``|z_k - z_(k-1)|``, k = 1 ... T - 1.
    converged : (T - 1, B) int64
        Dimensions of each sample that changed by less than ``CONVERGED_BELOW``.
    decoded : (T, B, k) float64
        Readout of ``z_0 ... z_(T-1)``.
    sent : (T,) float64
        Share of the watched elements sent at each evaluation; NaN without a rule.
    settled : (B,) int64
        First k from which the relative residual stays at or below ``SETTLED_RTOL``; T where it never does.
    """

    change: np.ndarray
    converged: np.ndarray
    decoded: np.ndarray
    sent: np.ndarray
    settled: np.ndarray


@dataclass(frozen=True)
class Run:
    """One solve of a model under protocol (P) of C-4: a fixed budget from z = 0, no stop test.

    Attributes
    ----------
    threshold : float or None
        None for the dense solve.
    z : (B, n) ndarray
        Returned point.
    macs, macs_dense : int
        C-1.
    macs_per_sample : (B,) int64
    official : OfficialCost or None
        C-3; None for the dense solve.
    executor : str
    observed : Observed or None
    """

    threshold: float | None
    z: np.ndarray
    macs: int
    macs_dense: int
    macs_per_sample: np.ndarray
    official: OfficialCost | None
    executor: str
    observed: Observed | None


def run(
    model: TrainedModel,
    rule: DeltaRule | None,
    evaluations: int,
    backend: Backend,
    *,
    threads: int = 1,
    watch: bool = False,
    advance: Callable[[int], None] = lambda samples: None,
) -> Run:
    """Solve every sample of a model with a fixed budget, chunk by chunk.

    Parameters
    ----------
    model : TrainedModel
    rule : DeltaRule or None
        None solves densely.
    evaluations : int
        At least 2.
    backend : Backend
    threads : int
    watch : bool
        Trace the solve and fill ``Run.observed``.
    advance : callable
        Told the number of samples after each chunk.

    Returns
    -------
    Run

    Raises
    ------
    SolveError
        A sample became non-finite: there is nothing sensible to show.
    """
    batch, dimensions = len(model.x), model.readout_weight.shape[1]
    parts: list[Solution] = []
    observed = _blank(batch, dimensions, model.readout_weight.shape[0], evaluations) if watch else None
    size = _chunk(model, evaluations) if watch else UNTRACED_SAMPLES
    for first in range(0, batch, size):
        rows = slice(first, min(first + size, batch))
        stop = StopRule(max_eval=evaluations)
        part = solve(model.cell, model.x[rows], stop=stop, delta=rule, backend=backend, threads=threads, trace=watch)
        if not np.all(part.status == Status.MAX_EVAL):
            raise SolveError(f"model {model.name!r}: {part!r} of samples {rows.start} to {rows.stop - 1}", part)
        if observed is not None and part.trace is not None:
            _observe(observed, model, part.trace, rows)
        parts.append(replace(part, trace=None))
        advance(rows.stop - rows.start)
    if observed is not None:
        observed.change /= batch
        observed.sent /= batch
    return _joined(parts, rule, observed)


def _chunk(model: TrainedModel, evaluations: int) -> int:
    """Samples whose traces fit in TRACE_BYTES: z, f, r, a and the mask."""
    dimensions = int(model.readout_weight.shape[1])
    return max(1, TRACE_BYTES // (evaluations * dimensions * (4 * model.cell.dtype.itemsize + 1)))


def _blank(batch: int, dimensions: int, outputs: int, evaluations: int) -> Observed:
    return Observed(
        change=np.zeros((evaluations - 1, dimensions)),
        converged=np.zeros((evaluations - 1, batch), dtype=np.int64),
        decoded=np.zeros((evaluations, batch, outputs)),
        sent=np.zeros(evaluations),
        settled=np.zeros(batch, dtype=np.int64),
    )


def iterates_of(trace: Trace) -> np.ndarray:
    """The arguments ``z_0 ... z_(T-1)`` of a traced solve with one state, shape (T, B, n)."""
    return next(iter(trace.z.values()))


def _observe(observed: Observed, model: TrainedModel, trace: Trace, rows: slice) -> None:
    """Reduce the trace of the samples `rows`; means over the samples are left as sums."""
    iterates = iterates_of(trace)
    change = np.abs(np.diff(iterates, axis=0))
    observed.change += change.sum(axis=1, dtype=np.float64)
    observed.converged[:, rows] = (change < CONVERGED_BELOW).sum(axis=2)
    observed.decoded[:, rows] = model.decode(iterates.astype(np.float64))
    masks = list(trace.mask.values())
    elements = sum(mask[0, 0].size for mask in masks)
    observed.sent += sum(mask.sum(axis=tuple(range(1, mask.ndim))) for mask in masks) / elements if masks else np.nan
    above = trace.residual / (trace.scale + StopRule().eps) > SETTLED_RTOL
    observed.settled[rows] = np.where(above.any(axis=0), len(above) - np.argmax(above[::-1], axis=0), 0)


def _joined(parts: list[Solution], rule: DeltaRule | None, observed: Observed | None) -> Run:
    costs = [part.cost for part in parts if part.cost is not None]
    officials = [cost.official for cost in costs if cost.official is not None]
    official = _total(officials) if officials else None
    return Run(
        threshold=None if rule is None else float(np.max(rule.threshold)),
        z=np.concatenate([part.z for part in parts]),
        macs=sum(cost.macs for cost in costs),
        macs_dense=sum(cost.macs_dense for cost in costs),
        macs_per_sample=np.concatenate([cost.macs_per_sample for cost in costs]),
        official=official,
        executor=parts[0].executor,
        observed=observed,
    )


def _total(parts: list[OfficialCost]) -> OfficialCost:
    return OfficialCost(
        flops=sum(part.flops for part in parts),
        flops_dense=sum(part.flops_dense for part in parts),
        zeros=sum(part.zeros for part in parts),
        elements=sum(part.elements for part in parts),
    )
