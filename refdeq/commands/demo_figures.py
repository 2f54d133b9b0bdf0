"""Which figures a demonstration draws, and what their titles say."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from refdeq.api import solve
from refdeq.commands import figures, reconstructions
from refdeq.commands.convergence import Run, iterates_of
from refdeq.commands.demo_report import Summary
from refdeq.registry import Backend
from refdeq.types import StopRule

__all__ = ["draw", "pick_samples", "trace_samples"]


def pick_samples(dense: Run) -> list[int]:
    """Samples that settle first, in the middle and last (the lowest index among equals)."""
    if dense.observed is None:
        return []
    order = np.argsort(dense.observed.settled, kind="stable")
    last = int(np.argmax(dense.observed.settled))
    return [int(order[0]), int(order[len(order) // 2]), last]


def trace_samples(summary: Summary, samples: list[int], backend: Backend) -> dict[str, np.ndarray]:
    """Iterates (T, n) of single samples of the dense solve, by panel title; strict order makes them those of the batch."""
    model = summary.model
    stop = StopRule(max_eval=summary.evaluations)
    picked = {}
    for role, i in zip(("first", "median", "last"), samples, strict=True):
        solution = solve(model.cell, model.x[i : i + 1], stop=stop, backend=backend, trace=True)
        if solution.trace is not None:
            picked[f"{_place(summary, i)} ({role} to settle)"] = iterates_of(solution.trace)[:, 0]
    return picked


def _place(summary: Summary, sample: int) -> str:
    if summary.kind == "sine":
        return f"x = {summary.model.x[sample, 0]:.2f}"
    row, column = divmod(sample, round(len(summary.model.x) ** 0.5))
    return f"row {row}, column {column}"


def draw(summary: Summary, picked: dict[str, np.ndarray], watched: Callable[[list[str]], Iterable[str]]) -> dict[str, bytes]:
    """PNG bytes by file name.

    Parameters
    ----------
    summary : Summary
    picked : dict of panel title to (T, n) iterates
    watched : callable
        Wraps the list of file names to show progress.

    Returns
    -------
    dict of str to bytes
    """
    name = summary.model.name
    makers: dict[str, Callable[[], Any]] = {
        f"{name}-trajectories.png": lambda: _trajectories(summary, picked),
        f"{name}-changes.png": lambda: _changes(summary, picked),
        f"{name}-convergence.png": lambda: _convergence(summary),
        f"{name}-reconstruction.png": lambda: (_curves if summary.kind == "sine" else _pictures)(summary),
    }
    if summary.kind == "image":
        makers[f"{name}-work.png"] = lambda: _work_maps(summary)
    return {file: figures.render(makers[file]) for file in watched(list(makers))}


def _setting(summary: Summary) -> str:
    return f"preset {summary.preset}, $\\tau$ = {summary.delta.threshold:g}, {summary.evaluations} evaluations from z = 0"


def _trajectories(summary: Summary, picked: dict[str, np.ndarray]) -> Any:
    dimensions = summary.model.readout_weight.shape[1]
    shown = min(dimensions, figures.MOST_LINES)
    return figures.trajectories(f"Model {summary.model.name}, dense solve: {shown} of {dimensions} dimensions", picked)


def _changes(summary: Summary, picked: dict[str, np.ndarray]) -> Any:
    sample, iterates = list(picked.items())[1]
    title = f"Model {summary.model.name}, dense solve: how much each dimension still changes ({len(summary.model.x)} samples)"
    return figures.changes(title, summary.seen_dense, sample, iterates)


def _convergence(summary: Summary) -> Any:
    title = f"Model {summary.model.name}: {_setting(summary)}"
    name, unit = ("MSE", "MSE") if summary.kind == "sine" else ("PSNR", "PSNR (dB)")
    values = summary.mse_by_iterate if name == "MSE" else summary.psnr_by_iterate
    quality = {
        "dense": (figures.DENSE_COLOUR, values(summary.seen_dense)[1:]),
        "delta rule": (figures.DELTA_COLOUR, values(summary.seen_delta)[1:]),
    }
    return figures.convergence(title, summary.seen_dense, summary.seen_delta, quality, unit)


def _curves(summary: Summary) -> Any:
    model = summary.model
    title = f"Model {model.name} after k iterations: {_setting(summary)}"
    dense, delta = (seen.decoded[..., 0] for seen in (summary.seen_dense, summary.seen_delta))
    return reconstructions.curves(title, model.x[:, 0], model.target[:, 0], dense, delta, summary.shown_iterates())


def _pictures(summary: Summary) -> Any:
    side = round(len(summary.model.x) ** 0.5)
    decoded = summary.seen_delta.decoded.reshape(-1, side, side)
    psnr, psnr_dense = (summary.psnr_by_iterate(seen) for seen in (summary.seen_delta, summary.seen_dense))
    panels = [(f"delta rule, k = {k}: {psnr[k]:.2f} dB", decoded[k]) for k in summary.shown_iterates()]
    last = summary.seen_dense.decoded[-1].reshape(side, side)
    panels.append((f"dense, k = {summary.evaluations - 1}: {psnr_dense[-1]:.2f} dB", last))
    panels.append(("target", summary.model.target.reshape(side, side)))
    return reconstructions.pictures(f"Model {summary.model.name} after k iterations: {_setting(summary)}", panels)


def _work_maps(summary: Summary) -> Any:
    side = round(len(summary.model.x) ** 0.5)
    settled = summary.seen_dense.settled.reshape(side, side)
    share = (summary.delta.macs_per_sample / summary.dense.macs_per_sample).reshape(side, side)
    title = f"Model {summary.model.name}: {_setting(summary)}"
    return reconstructions.work_maps(title, settled, share, summary.evaluations)
