"""Steps of Broyden's method, judged by the secant equations of the run's own history (S-8).

The judge forms the inverse Jacobian ``H = -I + sum u_i v_i^T`` from the arguments and values that the run shows, in the widest
format, and carries with every number how far an implementation may be from it: rows rounded once to the dtype, inner products
in float64. The next argument must lie in the resulting interval, ``z - H g``. An implementation whose denominator is that close
to zero may break down, and must when it is zero exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from refdeq_validation.judge.bounds_solver import DOUBLE, inner, rounding, wide
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.verdicts import Failure

if TYPE_CHECKING:
    from refdeq_validation.judge.stepping import Frame

__all__ = ["Secants"]

Array = np.ndarray[Any, Any]

_SEARCH = {"decrease": 1e-4, "shortest": 0.5, "longest": 0.5, "backtracks": 2}


@dataclass
class _Pair:
    """One outer product of every sample that has it, with radii; `number` counts the pairs of a sample, -1 for none."""

    u: Array
    u_error: Array
    v: Array
    v_error: Array
    number: Array


class Secants:
    """The pairs of a batch, and where the last accepted step began."""

    def __init__(self, options: Mapping[str, Any], batch: int, size: int, dtype: Any) -> None:
        self.dtype, self.window = np.dtype(dtype), options.get("window")
        self.bad = options.get("update", "good") == "bad"
        search = options.get("line_search")
        self.search = None if search is None else {**_SEARCH, **(search if isinstance(search, Mapping) else {})}
        self.pairs: list[_Pair] = []
        self.count = np.zeros(batch, np.int64)
        self.started, self.refused = np.zeros(batch, bool), np.zeros(batch, np.int64)
        self.length, self.phi = np.ones(batch), np.full(batch, np.inf)
        blank = np.zeros((batch, size), np.longdouble)
        self.base, self.old, self.direction, self.direction_error = blank, blank.copy(), blank.copy(), blank.copy()

    def judge(self, frame: Frame, compare: Comparer) -> tuple[Array, Array]:
        """Compare the next arguments with ``z - H g``, or with a shorter step of the line search."""
        rows = frame.rows
        z, f = wide(frame.z), wide(frame.f)
        g = f - z
        g_error = rounding(g, self.dtype)
        phi = (g * g).sum(axis=1)
        phi_error = (2.0 * np.abs(g) * g_error).sum(axis=1) + 2.0 * (g.shape[1] + 2) * DOUBLE * phi
        shorter = self._judge_search(frame, compare, phi.astype(np.float64), phi_error.astype(np.float64))
        taking = frame.asking & ~shorter
        updating = taking & self.started[rows] & (phi > 0.0)
        possible, certain = self._update(frame, z, g, g_error, updating)
        step, error = self._apply(rows, g, g_error)
        wanted = f - step
        terms = self._terms(rows, g)
        limit = error + (len(self.pairs) + 3) * 2.0 * DOUBLE * (np.abs(f) + terms) + g_error
        limit = limit + rounding(np.abs(wanted) + limit, self.dtype)
        going = frame.going & taking
        got = frame.following
        if going.any():
            self._within(frame.t, compare, wanted, got, limit, going)
        late = going & certain
        if late.any():
            sample = int(rows[np.flatnonzero(late)[0]])
            compare.findings.add(Failure("stop_rule", frame.t, "status", (sample,), "BREAKDOWN", "another evaluation"))
        self._remember(rows, going, z, g, wide(got), phi.astype(np.float64))
        return possible, certain

    def _within(self, t: int, compare: Comparer, wanted: Array, got: Array, limit: Array, who: Array) -> None:
        expected, actual = wanted[who].astype(np.float64), got[who]
        error = np.abs(wide(actual) - wanted[who]).astype(np.float64)
        limit = limit[who].astype(np.float64) * (1.0 + 2.0**-40)
        limit = np.where(np.isnan(limit), np.inf, limit)  # a denominator that may be zero bounds nothing
        if np.isinf(limit).any():
            compare.findings.notes.append(f"bound_vacuous: Broyden step, evaluation {t + 1}")
        compare.within("state", t + 1, "z", np.where(np.isfinite(expected), expected, 0.0), actual, error, limit)

    # ------------------------------------------------------------------------------------------------------ inverse Jacobian

    def _valid(self, pair: _Pair, rows: Array, dropping: bool = False) -> Array:
        """Samples for which a pair still stands in the ring; `dropping`: after the oldest has made room for the next."""
        number = pair.number[rows]
        kept = number >= 0
        if self.window is not None:
            kept &= number >= self.count[rows] - self.window + (1 if dropping else 0)
        return kept

    def _apply(self, rows: Array, x: Array, x_error: Array, dropping: bool = False, transposed: bool = False) -> Any:
        """``sum_i u_i <v_i, x>`` and its radius."""
        total, error = np.zeros_like(x), np.zeros_like(x)
        for pair in self.pairs:
            kept = self._valid(pair, rows, dropping)[:, None]
            left, left_error, right, right_error = pair.u, pair.u_error, pair.v, pair.v_error
            if transposed:
                left, left_error, right, right_error = right, right_error, left, left_error
            product, radius = inner(right[rows], right_error[rows], x, x_error)
            column, column_error = left[rows], left_error[rows]
            total = total + np.where(kept, column * product[:, None], 0.0)
            most = np.abs(product) + radius
            error = error + np.where(kept, column_error * most[:, None] + np.abs(column) * radius[:, None], 0.0)
        return total, error

    def _terms(self, rows: Array, g: Array) -> Array:
        """``sum_i |u_i <v_i, g>|``: what sums of them round against."""
        total = np.zeros_like(g)
        for pair in self.pairs:
            kept = self._valid(pair, rows)[:, None]
            total = total + np.where(kept, np.abs(pair.u[rows] * (pair.v[rows] * g).sum(axis=1)[:, None]), 0.0)
        return total

    def _update(self, frame: Frame, z: Array, g: Array, g_error: Array, who: Array) -> tuple[Array, Array]:
        """Add the pair of the step just made: ``v = H^T dz`` or ``dg``, ``u = (dz - H dg) / <v, dg>``."""
        never = np.zeros(len(who), bool)
        if not who.any():
            return never, never
        rows = frame.rows
        dz, dg = z - self.base[rows], g - self.old[rows]
        dz_error = rounding(dz, self.dtype)
        dg_error = g_error + rounding(self.old[rows], self.dtype) + rounding(dg, self.dtype)
        image, image_error = self._apply(rows, dg, dg_error, dropping=True)
        if self.bad:
            v, v_error = dg, dg_error
        else:
            back, back_error = self._apply(rows, dz, dz_error, dropping=True, transposed=True)
            v = back - dz
            v_error = back_error + dz_error + (len(self.pairs) + 3) * 2.0 * DOUBLE * (np.abs(back) + np.abs(dz))
            v_error = v_error + rounding(np.abs(v) + v_error, self.dtype)
        below, below_error = inner(v, v_error, dg, dg_error)
        above = dz + dg - image
        size = np.abs(dz) + np.abs(dg) + np.abs(image)
        above_error = dz_error + dg_error + image_error + (len(self.pairs) + 4) * 2.0 * DOUBLE * size
        far = np.abs(below) - below_error
        with np.errstate(all="ignore"):
            u = above / below[:, None]
            u_error = (above_error + np.abs(u) * below_error[:, None]) / np.where(far > 0, far, 0.0)[:, None]
            u_error = u_error + rounding(np.abs(u) + u_error, self.dtype)
        u_error = np.where(np.isnan(u_error) & np.isfinite(size), np.inf, u_error)
        possible = who & (~(far > 2.0 * np.finfo(np.float64).tiny) | ~np.isfinite(u).all(axis=1))
        possible |= who & ~((np.abs(u) + u_error < 0.5 * np.sqrt(np.finfo(np.float64).max / u.shape[1])).all(axis=1))
        certain = who & ((dg == 0).all(axis=1) | (dz == 0).all(axis=1) & (not self.bad))
        self._append(rows, who, u, u_error, v, v_error)
        return possible, certain

    def _append(self, rows: Array, who: Array, u: Array, u_error: Array, v: Array, v_error: Array) -> None:
        batch = len(self.count)
        arrays = []
        unknown = ~np.isfinite(u) | np.isnan(u_error)
        parts = np.where(unknown, 0.0, u), np.where(unknown, np.inf, u_error), v, v_error
        for part in parts:
            whole = np.zeros((batch, u.shape[1]), np.longdouble)
            whole[rows[who]] = part[who]
            arrays.append(whole)
        number = np.full(batch, -1, np.int64)
        number[rows[who]] = self.count[rows[who]]
        self.pairs.append(_Pair(arrays[0], arrays[1], arrays[2], arrays[3], number))
        self.count[rows[who]] += 1
        if self.window is not None:
            self.pairs = [pair for pair in self.pairs if (pair.number >= self.count - self.window).any()]

    def _remember(self, rows: Array, going: Array, z: Array, g: Array, following: Array, phi: Array) -> None:
        at = rows[going]
        self.base[at], self.old[at] = z[going], g[going]
        self.direction[at] = following[going] - z[going]
        self.direction_error[at] = rounding(self.direction[at], self.dtype)
        self.started[at], self.length[at], self.refused[at], self.phi[at] = True, 1.0, 0, phi[going]

    # ----------------------------------------------------------------------------------------------------------- line search

    def _judge_search(self, frame: Frame, compare: Comparer, phi: Array, phi_error: Array) -> Array:
        """Rows that take their last step again, shorter (S-8): certain decisions must fall so, open ones may."""
        none = np.zeros(len(frame.rows), bool)
        if self.search is None:
            return none
        rows, rule = frame.rows, self.search
        before, length = self.phi[rows], self.length[rows]
        trial = frame.asking & self.started[rows] & (self.refused[rows] < int(rule["backtracks"]))
        if not trial.any():
            return none
        enough = (1.0 - 2.0 * float(rule["decrease"]) * length) * before
        slack = phi_error + 8.0 * DOUBLE * np.abs(enough) + phi_error / np.maximum(phi, 1e-300) * before
        with np.errstate(all="ignore"):
            ends = [
                length * (length * before / (value - before + 2.0 * length * before)) for value in (phi + slack, phi - slack)
            ]
        low, high = (np.clip(end, float(rule["shortest"]) * length, float(rule["longest"]) * length) for end in ends)
        middle, radius = (low + high) / 2.0, np.abs(high - low) / 2.0 + 8.0 * DOUBLE * length
        direction = self.direction[rows]
        wanted = self.base[rows] + middle[:, None] * direction
        limit = radius[:, None] * np.abs(direction) + self.direction_error[rows] + 4.0 * DOUBLE * np.abs(wanted)
        limit = limit + rounding(np.abs(wanted) + limit, self.dtype)
        refused = trial & (phi > enough + slack)
        open_ = trial & ~refused & ~(phi <= enough - slack)
        near = (np.abs(wide(frame.following) - wanted) <= limit).all(axis=1)
        shorter: Array = refused | (open_ & near & frame.going)
        moved = shorter & frame.going
        if moved.any():
            self._within(frame.t, compare, wanted, frame.following, limit, moved)
        at = rows[shorter]
        self.length[at] = middle[shorter]
        self.refused[at] += 1
        return shorter
