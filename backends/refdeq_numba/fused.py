"""The whole solve of ``z' = phi(A (z + p) + q) * m`` in one compiled routine over a range of samples.

Samples are independent (S-1), so a range is cut into blocks of rows whose state fits the second-level cache, and each block is
solved to the end before the next: gate and list every row, accumulate tile by tile of the weights, then finish, measure, decide
and step every row. Which samples share a block changes no bit: strict order holds per output (N-6), and in fast order the sums
have one fixed order too. Nothing is allocated here.

Work that cannot change a bit is left out. A row that sends nothing (an *idle* evaluation) keeps its accumulator, hence its f.
And a Picard row *rests* after an idle evaluation other than its first: its next argument is f, which is the argument it had, so
that every later evaluation sees what this one saw and only counts. (Under "always" the reference has moved to the value
meanwhile; the difference is then zero, which a rule that sent nothing before does not send either.)

A solver with a memory steps in a routine of its own, which is called by address for a whole block
(:mod:`refdeq_numba.fused_anderson`); it replaces ``work.z`` of the live rows.
"""

from __future__ import annotations

import numpy as np

from refdeq_numba import fused_rows as rows_of
from refdeq_numba.accumulate import add_groups, add_lists, in_groups
from refdeq_numba.compilation import compiled, uncounted
from refdeq_numba.dispatch import blocks_per_pass, is_worth_filling
from refdeq_numba.fused_residual import euclidean, largest
from refdeq_numba.lists import count_columns, list_all, list_columns
from refdeq_numba.machine import call_step
from refdeq_numba.simd import ONCE

__all__ = ["solve_samples"]


@uncounted
def _load_block(settings, bias, inputs, results, work, first, rows):
    """State and memory of the samples of a block, from a reset or from before (D-5, D-9)."""
    n, is_reset = settings.n, inputs.evaluations.shape[0] == 0
    for i in range(rows):
        b = first + i
        rows_of.copy_row(n, inputs.z, b, work.z, i)
        for j in range(n):
            work.r[i, j] = 0
            work.a[i, j] = 0
        if settings.is_folded:
            rows_of.add_rows(n, work.a, i, bias, 0, work.a)
        if settings.is_gated and not is_reset:
            rows_of.copy_row(n, inputs.r, b, work.r, i)
            rows_of.copy_row(n, inputs.a, b, work.a, i)
        results.evaluations[b] = 0 if is_reset else inputs.evaluations[b]
        results.n_eval[b] = results.sent[b] = results.nonzero[b] = results.macs[b] = 0
        work.is_live[i], work.is_resting[i], work.is_idle[i] = True, False, False


@uncounted
def _gate_row(settings, inputs, results, work, i, b):
    """Watch and gate one sample (D-1 to D-5, D-10, D-12); return how many columns it uses, and whether for a fresh sum.

    Differences of columns that are not sent stay in ``work.d`` and are never read (D-7): D-3 needs no zeros. The exception are
    *filled* rows, which send so much that all columns are cheaper: they get the zeros and use every column. This changes no
    bit in strict order: the weights are finite (else it is not done), so that each term more is a zero of some sign; and a sum
    that began at +0 (after a reset, else it is not done) is never -0, to which alone a zero can do anything. Whether a row is
    filled depends on that row only.
    """
    n, evaluation = settings.n, results.evaluations[b]
    u, r, d, mask = work.u, work.r, work.d, work.mask
    if inputs.entry.shape[0] > 0:
        rows_of.add_rows(n, work.z, i, inputs.entry, b, u)
    else:
        rows_of.copy_row(n, work.z, i, u, i)
    if not settings.is_gated:
        rows_of.copy_row(n, u, i, d, i)
        return n, True
    if settings.is_dense_start and evaluation == 0:
        rows_of.copy_row(n, u, i, d, i)
        rows_of.copy_row(n, u, i, r, i)
        for j in range(n):
            mask[i, j] = True
        sent, is_fresh, is_filled = n, True, True
    else:
        rows_of.send(n, settings.is_ge, settings.threshold, u, r, d, mask, i)
        if settings.is_by_sample:
            rows_of.share_decision(n, mask, i)
        sent = count_columns(n, mask.reshape(-1), work.at[i], work.bits, i)
        is_filled = settings.may_fill and is_worth_filling(settings.crossovers, sent, n)
        if is_filled:
            rows_of.fill_and_remember(n, settings.is_always, u, mask, d, r, i)
        else:
            list_columns(n, work.bits, d.reshape(-1), work.at[i], work.columns, work.values, work.ends, i)
            if settings.is_always:
                rows_of.copy_row(n, u, i, r, i)
            else:
                rows_of.remember_sent(sent, u, work.columns, r, i)
        is_fresh = settings.refresh > 0 and evaluation > 0 and evaluation % settings.refresh == 0
    results.sent[b] += sent
    is_counted = settings.may_send_zeros or evaluation == 0
    results.nonzero[b] += rows_of.count_nonzero(n, d, mask, i) if is_counted else sent
    if is_fresh and evaluation > 0:
        rows_of.copy_row(n, r, i, d, i)
    results.macs[b] += (n if is_fresh else sent) * n
    return n if is_fresh or is_filled else sent, is_fresh


