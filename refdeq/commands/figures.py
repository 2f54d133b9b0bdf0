"""Figures of heterogeneous convergence: what every demonstration draws, and how a figure becomes a file.

Matplotlib is an optional dependency: this module is imported only after :func:`require_matplotlib`. Figures are drawn without
pyplot, so nothing global changes, and always in the default style, so that equal numbers give equal files.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from refdeq.commands.convergence import CONVERGED_BELOW, Observed
from refdeq.errors import ArgumentError, UnsupportedError

__all__ = [
    "DELTA_COLOUR",
    "DENSE_COLOUR",
    "TARGET_COLOUR",
    "changes",
    "convergence",
    "new_figure",
    "prepare_folder",
    "render",
    "require_matplotlib",
    "trajectories",
    "write_files",
]

DENSE_COLOUR, DELTA_COLOUR, TARGET_COLOUR = "#1b6ca8", "#d1495b", "#8a8a8a"
RESOLUTION = 120
"""Dots per inch."""
MOST_LINES = 48
"""Dimensions drawn per sample: more lines hide each other."""


def require_matplotlib() -> None:
    """Refuse before any work is done when figures cannot be drawn.

    Raises
    ------
    UnsupportedError
    """
    if find_spec("matplotlib") is None:
        raise UnsupportedError('figures need matplotlib, which is not installed: pip install "refdeq[plot]"')


def prepare_folder(path: Path) -> None:
    """Create the output folder and see that it can be written to, before any work is done.

    Raises
    ------
    ArgumentError
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ArgumentError("--out", expected="a folder that can be written to", got=path, hint=str(error)) from error


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write files under their names; each appears complete or not at all.

    Returns
    -------
    list of Path
    """
    written = []
    for name, data in files.items():
        try:
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                os.chmod(temporary, 0o666 & ~_umask())
                os.replace(temporary, folder / name)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise ArgumentError("--out", expected="a folder that can be written to", got=folder, hint=str(error)) from error
        written.append(folder / name)
    return written


def _umask() -> int:
    """The process's umask: temporary files are private, the finished ones need not be."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Any, Any]:
    """Figure with a grid of axes, (rows, columns) always; sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=RESOLUTION, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def render(draw: Callable[[], Any]) -> bytes:
    """PNG bytes of the figure that `draw` returns; equal numbers give equal bytes."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with style.context("default"):
        figure = draw()
        FigureCanvasAgg(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def trajectories(title: str, picked: Mapping[str, np.ndarray]) -> Any:
    """Dimensions of a few samples over the iterations, coloured by when they come to rest; at most MOST_LINES per sample.

    Parameters
    ----------
    title : str
    picked : dict of panel title to (T, n) iterates
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    length, last = len(next(iter(picked.values()))), _last_rest(picked)
    figure, axes = new_figure(4.1 * len(picked) + 0.8, 4.2, 1, len(picked), sharey=True)
    colours = ScalarMappable(Normalize(1, last), "viridis")
    for axis, (panel, iterates) in zip(axes[0], picked.items(), strict=True):
        rest = _rest(iterates)
        order = np.argsort(rest, kind="stable")
        chosen = order[np.linspace(0, len(order) - 1, min(len(order), MOST_LINES)).round().astype(int)]
        # Late dimensions are drawn last, so that they are not hidden by the many that rest early.
        for i in chosen:
            axis.plot(np.arange(length), iterates[:, i], color=colours.to_rgba(rest[i]), linewidth=1.2)
        axis.set(title=panel, xlabel="iteration k", xlim=(0, min(length - 1, last + 6)))
        _grid(axis)
    axes[0, 0].set_ylabel("state $z_i$ after k iterations")
    bar = figure.colorbar(colours, ax=axes, pad=0.01)
    bar.set_label(f"first k from which $|\\Delta z_i| < {CONVERGED_BELOW:g}$")
    figure.suptitle(title)
    return figure


def _rest(iterates: np.ndarray) -> np.ndarray:
    """First k from which every later change of a dimension stays below CONVERGED_BELOW; T where it never does."""
    moving = np.abs(np.diff(iterates, axis=0)) >= CONVERGED_BELOW
    return np.where(moving.any(axis=0), len(moving) - np.argmax(moving[::-1], axis=0) + 1, 1)


def _last_rest(picked: Mapping[str, np.ndarray]) -> int:
    return max(2, *(int(_rest(iterates).max()) for iterates in picked.values()))


def changes(title: str, observed: Observed, sample: str, iterates: np.ndarray) -> Any:
    """How much each dimension changes over the iterations: mean over the samples, one sample, and a few curves.

    Parameters
    ----------
    title : str
    observed : Observed
    sample : str
        Title of the one sample.
    iterates : (T, n) array
        Its iterates.
    """
    change, single = observed.change, np.abs(np.diff(iterates.astype(np.float64), axis=0))
    # Seven decades are shown: below lies rounding, and exact zeros have no place on a logarithmic axis.
    floor = max(float(change.max()) * 1e-7, np.finfo(np.float64).tiny)
    figure, axes = new_figure(16.0, 4.8, 1, 3)
    mean, one, curves = axes[0]
    order = np.argsort(change[1:].sum(axis=0), kind="stable")
    _heat_map(mean, change[:, order], floor, float(change.max()))
    mean.set_title("mean over the samples")
    mesh = _heat_map(one, single[:, np.argsort(single[1:].sum(axis=0), kind="stable")], floor, float(change.max()))
    one.set_title(f"one sample: {sample}")
    figure.colorbar(mesh, ax=axes[0, :2], extend="both", pad=0.01).set_label("$|\\Delta z_i|$")
    for share, label in (
        (0.0, "quietest"),
        (0.25, "lower quartile"),
        (0.5, "median"),
        (0.75, "upper quartile"),
        (1.0, "liveliest"),
    ):
        values = change[:, order[round(share * (len(order) - 1))]]
        curves.plot(np.arange(1, len(change) + 1), values, label=label, color=_shade(share))
    curves.axhline(CONVERGED_BELOW, color=TARGET_COLOUR, linestyle="--", linewidth=1, label=f"{CONVERGED_BELOW:g}")
    curves.set(xlabel="iteration k", ylabel="mean $|\\Delta z_i|$ over the samples", yscale="log", xlim=(1, len(change)))
    curves.set_ylim(floor, 2.0 * float(change.max()))
    curves.set_title("five dimensions of the first map")
    curves.legend(fontsize="small", framealpha=0.9)
    _grid(curves)
    figure.suptitle(title)
    return figure


def _heat_map(axis: Any, change: np.ndarray, floor: float, ceiling: float) -> Any:
    """Map of (T - 1, n) changes, dimensions already in order; returns what a colour bar needs."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import MaxNLocator

    edges = np.arange(len(change) + 1) + 0.5
    shown = np.maximum(change.T, floor)
    mesh = axis.pcolormesh(edges, np.arange(shown.shape[0] + 1), shown, norm=LogNorm(floor, ceiling), cmap="magma")
    axis.set(xlabel="iteration k", ylabel="dimension, sorted by change after k = 1")
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_major_locator(MaxNLocator(integer=True))
    return mesh


def _shade(share: float) -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"](0.9 * share)


def convergence(title: str, dense: Observed, delta: Observed, quality: Mapping[str, tuple[str, np.ndarray]], label: str) -> Any:
    """Converged dimensions, elements sent and quality, over the iterations.

    Parameters
    ----------
    title : str
    dense, delta : Observed
        Of the dense solve, and of the solve with the delta rule.
    quality : dict of run label to (colour, (T - 1,) values)
    label : str
        Axis label of the quality, with its unit.
    """
    dimensions = dense.change.shape[1]
    steps = np.arange(1, len(dense.change) + 1)
    figure, axes = new_figure(7.6, 8.2, 3, 1, sharex=True)
    counts, sent, level = axes[:, 0]
    low, middle, high = np.percentile(dense.converged, (10, 50, 90), axis=1)
    counts.fill_between(steps, low, high, color=DENSE_COLOUR, alpha=0.2, linewidth=0, label="10 % to 90 % of the samples")
    counts.plot(steps, middle, color=DENSE_COLOUR, label="median sample")
    counts.axhline(dimensions, color=TARGET_COLOUR, linestyle="--", linewidth=1, label=f"all {dimensions}")
    counts.set(ylabel="converged dimensions", ylim=(0, 1.06 * dimensions))
    counts.set_title(f"dense solve: dimensions with $|\\Delta z_i| < {CONVERGED_BELOW:g}$", fontsize="medium")
    counts.legend(loc="lower right", fontsize="small")
    sent.bar(np.arange(len(delta.sent)), 100 * delta.sent, color=DELTA_COLOUR, width=0.8)
    sent.set(ylabel="elements sent (%)", ylim=(0, 105))
    sent.set_title("delta rule: share of elements sent when $z_k$ is evaluated ($z_0 = 0$ is dense)", fontsize="medium")
    for run, (colour, values) in quality.items():
        style = "-" if colour == DENSE_COLOUR else "--"
        level.plot(steps, values, style, color=colour, label=run)
    level.set(xlabel="iteration k", ylabel=label, yscale="log" if "MSE" in label else "linear")
    level.set_title("quality of the readout of $z_k$ against the target", fontsize="medium")
    level.legend(fontsize="small")
    for axis in (counts, sent, level):
        _grid(axis)
    figure.suptitle(title)
    return figure


def _grid(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.grid(visible=True, alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
