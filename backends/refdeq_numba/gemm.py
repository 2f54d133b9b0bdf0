"""Delta Gemm of many samples over panels, and of a few over whole columns (N-6, N-7, D-7)."""

from __future__ import annotations

import numpy as np

from refdeq_numba.accumulate import add_groups, add_lists, in_groups
from refdeq_numba.column_sums import add_columns_of
from refdeq_numba.compilation import compiled, uncounted
from refdeq_numba.compress import SLACK
from refdeq_numba.dispatch import blocks_per_pass, is_worth_filling
from refdeq_numba.lists import BLOCK, count_columns, has_negative_zero, has_tiny, list_all, list_columns
from refdeq_numba.scratch import ROWS

__all__ = ["OUTPUTS", "gemm_columns", "gemm_panels", "room_for"]

OUTPUTS = 512
"""Outputs per share of work when a few samples are cut along their outputs."""


@uncounted
def _sort_block(rounding, rows, first, count, mask, everything, panels, crossovers, d, bits, s):
    """Find out what each sample of a block sends; return how many are whole and listed, and how many columns are listed.

    A sample that sends nearly everything is filled with zeros and treated whole. That changes no bit when the weights are
    finite, so that each term more is a zero of some sign, and no accumulator is -0, to which alone a zero does anything. With
    one rounding an accumulator can become -0 on the way, by underflow: then weights and differences must not be tiny either.
    """
    may_fill = panels.is_finite if rounding is None else panels.is_tame
    k, n, n_whole, n_listed, total = panels.k, panels.n, 0, 0, 0
    for i in range(count):
        b = rows[first + i]
        s.a_at[i], s.d_at[i] = b * n, b * k
        if everything:
            s.whole[n_whole] = i
            n_whole += 1
            continue
        used = count_columns(k, mask.reshape(-1), b * k, s.bits, i)
        if used == 0:
            continue
        is_whole = may_fill and is_worth_filling(crossovers, used, k)
        if is_whole and not has_negative_zero(bits[0], bits[1], b * n, b * n + n):
            for j in range(k):
                s.filled[i, j] = d[b, j] if mask[b, j] else d.dtype.type(0)
            is_whole = rounding is None or not has_tiny(s.filled.reshape(-1), s.filled_at[i], k, panels.least)
        else:
            is_whole = False
        if is_whole:
            s.whole[n_whole] = i
            n_whole += 1
        else:
            total += list_columns(panels.k, s.bits, d.reshape(-1), s.d_at[i], s.columns, s.values, s.ends, i)
            s.listed[n_listed] = i
            n_listed += 1
    return n_whole, n_listed, total


@uncounted
def _list_the_rest(panels, everything, grouped, n_whole, n_listed, d, s):
    """Whole samples that fill no group are listed; return how many are listed then, and how many columns that adds."""
    total = 0
    for position in range(grouped, n_whole):
        i = s.whole[position]
        if everything:
            list_all(panels.k, d.reshape(-1), s.d_at[i], s.columns, s.values, s.ends, i)
            total += panels.k
        else:
            total += list_columns(panels.k, s.bits, d.reshape(-1), s.d_at[i], s.columns, s.values, s.ends, i)
        s.listed[n_listed] = i
        n_listed += 1
    return n_listed, total


@uncounted
def _move_tails(rows, first, count, panels, whole_panels, a, s, is_out):
    """Copy the outputs of the last panel, which is not a whole one, to the workspace, or back."""
    start = whole_panels * panels.width
    for i in range(count):
        b = rows[first + i]
        for j in range(panels.n - start):
            if is_out:
                a[b, start + j] = s.tails[i, j]
            else:
                s.tails[i, j] = a[b, start + j]


@uncounted
def _add_block(rounding, panels, begin, end, split, s, a, a_at, source, source_at):
    """Accumulate the panels from `begin` to `end`: whole samples from `source` in groups, the others by lists."""
    sixes, fours, count, stride = split
    w, k, width, step, ahead = panels.data, panels.k, panels.width, panels.k * panels.width, panels.n * ROWS
    ahead = ahead if begin == 0 else 0
    add_groups(rounding, w, 0, step, k, width, begin, end, s.whole, sixes, fours, ahead, a, a_at, source, source_at)
    rows, own, ends, columns, values = s.listed, s.own, s.ends, s.columns, s.values
    add_lists(True, rounding, w, 0, step, width, begin, end, rows, count, own, ends, columns, values, stride, ahead, a, a_at)