@uncounted
def _gate_block(settings, inputs, results, work, target, k, first, rows):
    """Gate every live row and sort the rows by what they use; return how many groups of six and four are whole, how many
    rows are listed, and their columns.
    """
    n, n_full, n_listed, total = settings.n, 0, 0, 0
    for i in range(rows):
        if not work.is_live[i]:
            continue
        if work.is_idle[i] and settings.may_rest:
            work.is_resting[i] = True
            work.chosen[2] += 1
            continue
        used, is_fresh = _gate_row(settings, inputs, results, work, i, first + i)
        work.is_fresh[i], work.is_idle[i] = is_fresh, used == 0 and k > 0
        if is_fresh or settings.is_folded:
            for j in range(target.shape[1]):
                target[i, j] = 0
        if used == n and settings.is_simd:
            work.full[n_full] = i
            n_full += 1
        elif used > 0:
            if used == n:
                list_all(n, work.d.reshape(-1), work.at[i], work.columns, work.values, work.ends, i)
            work.listed[n_listed] = i
            n_listed += 1
            total += used
        else:
            work.chosen[2] += 1
    sixes, fours = in_groups(n_full)
    for position in range(6 * sixes + 4 * fours, n_full):  # what does not fill a group
        i = work.full[position]
        list_all(n, work.d.reshape(-1), work.at[i], work.columns, work.values, work.ends, i)
        work.listed[n_listed] = i
        n_listed += 1
        total += n
    work.chosen[0] += 6 * sixes + 4 * fours
    work.chosen[1] += n_listed
    return sixes, fours, n_listed, total


@uncounted
def _accumulate(rounding, is_simd, crossovers, n, weights, work, target, sixes, fours, n_listed, total):
    """Add what every row of the block uses to its accumulator (N-6, D-7)."""
    a, d, at = target.reshape(-1), work.d.reshape(-1), work.at
    stride = blocks_per_pass(crossovers, total, n * n_listed, work.ends.shape[1])
    w, width, count, step = weights.panels, weights.width, weights.count, n * weights.width
    add_groups(rounding, w, 0, step, n, width, 0, count, work.full, sixes, fours, 0, a, at, d, at)
    listed, ends, columns, values, own = work.listed, work.ends, work.columns, work.values, work.own
    add_lists(is_simd, rounding, w, 0, step, width, 0, count, listed, n_listed, own, ends, columns, values, stride, 0, a, at)


@uncounted
def _add_phase(n, is_folded, bias, phase, linear, a, f, i, b, k):
    """Argument of the activation: accumulator, separate bias, phase, added in this order (D-6, E-1)."""
    has_bias, is_tracked, has_phase = bias.shape[0] > 0 and not is_folded, linear.shape[0] > 0, phase.shape[0] > 0
    if has_phase and not has_bias and not is_tracked:  # the common case, in one pass
        rows_of.add_rows(n, a, i, phase, b, f)
        return
    if has_bias:
        rows_of.add_rows(n, a, i, bias, 0, f)
    else:
        rows_of.copy_row(n, a, i, f, i)
    if is_tracked:
        rows_of.copy_row(n, f, i, linear[k], b)
    if has_phase:
        rows_of.add_rows(n, f, i, phase, b, f)


