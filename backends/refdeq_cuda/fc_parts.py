"""What the device functions of a fully connected solve share: arguments as records, positions, the barrier of the grid."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import cuda

from refdeq_gpu.plans import fc_layout

__all__ = [
    "ARGUMENT",
    "FACTOR",
    "FOLLOWING",
    "KEPT",
    "LISTED",
    "PARTIAL",
    "VALUE",
    "Block",
    "Solve",
    "first_of",
    "grid_barrier",
    "work_at",
]

N = fc_layout.CHOICES.index("N")
WORK_AT = fc_layout.CHOICES.index("WORK_AT")
VALUE, ARGUMENT, FOLLOWING, FACTOR, KEPT, LISTED, PARTIAL = range(fc_layout.WORK_ROWS + 1)
GENERATION = 32  # word of the barrier, 128 bytes after the count of those that have arrived


class Solve(NamedTuple):
    """Arguments of the kernels but `control`, as :mod:`refdeq_gpu.plans.fc_layout` has them."""

    choice: Any
    limit: Any
    weight: Any
    fixed: Any
    state: Any
    flags: Any
    words: Any
    numbers: Any
    counts: Any
    trace: Any


class Block(NamedTuple):
    """Shared memory of a block.

    ``pool`` has two buffers of factors, or two of f and its argument; ``column`` two buffers; ``offset`` the entries of all
    lists before that of each block; ``lane`` those of the residual and of the scale; ``word`` how many differences are not
    zero, and whether a sample is finished.
    """

    pool: Any
    column: Any
    offset: Any
    warp_count: Any
    lane: Any
    control: Any
    measure: Any
    word: Any


@cuda.jit(device=True)
def work_at(s, row):
    """First element of a row of the workspace.

    They are f, its argument, the next argument, factors of all columns, those where nothing is sent, those of listed columns
    beside their indices, and the partial sums.
    """
    return s.choice[WORK_AT] + row * s.choice[N]


@cuda.jit(device=True)
def first_of(s, block):
    """First element of a block, which owns all up to the first of the next."""
    return s.choice[N] * block // cuda.gridDim.x


@cuda.jit(device=True)
def grid_barrier(words):
    """Wait for all blocks of a cooperative launch: one atomic per block, and a word that says which generation it is.

    A block reads the generation before it arrives, so that it cannot miss the release; the last to arrive clears the count
    before it releases the others. The fences order what each block wrote before against what others read after.
    """
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        before = cuda.atomic.add(words, GENERATION, 0)
        cuda.threadfence()
        if cuda.atomic.add(words, 0, 1) == cuda.gridDim.x - 1:
            cuda.atomic.exch(words, 0, 0)
            cuda.threadfence()
            cuda.atomic.add(words, GENERATION, 1)
        else:
            while cuda.atomic.add(words, GENERATION, 0) == before:  # a plain load could be moved out of the loop
                cuda.nanosleep(32)
        cuda.threadfence()
    cuda.syncthreads()