@compiled
def gemm_panels(rows, first, last, d, mask, everything, panels, crossovers, rounding, bits, s, a):
    """Add ``d @ weight`` over the sent columns to `a` (N-6, N-7, D-7), block by block of samples.

    Parameters
    ----------
    rows : (R,) int64
        Active samples; those from `first` to `last` are treated.
    d : (B, K) array
    mask : (B, K) bool
        Not read when `everything` is True.
    everything : bool
        Dense: all columns, zeros included.
    panels : Panels
    crossovers : Crossovers
    rounding : None or ONCE
        See :data:`refdeq_numba.simd.ONCE`.
    bits : (1-D integers, integer)
        The elements of `a` seen as integers of their size, and the one that is -0.
    s : Scratch
    a : (B, N) array, changed in place
    """
    k, whole_panels = panels.k, panels.n // panels.width
    outputs, changes, tails = a.reshape(-1), d.reshape(-1), s.tails.reshape(-1)
    source, source_at = (changes, s.d_at) if everything else (s.filled.reshape(-1), s.filled_at)
    for block in range(first, last, ROWS):
        count = min(ROWS, last - block)
        n_whole, n_listed, total = _sort_block(rounding, rows, block, count, mask, everything, panels, crossovers, d, bits, s)
        if n_whole + n_listed == 0:
            continue
        sixes, fours = in_groups(n_whole)
        n_listed, more = _list_the_rest(panels, everything, 6 * sixes + 4 * fours, n_whole, n_listed, d, s)
        stride = blocks_per_pass(crossovers, total + more, k * n_listed, s.ends.shape[1])
        split = sixes, fours, n_listed, stride
        begin, end, target, target_at = 0, whole_panels, outputs, s.a_at
        for is_tail in (False, True):
            if is_tail and whole_panels < panels.count:
                _move_tails(rows, block, count, panels, whole_panels, a, s, False)
                begin, end, target, target_at = whole_panels, panels.count, tails, s.tails_at
            elif is_tail:
                break
            _add_block(rounding, panels, begin, end, split, s, target, target_at, source, source_at)
        if whole_panels < panels.count:
            _move_tails(rows, block, count, panels, whole_panels, a, s, True)


@compiled
def gemm_columns(shares, first, last, rows, d, mask, everything, weight, lanes, rounding, room, a):
    """The same for a few samples, share by share of the outputs (each of ``OUTPUTS``), over whole columns.

    Parameters
    ----------
    shares : (S,) int64
        Those from `first` to `last` are treated.
    weight : (K, L) array
        Row j is column j of the published ``A``, padded to whole cache lines.
    lanes : int
        Numbers per vector.
    room : (L,) int64
        Room for a list: one array, because handing over each costs as much as a hundred sums. See :func:`room_for`.
    """
    blocks = (d.shape[1] + BLOCK - 1) // BLOCK
    bits, ends, rest = room[:blocks].view(np.uint64), room[blocks : 2 * blocks + 1], room[2 * blocks + 1 :]
    half = len(rest) // 2
    bits, ends = bits.reshape(1, -1), ends.reshape(1, -1)
    columns, values = rest[:half].view(np.int32).reshape(1, -1), rest[half:].view(d.dtype).reshape(1, -1)
    k, n, stride = d.shape[1], a.shape[1], weight.shape[1]
    begin, end = shares[first] * OUTPUTS, min(n, (shares[last - 1] + 1) * OUTPUTS)
    changes, decisions, index, value = d.reshape(-1), mask.reshape(-1), columns.reshape(-1), values.reshape(-1)
    for r in range(len(rows)):
        b = rows[r]
        if everything:
            list_all(k, changes, b * k, columns, values, ends, 0)
            count = k
        else:
            count_columns(k, decisions, b * k, bits, 0)
            count = list_columns(k, bits, changes, b * k, columns, values, ends, 0)
        add_columns_of(rounding, lanes, a.reshape(-1), b * n, weight.reshape(-1), stride, begin, end, index, value, count)


def room_for(k: int) -> np.ndarray:
    """Room for the list of one sample of `k` columns (see :func:`gemm_columns`).

    >>> len(room_for(64))
    147
    """
    blocks = -(-k // BLOCK)
    return np.zeros(2 * blocks + 1 + 2 * (k + SLACK), dtype=np.int64)
