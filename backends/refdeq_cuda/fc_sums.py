"""The sums of one evaluation: which columns are added, and jobs of (tile of outputs, part of the list) that add them.

An output adds its columns in ascending order, in strict order all of them one after the other (N-6). In fast order the list is
cut into parts by its length and N alone, so that which block does what changes no bit; a step adds the parts in ascending
order.
"""

from __future__ import annotations

from numba import cuda, uint64
from refdeq_gpu.plans import fc_layout

from refdeq_cuda.arithmetic import fma, times
from refdeq_cuda.fc_judge import judge
from refdeq_cuda.fc_parts import FACTOR, KEPT, LISTED, PARTIAL, first_of, work_at

__all__ = ["add_columns"]

(N, IS_FAST, IS_GATED, IS_DENSE_START, IS_FOLDED, BY_SAMPLE, REFRESH, TILE, SPLITS, A_AT, ROW_STEP) = (
    fc_layout.CHOICES.index(name)
    for name in (
        *("N", "IS_FAST", "IS_GATED", "IS_DENSE_START", "IS_FOLDED", "BY_SAMPLE", "REFRESH", "TILE", "SPLITS"),
        *("A_AT", "ROW_STEP"),
    )
)
SAMPLE, MADE, COUNT, PHASE, TOTAL, USED, IS_FRESH, LENGTH, DIFFERENT = range(len(fc_layout.CONTROLS))
RUN = fc_layout.PHASES.index("RUN")
COUNT_AT, NONZERO_AT, INDEX_AT = fc_layout.COUNT_AT, fc_layout.NONZERO_AT, fc_layout.INDEX_AT
CHUNK = fc_layout.CHUNK
EVERY_LANE = 0xFFFFFFFF
NONZERO_SUM = 0  # position in the words of a block


@cuda.jit(device=True)
def place_lists(s, m):
    """Entries of all lists before that of each block: the lists, one after the other, are one ascending list."""
    blocks, thread = cuda.gridDim.x, cuda.threadIdx.x
    lane = thread % 32
    for block in range(thread, blocks, cuda.blockDim.x):
        m.offset[block] = s.words[COUNT_AT + block]
    cuda.syncthreads()
    if thread < 32:
        before = 0
        for first in range(0, blocks, 32):
            own = m.offset[first + lane] if first + lane < blocks else 0
            total = own
            distance = 1
            while distance < 32:
                other = cuda.shfl_up_sync(EVERY_LANE, total, distance)
                total += other if lane >= distance else 0
                distance *= 2
            if first + lane < blocks:
                m.offset[first + lane] = before + total - own
            before += cuda.shfl_sync(EVERY_LANE, total, 31)
        if lane == 0:
            m.offset[blocks] = before
    elif thread < 64 and cuda.blockIdx.x == 0:  # the first block counts
        nonzero = 0
        for block in range(lane, blocks, 32):
            nonzero += s.words[NONZERO_AT + block]
        distance = 16
        while distance > 0:
            nonzero += cuda.shfl_xor_sync(EVERY_LANE, nonzero, distance)
            distance //= 2
        if lane == 0:
            m.word[NONZERO_SUM] = nonzero
    cuda.syncthreads()


@cuda.jit(device=True)
def place_of(s, m, entry):
    """Where an entry of the one list lies among the lists of the blocks."""
    low, high = 0, cuda.gridDim.x  # offset[low] <= entry < offset[high]
    while high - low > 1:
        middle = (low + high) // 2
        if m.offset[middle] <= entry:
            low = middle
        else:
            high = middle
    return first_of(s, low) + (entry - m.offset[low])


@cuda.jit(device=True)
def plan_evaluation(s, m):
    """What the coming evaluation does."""
    n, count, refresh, total = s.choice[N], m.control[COUNT], s.choice[REFRESH], m.offset[cuda.gridDim.x]
    is_start = s.choice[IS_DENSE_START] != 0 and count == 0
    is_refresh = refresh > 0 and count > 0 and count % max(refresh, 1) == 0
    is_fresh = s.choice[IS_GATED] == 0 or is_start or is_refresh
    used = n if is_fresh or (s.choice[BY_SAMPLE] != 0 and total > 0) else total
    # one part for each eight columns at most, so that short lists are not cut to pieces
    splits = s.choice[SPLITS]
    share = (used + splits - 1) // splits
    m.control[TOTAL] = total
    m.control[USED] = used
    m.control[IS_FRESH] = 1 if is_fresh else 0
    m.control[LENGTH] = used if splits == 1 else (share + 7) // 8 * 8
    m.control[DIFFERENT] = m.word[NONZERO_SUM] if cuda.blockIdx.x == 0 else 0


@cuda.jit(device=True)
def stage_columns(s, m, first, last, buffer):
    """Stage columns of the list and their factors, entries `first` to `last`."""
    is_whole = m.control[USED] == s.choice[N]
    is_kept = s.choice[BY_SAMPLE] != 0 and m.control[IS_FRESH] != 0 and m.control[TOTAL] == 0 and m.control[COUNT] > 0
    row = LISTED
    if is_whole:
        row = KEPT if is_kept else FACTOR
    factor = work_at(s, row)
    for t in range(cuda.threadIdx.x, min(CHUNK, last - first), cuda.blockDim.x):
        place = first + t if is_whole else place_of(s, m, first + t)
        m.column[buffer + t] = place if is_whole else s.words[INDEX_AT + place]
        m.pool[buffer + t] = s.state[factor + place]


