"""Who decides in a dialect, and what it would have recorded and returned (S-9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from refdeq.kernels import Array, Kernels
from refdeq.solvers.peer_report import PeerRecord
from refdeq.solvers.peer_rules import PeerRules
from refdeq.solvers.peer_search import batch_square, next_trial
from refdeq.types import Status

__all__ = ["PeerCriterion"]

WINDOW = 30
"""Iterates that the stagnation rules look at, and after which they begin."""


class PeerCriterion:
    """Criterion of one solve under a dialect (S-9): measures, decides, and keeps what the peer would keep.

    Parameters
    ----------
    rules : PeerRules
    kernels : Kernels
    z : mapping of state name to backend array
        First argument.

    Attributes
    ----------
    record : PeerRecord
        Traces, lowest residuals and step numbers.
    best : dict of state name to backend array
        The point that the peer would return (S-4).
    residual, scale : (B,) float64
        ``||f - z||`` and ``||f||`` of that point, per sample (S-2); of the first evaluation where z0 is returned.
    """

    def __init__(self, rules: PeerRules, kernels: Kernels, z: Mapping[str, Array]) -> None:
        self._rules, self._kernels = rules, kernels
        shapes = [tuple(value.shape) for value in z.values()]
        self._batch = shapes[0][0]
        size = sum(int(np.prod(shape)) for shape in shapes)
        self._tol = rules.tolerance(size)
        self._last = 100 * (size + 1) if rules.max_steps is None else rules.max_steps
        self._length = shapes[0][2] if len(shapes) == 1 and len(shapes[0]) == 3 else 1
        self.record = PeerRecord(rules, self._batch, self._last)
        self.best = self._copy(z)
        self._final = self._copy(z)
        self._before = self._copy(z) if rules.termination is not None else {}
        self._damped = self._copy(z) if rules.damping != 1.0 else {}
        self.residual, self.scale = np.full(self._batch, np.nan), np.full(self._batch, np.nan)
        self._largest = self._first = self._size = np.nan  # SciPy's |F|, |F0|, |x| and |dx|
        self._direction = np.inf
        self._square, self._trials = np.float64(np.nan), list[np.float64]()
        self._step, self._is_trial = 1.0, False

    def _copy(self, z: Mapping[str, Array]) -> dict[str, Array]:
        return {name: self._kernels.upload(self._kernels.download(value)) for name, value in z.items()}

    # ------------------------------------------------------------------------------------------------------- measuring

    def measure(
        self,
        kernels: Kernels,
        z: Mapping[str, Array],
        f: Mapping[str, Array],
        active: np.ndarray,
        residual: np.ndarray,
        scale: np.ndarray,
    ) -> None:
        """Residual and scale of S-2 for the solution, and the peer's own beside them."""
        values, points = [f[name] for name in z], list(z.values())
        kernels.residual(values, points, "l2", active, residual, scale)
        finite = active & np.isfinite(residual) & np.isfinite(scale)
        self._is_trial = not self._accepts(batch_square(residual, finite))
        if self._is_trial:
            return
        value = self._stepped(f, z, active)
        absolute, size = self._norms(list(value.values()), points, active, residual, scale)
        record = self.record
        record.append(absolute, size)
        if self._rules.termination is not None:
            self._measure_step(values, points, active)
        better = active & record.is_lower
        kept = value if self._rules.value == "f" else z
        first = active & np.isnan(self.residual)
        for where, target in ((active, self._final), (better, self.best)):
            for name, array in kept.items():
                kernels.copy_active(array, where, target[name])
        taken = active if self._rules.returned == "last" else better | first
        self.residual[taken], self.scale[taken] = residual[taken], scale[taken]

    def _accepts(self, square: np.float64) -> bool:
        """Whether this evaluation is an iterate rather than a trial of a line search."""
        if self._rules.search is None or self.record.iterate < 0:
            self._square = square
            return True
        self._trials.append(square)
        self._step, accepted = next_trial(self._rules.search, self._square, self._trials)
        if accepted:
            self._square, self._trials = square, []
        return accepted

    def _stepped(self, f: Mapping[str, Array], z: Mapping[str, Array], active: np.ndarray) -> Mapping[str, Array]:
        """The damped value, where the peer's residual is that of the damped step."""
        if self._rules.damping == 1.0:
            return f
        for name, target in self._damped.items():
            self._kernels.relax(z[name], f[name], self._rules.damping, active, target)
        return self._damped

    def _norms(
        self, values: list[Array], points: list[Array], active: np.ndarray, residual: np.ndarray, scale: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The peer's ``abs`` and scale, per sample; NaN for samples that no longer run, as they are in the peer."""
        absolute, size = (np.where(active, part, np.nan) for part in (residual, scale))
        if self._rules.damping != 1.0:
            self._kernels.residual(values, points, "l2", active, absolute, size)
        if self._rules.scale == "z":
            self._kernels.residual(points, points, "l2", active, np.empty(self._batch), size)
        return absolute, size

    def _measure_step(self, values: list[Array], points: list[Array], active: np.ndarray) -> None:
        """SciPy's ``|F|``, ``|dx|`` (of the direction, hence divided by the step) and ``|x|``."""
        largest, moved, size, unused = (np.zeros(self._batch) for _ in range(4))
        self._kernels.residual(values, points, "linf", active, largest, unused)
        self._kernels.residual(points, list(self._before.values()), "linf", active, moved, size)
        self._largest, self._size = float(largest.max(initial=0.0)), float(size.max(initial=0.0))
        if self.record.iterate == 0:
            self._first = self._largest
        else:
            self._direction = float(moved.max(initial=0.0)) / self._step
        for point, before in zip(points, self._before.values(), strict=True):
            self._kernels.copy_active(point, active, before)

    # -------------------------------------------------------------------------------------------------------- deciding

    def decide(self, residual: np.ndarray, scale: np.ndarray, n_eval: np.ndarray, history: Sequence[np.ndarray]) -> np.ndarray:
        """Statuses after an evaluation: one answer for the batch, and NONFINITE (N-2)."""
        status = np.full(self._batch, Status.RUNNING, dtype=np.int64)
        broken = ~(np.isfinite(residual) & np.isfinite(scale))
        if not self._is_trial:
            end = self._end()
            if end is not None:
                status[:] = end
                self.record.ended = True
                if self._rules.pool == "samples" and self._rules.tests_tolerance:
                    status[self._below(self.record.measure)] = Status.CONVERGED
        status[broken.any() if self._rules.pool == "norm" else broken] = Status.NONFINITE
        return status

    def rank(self, residual: np.ndarray, scale: np.ndarray, n_eval: np.ndarray) -> np.ndarray:
        """What "lowest" compares; the criterion keeps the lowest point itself, because the peer may keep f."""
        return np.broadcast_to(self.record.measure, residual.shape)

    def _end(self) -> Status | None:
        """How the batch ends after this iterate, if it does, in the order of S-3."""
        rules, record = self._rules, self.record
        is_last = record.iterate >= self._last
        measure = record.measure
        if record.iterate >= rules.first_tested and (rules.tests_last or not is_last):
            record.tests += 1
            if rules.termination is not None:
                if self._terminates():
                    return Status.CONVERGED
            elif rules.tests_tolerance and self._below(measure).all():
                return Status.CONVERGED
            if self._diverged(measure):
                return Status.DIVERGED
            if rules.stagnation is not None and record.iterate > WINDOW and self._stagnated(measure):
                return Status.STAGNATED
        return Status.MAX_EVAL if is_last else None

    def _below(self, measure: np.ndarray) -> np.ndarray:
        if self._rules.pool == "mean":
            return np.zeros(len(measure), dtype=bool)
        return measure <= self._tol if self._rules.compare == "<=" else measure < self._tol

    def _diverged(self, measure: np.ndarray) -> bool:
        """The protective break: relative to the first recorded residual and the length of the sequence."""
        if self._rules.protective is None:
            return False
        bound = self.record.trace(self._rules.mode)[0] * self._rules.protective * self._length
        self.record.broke = bool((measure > bound).any())
        return self.record.broke

    def _stagnated(self, measure: np.ndarray) -> bool:
        latest = np.stack(self.record.trace(self._rules.mode)[-WINDOW:])
        axis = None if self._rules.stagnation == "steps" else 1
        ratio = latest.max(axis=axis) / latest.min(axis=axis)
        return bool((measure < 3 * self._tol).all() and np.max(ratio) < 1.3)

    def _terminates(self) -> bool:
        """SciPy's test."""
        given, now = self._rules.termination, self._largest
        if now == 0.0:
            return True
        if given is None or given.iterations is not None:
            return False
        small = now <= self._tol and now / given.f_rtol <= self._first
        return small and self._direction <= given.x_tol and self._direction / given.x_rtol <= self._size

    # ---------------------------------------------------------------------------------------------------------- result

    def returned(self) -> dict[str, Array]:
        """The point that the peer would return (S-4)."""
        rules, record = self._rules, self.record
        if rules.returned == "last" or (rules.aliases_start and record.lowest_iterate(rules.mode)[0] <= 0):
            return self._final
        return self.best
