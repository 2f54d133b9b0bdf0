"""Accumulating a block of samples: which kernel treats which, and in which order the weight is gone through (N-6, D-7, D-11).

Every sample of a block is *quiet* (nothing is done), *listed* (the row kernel goes through its list of columns) or *whole*
(it uses every column, and groups of six or four share the weights). An output adds its columns in ascending order in every
case, so the choice, which :mod:`refdeq_numba.dispatch` makes from counts, changes no bit.
"""

from __future__ import annotations

from refdeq_numba import sums
from refdeq_numba.compilation import uncounted
from refdeq_numba.panels import DEPTH
from refdeq_numba.simd import prefetch

__all__ = ["add_groups", "add_lists", "in_groups"]


@uncounted
def in_groups(count):
    """Split `count` whole samples into groups: (groups of six, groups of four); up to three samples are left over."""
    sixes, rest = count // 6, count % 6
    if rest == 2 and sixes > 0:
        return sixes - 1, 2
    return sixes, 1 if rest >= 4 else 0


@uncounted
def add_groups(rounding, w, w_at, step, k, width, first_panel, last_panel, rows, sixes, fours, ahead, a, a_at, d, d_at):
    """Add every column to the first ``6 * sixes + 4 * fours`` of the samples `rows` (N-6).

    Parameters
    ----------
    w, w_at, step, k, width
        Panels: the first begins at element `w_at` of `w`, the others `step` elements further each; k columns of `width` outputs
        are used of those from `first_panel` to `last_panel`.
    a, d : 1-D arrays
        Sample i has its accumulators, of `first_panel` on, from element ``a_at[i]`` of `a`, its differences from ``d_at[i]``.
    ahead : int
        So many elements further are accumulators that come next; their cache lines are asked for meanwhile. 0 for none.
    """
    for start in range(0, k, DEPTH):
        stop = min(k, start + DEPTH)
        for panel in range(first_panel, last_panel):
            first, shift = w_at + panel * step, (panel - first_panel) * width
            for g in range(sixes):
                r0, r1, r2 = rows[6 * g], rows[6 * g + 1], rows[6 * g + 2]
                r3, r4, r5 = rows[6 * g + 3], rows[6 * g + 4], rows[6 * g + 5]
                low = a_at[r0] + shift, a_at[r1] + shift, a_at[r2] + shift
                at = (*low, a_at[r3] + shift, a_at[r4] + shift, a_at[r5] + shift)
                from_ = (d_at[r0], d_at[r1], d_at[r2], d_at[r3], d_at[r4], d_at[r5])
                if ahead > 0 and start == 0:
                    for r in range(6 * g, 6 * g + 6):
                        prefetch(a, a_at[rows[r]] + shift + ahead)
                sums.group_of_six(rounding, a, at, w, first, start, stop, d, from_)
            for g in range(fours):
                g0 = 6 * sixes + 4 * g
                r0, r1, r2, r3 = rows[g0], rows[g0 + 1], rows[g0 + 2], rows[g0 + 3]
                at_4 = (a_at[r0] + shift, a_at[r1] + shift, a_at[r2] + shift, a_at[r3] + shift)
                from_4 = (d_at[r0], d_at[r1], d_at[r2], d_at[r3])
                sums.group_of_four(rounding, a, at_4, w, first, start, stop, d, from_4)


@uncounted
def add_lists(
    is_simd,
    rounding,
    w,
    w_at,
    step,
    width,
    first_panel,
    last_panel,
    rows,
    count,
    list_of,
    ends,
    columns,
    values,
    stride,
    ahead,
    a,
    a_at,
):
    """Add the listed columns to `count` samples (N-6, D-7): `stride` blocks of columns and up to four panels at a time.

    Parameters
    ----------
    list_of : (S,) int64
        Row of the lists that each sample uses.
    columns, values, ends : (R, L) int32, (R, L) array and (R, blocks + 1) int64
        Per row a list, the differences beside it, and where each block of columns ends in it.
    stride : int
        Blocks of columns per pass: few keep the weights in the first-level cache, many spare the accumulators' traffic.
    """
    index, value, length = columns.reshape(-1), values.reshape(-1), columns.shape[1]
    blocks = ends.shape[1] - 1
    panel = first_panel
    while panel < last_panel:
        left = last_panel - panel
        panels = 4 if left >= 4 else (2 if left >= 2 else 1)
        first, shift = w_at + panel * step, (panel - first_panel) * width
        for block in range(0, blocks, stride):
            last = min(blocks, block + stride)
            for position in range(count):
                i = rows[position]
                r = list_of[i]
                start, stop = r * length + ends[r, block], r * length + ends[r, last]
                if start == stop:
                    continue
                if ahead > 0 and block == 0:
                    for p in range(panels):
                        prefetch(a, a_at[i] + shift + p * width + ahead)
                if is_simd:
                    sums.row(rounding, panels, a, a_at[i] + shift, w, first, step, index, value, start, stop)
                else:
                    sums.row_plain(panels, width, a, a_at[i] + shift, w, first, step, index, value, start, stop)
        panel += panels
