"""Lists of the rows that go on, ascending, and rows gathered by such a list (K2b); integers and copies, but one sum."""

from __future__ import annotations

from numba import cuda, int32

from refdeq_cuda.arithmetic import plus

__all__ = ["row_add", "row_count", "row_scan", "row_spread", "row_write"]

_TILE = 256  # threads of a block, and flags that it lists
_WARPS = _TILE // 32
_FULL = 0xFFFFFFFF


@cuda.jit
def row_count(flags, batch, counts):
    """Set flags among the 256 of each block."""
    row = cuda.blockIdx.x * _TILE + cuda.threadIdx.x
    count = cuda.syncthreads_count(int32(1 if row < batch and flags[row] != 0 else 0))
    if cuda.threadIdx.x == 0:
        counts[cuda.blockIdx.x] = count


@cuda.jit
def row_scan(blocks, counts, total):
    """Counts become sums of those before; one block."""
    part = cuda.shared.array(_TILE, int32)
    thread = cuda.threadIdx.x
    carry = 0
    for first in range(0, blocks, _TILE):
        at = first + thread
        own = counts[at] if at < blocks else 0
        part[thread] = own
        cuda.syncthreads()
        step = 1
        while step < _TILE:
            other = part[thread - step] if thread >= step else 0
            cuda.syncthreads()
            part[thread] += other
            cuda.syncthreads()
            step *= 2
        if at < blocks:
            counts[at] = carry + part[thread] - own
        carry += part[_TILE - 1]
        cuda.syncthreads()
    if thread == 0:
        total[0] = carry


@cuda.jit
def row_write(flags, batch, counts, rows):
    """Ascending indices of set flags; `counts` as row_scan leaves it."""
    of_warps = cuda.shared.array(_WARPS, int32)
    lane, warp = cuda.threadIdx.x % 32, cuda.threadIdx.x // 32
    row = cuda.blockIdx.x * _TILE + cuda.threadIdx.x
    is_set = row < batch and flags[row] != 0
    votes = cuda.ballot_sync(_FULL, is_set)
    if lane == 0:
        of_warps[warp] = cuda.popc(votes)
    cuda.syncthreads()
    place = counts[cuda.blockIdx.x]
    for other in range(warp):
        place += of_warps[other]
    if is_set:
        rows[place + cuda.popc(votes & ((1 << lane) - 1))] = row


@cuda.jit
def row_spread(rows, count, n, live, index, values, ends, out):
    """What row rows[i] sends, with zeros elsewhere; a block per entry of the list."""
    blocks = (n + 127) // 128
    for i in range(cuda.blockIdx.x, count, cuda.gridDim.x):
        row = rows[i]
        length = ends[row * (blocks + 1) + blocks] if live[row] != 0 else 0
        for j in range(cuda.threadIdx.x, n, cuda.blockDim.x):
            out[i * n + j] = 0
        cuda.syncthreads()
        for t in range(cuda.threadIdx.x, length, cuda.blockDim.x):
            out[i * n + index[row * n + t]] = values[row * n + t]
        cuda.syncthreads()


@cuda.jit
def row_add(rows, count, n, live, sums, a):
    """One sum per output, for rows that go on."""
    for i in range(cuda.blockIdx.x, count, cuda.gridDim.x):
        row = rows[i]
        if live[row] != 0:
            for j in range(cuda.threadIdx.x, n, cuda.blockDim.x):
                a[row * n + j] = plus(a[row * n + j], sums[i * n + j])