@cuda.jit(device=True)
def add_strictly(s, m, buffer, many, at, total):
    """Add a staged chunk to one output, product and sum rounded apart (N-6); four loads are under way at a time."""
    n, place = uint64(s.choice[N]), uint64(at)
    whole = many // 4 * 4
    for t in range(buffer, buffer + whole, 4):
        w0 = s.weight[uint64(m.column[t]) * n + place]
        w1 = s.weight[uint64(m.column[t + 1]) * n + place]
        w2 = s.weight[uint64(m.column[t + 2]) * n + place]
        w3 = s.weight[uint64(m.column[t + 3]) * n + place]
        total = total + times(w0, m.pool[t])
        total = total + times(w1, m.pool[t + 1])
        total = total + times(w2, m.pool[t + 2])
        total = total + times(w3, m.pool[t + 3])
    for t in range(buffer + whole, buffer + many):
        total = total + times(s.weight[uint64(m.column[t]) * n + place], m.pool[t])
    return total


@cuda.jit(device=True)
def add_fused(s, m, buffer, many, at, total):
    """Add a staged chunk to one output by fused multiply-adds (N-7); eight loads are under way at a time."""
    n, place = uint64(s.choice[N]), uint64(at)
    whole = many // 8 * 8
    for t in range(buffer, buffer + whole, 8):
        w0 = s.weight[uint64(m.column[t]) * n + place]
        w1 = s.weight[uint64(m.column[t + 1]) * n + place]
        w2 = s.weight[uint64(m.column[t + 2]) * n + place]
        w3 = s.weight[uint64(m.column[t + 3]) * n + place]
        w4 = s.weight[uint64(m.column[t + 4]) * n + place]
        w5 = s.weight[uint64(m.column[t + 5]) * n + place]
        w6 = s.weight[uint64(m.column[t + 6]) * n + place]
        w7 = s.weight[uint64(m.column[t + 7]) * n + place]
        total = fma(w1, m.pool[t + 1], fma(w0, m.pool[t], total))
        total = fma(w3, m.pool[t + 3], fma(w2, m.pool[t + 2], total))
        total = fma(w5, m.pool[t + 5], fma(w4, m.pool[t + 4], total))
        total = fma(w7, m.pool[t + 7], fma(w6, m.pool[t + 6], total))
    for t in range(buffer + whole, buffer + many):
        total = fma(s.weight[uint64(m.column[t]) * n + place], m.pool[t], total)
    return total


@cuda.jit(device=True)
def run_job(s, m, tile, part):
    """One output of each thread from the columns of one part of the list, in ascending order.

    Staged chunks alternate between two buffers, so that the next is under way while one is added.
    """
    n, first, thread = s.choice[N], part * m.control[LENGTH], cuda.threadIdx.x
    last = min(first + m.control[LENGTH], m.control[USED])
    at = tile * s.choice[TILE] + thread
    is_mine = thread < s.choice[TILE] and at < n
    begins = part > 0 or m.control[IS_FRESH] != 0 or s.choice[IS_FOLDED] != 0
    total = s.state.dtype.type(0)
    if is_mine and not begins:
        total = s.state[s.choice[A_AT] + m.control[SAMPLE] * s.choice[ROW_STEP] + at]
    buffer = 0
    cuda.syncthreads()  # nobody reads the buffers of the job before
    stage_columns(s, m, first, last, 0)
    for start in range(first, last, CHUNK):
        cuda.syncthreads()  # this chunk is there, and nobody reads the other buffer any more
        stage_columns(s, m, start + CHUNK, last, CHUNK - buffer)
        if is_mine and s.choice[IS_FAST] != 0:
            total = add_fused(s, m, buffer, min(CHUNK, last - start), at, total)
        elif is_mine:
            total = add_strictly(s, m, buffer, min(CHUNK, last - start), at, total)
        buffer = CHUNK - buffer
    if is_mine:
        s.state[work_at(s, PARTIAL + part) + at] = total


@cuda.jit(device=True)
def run_jobs(s, m):
    """All jobs, shared out among the blocks; the first one has something else to do, unless it is the only one."""
    used, tiles = m.control[USED], (s.choice[N] + s.choice[TILE] - 1) // s.choice[TILE]
    parts = (used + m.control[LENGTH] - 1) // max(m.control[LENGTH], 1)
    idle = 1 if cuda.gridDim.x > 1 else 0
    if cuda.blockIdx.x >= idle:
        for job in range(cuda.blockIdx.x - idle, tiles * parts, cuda.gridDim.x - idle):
            run_job(s, m, job % tiles, job // tiles)


@cuda.jit(device=True)
def add_columns(s, m):
    """First half of a round.

    The first block judges the evaluation that is finished, while the others add the columns of the next to what it begins from;
    if there is none, these sums are forgotten.
    """
    if m.control[PHASE] != RUN:
        return
    place_lists(s, m)
    if cuda.threadIdx.x == 0:
        plan_evaluation(s, m)
    cuda.syncthreads()
    run_jobs(s, m)
    cuda.syncthreads()  # nobody reads the buffers of the last job
    if cuda.blockIdx.x == 0:
        judge(s, m)
    cuda.syncthreads()
