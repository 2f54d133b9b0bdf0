"""The only solver loop of the package: evaluate, residual, stop, step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from refdeq.kernels import Array, Kernels
from refdeq.recording import Recorder
from refdeq.solvers import Solver, Split
from refdeq.stopping import Criterion, SampleCriterion
from refdeq.types import Status, StopRule

__all__ = ["Evaluates", "Hook", "LoopResult", "Progress", "iterate"]


class Evaluates(Protocol):
    """Anything that evaluates ``f`` for the active samples: a cell, a plain callable, an adjoint map."""

    def evaluate(self, z: Mapping[str, Array], active: np.ndarray) -> Mapping[str, Array]:
        """Return ``f(z)`` per state."""


@dataclass(frozen=True)
class Progress:
    """What a progress hook sees between two evaluations.

    Attributes
    ----------
    evaluation : int
        Evaluations made so far.
    running, finished : int
        Samples still running, samples with a final status.
    worst : float
        Largest residual among the running samples; NaN when none runs.
    """

    evaluation: int
    running: int
    finished: int
    worst: float


Hook = Callable[[Progress], bool | None]
"""Called between evaluations; a false answer other than None cancels the samples still running."""


@dataclass
class LoopResult:
    """Where the loop ended, per sample.

    Attributes
    ----------
    z : dict of state name to backend array
        The returned point (S-4).
    status, n_eval, residual, scale : (B,) arrays
    iterate : dict of state name to backend array
        What the solver iterated on, after its last step: z itself but for splittings.
    state
        The solver's state after its last step.
    """

    z: dict[str, Array]
    status: np.ndarray
    n_eval: np.ndarray
    residual: np.ndarray
    scale: np.ndarray
    iterate: dict[str, Array]
    state: Any


def iterate(
    evaluator: Evaluates,
    kernels: Kernels,
    solver: Solver,
    stop: StopRule,
    z: dict[str, Array],
    *,
    returned: str = "last",
    recorder: Recorder | None = None,
    hook: Hook | None = None,
    criterion: Criterion | None = None,
    split: Split | None = None,
    values: Mapping[str, Array] | None = None,
) -> LoopResult:
    """Run a solver until every sample has a final status (S-1 to S-4, S-10).

    Parameters
    ----------
    evaluator : Evaluates
    kernels : Kernels
    solver : Solver
    stop : StopRule
    z : dict of state name to backend array
        First argument; changed in place.
    returned : {"last", "lowest"}
        S-4.
    recorder : Recorder, optional
        Told about every evaluation.
    hook : callable, optional
        Called between evaluations; returning False cancels the samples still running.
    criterion : Criterion, optional
        Who decides; every sample for itself by `stop` when none is given.
    split : Split, optional
        Of a splitting solver, whose rewritten cell is evaluated; needs `values`.
    values : mapping of value name to backend array, optional
        Graph values of the latest evaluation, kept up to date by `evaluator`.

    Returns
    -------
    LoopResult
    """
    batch = len(next(iter(z.values())))
    status = np.full(batch, Status.RUNNING, dtype=np.int64)
    n_eval = np.zeros(batch, dtype=np.int64)
    residual, scale = np.full(batch, np.nan), np.full(batch, np.nan)
    history: list[np.ndarray] = []
    criterion = SampleCriterion(stop) if criterion is None else criterion
    best = _Lowest(kernels, z, batch, criterion) if returned == "lowest" else None
    state = solver.init(kernels, z)
    active = np.ones(batch, dtype=bool)
    point: Mapping[str, Array] = z
    while active.any():
        f = evaluator.evaluate(z, active)
        point, value = _evaluated(z, f, split, values)
        criterion.measure(kernels, point, value, active, residual, scale)
        n_eval[active] += 1
        history.append(np.where(active, residual, np.nan))
        decided = criterion.decide(residual, scale, n_eval, history)
        status[active] = decided[active]
        if recorder is not None:
            recorder.record(point, value, residual, scale, active)
        if best is not None:
            best.update(point, residual, scale, n_eval, active)
        active = status == Status.RUNNING
        answer = None if hook is None else hook(_progress(len(history), active, residual))
        if answer is not None and not answer:
            status[active] = Status.CANCELLED
            active = np.zeros(batch, dtype=bool)
        state, broken = solver.step(kernels, z, f, state, active)
        if broken is not None:
            status[active & broken] = Status.BREAKDOWN
            active = status == Status.RUNNING
    if best is not None:
        return LoopResult(best.z, status, n_eval, best.residual, best.scale, z, state)
    return LoopResult(dict(point), status, n_eval, residual, scale, z, state)


def _evaluated(
    z: Mapping[str, Array], f: Mapping[str, Array], split: Split | None, values: Mapping[str, Array] | None
) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
    """The point at which the original f was evaluated, and its value there: z and f but for splittings."""
    if split is None or values is None:
        return z, f
    return {s: values[name] for s, name in split.argument.items()}, {s: values[name] for s, name in split.value.items()}


def _progress(evaluation: int, active: np.ndarray, residual: np.ndarray) -> Progress:
    running = int(active.sum())
    worst = float(residual[active].max()) if running else float("nan")
    return Progress(evaluation, running, len(active) - running, worst)


class _Lowest:
    """Argument with the smallest residual so far (S-4): ties keep the earlier, NaN never wins, all NaN keeps z0."""

    def __init__(self, kernels: Kernels, z: Mapping[str, Array], batch: int, criterion: Criterion) -> None:
        self._kernels, self._criterion = kernels, criterion
        self.z = {name: kernels.upload(kernels.download(value)) for name, value in z.items()}
        self.residual, self.scale = np.full(batch, np.nan), np.full(batch, np.nan)
        self._measure = np.full(batch, np.inf)

    def update(
        self, z: Mapping[str, Array], residual: np.ndarray, scale: np.ndarray, n_eval: np.ndarray, active: np.ndarray
    ) -> None:
        measure = self._criterion.rank(residual, scale, n_eval)
        better = active & (measure < self._measure)
        first = active & np.isnan(self.residual) & ~better
        self.residual[better | first], self.scale[better | first] = residual[better | first], scale[better | first]
        self._measure[better] = measure[better]
        for name, value in z.items():
            self._kernels.copy_active(value, better, self.z[name])
