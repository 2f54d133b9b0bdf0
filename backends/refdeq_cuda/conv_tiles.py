"""Convolutions over lists of tiles: pack what is sent, list what reaches each tile, accumulate (N-6, N-7, D-7).

Their arguments and meanings are in :mod:`refdeq_gpu.plans.conv_table`. Nothing is added twice or by two blocks, so that no
result depends on the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import config, cuda, int64

from refdeq_cuda.arithmetic import fma, plus, times
from refdeq_cuda.conv_parts import (
    COLUMNS,
    EVERY_LANE,
    ROWS,
    SITES,
    WORD,
    Conv,
    all_words,
    job_column,
    job_row,
    rank_in_block,
    reaches,
    signed,
    tiles,
    tiles_across,
    words_of_group,
)

__all__ = ["conv_tiles", "conv_tiles_fma", "tile_jobs", "tile_list", "tile_pack", "tile_weight"]

HALF, PADDED = WORD // 2, WORD + 1
OUTPUTS, CHUNK, PARTS = 64, 16, 2  # outputs of a block; channels staged at a time, and how often that is in a word
ROW = CHUNK + 1  # a site's row in shared memory: neighbours lie in different banks
OWN_SITES, OWN_OUTPUTS, OWN = 4, 8, 32  # of a thread
NEVER = -(1 << 30)  # a column that no tap brings into the image
PACKERS, LISTERS, WARPS, THREADS = 256, 128, 4, 256
STAGED, STAGED_WEIGHTS = SITES * ROW, CHUNK * OUTPUTS


def bounded(threads: int) -> Callable[[Any], Any]:
    """A kernel for blocks of at most so many threads; the simulator of Numba knows no bounds."""
    is_simulated: bool = getattr(config, "ENABLE_CUDASIM", False)
    found: Callable[[Any], Any] = cuda.jit if is_simulated else cuda.jit(launch_bounds=threads)
    return found


@cuda.jit(device=True)
def _read_half(has_mask, d, mask, at, sites, first, inputs, is_there, row):
    """Half of a word at one site into a row of shared memory, +0 where nothing is sent (D-3, D-7); bits of what is."""
    bits = int64(0)
    for k in range(first, first + HALF):
        row[k % WORD] = 0
        if is_there and k < inputs and (has_mask == 0 or mask[at + k * sites] != 0):
            bits |= 1 << (k % WORD)
            row[k % WORD] = d[at + k * sites]
    return bits


@cuda.jit(device=True)
def _strips_of(ballot):
    """Bits of the eight strips of four sites that a ballot of 32 sites holds."""
    strips = int64(0)
    for s in range(8):
        if (ballot >> (4 * s)) & 15:
            strips |= 1 << s
    return strips


@cuda.jit(device=True)
def _pack(v, rows, count, has_mask, d, mask, delta, sent, tile_words):
    turned = cuda.shared.array((SITES, PADDED), d.dtype)
    halves = cuda.shared.array((2, SITES), int64)
    strips = cuda.shared.array(4, int64)
    thread, words, across = cuda.threadIdx.x, all_words(v), tiles_across(v.width)
    site, half, inputs, sites = thread % SITES, thread // SITES, v.channels // v.group, v.height * v.width
    for item in range(cuda.blockIdx.x, count * tiles(v.height, v.width) * words, cuda.gridDim.x):
        word, tile = item % words, item // words % tiles(v.height, v.width)
        entry = item // words // tiles(v.height, v.width)
        top, left = tile // across * ROWS, tile % across * COLUMNS
        y, x = top + site // COLUMNS, left + site % COLUMNS
        is_there = y < v.height and x < v.width
        channel = int64(rows[entry]) * v.channels + word // words_of_group(v) * inputs
        first, at = word % words_of_group(v) * WORD + half * HALF, channel * sites + y * v.width + x
        halves[half, site] = _read_half(has_mask, d, mask, at, sites, first, inputs, is_there, turned[site])
        cuda.syncthreads()
        own = halves[0, site] | halves[1, site]
        ballot = cuda.ballot_sync(EVERY_LANE, own != 0)
        if half == 0:
            if is_there:
                sent[(entry * sites + y * v.width + x) * words + word] = signed(own)
            if thread % 32 == 0:
                strips[thread // 32] = _strips_of(ballot)
        for s in range(thread // 32, SITES, PACKERS // 32):
            if halves[0, s] | halves[1, s]:
                to_site = (top + s // COLUMNS) * v.width + left + s % COLUMNS
                delta[((entry * sites + to_site) * words + word) * WORD + thread % 32] = turned[s, thread % 32]
        cuda.syncthreads()
        if thread == 0:
            tile_words[item] = signed(strips[0] | strips[1] << 8 | strips[2] << 16 | strips[3] << 24)


@bounded(PACKERS)
def tile_pack(
    rows, count, channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w,
    dilation_h, dilation_w, group, has_mask, d, mask, delta, sent, tile_words,
):  # fmt: skip
    """Channels last where a site sends; one bit per channel and site, one bit per strip of four sites."""
    v = Conv(
        channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w,
        dilation_h, dilation_w, group,
    )  # fmt: skip
    _pack(v, rows, count, has_mask, d, mask, delta, sent, tile_words)


@bounded(LISTERS)
def tile_list(
    count, channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w,
    dilation_h, dilation_w, group, everything, tile_words, list, length,
):  # fmt: skip
    """The ascending codes of what may reach the tile of each job."""
    v = Conv(
        channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w,
        dilation_h, dilation_w, group,
    )  # fmt: skip
    totals = cuda.shared.array(WARPS, int64)
    words = words_of_group(v)
    codes = kernel_h * kernel_w * words
    for job in range(cuda.blockIdx.x, count * tiles(out_height, out_width) * group, cuda.gridDim.x):
        found, y, x = int64(0), job_row(v, job, 0), job_column(v, job, 0)
        entry = job // group // tiles(out_height, out_width)
        first_word = entry * tiles(height, width) * all_words(v) + job % group * words
        for start in range(0, codes, LISTERS):
            code = start + cuda.threadIdx.x
            is_listed = code < codes
            if is_listed and everything == 0:
                is_listed = reaches(v, y, x, code // words, first_word + code % words, tile_words)
            rank, every = rank_in_block(is_listed, totals)
            if is_listed:
                list[job * codes + found + rank] = code
            found += every
        if cuda.threadIdx.x == 0:
            length[job] = found


@bounded(LISTERS)
def tile_jobs(jobs, length, job, number):
    """The ascending numbers of the jobs whose lists are not empty; one block."""
    totals = cuda.shared.array(WARPS, int64)
    codes = cuda.shared.array(LISTERS, int64)
    thread, found, own = cuda.threadIdx.x, int64(0), int64(0)
    for start in range(0, jobs, LISTERS):
        candidate = start + thread
        many = length[candidate] if candidate < jobs else 0
        rank, every = rank_in_block(many > 0, totals)
        if many > 0:
            job[found + rank] = candidate
        found += every
        own += many
    codes[thread] = own
    cuda.syncthreads()
    if thread == 0:
        for other in range(1, LISTERS):
            own += codes[other]
        number[0] = found
        number[1] = own


@cuda.jit
def tile_weight(outputs, inputs, taps, group, padded_inputs, padded_outputs, weight, packed):
    """(outputs, channels of a group, taps) as (group, tap, channel, output), filled up with zeros."""
    each = outputs // group
    for i in range(cuda.grid(1), int64(group) * taps * padded_inputs * padded_outputs, cuda.gridsize(1)):
        output, row = i % padded_outputs, i // padded_outputs
        channel, tap, g = row % padded_inputs, row // padded_inputs % taps, row // padded_inputs // taps
        packed[i] = 0
        if output < each and channel < inputs:
            packed[i] = weight[((g * each + output) * inputs + channel) * taps + tap]


@cuda.jit(device=True)
def _stage(v, y, x, code, part, first, first_weight, padded, delta, sent, weight, staged, rows, bits):
    """Stage one part of a listed word: what sites send of it, and its weights.

    A thread has one channel of a site in every row of the tile, whose first reads (y, x) under no tap; x is far outside where
    there is no such column. `first` and `first_weight` are where words of the sample and weights of the group begin.
    """
    words, thread = words_of_group(v), cuda.threadIdx.x
    tap, word, channel = code // words, code % words, thread % CHUNK
    shift_y, from_x = tap // v.kernel_w * v.dilation_h, x + tap % v.kernel_w * v.dilation_w
    is_column, below, many = from_x >= 0 and from_x < v.width, v.out_height * v.stride_h - v.pad_h, all_words(v)
    for row in range(ROWS):
        site, to_y = row * COLUMNS + thread // CHUNK, y + row * v.stride_h
        from_y, own = to_y + shift_y, int64(0)
        if is_column and to_y < below and from_y >= 0 and from_y < v.height:
            place = first + (int64(from_y) * v.width + from_x) * many + word
            own = (int64(sent[place]) >> (part * CHUNK)) & 0xFFFF
            if (own >> channel) & 1:
                staged[site * ROW + channel] = delta[place * WORD + part * CHUNK + channel]
        if channel == 0:
            bits[site] = own
    begin = first_weight + (int64(code) * WORD + part * CHUNK) * padded
    for k in range(thread, CHUNK * OUTPUTS, THREADS):
        rows[k] = weight[begin + k // OUTPUTS * padded + k % OUTPUTS]


@cuda.jit(device=True)
def _add(is_fused, first_site, first_output, staged, rows, bits, own):
    """Add the staged channels, ascending; what a site does not send is not added to it."""
    for c in range(CHUNK):
        for i in range(OWN_SITES):
            site = first_site + 8 * i
            if (bits[site] >> c) & 1:
                value = staged[site * ROW + c]
                for j in range(OWN_OUTPUTS):
                    w, a = rows[c * OUTPUTS + first_output + j], own[i * OWN_OUTPUTS + j]
                    own[i * OWN_OUTPUTS + j] = fma(w, value, a) if is_fused else plus(a, times(w, value))


@cuda.jit(device=True)
def _place(v, job, sample, site, output):
    """Position of the accumulator of a site for an output of its group, channels first; -1 where there is no such site."""
    y, x = job_row(v, job, site), job_column(v, job, site)
    if y >= v.out_height or x >= v.out_width:
        return int64(-1)
    return ((int64(sample) * v.outputs + job % v.group * (v.outputs // v.group) + output) * v.out_height + y) * v.out_width + x


@cuda.jit(device=True)
def _accumulate(is_fused, v, rows, delta, sent, weight, list, length, job, number, a):
    staged = cuda.shared.array(STAGED, a.dtype)
    staged_weight = cuda.shared.array(STAGED_WEIGHTS, a.dtype)
    bits = cuda.shared.array(SITES, int64)
    own = cuda.local.array(OWN, a.dtype)
    thread = cuda.threadIdx.x
    first_site, own_output = thread // 32 % 4 * 32 + thread % 8, (thread // 128 * 4 + thread % 32 // 8) * OWN_OUTPUTS
    each, codes = v.outputs // v.group, v.kernel_h * v.kernel_w * words_of_group(v)
    padded = (each + OUTPUTS - 1) // OUTPUTS * OUTPUTS
    blocks, plane = (each + OUTPUTS - 1) // OUTPUTS, v.out_height * v.out_width
    for item in range(cuda.blockIdx.x, number[0] * blocks, cuda.gridDim.x):
        which, block = job[item // blocks], item % blocks
        sample, first_output = rows[which // v.group // tiles(v.out_height, v.out_width)], block * OUTPUTS + own_output
        for i in range(OWN_SITES):
            at = _place(v, which, sample, first_site + 8 * i, first_output)
            for j in range(OWN_OUTPUTS):
                is_there = at >= 0 and first_output + j < each
                own[i * OWN_OUTPUTS + j] = a[at + j * plane] if is_there else a.dtype.type(0)
        column = job_column(v, which, thread // CHUNK)
        y, x = job_row(v, which, 0) * v.stride_h - v.pad_h, column * v.stride_w - v.pad_w if column < v.out_width else NEVER
        entry, group, words = which // v.group // tiles(v.out_height, v.out_width), which % v.group, words_of_group(v)
        first = int64(entry) * (v.height * v.width) * all_words(v) + group * words
        first_weight = int64(group) * codes * WORD * padded + block * OUTPUTS
        for step in range(length[which] * PARTS):
            code = list[int64(which) * codes + step // PARTS]
            cuda.syncthreads()  # nobody reads the step before any more
            _stage(
                v, y, x, code, step % PARTS, first, first_weight, padded, delta, sent, weight, staged, staged_weight, bits
            )  # fmt: skip
            cuda.syncthreads()
            if first_output < each:
                _add(is_fused, first_site, own_output, staged, staged_weight, bits, own)
        for i in range(OWN_SITES):
            at = _place(v, which, sample, first_site + 8 * i, first_output)
            for j in range(OWN_OUTPUTS):
                if at >= 0 and first_output + j < each:
                    a[at + j * plane] = own[i * OWN_OUTPUTS + j]


@bounded(THREADS)
def conv_tiles(
    rows, count, channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w,
    dilation_h, dilation_w, group, delta, sent, weight, list, length, job, number, a,
):  # fmt: skip
    """``a = fl(a + fl(w d))`` over listed codes and channels, ascending, sent elements only (N-6)."""
    v = Conv(
        channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w,
        dilation_h, dilation_w, group,
    )  # fmt: skip
    _accumulate(False, v, rows, delta, sent, weight, list, length, job, number, a)


@bounded(THREADS)
def conv_tiles_fma(
    rows, count, channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w,
    dilation_h, dilation_w, group, delta, sent, weight, list, length, job, number, a,
):  # fmt: skip
    """``a = fma(w, d, a)`` over the same (N-7)."""
    v = Conv(
        channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w,
        dilation_h, dilation_w, group,
    )  # fmt: skip
    _accumulate(True, v, rows, delta, sent, weight, list, length, job, number, a)
