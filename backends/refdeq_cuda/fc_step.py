"""Second half of a round: read the verdict over the evaluation before, then begin the next sample or finish this evaluation.

To finish it is to commit its gate, form its value from its sums, step, and gate the argument of the evaluation that would
follow. What is decided here about that one is written beside what it would replace: only the next verdict tells whether it is
made.
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
SAMPLE, MADE, COUNT, PHASE, TOTAL, USED, IS_FRESH, LENGTH, DIFFERENT = range(len(fc_layout.CONTROLS))
RUN, NEXT, DONE = range(len(fc_layout.PHASES))
EVALUATIONS, SENT, NONZERO, MACS, WHOLE, QUIET = range(2, len(fc_layout.COUNTERS))
VERDICT_AT, COUNT_AT, NONZERO_AT, INDEX_AT = fc_layout.VERDICT_AT, fc_layout.COUNT_AT, fc_layout.NONZERO_AT, fc_layout.INDEX_AT
IS_FIRST = 1  # position in the words of a block
EVERY_LANE = 0xFFFFFFFF


@cuda.jit(device=True)
def commit_gate(s, m):
    """Mask and reference of a block's elements (D-2 to D-5, D-10).

    It was decided what is sent when the argument was made, but only now is it known that this argument is evaluated.
    """
    n, sample, total = s.choice[N], m.control[SAMPLE], m.control[TOTAL]
    is_start, by_sample = s.choice[IS_DENSE_START] != 0 and m.control[COUNT] == 0, s.choice[BY_SAMPLE] != 0
    fired, entry, following = s.choice[FIRED_AT], s.choice[ENTRY_AT], work_at(s, FOLLOWING)
    entry_row, row = entry + sample * s.choice[ENTRY_STEP], s.choice[R_AT] + sample * n
    for i in range(first_of(s, cuda.blockIdx.x) + cuda.threadIdx.x, first_of(s, cuda.blockIdx.x + 1), cuda.blockDim.x):
        is_sent = is_start or (total > 0 if by_sample else s.flags[fired + i] != 0)
        s.flags[sample * n + i] = 1 if is_sent else 0
        if is_sent or s.choice[IS_ALWAYS] != 0:
            value = s.state[following + i]
            s.state[row + i] = value if entry < 0 else value + s.fixed[entry_row + i]


@cuda.jit(device=True)
def count_evaluation(s, m):
    """What a gated evaluation sent and cost (C-1, C-3)."""
    n, batch, sample, total, used = s.choice[N], s.choice[BATCH], m.control[SAMPLE], m.control[TOTAL], m.control[USED]
    is_start = s.choice[IS_DENSE_START] != 0 and m.control[COUNT] == 0
    sent = n if is_start or (s.choice[BY_SAMPLE] != 0 and total > 0) else total
    s.counts[SENT * batch + sample] += sent
    s.counts[NONZERO * batch + sample] += m.control[DIFFERENT] if sent > 0 else 0
    s.counts[MACS * batch + sample] += (n if m.control[IS_FRESH] != 0 else sent) * n
    s.counts[WHOLE * batch + sample] += 1 if used == n else 0
    s.counts[QUIET * batch + sample] += 1 if used == 0 else 0


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
def return_argument(s, m):
    """The argument of the last evaluation is what a sample returns (S-4)."""
    z, argument = m.control[SAMPLE] * s.choice[N], work_at(s, ARGUMENT)
    for i in range(first_of(s, cuda.blockIdx.x) + cuda.threadIdx.x, first_of(s, cuda.blockIdx.x + 1), cuda.blockDim.x):
        s.state[z + i] = s.state[argument + i]


@cuda.jit(device=True)
def begin_sample(s, m):
    """Account of the next sample, or the end."""
    sample, batch = m.control[SAMPLE] + 1, s.choice[BATCH]
    m.control[SAMPLE] = sample
    m.control[PHASE] = RUN if sample < batch else DONE
    m.control[MADE] = 0
    m.control[COUNT] = s.counts[EVALUATIONS * batch + sample] if sample < batch else 0


@cuda.jit(device=True)
def step(s, m):
    """Second half of a round."""
    if m.control[PHASE] == DONE:
        return
    if cuda.threadIdx.x == 0:
        m.word[IS_FIRST] = 1 if m.control[PHASE] == NEXT or s.words[VERDICT_AT] != 0 else 0
    cuda.syncthreads()
    is_first = m.word[IS_FIRST] != 0  # of its sample, the evaluation that will be gated
    if is_first and m.control[PHASE] == RUN:
        return_argument(s, m)
    if not is_first and s.choice[IS_GATED] != 0:
        commit_gate(s, m)
        if cuda.blockIdx.x == 0 and cuda.threadIdx.x == 0:
            count_evaluation(s, m)
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        if is_first:
            begin_sample(s, m)
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
