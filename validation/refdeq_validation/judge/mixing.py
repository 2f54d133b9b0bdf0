"""Steps of Anderson acceleration, judged by what they must be best at (S-7).

Weights are never compared: those of an ill-conditioned history differ between legal implementations. From the run's own
arguments and values the judge forms the columns, recovers weights that explain the next argument, and asks two things: that the
argument lies in the affine hull of the columns, up to the rounding of one sum, and that no other weights make the mixed
residual smaller, up to what the recovery and a Gram matrix in float64 can hide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from refdeq_validation.judge.bounds_solver import DOUBLE, rounding
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.verdicts import Failure

if TYPE_CHECKING:
    from refdeq_validation.judge.stepping import Frame

__all__ = ["Least", "Mixing", "optimality"]

Array = np.ndarray[Any, Any]

THRESHOLD = 30.0
"""Of residual ratios in units of n u, as LAPACK's own tests take it."""


@dataclass(frozen=True)
class Least:
    """A least-squares problem whose solution an argument must show: minimise ``|h - M c|`` where ``z = start - D c``."""

    h: Array
    matrix: Array
    start: Array
    directions: Array


@dataclass(frozen=True)
class Ratio:
    """What :func:`optimality` measured, each with the most it may be."""

    hull: float
    hull_limit: float
    gap: float
    gap_limit: float


class Mixing:
    """Windows of a batch: values, residuals and what has been counted since the last restart."""

    def __init__(self, options: Mapping[str, Any], batch: int, size: int, dtype: Any) -> None:
        self.dtype, self.window = np.dtype(dtype), int(options.get("window", 20))
        self.mixing, self.ridge = float(options.get("mixing", 1.0)), float(options.get("ridge", 0.0))
        self.ridge_scale = str(options.get("ridge_scale", "trace"))
        self.weights = options.get("form", "differences") == "weights"
        self.restart, self.warmup = options.get("restart"), int(options.get("warmup", 0))
        self.safeguard = options.get("safeguard", 2.0)
        self.columns: list[list[tuple[Array, Array]]] = [[] for _ in range(batch)]
        self.last: list[tuple[Array, Array] | None] = [None] * batch
        self.steps, self.best = np.zeros(batch, np.int64), np.full(batch, np.inf)

    def judge(self, frame: Frame, compare: Comparer) -> tuple[Array, Array]:
        """Compare the next arguments; this method never breaks down (S-7)."""
        never = np.zeros(len(frame.rows), bool)
        for i, sample in enumerate(frame.rows):
            if frame.asking[i]:
                self._advance(int(sample), frame.z[i], frame.f[i])
                if frame.going[i]:
                    self._compare(int(sample), frame.t, frame.z[i], frame.f[i], frame.following[i], compare)
        return never, never

    def _difference(self, left: Array, right: Array) -> Array:
        """Formed in float64 and rounded once to the dtype."""
        return np.asarray((left.astype(np.float64) - right.astype(np.float64)).astype(self.dtype))

    def _advance(self, sample: int, z: Array, f: Array) -> None:
        """Restart what is due, then take in one evaluation."""
        g = self._difference(f, z)
        squared, columns = float((g.astype(np.float64) ** 2).sum()), self.columns[sample]
        due = self.restart is not None and self.steps[sample] >= self.restart
        full = len(columns) >= self.window
        due |= self.safeguard is not None and full and squared > float(self.safeguard) ** 2 * self.best[sample]
        if due:
            columns.clear()
            self.steps[sample], self.best[sample] = 0, np.inf
        self.best[sample] = min(self.best[sample], squared)
        before = self.last[sample]
        if self.weights:
            columns.insert(0, (f, g))
        elif before is not None and self.steps[sample] > 0:
            columns.insert(0, (self._difference(f, before[0]), self._difference(g, before[1])))
        del columns[self.window :]
        self.last[sample] = (f, g)
        self.steps[sample] += 1

    def _compare(self, sample: int, t: int, z: Array, f: Array, got: Array, compare: Comparer) -> None:
        problem = self._problem(sample, z, f)
        ratio = optimality(problem, got, self.dtype)
        for title, size, limit in (("hull", ratio.hull, ratio.hull_limit), ("gap", ratio.gap, ratio.gap_limit)):
            compare.findings.values += got.size
            if limit > 0:
                compare.findings.ratios(np.array([size / limit]))
            if not size <= limit:
                words = "in the affine hull of its window" if title == "hull" else "the smallest mixed residual"
                failure = Failure("state", t + 1, f"z ({title})", (sample,), words, "not so", size, limit)
                compare.findings.add(failure)

    def _problem(self, sample: int, z: Array, f: Array) -> Least:
        """The least-squares problem of one step, in float64; columns from the newest to the oldest."""
        columns = self.columns[sample] if self.steps[sample] > self.warmup else []
        usable = [(v, g) for v, g in columns if np.isfinite(g).all() and (g != 0).any()]
        f, g = f.astype(np.float64), self._difference(f, z).astype(np.float64)
        rest, size = 1.0 - self.mixing, len(f)
        values = np.array([v for v, _ in usable], np.float64).reshape(len(usable), size).T
        residuals = np.array([r for _, r in usable], np.float64).reshape(len(usable), size).T
        diagonal = (residuals**2).sum(axis=0)
        if self.ridge_scale == "trace":
            ridge = np.full(len(usable), self.ridge * (diagonal.sum() / max(len(usable), 1)))
        else:
            ridge = self.ridge * diagonal if self.ridge_scale == "diagonal" else np.full(len(usable), self.ridge)
        roots = np.diag(np.sqrt(ridge))
        if not self.weights:
            stacked = np.concatenate([residuals, roots])
            return Least(np.concatenate([g, np.zeros(len(usable))]), stacked, f - rest * g, values - rest * residuals)
        if not usable:
            return Least(g, np.zeros((size, 0)), f - rest * g, np.zeros((size, 0)))
        # weights that sum to 1: the newest takes what the others leave
        stacked = np.concatenate([residuals, roots])
        mixed = values - rest * residuals
        return Least(stacked[:, 0], stacked[:, :1] - stacked[:, 1:], mixed[:, 0], mixed[:, :1] - mixed[:, 1:])


