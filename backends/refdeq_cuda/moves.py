"""Kernels that move bits: nothing is rounded. Their arguments and meanings are in :mod:`refdeq_gpu.table`.

Positions are 64-bit, because ``count * n`` may pass 2**31; a sample is found by one division for each element.
"""

from __future__ import annotations

from numba import cuda

from refdeq_cuda.indexing import split

__all__ = ["clear_words", "copy", "fill", "fill_flags", "gather", "move", "scatter", "transpose"]

_TILE, _PADDED = 32, 33


@cuda.jit
def fill(rows, count, n, value, out):
    """``out[b, k] = value``."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        out[rows[entry] * n + k] = value


@cuda.jit
def fill_flags(rows, count, n, value, out):
    """``out[b, k] = value``, of bytes."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        out[rows[entry] * n + k] = value


@cuda.jit
def clear_words(count, out):
    """``out[i] = 0``."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        out[i] = 0


@cuda.jit
def copy(rows, count, n, x, out):
    """``out[b, k] = x[b, k]``."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        at = rows[entry] * n + k
        out[at] = x[at]


@cuda.jit
def gather(rows, count, n, x, x_step, position, out):
    """``out[b, k] = x[b * x_step + position[k]]``."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        b = rows[entry]
        out[b * n + k] = x[b * x_step + position[k]]


@cuda.jit
def scatter(rows, count, n, x, position, out, width):
    """``out[b * width + position[k]] = x[b, k]``."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        b = rows[entry]
        out[b * width + position[k]] = x[b * n + k]


@cuda.jit
def move(rows, count, n, x, x_width, x_at, out, out_width, out_at):
    """``out[b * out_width + out_at + k] = x[b * x_width + x_at + k]``."""
    for i in range(cuda.grid(1), count * n, cuda.gridsize(1)):
        entry, k = split(i, n)
        b = rows[entry]
        out[b * out_width + out_at + k] = x[b * x_width + x_at + k]


@cuda.jit
def transpose(height, width, x, out):
    """``out[j * height + i] = x[i * width + j]`` by tiles; their rows have a spare column, so that no bank is asked twice."""
    tile = cuda.shared.array((_TILE, _PADDED), x.dtype)
    lane, first_row = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * _TILE, cuda.blockIdx.y * _TILE
    for i in range(first_row, _TILE, cuda.blockDim.y):
        if top + i < height and left + lane < width:
            tile[i, lane] = x[(top + i) * width + left + lane]
    cuda.syncthreads()
    for i in range(first_row, _TILE, cuda.blockDim.y):
        if left + i < width and top + lane < height:
            out[(left + i) * height + top + lane] = tile[lane, i]
