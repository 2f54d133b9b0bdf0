"""The loop: evaluate, measure, decide, step; every sample for itself (S-1 to S-4, S-10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refdeq.types import Status
from refdeq_validation.lab.activations import activate
from refdeq_validation.lab.formats import store
from refdeq_validation.lab.node import Node
from refdeq_validation.lab.roundings import flushed
from refdeq_validation.lab.steppers import make_stepper
from refdeq_validation.lab.stopping import decide, measure, rank
from refdeq_validation.lab.style import Style
from refdeq_validation.protocol.problem import Problem

__all__ = ["solve", "value_of"]

Array = np.ndarray[Any, Any]


def value_of(problem: Problem, style: Style, y: Array, x: Array) -> Array:
    """The cell from the output of its node: ``phi(fl(y + x))``."""
    return flushed(style, activate(problem, flushed(style, store(problem, y + x)), style.native))


def solve(problem: Problem, node: Node, x: Array, z0: Array, trace: bool) -> Mapping[str, Array]:
    """Run the problem's solver from `z0` with the gate state that `node` holds.

    Parameters
    ----------
    problem : Problem
    node : Node
        Changed.
    x : (B, *out_shape)
    z0 : (B, *shape)
    trace : bool

    Returns
    -------
    mapping of str to ndarray
        As :meth:`refdeq_validation.protocol.session.Session.solve` says.
    """
    batch, stop = len(z0), problem.stop
    z, point = z0.copy(), z0.copy()
    status, n_eval = np.full(batch, Status.RUNNING, np.int64), np.zeros(batch, np.int64)
    residual, scale, lowest = np.full(batch, np.nan), np.full(batch, np.nan), np.full(batch, np.inf)
    steppers = [make_stepper(problem) for _ in range(batch)]
    residuals: list[list[float]] = [[] for _ in range(batch)]
    frames: list[dict[str, Array]] = []
    running = np.arange(batch)
    while len(running):
        mask, y = node.evaluate(z[running], running)
        f = value_of(problem, node.style, y, x[running])
        measured = np.array([measure(z[b], f[i], stop) for i, b in enumerate(running)])
        if trace:
            frames.append(frame(problem, node, z, f, mask, measured, running))
        for i, b in enumerate(running):
            n_eval[b] = n_eval[b] + 1
            residuals[b].append(float(measured[i, 0]))
            status[b] = decide(stop, residuals[b], float(measured[i, 1]))
            height = rank(float(measured[i, 0]), float(measured[i, 1]), stop)
            better = bool(height < lowest[b])
            if problem.returned == "last" or better:
                point[b] = z[b]
            if problem.returned == "last" or better or n_eval[b] == 1:
                residual[b], scale[b] = measured[i]
            if better:
                lowest[b] = height
            if status[b] == Status.RUNNING:
                following = steppers[b].step(z[b], f[i])
                if following is None:
                    status[b] = Status.BREAKDOWN
                else:
                    z[b] = following
        running = np.flatnonzero(status == Status.RUNNING)
    results = {"z": point, "status": status, "n_eval": n_eval, "residual": residual, "scale": scale}
    return results | (stacked(problem, frames, batch) if trace else {})


def frame(problem: Problem, node: Node, z: Array, f: Array, mask: Array, measured: Array, running: Array) -> dict[str, Array]:
    """What one evaluation saw and made; rows of samples that took no part are NaN or false (S-10)."""
    active = np.zeros(len(z), bool)
    active[running] = True
    rows = {"z": z[running], "f": f, "residual": measured[:, 0], "scale": measured[:, 1]}
    if problem.rule is not None:
        rows |= {"r": node.r[running], "mask": mask, "a": node.a[running]}
    found = {"active": active}
    for name, values in rows.items():
        whole = np.full((len(z), *values.shape[1:]), False if values.dtype == bool else np.nan, values.dtype)
        whole[running] = values
        found[name] = whole
    return found


def stacked(problem: Problem, frames: list[dict[str, Array]], batch: int) -> dict[str, Array]:
    """Frames along a new first axis; a batch of no samples has none."""
    if not frames:
        empty = Node(problem, batch)
        nothing = np.zeros((batch, 2))
        frames = [frame(problem, empty, empty.r, empty.a, empty.sent, nothing, np.arange(batch))]
        return {f"trace.{name}": array[None][:0] for name, array in frames[0].items()}
    return {f"trace.{name}": np.stack([part[name] for part in frames]) for name in frames[0]}
