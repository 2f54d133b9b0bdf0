"""Figures of what a trained model shows, iteration by iteration: a curve, or a picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq.commands.convergence import SETTLED_RTOL
from refdeq.commands.figures import DELTA_COLOUR, DENSE_COLOUR, TARGET_COLOUR, new_figure

__all__ = ["curves", "pictures", "work_maps"]


def curves(title: str, x: np.ndarray, target: np.ndarray, dense: np.ndarray, delta: np.ndarray, steps: list[int]) -> Any:
    """Fitted curve after each of `steps` iterations, against the target.

    Parameters
    ----------
    title : str
    x, target : (B,) arrays
    dense, delta : (T, B) arrays
        Readout of ``z_k`` of both solves.
    steps : list of int
    """
    columns = -(-len(steps) // 2)
    figure, axes = new_figure(3.9 * columns, 5.8, 2, columns, sharex=True, sharey=True)
    for axis in axes.flat[len(steps) :]:
        axis.axis("off")
    for axis, k in zip(axes.flat, steps, strict=False):
        axis.plot(x, target, color=TARGET_COLOUR, linewidth=4, alpha=0.5, label="sin(x)")
        axis.plot(x, dense[k], color=DENSE_COLOUR, label="dense")
        axis.plot(x, delta[k], "--", color=DELTA_COLOUR, label="delta rule")
        error = float(np.mean((delta[k] - target) ** 2))
        axis.set_title(f"k = {k}: MSE {error:.2g} (delta rule)", fontsize="medium")
        axis.grid(visible=True, alpha=0.25, linewidth=0.6)
        axis.set_xlim(float(x.min()), float(x.max()))
    for axis in axes[:, 0]:
        axis.set_ylabel("readout")
    for axis in axes[-1]:
        axis.set_xlabel("x (radians)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    figure.suptitle(title)
    return figure


def pictures(title: str, panels: list[tuple[str, np.ndarray]]) -> Any:
    """Grey pictures side by side, in two rows.

    Parameters
    ----------
    title : str
    panels : list of (str, (h, w) array)
        Panel titles, and grey values in [-1, 1] (clipped to it).
    """
    columns = -(-len(panels) // 2)
    figure, axes = new_figure(3.0 * columns, 6.8, 2, columns)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (label, grey) in zip(axes.flat, panels, strict=False):
        axis.imshow(np.clip(grey, -1.0, 1.0), cmap="gray", vmin=-1.0, vmax=1.0, interpolation="nearest")
        axis.set_title(label, fontsize="medium")
    figure.suptitle(title)
    return figure


def work_maps(title: str, settled: np.ndarray, share: np.ndarray, evaluations: int) -> Any:
    """Where the work is: iterations each pixel needs, and the share of its multiply-accumulates that the delta rule spent.

    Parameters
    ----------
    title : str
    settled : (h, w) int array
        `evaluations` where a pixel never settled; drawn in red.
    share : (h, w) array
        Spent multiply-accumulates over dense ones.
    evaluations : int
    """
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_figure(11.0, 4.9, 1, 2)
    reached = np.ma.masked_where(settled >= evaluations, settled)
    lowest, highest = (int(bound) for bound in (settled.min(), min(settled.max(), evaluations - 1)))
    colours = colormaps["viridis"].resampled(max(1, highest - lowest + 1)).with_extremes(bad="red")
    left = axes[0, 0].imshow(reached, cmap=colours, vmin=lowest - 0.5, vmax=highest + 0.5, interpolation="nearest")
    never = int(np.sum(settled >= evaluations))
    note = f"; {never} pixels never (red)" if never else ""
    axes[0, 0].set_title(f"dense solve: iterations to converge{note}", fontsize="medium")
    bar = figure.colorbar(left, ax=axes[0, 0], ticks=MaxNLocator(integer=True))
    bar.set_label(f"first k from which the relative residual is $\\leq$ {SETTLED_RTOL:g}")
    right = axes[0, 1].imshow(100 * share, cmap="magma", interpolation="nearest")
    axes[0, 1].set_title("delta rule: work done for each pixel", fontsize="medium")
    figure.colorbar(right, ax=axes[0, 1]).set_label("multiply-accumulates (% of dense)")
    for axis in axes[0]:
        axis.set(xlabel="column (pixels)", ylabel="row (pixels)")
    figure.suptitle(title)
    return figure