@uncounted
def _finish_block(settings, bias, inputs, results, tracks, work, k, first, rows):
    """Value, residual, decision, trace and step of every live row after its accumulate; return how many are final now."""
    s, n, n_final, is_tracked = settings, settings.n, 0, tracks.active.shape[0] > 0
    z, f, r, a, mask = work.z, work.f, work.r, work.a, work.mask
    shows_activation = tracks.activated.shape[0] > 0
    for i in range(rows):
        if not work.is_live[i]:
            continue
        b = first + i
        if shows_activation and (work.is_resting[i] or (work.is_idle[i] and not s.is_folded)):
            rows_of.copy_row(n, tracks.activated[k - 1], b, tracks.activated[k], b)
        if not work.is_resting[i]:
            if not work.is_idle[i] or s.is_folded:
                if s.is_folded:
                    rows_of.fold_bias(n, work.sums, bias, work.is_fresh[i], a, i)
                _add_phase(n, s.is_folded, bias, inputs.phase, tracks.linear, a, f, i, b, k)
                rows_of.activate(s.activation, s.row_function, s.slope[0], f, i)
                if shows_activation:
                    rows_of.copy_row(n, f, i, tracks.activated[k], b)
                if inputs.filter.shape[0] > 0:
                    rows_of.multiply_rows(n, f, i, inputs.filter, b, f)
            if s.is_linf:
                distance, scale = largest(n, f, z, i)
            else:
                distance, scale = euclidean(s.is_simd, n, f, z, work.lanes, i)
            results.residual[b], results.scale[b] = distance, scale
        distance, scale = results.residual[b], results.scale[b]
        if k == 0:
            work.first_residual[i] = distance
        is_stalled = rows_of.is_stagnated(s.window, s.ratio, work.recent, work.older, i, distance, k + 1)
        before = work.first_residual[i]
        status = rows_of.decide(s.rtol, s.atol, s.eps, s.divergence, s.max_eval, distance, scale, before, is_stalled, k + 1)
        results.evaluations[b] += 1
        if is_tracked:
            _track(n, s.is_gated, tracks, z, f, r, a, mask, distance, scale, i, b, k)
        if status != 0:
            n_final += 1
            work.is_live[i] = False
            results.n_eval[b], results.status[b] = k + 1, status
            rows_of.copy_row(n, z, i, results.z, b)
            if s.is_gated:
                rows_of.copy_row(n, r, i, results.r, b)
                rows_of.copy_row(n, a, i, results.a, b)
                rows_of.copy_row(n, mask, i, results.mask, b)
        elif s.is_picard:
            rows_of.copy_row(n, f, i, z, i)
        elif s.step == 0:
            rows_of.relax_row(n, s.alpha[0], s.beta[0], f, z, i)
    return n_final


@uncounted
def _track(n, is_gated, tracks, z, f, r, a, mask, distance, scale, i, b, k):
    """Write one evaluation of one sample into the trace (S-10)."""
    tracks.active[k, b] = True
    tracks.residual[k, b], tracks.scale[k, b] = distance, scale
    rows_of.copy_row(n, z, i, tracks.z[k], b)
    rows_of.copy_row(n, f, i, tracks.f[k], b)
    if is_gated:
        rows_of.copy_row(n, r, i, tracks.r[k], b)
        rows_of.copy_row(n, a, i, tracks.a[k], b)
        rows_of.copy_row(n, mask, i, tracks.mask[k], b)


@compiled
def solve_samples(settings, weights, inputs, results, tracks, work, start, stop):
    """Solve the samples from `start` to `stop`; the arguments are the records of :mod:`refdeq_numba.fused_data`."""
    is_simd, is_fast = settings.is_simd, settings.is_fused_add
    target = work.sums if settings.is_folded else work.a
    for first in range(start, stop, work.z.shape[0]):
        rows = min(work.z.shape[0], stop - first)
        _load_block(settings, weights.bias, inputs, results, work, first, rows)
        n_live, k = rows, np.int64(0)  # a literal 0 would have everything compiled twice
        while n_live > 0:
            sixes, fours, n_listed, total = _gate_block(settings, inputs, results, work, target, k, first, rows)
            if is_fast:  # both in one routine: apart they would take twice as long to compile
                _accumulate(
                    ONCE, is_simd, settings.crossovers, settings.n, weights, work, target, sixes, fours, n_listed, total
                )
            else:
                _accumulate(
                    None, is_simd, settings.crossovers, settings.n, weights, work, target, sixes, fours, n_listed, total
                )
            n_live -= _finish_block(settings, weights.bias, inputs, results, tracks, work, k, first, rows)
            if settings.step != 0 and n_live > 0:
                call_step(settings.step, work.z, work.f, work.is_live, work.table, rows, k)
            k += 1
