"""Delta Conv over panels, for images with channels first (N-6, N-7, D-7).

What an input site sends is listed per site. Then a block of output sites collects tap after tap: for one tap every output site
reads the list of one input site, so that a tap is a delta Gemm whose samples are sites, and no image of columns is formed. An
output adds its taps in ascending order, and within a tap its channels (N-6). Accumulators are turned to channels last for the
time of a block; blocks that receive nothing are left alone.
"""

from __future__ import annotations

import numpy as np

from refdeq_numba.accumulate import add_groups, add_lists, in_groups
from refdeq_numba.compilation import compiled, uncounted
from refdeq_numba.conv_data import SITES
from refdeq_numba.dispatch import blocks_per_pass, is_worth_filling
from refdeq_numba.lists import BLOCK, has_negative_zero, list_all
from refdeq_numba.simd import bits_of, count_trailing_zeros

__all__ = ["BAND", "conv_blocks", "conv_samples", "list_bands"]

BAND = 512
"""Input sites per share of work when one sample is cut among threads; a multiple of 64."""

_TILE = 16


@uncounted
def _list_word(word, first, c, column, group, g, d, d_at, lists):
    """Append channel `c` (number `column` of its group) to the lists of the sites whose bit is set."""
    while word != 0:
        site = first + count_trailing_zeros(word)
        row = site * group + g
        count = lists.sent[row]
        lists.columns[row, count], lists.values[row, count] = column, d[d_at + site]
        lists.sent[row] = count + 1
        word &= word - np.uint64(1)


@uncounted
def _list_band(first, last, d, mask, sample_at, geometry, lists):
    """List what the sites [first, last) of one sample send, channel after channel."""
    inputs, group, sites = geometry.inputs, geometry.group, geometry.height * geometry.width
    for row in range(first * group, last * group):
        lists.sent[row] = 0
    for c in range(inputs * group):
        g, column, channel_at = c // inputs, c % inputs, sample_at + c * sites
        whole = first + (last - first) // BLOCK * BLOCK
        for start in range(first, whole, BLOCK):
            _list_word(bits_of(mask, channel_at + start), start, c, column, group, g, d, channel_at, lists)
        word = np.uint64(0)
        for site in range(whole, last):
            word |= np.uint64(mask[channel_at + site]) << np.uint64(site - whole)
        _list_word(word, whole, c, column, group, g, d, channel_at, lists)
        if (column + 1) % BLOCK == 0 or column + 1 == inputs:
            block = column // BLOCK
            for site in range(first, last):
                lists.ends[site * group + g, block + 1] = lists.sent[site * group + g]


@uncounted
def _fill_band(first, last, geometry, crossovers, is_finite, lists):
    """Write out the differences of the rows that send nearly everything, zeros where nothing is sent."""
    inputs = geometry.inputs
    for row in range(first * geometry.group, last * geometry.group):
        sent = lists.sent[row]
        if not (is_finite and is_worth_filling(crossovers, sent, inputs)):
            continue
        for c in range(inputs):
            lists.dense[row, c] = 0
        for position in range(sent):
            lists.dense[row, lists.columns[row, position]] = lists.values[row, position]


@uncounted
def _turn_band(first, last, d, sample_at, geometry, lists):
    """Dense: the differences of the sites [first, last) with channels last; every row sends everything."""
    inputs, group, sites = geometry.inputs, geometry.group, geometry.height * geometry.width
    channels, dense = inputs * group, lists.dense.reshape(-1)
    for start in range(first, last, _TILE):
        stop = min(last, start + _TILE)
        for c0 in range(0, channels, _TILE):
            for c in range(c0, min(channels, c0 + _TILE)):
                for site in range(start, stop):
                    dense[site * channels + c] = d[sample_at + c * sites + site]
    for row in range(first * group, last * group):
        lists.sent[row] = inputs


@uncounted
def _prepare_band(first, last, d, mask, everything, sample_at, geometry, crossovers, is_finite, lists):
    if everything:
        _turn_band(first, last, d, sample_at, geometry, lists)
    else:
        _list_band(first, last, d, mask, sample_at, geometry, lists)
        _fill_band(first, last, geometry, crossovers, is_finite, lists)


@uncounted
def _turn_block(first, count, g, geometry, a, sample_at, s, is_out):
    """Copy the accumulators of a block of output sites to the workspace, channels last, or back."""
    sites, length, outputs = geometry.out_height * geometry.out_width, s.a.shape[1], geometry.outputs
    own = s.a.reshape(-1)
    for start in range(0, count, _TILE):
        stop = min(count, start + _TILE)
        for m0 in range(0, outputs, _TILE):
            for m in range(m0, min(outputs, m0 + _TILE)):
                at = sample_at + (g * outputs + m) * sites + first
                for i in range(start, stop):
                    if is_out:
                        a[at + i] = own[i * length + m]
                    else:
                        own[i * length + m] = a[at + i]


@uncounted
def _sources(first, count, tap_y, tap_x, g, geometry, lists, s):
    """Row of the lists that each output site of a block reads under one tap, -1 for none; return how much they send."""
    e, total = geometry, 0
    y, x = first // e.out_width, first % e.out_width
    for i in range(count):
        in_y = y * e.stride_y - e.pad_y + tap_y * e.dilation_y
        in_x = x * e.stride_x - e.pad_x + tap_x * e.dilation_x
        s.source[i] = -1
        if 0 <= in_y < e.height and 0 <= in_x < e.width:  # padded taps are absent, not zero
            row = (in_y * e.width + in_x) * e.group + g
            if lists.sent[row] > 0:
                s.source[i] = row
                total += lists.sent[row]
        x += 1
        if x == e.out_width:
            x, y = 0, y + 1
    return total


