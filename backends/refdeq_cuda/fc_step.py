"""Second half of a round: finish the evaluation from its sums, step, and gate the argument of the evaluation that would follow.

What is decided here is written beside what it would replace: only the next round knows whether there is another evaluation.
"""

from __future__ import annotations

from numba import cuda, int32

from refdeq_cuda.arithmetic import times
from refdeq_cuda.fc_activations import activate
from refdeq_cuda.fc_parts import ARGUMENT, FACTOR, FOLLOWING, KEPT, LISTED, PARTIAL, VALUE, first_of, work_at
from refdeq_gpu.plans import fc_layout

__all__ = ["step"]

(N, BATCH, ACTIVATION, IS_GATED, IS_GE, IS_ALWAYS, IS_DENSE_START, IS_FOLDED, BY_SAMPLE, REFRESH, IS_PICARD) = (
    fc_layout.CHOICES.index(name)
    for name in (
        *("N", "BATCH", "ACTIVATION", "IS_GATED", "IS_GE", "IS_ALWAYS", "IS_DENSE_START", "IS_FOLDED", "BY_SAMPLE"),
        *("REFRESH", "IS_PICARD"),
    )
)
(BIAS_AT, ENTRY_AT, ENTRY_STEP, PHASE_AT, PHASE_STEP, FILTER_AT, FILTER_STEP, THRESHOLD_AT, R_AT, A_AT, ROW_STEP, FIRED_AT) = (
    fc_layout.CHOICES.index(name)
    for name in (
        *("BIAS_AT", "ENTRY_AT", "ENTRY_STEP", "PHASE_AT", "PHASE_STEP", "FILTER_AT", "FILTER_STEP", "THRESHOLD_AT"),
        *("R_AT", "A_AT", "ROW_STEP", "FIRED_AT"),
    )
)
(TRACE_Z, TRACE_F, TRACE_R, TRACE_A, TRACE_LINEAR, TRACE_ACTIVATED, TRACE_MASK) = (
    fc_layout.CHOICES.index(f"TRACE_{name}") for name in ("Z", "F", "R", "A", "LINEAR", "ACTIVATED", "MASK")
)
SAMPLE, MADE, COUNT, PHASE, TOTAL, USED, IS_FRESH, LENGTH = range(len(fc_layout.CONTROLS))
RUN, NEXT, DONE = range(len(fc_layout.PHASES))
EVALUATIONS = fc_layout.COUNTERS.index("EVALUATIONS")
COUNT_AT, NONZERO_AT, INDEX_AT = fc_layout.COUNT_AT, fc_layout.NONZERO_AT, fc_layout.INDEX_AT
EVERY_LANE = 0xFFFFFFFF


@cuda.jit(device=True)
def accumulator(s, m, i, before):
    """Accumulator of an output after its sums (D-6, N-7)."""
    used, length = m.control[USED], m.control[LENGTH]
    is_fresh, is_folded = m.control[IS_FRESH] != 0, s.choice[IS_FOLDED] != 0
    total = before
    if is_fresh or is_folded:
        total = s.state.dtype.type(0)
    if used > 0:
        total = s.state[work_at(s, PARTIAL) + i]
    part = 1
    while part * length < used:
        total = total + s.state[work_at(s, PARTIAL + part) + i]
        part += 1
    if not is_folded:
        return total
    bias = s.fixed[s.choice[BIAS_AT] + i]
    return total + bias if is_fresh else ((total + bias) + before) - bias


@cuda.jit(device=True)
def track(s, m, i, z, f, a):
    """One element of one evaluation into the trace (S-10)."""
    if s.choice[TRACE_Z] < 0:
        return
    sample, n = m.control[SAMPLE], s.choice[N]
    at = (m.control[MADE] * s.choice[BATCH] + sample) * n + i
    s.trace[s.choice[TRACE_Z] + at] = z
    s.trace[s.choice[TRACE_F] + at] = f
    if s.choice[IS_GATED] != 0:
        s.trace[s.choice[TRACE_R] + at] = s.state[s.choice[R_AT] + sample * n + i]
        s.trace[s.choice[TRACE_A] + at] = a
        s.flags[s.choice[TRACE_MASK] + at] = s.flags[sample * n + i]


@cuda.jit(device=True)
def finish(s, m, i):
    """Value of the cell at one element, with everything that is remembered of it; return the argument that follows (S-6)."""
    sample = m.control[SAMPLE]
    at = (m.control[MADE] * s.choice[BATCH] + sample) * s.choice[N] + i
    row = s.choice[A_AT] + sample * s.choice[ROW_STEP] + i
    z = s.state[work_at(s, FOLLOWING) + i]
    total = accumulator(s, m, i, s.state[row])
    s.state[row] = total
    f = total
    if s.choice[BIAS_AT] >= 0 and s.choice[IS_FOLDED] == 0:
        f = f + s.fixed[s.choice[BIAS_AT] + i]
    if s.choice[TRACE_LINEAR] >= 0:
        s.trace[s.choice[TRACE_LINEAR] + at] = f
    if s.choice[PHASE_AT] >= 0:
        f = f + s.fixed[s.choice[PHASE_AT] + sample * s.choice[PHASE_STEP] + i]
    s.state[work_at(s, VALUE) + i] = f
    activate(s.state, work_at(s, VALUE) + i, s.choice[ACTIVATION], s.fixed[0])
    f = s.state[work_at(s, VALUE) + i]
    if s.choice[TRACE_ACTIVATED] >= 0:
        s.trace[s.choice[TRACE_ACTIVATED] + at] = f
    if s.choice[FILTER_AT] >= 0:
        f = times(f, s.fixed[s.choice[FILTER_AT] + sample * s.choice[FILTER_STEP] + i])
    s.state[work_at(s, VALUE) + i] = f
    s.state[work_at(s, ARGUMENT) + i] = z
    track(s, m, i, z, f, total)
    if s.choice[IS_PICARD] != 0:
        return f
    return times(s.fixed[2], z) + times(s.fixed[1], f)


