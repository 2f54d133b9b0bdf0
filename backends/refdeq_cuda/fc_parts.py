"""What the device functions of a fully connected solve share: arguments as records, positions in them."""

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
    "work_at",
]

N = fc_layout.CHOICES.index("N")
WORK_AT = fc_layout.CHOICES.index("WORK_AT")
VALUE, ARGUMENT, FOLLOWING, FACTOR, KEPT, LISTED, PARTIAL = range(fc_layout.WORK_ROWS + 1)


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
