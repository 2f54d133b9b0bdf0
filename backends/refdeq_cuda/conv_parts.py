"""What the kernels of convolutions over lists of tiles share: sizes, where a tap reads, what reaches a tile of outputs.

Words of bits are 32-bit integers with a sign; bit 31 is read by an arithmetic shift, and masks are formed in 64 bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import cuda, int64

__all__ = [
    "COLUMNS",
    "EVERY_LANE",
    "ROWS",
    "SITES",
    "WORD",
    "Conv",
    "all_words",
    "job_column",
    "job_row",
    "rank_in_block",
    "reaches",
    "signed",
    "tiles",
    "tiles_across",
    "words_of_group",
]

ROWS, COLUMNS, SITES, WORD = 8, 16, 128, 32
EVERY_LANE = 0xFFFFFFFF


class Conv(NamedTuple):
    """Sizes of a convolution, in the order of the table."""

    channels: Any
    height: Any
    width: Any
    outputs: Any
    out_height: Any
    out_width: Any
    kernel_h: Any
    kernel_w: Any
    stride_h: Any
    stride_w: Any
    pad_h: Any
    pad_w: Any
    dilation_h: Any
    dilation_w: Any
    group: Any


@cuda.jit(device=True)
def words_of_group(v):
    """Words of channels of one group."""
    return (v.channels // v.group + WORD - 1) // WORD


@cuda.jit(device=True)
def all_words(v):
    """Words of channels of a site."""
    return words_of_group(v) * v.group


@cuda.jit(device=True)
def tiles_across(width):
    """Tiles side by side."""
    return (width + COLUMNS - 1) // COLUMNS


@cuda.jit(device=True)
def tiles(height, width):
    """Tiles of an image."""
    return (height + ROWS - 1) // ROWS * tiles_across(width)


@cuda.jit(device=True)
def job_row(v, job, site):
    """Output row of a site of the tile of a job; jobs are numbered by entry, then tile, then group."""
    tile = job // v.group % tiles(v.out_height, v.out_width)
    return tile // tiles_across(v.out_width) * ROWS + site // COLUMNS


@cuda.jit(device=True)
def job_column(v, job, site):
    """Output column of a site of the tile of a job."""
    tile = job // v.group % tiles(v.out_height, v.out_width)
    return tile % tiles_across(v.out_width) * COLUMNS + site % COLUMNS


@cuda.jit(device=True)
def signed(word):
    """A word of 32 bits as the number with a sign that has these bits."""
    return (word ^ 0x80000000) - 0x80000000


@cuda.jit(device=True)
def _reach(first, last, length, out_length, stride, shift):
    """First and last input coordinate that outputs read under a tap, padding left out; empty where first > last."""
    last = min(last, out_length - 1)
    lacking = -(first * stride + shift)
    if lacking > 0:
        first += (lacking + stride - 1) // stride
    while last >= first and last * stride + shift > length - 1:
        last -= 1
    begin = first * stride + shift
    return begin, last * stride + shift if last >= first else begin - 1


@cuda.jit(device=True)
def _strips_in(top, bottom, left, right):
    """Bits of the strips of one input tile that lie in a rectangle; rows and columns count from the tile's corner."""
    top, left = max(top, 0), max(left, 0)
    bottom, right = min(bottom, ROWS - 1), min(right, COLUMNS - 1)
    strips = ((1 << (right // 4 - left // 4 + 1)) - 1) << (left // 4)
    rows = ((1 << (4 * (bottom - top + 1))) - 1) << (4 * top)
    return strips * 0x11111111 & rows


@cuda.jit(device=True)
def reaches(v, y, x, tap, first_word, tile_words):
    """Whether any site sends a word that the tile of outputs with the corner (y, x) may read under a tap; strips are not split.

    `first_word` is the place of the word in the first tile of the image.
    """
    shift_y = tap // v.kernel_w * v.dilation_h - v.pad_h
    shift_x = tap % v.kernel_w * v.dilation_w - v.pad_w
    top, bottom = _reach(y, y + ROWS - 1, v.height, v.out_height, v.stride_h, shift_y)
    left, right = _reach(x, x + COLUMNS - 1, v.width, v.out_width, v.stride_w, shift_x)
    if top > bottom or left > right:
        return False
    across, words = tiles_across(v.width), all_words(v)
    for i in range(top // ROWS, bottom // ROWS + 1):
        for j in range(left // COLUMNS, right // COLUMNS + 1):
            inside = _strips_in(top - i * ROWS, bottom - i * ROWS, left - j * COLUMNS, right - j * COLUMNS)
            if int64(tile_words[first_word + (i * across + j) * words]) & inside:
                return True
    return False


@cuda.jit(device=True)
def rank_in_block(is_listed, totals):
    """How many threads before this one are listed, and how many are in all; every thread must call."""
    thread = cuda.threadIdx.x
    ballot = cuda.ballot_sync(EVERY_LANE, is_listed)
    if thread % 32 == 0:
        totals[thread // 32] = cuda.popc(ballot)
    cuda.syncthreads()
    before, every = cuda.popc(ballot & ((1 << (thread % 32)) - 1)), 0
    for warp in range(cuda.blockDim.x // 32):
        before += totals[warp] if warp < thread // 32 else 0
        every += totals[warp]
    cuda.syncthreads()  # totals are written again
    return before, every
