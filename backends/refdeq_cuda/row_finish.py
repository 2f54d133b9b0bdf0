"""Second half of an evaluation of independent rows: value, norms, decision, trace and step; a warp per row."""

from __future__ import annotations

import math

from numba import cuda, float64, int32
from refdeq_gpu.plans.rows_data import FLAGS

from refdeq.types import Status
from refdeq_cuda.arithmetic import plus, times
from refdeq_cuda.fc_activations import activate

__all__ = ["row_finish"]

_FULL = 0xFFFFFFFF
_HAS_BIAS, _HAS_PHASE, _HAS_FILTER = (FLAGS[name] for name in ("bias", "phase", "filter"))
_IS_PICARD, _IS_LINF, _IS_TRACED = (FLAGS[name] for name in ("picard", "linf", "traced"))
_HAS_ACTIVATION, _IS_GATED = FLAGS["activation"], FLAGS["gated"]
_CONVERGED, _MAX_EVAL, _NONFINITE = int(Status.CONVERGED), int(Status.MAX_EVAL), int(Status.NONFINITE)
_DIVERGED, _STAGNATED = int(Status.DIVERGED), int(Status.STAGNATED)


@cuda.jit(device=True)
def _larger(a, b):
    """The larger of two numbers; NaN wins."""
    return b if b > a or b != b else a


@cuda.jit(device=True)
def _with(total, term, is_linf):
    """One term more: its square, or its magnitude."""
    return _larger(total, abs(term)) if is_linf else plus(total, times(term, term))


@cuda.jit(device=True)
def _lanes_in_order(own, is_linf):
    """Sum of 32 lanes in ascending order and its root, or the largest of them (S-2); every lane gets it."""
    total = float64(0.0)
    for lane in range(32):
        other = cuda.shfl_sync(_FULL, own, lane)
        total = _larger(total, other) if is_linf else plus(total, other)
    return total if is_linf else math.sqrt(total)


@cuda.jit(device=True)
def _is_stagnated(window, ratio, distance, made, history, first):
    """Whether the lowest of the last w residuals is not below q times the lowest before them (S-3).

    `history` has, from `first` on, the first residual, the lowest of those that left the ring, and the ring of w.
    """
    if made == 1:
        history[first] = distance
        history[first + 1] = math.inf
    if window == 0:
        return False
    place = first + 2 + (made - 1) % window
    if made > window and history[place] < history[first + 1]:
        history[first + 1] = history[place]
    history[place] = distance
    if made <= window:
        return False
    lowest = history[first + 2]
    for i in range(first + 3, first + 2 + window):
        if history[i] < lowest:
            lowest = history[i]
    return not (lowest < times(ratio, history[first + 1]))


@cuda.jit(device=True)
def _decide(max_eval, rtol, atol, eps, divergence, distance, scale, made, first_distance, is_stalled):
    """Status after evaluation number `made`: the first that applies, in the order of S-3; 0 goes on."""
    if not (math.isfinite(distance) and math.isfinite(scale)):
        return _NONFINITE
    if atol >= 0.0 and distance <= atol:
        return _CONVERGED
    if rtol >= 0.0 and distance / plus(scale, eps) <= rtol:
        return _CONVERGED
    if divergence > 0.0 and distance > times(divergence, first_distance):
        return _DIVERGED
    if is_stalled:
        return _STAGNATED
    return _MAX_EVAL if made >= max_eval else 0


@cuda.jit(device=True)
def _value(row, j, base, track, n, flags, activation, slope, bias, phase, phase_step, filter, filter_step, a, f, t_linear,
           t_activated):  # fmt: skip
    """One element of the value of the cell, into f."""
    at = base + j
    f[at] = a[at]
    if flags & _HAS_BIAS != 0:
        f[at] = plus(f[at], bias[j])
    if flags & _IS_TRACED != 0 and flags & _IS_GATED == 0:
        t_linear[track + j] = f[at]
    if flags & _HAS_PHASE != 0:
        f[at] = plus(f[at], phase[row * phase_step + j])
    activate(f, at, activation, slope)
    if flags & _IS_TRACED != 0 and flags & _HAS_ACTIVATION != 0:
        t_activated[track + j] = f[at]
    if flags & _HAS_FILTER != 0:
        f[at] = times(f[at], filter[row * filter_step + j])


@cuda.jit
def row_finish(
    rows, count, batch, n, flags, k, activation, max_eval, window, slope, alpha, beta, rtol, atol, eps, divergence, ratio, bias,
    phase, phase_step, filter, filter_step, live, z, f, r, a, mask, status, n_eval, norms, history, t_active, t_z, t_f, t_norms,
    t_r, t_mask, t_a, t_linear, t_activated,
):  # fmt: skip
    """Value, norms by the pinned tree (S-2), decision (S-3), trace (S-10), next argument (S-6); final rows keep theirs."""
    lane = cuda.threadIdx.x % 32
    is_linf, is_traced = flags & _IS_LINF != 0, flags & _IS_TRACED != 0
    for i in range(cuda.grid(1) // 32, count, cuda.gridsize(1) // 32):
        row = rows[i]
        if live[row] == 0:
            continue
        base, at_row = row * n, k * batch + row
        track = at_row * n
        distance = scale = float64(0.0)
        for j in range(lane, n, 32):
            _value(row, j, base, track, n, flags, activation, slope, bias, phase, phase_step, filter, filter_step, a, f,
                   t_linear, t_activated)  # fmt: skip
            wide = float64(f[base + j])
            distance = _with(distance, plus(wide, -float64(z[base + j])), is_linf)
            scale = _with(scale, wide, is_linf)
        distance, scale = _lanes_in_order(distance, is_linf), _lanes_in_order(scale, is_linf)
        reached = int32(0)
        if lane == 0:
            first = row * (window + 2)
            is_stalled = _is_stagnated(window, ratio, distance, k + 1, history, first)
            reached = int32(_decide(max_eval, rtol, atol, eps, divergence, distance, scale, k + 1, history[first], is_stalled))
            if is_traced:
                t_active[at_row] = 1
                t_norms[2 * at_row] = distance
                t_norms[2 * at_row + 1] = scale
            if reached != 0:
                live[row] = 0
                status[row] = reached
                n_eval[row] = k + 1
                norms[2 * row] = distance
                norms[2 * row + 1] = scale
        reached = cuda.shfl_sync(_FULL, reached, 0)
        for j in range(lane, n, 32):
            at = base + j
            if is_traced:
                t_z[track + j] = z[at]
                t_f[track + j] = f[at]
                if flags & _IS_GATED != 0:
                    t_r[track + j] = r[at]
                    t_a[track + j] = a[at]
                    t_mask[track + j] = mask[at]
            if reached == 0:
                z[at] = f[at] if flags & _IS_PICARD != 0 else plus(times(beta, z[at]), times(alpha, f[at]))