def optimality(problem: Least, got: Array, dtype: Any) -> Ratio:
    """How far an argument is from the affine hull, and its mixed residual from the smallest one.

    The next argument is a sum of float64 products, rounded once; columns may each be off by one rounding of the dtype. So
    the distance to the hull is at most ``u |z| + 2 u sum |D_i| |c_i|`` in norm, with the recovered weights allowed to be off by
    half. Weights recovered along a singular vector of `D` with value s are uncertain by that distance over s; directions that
    this makes useless are left free and get the best weights there are. The gap ``|M (c - c_best)|`` is what these
    uncertainties give, plus one rounding per column, plus what solving with a Gram matrix loses: with columns scaled to length
    1 and smallest singular value s, ``30 (n + k) 2^-53 |c| / s``.

    Parameters
    ----------
    problem : Least
    got : (N,) array
        The next argument.
    dtype : dtype of the states
    """
    h, matrix, directions = problem.h, problem.matrix, problem.directions
    got = got.astype(np.float64)
    target = problem.start - got
    n, k = directions.shape
    size = np.abs(problem.start) + np.abs(got)
    if k == 0:
        limit = rounding(size, dtype) + 8.0 * DOUBLE * size
        return Ratio(float(np.linalg.norm(target)), float(np.linalg.norm(limit)), 0.0, 0.0)
    lengths = np.sqrt((matrix**2).sum(axis=0))
    lengths = np.where(lengths > 0, lengths, 1.0)
    scaled, moves = matrix / lengths, directions / lengths
    left, singular, right = np.linalg.svd(moves, full_matrices=False)
    projected = left.T @ target
    with np.errstate(all="ignore"):
        slack = float(np.linalg.norm(rounding(size, dtype) + (k + 4) * DOUBLE * size))
        spread = np.linalg.norm(scaled @ right.T, axis=0)
        known = slack * spread < 0.25 * singular * max(float(np.linalg.norm(h)), 1e-300)
        weights = right.T @ np.where(known, projected / singular, 0.0)
    free = right[~known].T
    if n < k:
        free = np.linalg.svd(np.concatenate([right[known], np.zeros((1, k))]))[2][int(known.sum()) :].T
    if free.shape[1]:
        weights = weights + free @ np.linalg.lstsq(scaled @ free, h - scaled @ weights, rcond=None)[0]
    sizes = np.abs(weights)
    size = size + 2.0 * (np.abs(moves) @ sizes)
    moved = float(np.linalg.norm(rounding(size, dtype)) + (k + 4) * DOUBLE * np.linalg.norm(size))
    own = THRESHOLD * (n + k) * DOUBLE * float(np.linalg.norm(target))
    hull, hull_limit = float(np.linalg.norm(target - left @ projected)), 1.5 * moved + own
    moved += own
    with np.errstate(all="ignore"):
        uncertain = float(np.where(known, moved * spread / singular, 0.0).sum())
    gap, noise = _gap(problem, scaled, weights)
    unit = float(np.finfo(dtype).eps) / 2.0
    columns = 2.0 * unit * float(np.linalg.norm(h) + (np.linalg.norm(scaled, axis=0) * sizes).sum())
    return Ratio(hull, hull_limit, gap, (uncertain + columns + noise) * (1.0 + 2.0**-20))


def _gap(problem: Least, scaled: Array, weights: Array) -> tuple[float, float]:
    """``|M (c - c_best)|`` over the columns that nobody may leave out, and what float64 loses in it."""
    n, k = scaled.shape
    r = np.linalg.qr(scaled, mode="r")
    remaining = np.zeros(k)
    remaining[: len(r)] = np.abs(np.diag(r))
    robust = remaining**2 > THRESHOLD * (n + k) * k * 2.0 * DOUBLE
    kept = scaled[:, robust]
    length = float(np.linalg.norm(problem.h))
    if not robust.any():
        least, best, smallest = problem.h, np.zeros(0), 1.0
    else:
        best = np.linalg.lstsq(kept, problem.h, rcond=None)[0]
        least, smallest = problem.h - kept @ best, float(np.linalg.svd(kept, compute_uv=False)[-1])
    most = float(np.abs(best).sum() + np.abs(weights).sum())
    noise = THRESHOLD * (n + k) * DOUBLE * (most + length) / smallest
    if robust.all():
        return float(np.linalg.norm(kept @ (weights - best))), noise
    # a column that may be left out can only help: compare the residuals themselves
    excess = float(np.linalg.norm(problem.h - scaled @ weights) ** 2 - np.linalg.norm(least) ** 2)
    return float(np.sqrt(max(excess, 0.0))), noise + length * np.sqrt(THRESHOLD * (n + k) * DOUBLE)