@uncounted
def _receives(first, count, g, geometry, lists, s):
    """Whether anything is sent to a block of output sites."""
    for tap in range(geometry.taps_y * geometry.taps_x):
        if _sources(first, count, tap // geometry.taps_x, tap % geometry.taps_x, g, geometry, lists, s) > 0:
            return True
    return False


@uncounted
def _sort_sites(count, everything, may_fill, geometry, crossovers, lists, s):
    """Sort the sites of a block into whole and listed ones; return (groups of six, of four, listed, columns listed)."""
    inputs, n_whole, n_listed, total = geometry.inputs, 0, 0, 0
    for i in range(count):
        row = s.source[i]
        if row < 0:
            continue
        s.dense_at[i] = row * inputs
        if everything or (may_fill and is_worth_filling(crossovers, lists.sent[row], inputs)):
            s.whole[n_whole] = i
            n_whole += 1
        else:
            s.listed[n_listed] = i
            n_listed += 1
            total += lists.sent[row]
    sixes, fours = in_groups(n_whole)
    for position in range(6 * sixes + 4 * fours, n_whole):
        i = s.whole[position]
        if everything:
            row = s.source[i]
            list_all(inputs, lists.dense.reshape(-1), row * inputs, lists.columns, lists.values, lists.ends, row)
        s.listed[n_listed] = i
        n_listed += 1
        total += lists.sent[s.source[i]]
    return sixes, fours, n_listed, total


@uncounted
def _collect(first, count, g, everything, geometry, panels, crossovers, rounding, lists, s):
    """Add all taps to a block of output sites."""
    taps, inputs, width, end = geometry.taps_y * geometry.taps_x, geometry.inputs, panels.width, panels.count
    may_fill = panels.is_finite and not has_negative_zero(s.bits, s.least, 0, count * s.a.shape[1])
    a, dense, w, step = s.a.reshape(-1), lists.dense.reshape(-1), panels.data, taps * inputs * width
    ends, columns, values = lists.ends, lists.columns, lists.values
    for tap in range(taps):
        if _sources(first, count, tap // geometry.taps_x, tap % geometry.taps_x, g, geometry, lists, s) == 0:
            continue
        sixes, fours, n, total = _sort_sites(count, everything, may_fill, geometry, crossovers, lists, s)
        stride = blocks_per_pass(crossovers, total, inputs * n, ends.shape[1])
        at, whole, rows, a_at, own = (g * end * taps + tap) * inputs * width, s.whole, s.listed, s.a_at, s.source
        add_groups(rounding, w, at, step, inputs, width, 0, end, whole, sixes, fours, 0, a, a_at, dense, s.dense_at)
        add_lists(True, rounding, w, at, step, width, 0, end, rows, n, own, ends, columns, values, stride, 0, a, a_at)


@uncounted
def _treat_block(block, everything, geometry, panels, crossovers, rounding, lists, s, a, sample_at):
    """Accumulate block number `block` of the output sites of one sample, all groups."""
    sites = geometry.out_height * geometry.out_width
    first = block * SITES
    count = min(SITES, sites - first)
    for g in range(geometry.group):
        if _receives(first, count, g, geometry, lists, s):
            _turn_block(first, count, g, geometry, a, sample_at, s, False)
            _collect(first, count, g, everything, geometry, panels, crossovers, rounding, lists, s)
            _turn_block(first, count, g, geometry, a, sample_at, s, True)


@compiled
def list_bands(bands, first, last, sample, d, mask, everything, geometry, crossovers, is_finite, lists):
    """List what bands of ``BAND`` input sites of one sample send (the first of two phases of a Conv on several threads)."""
    sites = geometry.height * geometry.width
    sample_at = sample * sites * geometry.inputs * geometry.group
    start, stop = bands[first] * BAND, min(sites, (bands[last - 1] + 1) * BAND)
    _prepare_band(start, stop, d, mask, everything, sample_at, geometry, crossovers, is_finite, lists)


@compiled
def conv_blocks(blocks, first, last, sample, everything, geometry, panels, crossovers, rounding, lists, s, a):
    """Accumulate blocks of output sites of one sample whose lists are complete (the second phase)."""
    sample_at = sample * geometry.out_height * geometry.out_width * geometry.outputs * geometry.group
    for position in range(first, last):
        _treat_block(blocks[position], everything, geometry, panels, crossovers, rounding, lists, s, a, sample_at)


@compiled
def conv_samples(rows, first, last, d, mask, everything, geometry, panels, crossovers, rounding, lists, s, a):
    """Add ``Conv(d, weight)`` over the sent elements to `a` (N-6, N-7, D-7), sample by sample.

    Parameters
    ----------
    rows : (R,) int64
        Active samples; those from `first` to `last` are treated.
    d, mask, a : flat arrays of (B, C, H, W), (B, C, H, W) bool and (B, M, H', W')
        `mask` is not read when `everything` is True.
    geometry, panels, lists, s
        See :mod:`refdeq_numba.conv_data`.
    """
    sites, out_sites = geometry.height * geometry.width, geometry.out_height * geometry.out_width
    for position in range(first, last):
        d_at = rows[position] * sites * geometry.inputs * geometry.group
        a_at = rows[position] * out_sites * geometry.outputs * geometry.group
        _prepare_band(0, sites, d, mask, everything, d_at, geometry, crossovers, panels.is_finite, lists)
        for block in range((out_sites + SITES - 1) // SITES):
            _treat_block(block, everything, geometry, panels, crossovers, rounding, lists, s, a, a_at)