@cuda.jit(device=True)
def gate_element(s, m, i, z):
    """Decide about one element of the coming evaluation (D-1, D-2) and leave what its column is multiplied by.

    Returns whether it is sent (bit 0), and whether it counts as not zero (bit 1, C-3).
    """
    sample, count, refresh = m.control[SAMPLE], m.control[COUNT], s.choice[REFRESH]
    u = z
    if s.choice[ENTRY_AT] >= 0:
        u = z + s.fixed[s.choice[ENTRY_AT] + sample * s.choice[ENTRY_STEP] + i]
    if s.choice[IS_GATED] == 0 or (s.choice[IS_DENSE_START] != 0 and count == 0):
        s.state[work_at(s, FACTOR) + i] = u
        return 2 if u != 0 else 0
    r, threshold = s.state[s.choice[R_AT] + sample * s.choice[N] + i], s.fixed[s.choice[THRESHOLD_AT] + i]
    d = u - r
    is_sent = not (abs(d) < threshold) if s.choice[IS_GE] != 0 else not (abs(d) <= threshold)
    is_refresh = refresh > 0 and count > 0 and count % max(refresh, 1) == 0
    is_shown = is_sent or s.choice[BY_SAMPLE] != 0
    quiet = u if s.choice[IS_ALWAYS] != 0 else r  # reference after the gate, of an element that is not sent
    factor = d
    if is_refresh:
        factor = u if is_shown else quiet
    s.flags[s.choice[FIRED_AT] + i] = 1 if is_sent else 0
    s.state[work_at(s, KEPT) + i] = quiet
    s.state[work_at(s, FACTOR) + i] = factor
    return (1 if is_sent else 0) + (2 if d != 0 and is_shown else 0)


@cuda.jit(device=True)
def step_elements(s, m, is_first):
    """All elements of a block: finish, or load the first argument, then gate and list.

    Lists are ascending, by ballots and the counts of the warps before.
    """
    thread = cuda.threadIdx.x
    lane, warp, warps = thread % 32, thread // 32, cuda.blockDim.x // 32
    begin, end, following = first_of(s, cuda.blockIdx.x), first_of(s, cuda.blockIdx.x + 1), work_at(s, FOLLOWING)
    listed = nonzero = 0
    for first in range(begin, end, cuda.blockDim.x):
        i = first + thread
        found = 0
        if i < end:
            z = s.state[m.control[SAMPLE] * s.choice[N] + i] if is_first else finish(s, m, i)
            s.state[following + i] = z
            found = gate_element(s, m, i, z)
        sent = cuda.ballot_sync(EVERY_LANE, found & 1 != 0)
        if lane == 0:
            m.warp_count[warp] = cuda.popc(sent)
        nonzero += cuda.syncthreads_count(int32(found >> 1))
        before = total = 0
        for other in range(warps):
            before += m.warp_count[other] if other < warp else 0
            total += m.warp_count[other]
        if found & 1:
            place = begin + listed + before + cuda.popc(sent & ((1 << lane) - 1))
            s.words[INDEX_AT + place] = i
            s.state[work_at(s, LISTED) + place] = s.state[work_at(s, FACTOR) + i]
        listed += total
        cuda.syncthreads()  # the counts of the warps are written again
    if thread == 0:
        s.words[COUNT_AT + cuda.blockIdx.x] = listed
        s.words[NONZERO_AT + cuda.blockIdx.x] = nonzero


@cuda.jit(device=True)
def step(s, m):
    """Second half of a round."""
    if m.control[PHASE] == DONE:
        return
    is_first = m.control[PHASE] == NEXT
    cuda.syncthreads()  # everybody knows, before the first thread goes on
    if cuda.threadIdx.x == 0:
        if is_first:
            sample, batch = m.control[SAMPLE] + 1, s.choice[BATCH]
            m.control[SAMPLE] = sample
            m.control[PHASE] = RUN if sample < batch else DONE
            m.control[MADE] = 0
            m.control[COUNT] = s.counts[EVALUATIONS * batch + sample] if sample < batch else 0
        else:  # the gate is that of the evaluation after the one that is finished here
            m.control[COUNT] += 1
    cuda.syncthreads()
    if m.control[PHASE] == DONE:
        return
    step_elements(s, m, is_first)
    cuda.syncthreads()
    if cuda.threadIdx.x == 0 and not is_first:
        m.control[MADE] += 1
    cuda.syncthreads()
