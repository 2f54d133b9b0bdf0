"""The adjoint equation by SciPy's GMRES, sample by sample (G-2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from refdeq import stopping
from refdeq.gradients.linearisation import Arrays, Point
from refdeq.reference import ReferenceKernels
from refdeq.types import Status, StopRule

__all__ = ["solve_by_gmres"]

_OWN_PRODUCTS = 2
"""Products of a cycle beside one per Krylov vector: SciPy's own residual at its end, and ours at the point it leads to."""

_LEFT = 0.5
"""Share of the residual that a cycle may leave when its Krylov space is exhausted, or is the whole space. There the solution is
exact but for rounding, unless there is none; a space that holds less than half of it holds none."""


def solve_by_gmres(
    point: Point, g: Arrays, v: Arrays, stop: StopRule, restart: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solve ``(I - J^T) v = g`` for every sample, from the given `v`, which is overwritten.

    Each cycle evaluates ``J^T v + g``, decides by S-3 as every solver does, and corrects v by one restart cycle of GMRES on the
    residual. A sample ends with MAX_EVAL when its budget does not hold another cycle, and with BREAKDOWN when the Krylov space
    is exhausted and the residual is not: ``I - J^T`` is singular, or singular to working precision.

    Parameters
    ----------
    point : Point
    g, v : dict of state name to (B, ...) ndarray
    stop : StopRule
        With at least one tolerance. `max_eval` bounds the products of one sample.
    restart : int
        Most Krylov vectors kept.

    Returns
    -------
    status, n_eval, residual : (B,) arrays
    """
    batch = len(next(iter(g.values())))
    status, n_eval = np.full(batch, Status.RUNNING, dtype=np.int64), np.zeros(batch, dtype=np.int64)
    residual = np.full(batch, np.nan)
    for row in range(batch):
        one = _Sample(point.sample(row), {s: array[row : row + 1] for s, array in g.items()}, stop)
        start = {s: array[row : row + 1] for s, array in v.items()}
        found, status[row], residual[row] = one.solve(start, restart)
        n_eval[row] = one.products
        for s in v:
            v[s][row] = found[s][0]
    return status, n_eval, residual


class _Sample:
    """One sample's equation, its budget and its history."""

    def __init__(self, point: Point, g: Arrays, stop: StopRule) -> None:
        self.point, self.g, self.stop = point, g, stop
        self.products = 0
        self.history: list[np.ndarray] = []
        self.scale = np.empty(1)
        self.latest = np.empty(0)

    def solve(self, v: Arrays, restart: int) -> tuple[Arrays, int, float]:
        """Cycles until a status is final."""
        missing, status = self._decide(v)
        while status == Status.RUNNING:
            before = float(self.history[-1][0])
            length = min(restart, missing.size, self.stop.max_eval - self.products - _OWN_PRODUCTS)
            if length < 1:
                return v, int(Status.MAX_EVAL), before
            correction, exhausted = self._cycle(missing, length)
            if exhausted:
                return v, int(Status.BREAKDOWN), before
            v = {s: v[s] + part for s, part in _parts(correction, v).items()}
            missing, status = self._decide(v)
        return v, status, float(self.history[-1][0])

    def _decide(self, v: Arrays) -> tuple[np.ndarray, int]:
        """Evaluate the adjoint map: what is missing, ``J^T v + g - v``, as one row, and the status (S-2, S-3)."""
        self.products += 1
        back = self.point.transpose(v)
        f = {s: back[s] + self.g[s] for s in v}
        residual, active = np.empty(1), np.ones(1, dtype=bool)
        ReferenceKernels().residual(list(f.values()), list(v.values()), self.stop.norm, active, residual, self.scale)
        self.history.append(residual)
        decided = stopping.decide(self.stop, residual, self.scale, np.array([self.products]), self.history)
        return _row({s: f[s] - v[s] for s in v}), int(decided[0])

    def _cycle(self, missing: np.ndarray, length: int) -> tuple[np.ndarray, bool]:
        """One restart cycle on ``(I - J^T) d = missing``; whether its Krylov space has no more to give, short of the target."""
        from scipy.sparse.linalg import LinearOperator, gmres  # loaded when it is asked for

        steps: list[float] = []
        operator = LinearOperator((missing.size, missing.size), matvec=self._apply, dtype=missing.dtype)
        correction: np.ndarray
        correction, info = gmres(
            operator,
            missing,
            rtol=0.0,
            atol=self._target(),
            restart=length,
            maxiter=1,
            callback=steps.append,
            callback_type="pr_norm",
        )
        if info == 0:
            return correction, False
        at_end = len(steps) < length or len(steps) == missing.size
        # SciPy's last product is that with the correction. Ours at the new v would not do: a correction along a null vector is
        # huge, and what is missing drowns in its rounding
        left = float(np.linalg.norm(missing - self.latest))
        return correction, at_end and left > _LEFT * float(np.linalg.norm(missing))

    def _target(self) -> float:
        """Norm of the residual at which some tolerance holds."""
        stop = self.stop
        relative = -1.0 if stop.rtol is None else stop.rtol * (float(self.scale[0]) + stop.eps)
        return max(relative, -1.0 if stop.atol is None else stop.atol)

    def _apply(self, row: np.ndarray) -> np.ndarray:
        """``(I - J^T) row``."""
        self.products += 1
        back = self.point.transpose(_parts(row, self.g))
        self.latest = row - _row(back, list(self.g))
        return self.latest


def _row(parts: Mapping[str, np.ndarray], names: Sequence[str] | None = None) -> np.ndarray:
    """States of one sample in one row of float64."""
    return np.concatenate([parts[s].ravel().astype(np.float64) for s in (parts if names is None else names)])


def _parts(row: np.ndarray, like: Mapping[str, np.ndarray]) -> Arrays:
    """The inverse, in the dtype and shapes of `like`."""
    ends = np.cumsum([array.size for array in like.values()])[:-1]
    pieces = np.split(row, ends)
    return {s: piece.astype(a.dtype).reshape(a.shape) for (s, a), piece in zip(like.items(), pieces, strict=True)}
