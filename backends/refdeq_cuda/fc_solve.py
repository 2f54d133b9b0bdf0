"""A whole solve of one fully connected cell, sample by sample: in one cooperative launch, or by two kernels in turn.

A round has two halves. In the first (:mod:`~refdeq_cuda.fc_sums`) one block judges the evaluation that is finished, while the
others add the columns of the next; in the second (:mod:`~refdeq_cuda.fc_step`) all of them read the verdict, finish that
evaluation, step and gate. Between them every block must have written what the others read: a barrier of the grid, or the end of
a kernel. Every block keeps the same account of where the solve is, and nothing is decided on the host.
"""

from __future__ import annotations

import numpy as np
from numba import cuda
from refdeq_gpu.plans import fc_layout

from refdeq_cuda.fc_barrier import grid_barrier
from refdeq_cuda.fc_parts import Block, Solve
from refdeq_cuda.fc_step import step
from refdeq_cuda.fc_sums import add_columns

__all__ = ["fc_add", "fc_solve", "fc_step"]

MEASURE_AT = fc_layout.CHOICES.index("MEASURE_AT")
PHASE, DONE = fc_layout.CONTROLS.index("PHASE"), fc_layout.PHASES.index("DONE")
POOL, COLUMNS, OFFSETS = 4 * fc_layout.CHUNK, 2 * fc_layout.CHUNK, fc_layout.LARGEST_GRID + 1
CONTROLS, MEASURES = len(fc_layout.CONTROLS), len(fc_layout.MEASURES)
CHOICES, LIMITS = len(fc_layout.CHOICES), len(fc_layout.LIMITS)


@cuda.jit(device=True)
def shared_memory(s):
    """Shared memory of a block."""
    return Block(
        cuda.shared.array(POOL, s.state.dtype),
        cuda.shared.array(COLUMNS, np.int32),
        cuda.shared.array(OFFSETS, np.int32),
        cuda.shared.array(32, np.int32),
        cuda.shared.array(64, np.float64),
        cuda.shared.array(CONTROLS, np.int64),
        cuda.shared.array(MEASURES, np.float64),
        cuda.shared.array(2, np.int32),
    )


@cuda.jit(device=True)
def solve_of(choice, limit, weight, fixed, state, flags, words, numbers, counts, trace):
    """Arguments of a kernel as one record, the choices in shared memory, where a barrier of the grid leaves them."""
    choices, limits = cuda.shared.array(CHOICES, np.int64), cuda.shared.array(LIMITS, np.float64)
    if cuda.threadIdx.x < CHOICES:
        choices[cuda.threadIdx.x] = choice[cuda.threadIdx.x]
    if cuda.threadIdx.x < LIMITS:
        limits[cuda.threadIdx.x] = limit[cuda.threadIdx.x]
    cuda.syncthreads()
    return Solve(choices, limits, weight, fixed, state, flags, words, numbers, counts, trace)


@cuda.jit(device=True)
def read_account(s, control, slot, m):
    """Account from a slot of global memory, which the launch before has written."""
    thread = cuda.threadIdx.x
    if thread < CONTROLS:
        m.control[thread] = control[slot * CONTROLS + thread]
    if thread < MEASURES:
        m.measure[thread] = s.numbers[s.choice[MEASURE_AT] + slot * MEASURES + thread]
    cuda.syncthreads()


@cuda.jit(device=True)
def write_account(s, control, slot, m):
    """Into the other slot, so that no block of this launch reads it."""
    thread = cuda.threadIdx.x
    cuda.syncthreads()
    if cuda.blockIdx.x == 0 and thread < CONTROLS:
        control[slot * CONTROLS + thread] = m.control[thread]
    if cuda.blockIdx.x == 0 and thread < MEASURES:
        s.numbers[s.choice[MEASURE_AT] + slot * MEASURES + thread] = m.measure[thread]


@cuda.jit
def fc_solve(choice, limit, weight, fixed, state, flags, words, numbers, counts, trace, control):
    """Any grid up to LARGEST_GRID whose blocks are on the device together, 64 threads or more in whole warps."""
    s = solve_of(choice, limit, weight, fixed, state, flags, words, numbers, counts, trace)
    m = shared_memory(s)
    read_account(s, control, 0, m)
    step(s, m)
    while m.control[PHASE] != DONE:
        grid_barrier(words)
        add_columns(s, m)
        grid_barrier(words)
        step(s, m)


@cuda.jit
def fc_step(choice, limit, weight, fixed, state, flags, words, numbers, counts, trace, control):
    """Second half of a round."""
    s = solve_of(choice, limit, weight, fixed, state, flags, words, numbers, counts, trace)
    m = shared_memory(s)
    read_account(s, control, 0, m)
    step(s, m)
    write_account(s, control, 1, m)


@cuda.jit
def fc_add(choice, limit, weight, fixed, state, flags, words, numbers, counts, trace, control):
    """First half of a round."""
    s = solve_of(choice, limit, weight, fixed, state, flags, words, numbers, counts, trace)
    m = shared_memory(s)
    read_account(s, control, 1, m)
    add_columns(s, m)
    write_account(s, control, 0, m)
