"""Second half of a round: read the verdict over the evaluation before, then begin the next sample or finish this evaluation.

To finish it is to commit its gate, form its value from its sums, step, and gate the argument of the evaluation that would
follow. What is decided here about that one is written beside what it would replace: only the next verdict tells whether it is
made.
"""

from __future__ import annotations

from numba import cuda, int32
from refdeq_gpu.plans import fc_layout

from refdeq_cuda.arithmetic import times
from refdeq_cuda.fc_activations import activate
from refdeq_cuda.fc_parts import ARGUMENT, FACTOR, FOLLOWING, KEPT, LISTED, PARTIAL, VALUE, first_of, work_at

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
def operand(s, at, step, i):
    """A value that depends on x, or a parameter; 0 where the cell has none."""
    return s.fixed[at + step + i] if at >= 0 else s.fixed.dtype.type(0)


@cuda.jit(device=True)
def total_of_parts(s, m, i, before):
    """What the columns that were added come to (N-7): the parts of the list in ascending order, read four at a time."""
    n, used, length, row = s.choice[N], m.control[USED], m.control[LENGTH], work_at(s, PARTIAL) + i
    if used == 0:
        return before
    parts = (used + length - 1) // length
    total = s.state[row]
    part = 1
    while part + 3 < parts:
        a0, a1 = s.state[row + part * n], s.state[row + (part + 1) * n]
        a2, a3 = s.state[row + (part + 2) * n], s.state[row + (part + 3) * n]
        total = (((total + a0) + a1) + a2) + a3
        part += 4
    while part < parts:
        total = total + s.state[row + part * n]
        part += 1
    return total


@cuda.jit(device=True)
def read_element(s, m, i, is_first):
    """What a step reads of one element, all of it before anything is written, so that one wait serves for all.

    Returns the argument of the evaluation that is finished (or the first of a sample), reference and accumulator before it, its
    sums, whether it has fired, and the values that are never written: entry, bias, phase, filter, threshold.
    """
    sample, n = m.control[SAMPLE], s.choice[N]
    zero = s.state.dtype.type(0)
    entry = operand(s, s.choice[ENTRY_AT], sample * s.choice[ENTRY_STEP], i)
    bias = operand(s, s.choice[BIAS_AT], 0, i)
    phase = operand(s, s.choice[PHASE_AT], sample * s.choice[PHASE_STEP], i)
    factor = operand(s, s.choice[FILTER_AT], sample * s.choice[FILTER_STEP], i)
    threshold = operand(s, s.choice[THRESHOLD_AT], 0, i)
    r = s.state[s.choice[R_AT] + sample * n + i] if s.choice[IS_GATED] != 0 else zero
    if is_first:
        return s.state[sample * n + i], r, zero, zero, False, entry, bias, phase, factor, threshold
    a = s.state[s.choice[A_AT] + sample * s.choice[ROW_STEP] + i]
    total = total_of_parts(s, m, i, zero if m.control[IS_FRESH] != 0 or s.choice[IS_FOLDED] != 0 else a)
    has_fired = s.choice[IS_GATED] != 0 and s.flags[s.choice[FIRED_AT] + i] != 0
    return s.state[work_at(s, FOLLOWING) + i], r, a, total, has_fired, entry, bias, phase, factor, threshold


@cuda.jit(device=True)
def watched(s, z, entry):
    """What the linear node watches."""
    return z if s.choice[ENTRY_AT] < 0 else z + entry


