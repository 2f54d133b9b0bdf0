"""Residual and scale of an evaluation by the pinned tree of S-2, and the decision of S-3.

The first block does this while the others add columns, and leaves its verdict for all of them to read after the barrier.
"""

from __future__ import annotations

import math

from numba import cuda, float64
from refdeq_gpu.plans import fc_layout

from refdeq.types import Status
from refdeq_cuda.arithmetic import times
from refdeq_cuda.fc_parts import ARGUMENT, VALUE, work_at

__all__ = ["judge"]

(N, BATCH, IS_LINF, MAX_EVAL, WINDOW, RECENT_AT, TRACE_RESIDUAL, TRACE_SCALE) = (
    fc_layout.CHOICES.index(name)
    for name in ("N", "BATCH", "IS_LINF", "MAX_EVAL", "WINDOW", "RECENT_AT", "TRACE_RESIDUAL", "TRACE_SCALE")
)
RTOL, ATOL, EPS, DIVERGENCE, RATIO = range(len(fc_layout.LIMITS))
SAMPLE, MADE, COUNT = range(3)
FIRST, OLDER, DISTANCE, SCALE = range(len(fc_layout.MEASURES))
STATUS, N_EVAL, EVALUATIONS = range(3)
CHUNK = fc_layout.CHUNK
RUNNING, CONVERGED, MAX_EVALUATIONS = int(Status.RUNNING), int(Status.CONVERGED), int(Status.MAX_EVAL)
NONFINITE, DIVERGED, STAGNATED = int(Status.NONFINITE), int(Status.DIVERGED), int(Status.STAGNATED)
VERDICT_AT = fc_layout.VERDICT_AT


@cuda.jit(device=True)
def stage_values(s, m, first, buffer):
    """Stage elements of f and of its argument, from `first` on.

    The two warps that walk along them leave it to the others, if there are any.
    """
    n, f, z = s.choice[N], work_at(s, VALUE), work_at(s, ARGUMENT)
    idle = 64 if cuda.blockDim.x > 64 else 0
    if cuda.threadIdx.x >= idle:
        for i in range(cuda.threadIdx.x - idle, min(CHUNK, n - first), cuda.blockDim.x - idle):
            m.pool[buffer + i] = s.state[f + first + i]
            m.pool[buffer + CHUNK + i] = s.state[z + first + i]


@cuda.jit(device=True)
def go_on(s, m, buffer, many, is_scale, lane):
    """One lane of the tree goes on over a staged chunk: lane l adds elements l, l + 32, ... in ascending order.

    Chunks are whole rows of 32. In the maximum norm a NaN stays, because every comparison with it is false.
    """
    for i in range(cuda.threadIdx.x % 32, many, 32):
        value = float64(m.pool[buffer + i])
        term = value if is_scale else value - float64(m.pool[buffer + CHUNK + i])
        if s.choice[IS_LINF]:
            size = abs(term)
            lane = lane if size <= lane or lane != lane else size
        else:
            lane = lane + times(term, term)
    return lane


@cuda.jit(device=True)
def finished(m, first, is_linf):
    """The lanes in ascending order."""
    total = float64(0)
    for place in range(first, first + 32):
        lane = m.lane[place]
        larger = total if lane <= total or total != total else lane
        total = larger if is_linf else total + lane
    return total if is_linf else math.sqrt(total)


@cuda.jit(device=True)
def measure_evaluation(s, m):
    """Residual and scale: the first warp walks along one, the second along the other, all threads stage."""
    n, thread = s.choice[N], cuda.threadIdx.x
    lane = float64(0)
    buffer = 0
    stage_values(s, m, 0, 0)
    for first in range(0, n, CHUNK):
        cuda.syncthreads()  # what is staged is there, and nobody reads the other buffer any more
        if first + CHUNK < n:
            stage_values(s, m, first + CHUNK, 2 * CHUNK - buffer)
        if thread < 64:
            lane = go_on(s, m, buffer, min(CHUNK, n - first), thread >= 32, lane)
        buffer = 2 * CHUNK - buffer
    if thread < 64:
        m.lane[thread] = lane
    cuda.syncthreads()
    if thread == 0:
        m.measure[DISTANCE] = finished(m, 0, s.choice[IS_LINF] != 0)
    if thread == 32:
        m.measure[SCALE] = finished(m, 32, s.choice[IS_LINF] != 0)
    cuda.syncthreads()


@cuda.jit(device=True)
def is_stagnated(s, m):
    """Whether the lowest of the last w residuals is not below q times the lowest before them (S-3).

    A ring keeps the w + 1 last.
    """
    window, made, ring = s.choice[WINDOW], m.control[MADE], s.choice[RECENT_AT]
    if window == 0:
        return False
    distance = m.measure[DISTANCE]
    s.numbers[ring + (made - 1) % (window + 1)] = distance
    if made == 1:
        m.measure[OLDER] = math.inf
    if made <= window:
        return False
    m.measure[OLDER] = min(m.measure[OLDER], s.numbers[ring + (made - 1 - window) % (window + 1)])
    lowest = distance
    for back in range(1, window):
        lowest = min(lowest, s.numbers[ring + (made - 1 - back) % (window + 1)])
    return not (lowest < s.limit[RATIO] * m.measure[OLDER])


@cuda.jit(device=True)
def decided(s, m):
    """Status after an evaluation: the first that applies in the order of S-3."""
    distance, scale = m.measure[DISTANCE], m.measure[SCALE]
    is_stalled = is_stagnated(s, m)
    if m.control[MADE] == 1:
        m.measure[FIRST] = distance
    if not (math.isfinite(distance) and math.isfinite(scale)):
        return NONFINITE
    if s.limit[ATOL] >= 0 and distance <= s.limit[ATOL]:
        return CONVERGED
    if s.limit[RTOL] >= 0 and distance / (scale + s.limit[EPS]) <= s.limit[RTOL]:
        return CONVERGED
    if s.limit[DIVERGENCE] > 0 and distance > s.limit[DIVERGENCE] * m.measure[FIRST]:
        return DIVERGED
    if is_stalled:
        return STAGNATED
    return MAX_EVALUATIONS if m.control[MADE] >= s.choice[MAX_EVAL] else RUNNING


@cuda.jit(device=True)
def record(s, m, status):
    """What is known of the evaluation, and of its sample when it was the last."""
    sample, made, batch = m.control[SAMPLE], m.control[MADE], s.choice[BATCH]
    if s.choice[TRACE_RESIDUAL] >= 0:
        s.numbers[s.choice[TRACE_RESIDUAL] + (made - 1) * batch + sample] = m.measure[DISTANCE]
        s.numbers[s.choice[TRACE_SCALE] + (made - 1) * batch + sample] = m.measure[SCALE]
    if status != RUNNING:
        s.numbers[sample] = m.measure[DISTANCE]
        s.numbers[batch + sample] = m.measure[SCALE]
        s.counts[STATUS * batch + sample] = status
        s.counts[N_EVAL * batch + sample] = made
        s.counts[EVALUATIONS * batch + sample] = m.control[COUNT]


@cuda.jit(device=True)
def judge(s, m):
    """Judge the evaluation that the last step finished, by the first block; leave the verdict."""
    made = m.control[MADE]
    if made > 0:
        measure_evaluation(s, m)
    if cuda.threadIdx.x == 0:
        status = RUNNING
        if made > 0:
            status = decided(s, m)
            record(s, m, status)
        s.words[VERDICT_AT] = status
