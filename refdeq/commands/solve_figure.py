"""The figure of ``refdeq solve --plot``: residuals over the evaluations, their spread, and how the samples ended."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from refdeq.commands.figures import DELTA_COLOUR, DENSE_COLOUR, TARGET_COLOUR, new_figure
from refdeq.commands.solve_report import Measure, Report, measures
from refdeq.types import Status

__all__ = ["FORMATS", "draw", "render"]

FORMATS = (".png", ".svg")
MOST_LINES = 12
"""Batches up to this size are drawn sample by sample."""
MOST_MARKS = 200
"""Marks per status: more hide each other."""
MARKS = {
    Status.CONVERGED: ("o", "#2a9d58"),
    Status.MAX_EVAL: ("s", "#e09f3e"),
    Status.NONFINITE: ("X", "#9b2226"),
    Status.DIVERGED: ("^", "#9b2226"),
    Status.STAGNATED: ("D", "#7b5ea7"),
    Status.BREAKDOWN: ("P", "#9b2226"),
    Status.CANCELLED: ("*", TARGET_COLOUR),
}


def render(report: Report, suffix: str) -> bytes:
    """The figure as PNG or SVG bytes; equal numbers give equal bytes.

    Parameters
    ----------
    report : Report
        With a history.
    suffix : {".png", ".svg"}
    """
    from matplotlib import rc_context, style
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with style.context("default"), rc_context({"svg.hashsalt": "refdeq"}):
        figure = draw(report)
        FigureCanvasAgg(figure)
        buffer = io.BytesIO()
        stamp = {"Software": None} if suffix == ".png" else {"Date": None}
        figure.savefig(buffer, format=suffix.removeprefix("."), metadata=stamp)
    return buffer.getvalue()


def draw(report: Report) -> Any:
    """One panel per residual that the stop rule looks at.

    Parameters
    ----------
    report : Report
        With a history.

    Returns
    -------
    matplotlib.figure.Figure
    """
    history, problem, request = report.outcome.history, report.problem, report.request
    if history is None:
        raise RuntimeError("this solve was not watched")
    found = measures(request, history)
    figure, axes = new_figure(8.4, 1.0 + 4.2 * len(found), len(found), 1, sharex=True)
    for axis, measure in zip(axes[:, 0], found, strict=True):
        _panel(axis, measure, report, history.active)
    kept = " (finished samples keep their last residual)" if problem.samples > MOST_LINES else ""
    axes[-1, 0].set_xlabel(f"evaluation of f{kept}")
    solver = request.solver.name + ("" if request.delta is None else ", with a delta rule")
    figure.suptitle(f"{Path(problem.source).stem}: {problem.samples} samples, {solver}", fontsize="medium")
    return figure


def _panel(axis: Any, measure: Measure, report: Report, active: np.ndarray) -> None:
    from matplotlib.ticker import MaxNLocator

    # Zeros and what is not finite have no place on a logarithmic axis; the marks say where they are.
    values = np.where(np.isfinite(measure.values) & (measure.values > 0), measure.values, np.nan)
    steps = np.arange(1, len(values) + 1)
    axis.set(ylabel=measure.label, yscale="log")
    if values.shape[1] > MOST_LINES:
        _bands(axis, steps, np.where(np.isfinite(measure.values), measure.values, np.inf))
    else:
        axis.plot(steps, np.where(active, values, np.nan), color=DENSE_COLOUR, linewidth=1.1, alpha=0.8)
    if measure.tolerance:
        label = f"tolerance {measure.tolerance:g}"
        axis.axhline(measure.tolerance, color=TARGET_COLOUR, linestyle="--", linewidth=1.2, label=label)
    _marks(axis, measure, report)
    axis.grid(visible=True, alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(fontsize="small", framealpha=0.9)


def _bands(axis: Any, steps: np.ndarray, values: np.ndarray) -> None:
    """Spread over the samples that are finite: nearest-rank quantiles."""
    ranked = np.sort(values, axis=1)
    finite = np.isfinite(ranked).sum(axis=1)
    which = "finite " if finite.min() < ranked.shape[1] else ""

    def quantile(share: float) -> np.ndarray:
        ranks = np.maximum(share * (finite - 1), 0).round().astype(int)
        chosen = ranked[np.arange(len(ranked)), ranks]
        return np.where(np.isfinite(chosen) & (chosen > 0), chosen, np.nan)

    for low, high, shade in ((0.0, 1.0, 0.12), (0.1, 0.9, 0.2), (0.25, 0.75, 0.3)):
        label = f"all {which}samples" if low == 0 else f"{100 * low:.0f} % to {100 * high:.0f} %"
        axis.fill_between(steps, quantile(low), quantile(high), color=DENSE_COLOUR, alpha=shade, linewidth=0, label=label)
    axis.plot(steps, quantile(0.5), color=DENSE_COLOUR, label=f"median {which}sample")
    axis.plot(steps, quantile(1.0), color=DELTA_COLOUR, linewidth=1.1, label=f"worst {which}sample")


def _marks(axis: Any, measure: Measure, report: Report) -> None:
    """A mark where a sample ended; what has no logarithm stands at the edge of the panel."""
    solution, history = report.outcome.solution, report.outcome.history
    assert history is not None
    ends = history.active.sum(axis=0)
    last = measure.values[-1]
    drawable = measure.values[np.isfinite(measure.values) & (measure.values > 0)]
    floor, ceiling = (float(drawable.min()), float(drawable.max())) if drawable.size else (1e-1, 1.0)
    for status, count in solution.counts().items():
        members = np.flatnonzero(solution.status == status)
        members = members[np.argsort(last[members], kind="stable")]
        shown = members[np.unique(np.linspace(0, len(members) - 1, min(count, MOST_MARKS)).round().astype(int))]
        height = np.where(np.isfinite(last[shown]), np.maximum(last[shown], floor), ceiling)
        shape, colour = MARKS[status]
        label = f"{status.name} ({count})" if len(shown) == count else f"{status.name} ({count}, {len(shown)} drawn)"
        axis.plot(ends[shown], height, shape, color=colour, markersize=5, markeredgewidth=0, alpha=0.8, label=label)