@cuda.jit(device=True)
def commit_gate(s, m, i, r, u, has_fired):
    """Mask and reference of an element (D-2 to D-5, D-10); return the reference.

    It was decided what is sent when the argument was made, but only now is it known that this argument is evaluated.
    """
    n, sample, batch = s.choice[N], m.control[SAMPLE], s.choice[BATCH]
    is_start = s.choice[IS_DENSE_START] != 0 and m.control[COUNT] == 0
    is_sent = is_start or (m.control[TOTAL] > 0 if s.choice[BY_SAMPLE] != 0 else has_fired)
    after = u if is_sent or s.choice[IS_ALWAYS] != 0 else r
    s.flags[sample * n + i] = 1 if is_sent else 0
    s.state[s.choice[R_AT] + sample * n + i] = after
    if s.choice[TRACE_Z] >= 0:
        place = (m.control[MADE] * batch + sample) * n + i
        s.flags[s.choice[TRACE_MASK] + place] = 1 if is_sent else 0
        s.trace[s.choice[TRACE_R] + place] = after
    return after


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
def finish(s, m, i, z, before, total, bias, phase, factor):
    """Value of the cell at one element, with all that is remembered of it (D-6); return the argument that follows (S-6)."""
    sample, is_folded = m.control[SAMPLE], s.choice[IS_FOLDED] != 0
    place = (m.control[MADE] * s.choice[BATCH] + sample) * s.choice[N] + i
    a = total
    if is_folded:
        a = total + bias if m.control[IS_FRESH] != 0 else ((total + bias) + before) - bias
    linear = a if s.choice[BIAS_AT] < 0 or is_folded else a + bias
    at = work_at(s, VALUE) + i
    s.state[at] = linear if s.choice[PHASE_AT] < 0 else linear + phase
    activate(s.state, at, s.choice[ACTIVATION], s.fixed[0])
    value = s.state[at]
    f = value if s.choice[FILTER_AT] < 0 else times(value, factor)
    s.state[s.choice[A_AT] + sample * s.choice[ROW_STEP] + i] = a
    s.state[at] = f
    s.state[work_at(s, ARGUMENT) + i] = z
    if s.choice[TRACE_LINEAR] >= 0:
        s.trace[s.choice[TRACE_LINEAR] + place] = linear
    if s.choice[TRACE_ACTIVATED] >= 0:
        s.trace[s.choice[TRACE_ACTIVATED] + place] = value
    if s.choice[TRACE_Z] >= 0:
        s.trace[s.choice[TRACE_Z] + place] = z
        s.trace[s.choice[TRACE_F] + place] = f
        if s.choice[IS_GATED] != 0:
            s.trace[s.choice[TRACE_A] + place] = a
    if s.choice[IS_PICARD] != 0:
        return f
    return times(s.fixed[2], z) + times(s.fixed[1], f)


@cuda.jit(device=True)
def gate_element(s, i, u, r, threshold, count):
    """Decide about one element of the evaluation that follows, number `count` since the reset (D-1, D-2).

    What its column is multiplied by is left in the workspace. Returns whether it is sent (bit 0), and whether it counts as not
    zero (bit 1, C-3).
    """
    refresh = s.choice[REFRESH]
    if s.choice[IS_GATED] == 0 or (s.choice[IS_DENSE_START] != 0 and count == 0):
        s.state[work_at(s, FACTOR) + i] = u
        return 2 if u != 0 else 0
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
def step_element(s, m, i, is_first):
    """Finish one element, or load it, and gate what follows; returns as :func:`gate_element`."""
    z, r, a, total, has_fired, entry, bias, phase, factor, threshold = read_element(s, m, i, is_first)
    count = m.control[COUNT]
    if not is_first:
        if s.choice[IS_GATED] != 0:
            r = commit_gate(s, m, i, r, watched(s, z, entry), has_fired)
        z = finish(s, m, i, z, a, total, bias, phase, factor)
        count += 1
    s.state[work_at(s, FOLLOWING) + i] = z
    return gate_element(s, i, watched(s, z, entry), r, threshold, count)


@cuda.jit(device=True)
def step_elements(s, m, is_first):
    """All elements of a block: finish, or load the first argument, then gate and list.

    Lists are ascending, by ballots and the counts of the warps before.
    """
    thread = cuda.threadIdx.x
    lane, warp, warps = thread % 32, thread // 32, cuda.blockDim.x // 32
    begin, end = first_of(s, cuda.blockIdx.x), first_of(s, cuda.blockIdx.x + 1)
    listed = nonzero = 0
    for first in range(begin, end, cuda.blockDim.x):
        i = first + thread
        found = 0
        if i < end:
            found = step_element(s, m, i, is_first)
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
    cuda.syncthreads()
    if cuda.threadIdx.x == 0 and is_first:
        begin_sample(s, m)
    cuda.syncthreads()
    if m.control[PHASE] == DONE:
        return
    step_elements(s, m, is_first)
    cuda.syncthreads()
    if cuda.threadIdx.x == 0 and not is_first:
        if cuda.blockIdx.x == 0 and s.choice[IS_GATED] != 0:
            count_evaluation(s, m)
        m.control[COUNT] += 1
        m.control[MADE] += 1
    cuda.syncthreads()
