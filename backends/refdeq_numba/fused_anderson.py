"""The Anderson step of the fused solve: one sample at a time, between two evaluations of a block (S-7).

The step is a routine of its own, compiled when the first such solve is bound and called by address: the solve around it, which
takes far longer to compile, is the one that Picard uses, and a solve by Picard compiles nothing of this file.

It has the bits of :mod:`refdeq.solvers.anderson` and :mod:`refdeq.linear`: differences formed in float64 and rounded once,
inner products by the pinned tree, one elimination per sample in the same order. What the reference adds for the sake of other
samples of the batch (columns with weight zero, zeros in the place of columns left out) is not formed here; it changes no sum
that began at +0. Each residual column is read once for both of its products, so the columns of a sample pass through the cache
once per evaluation, and the number of samples per block is that of Picard: measured, fewer do not gain.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]  # exported, though not in a way that mypy sees

from refdeq.solvers import Anderson
from refdeq_numba.compilation import callback, inlined, uncounted
from refdeq_numba.fused_columns import add_columns, add_product_pairs, take_out
from refdeq_numba.machine import pointer_at
from refdeq_numba.panels import aligned
from refdeq_numba.residual import LANES
from refdeq_numba.simd import vector_bytes

__all__ = ["Memory", "compiled_step", "memory_of"]

_TOGETHER = 4
"""Columns whose lanes are added side by side, two products each: every addition waits for the one before."""

_SCALES = ("trace", "diagonal", "absolute")
_TRACE, _DIAGONAL = 0, 1

_EPS = float(np.finfo(np.float64).eps)

_DOUBLES = vector_bytes() // 8
"""Numbers of float64 per vector register."""


class Memory(NamedTuple):
    """What Anderson keeps for the samples of one block, and room for one step; m columns, rows padded to whole blocks of 32.

    ``rings`` is (R, 2m + 2, P) in the dtype of the cell: f, m differences of it, the residual, m differences of that: the order
    of the sum. ``counts`` is (R, 2): columns written and steps made, since the start or the last restart; ``gram`` (R, m, m) is
    by slot, ``best`` (R,) the smallest squared residual since then. The rest is room for one sample. ``table`` holds sizes,
    choices and the addresses of the others; it is all that the compiled step is handed.
    """

    rings: np.ndarray
    gram: np.ndarray
    counts: np.ndarray
    best: np.ndarray
    wide: np.ndarray
    sums: np.ndarray
    lanes: np.ndarray
    system: np.ndarray
    vectors: np.ndarray
    places: np.ndarray
    choices: np.ndarray
    table: np.ndarray


_SIZES = 10
_ARRAYS = len(Memory._fields) - 1
_PRODUCTS, _SCALE, _RIGHT, _KEPT, _FOUND, _WEIGHTS = range(6)
"""Rows of ``vectors``: products with the residual and found weights are by slot, scales, right-hand sides, kept ones by age."""


def memory_of(solver: Anderson, rows: int, n: int, length: int, dtype: np.dtype, max_eval: int) -> Memory:
    """Allocate what one thread needs for blocks of `rows` samples, whose rows in the workspace are `length` elements long."""
    m = min(solver.window, max_eval)  # more columns are never written
    padded, lanes, double = -(-n // LANES) * LANES, _DOUBLES, np.dtype(np.float64)
    width = -(-m // lanes) * lanes
    restart = 0 if solver.restart is None else solver.restart
    safeguard = -1.0 if solver.safeguard is None else float(solver.safeguard**2)
    arrays = [
        aligned((rows, 2 * m + 2, padded), dtype),
        np.zeros((rows, m, m)),
        np.zeros((rows, 2), dtype=np.int64),
        np.zeros(rows),
        aligned((2, padded), double),
        aligned((padded,), double),
        aligned((2 * _TOGETHER, LANES), double),
        aligned((m, width), double),
        np.zeros((6, 2 * m + 2)),
        np.zeros(2 * m + 2, dtype=np.int64),
        np.array([1.0 - solver.mixing, float(solver.ridge), safeguard]),
    ]
    never = max_eval + 1
    choices = [min(solver.window, never), min(solver.warmup, never), min(restart, never), _SCALES.index(solver.ridge_scale)]
    table = [rows, n, length, padded, m, width, *choices, *(array.ctypes.data for array in arrays)]
    return Memory._make([*arrays, np.array(table, dtype=np.int64)])


@functools.cache
def compiled_step(dtype: str) -> Any:
    """Compile the step for one dtype; what it returns has the ``address``, and is kept for ever."""
    element, flags, table = (types.CPointer(kind) for kind in (getattr(types, dtype), types.boolean, types.int64))
    return callback(step_block, types.void(element, element, flags, table, types.int64, types.int64))


@inlined
def _array(address, like, shape):
    """The array of numbers of the type of `like` at an address."""
    return carray(pointer_at(address, like), shape)


def step_block(z_at, f_at, live_at, table_at, rows, k):
    """Replace the arguments of the live samples of a block by the next ones, after their evaluation number k (S-7)."""
    t = carray(table_at, (_SIZES + _ARRAYS,))
    size, n, length, padded, m, width = t[0], t[1], t[2], t[3], t[4], t[5]
    window, warmup, restart, ridge_scale = t[6], t[7], t[8], t[9]
    z, f, is_live = carray(z_at, (size, length)), carray(f_at, (size, length)), carray(live_at, (size,))
    rings, gram = _array(t[10], z[0, 0], (size, 2 * m + 2, padded)), _array(t[11], 0.0, (size, m, m))
    counts, best, wide = _array(t[12], t[0], (size, 2)), _array(t[13], 0.0, (size,)), _array(t[14], 0.0, (2, padded))
    sums, lanes = _array(t[15], 0.0, (padded,)), _array(t[16], 0.0, (2 * _TOGETHER, LANES))
    system, vectors = _array(t[17], 0.0, (m, width)), _array(t[18], 0.0, (6, 2 * m + 2))
    places, choices = _array(t[19], t[0], (2 * m + 2,)), _array(t[20], 0.0, (3,))
    rest, ridge, safeguard = choices[0], choices[1], choices[2]
    blocks = padded // LANES
    for i in range(rows):
        if not is_live[i]:
            continue
        if k == 0:
            counts[i, 0], counts[i, 1], best[i] = 0, 0, np.inf
        _form_residual(n, f, z, wide, i)
        _restart(window, restart, safeguard, wide, lanes, blocks, counts, best, i)
        used, newest = min(counts[i, 0], m), np.int64(0)
        if counts[i, 1] > 0:
            newest = counts[i, 0] % m
            _append(n, m, newest, f, wide, rings, i)
            counts[i, 0] += 1
            used = min(counts[i, 0], m)
            _multiply(m, used, newest, rings, wide, lanes, blocks, gram, vectors, i)
        for j in range(n):
            rings[i, 0, j] = f[i, j]
            rings[i, m + 1, j] = wide[0, j]
        counts[i, 1] += 1
        if counts[i, 1] <= warmup:
            used = 0
        _solve(m, used, newest, ridge, ridge_scale, gram, system, vectors, i)
        terms = _weigh(m, used, rest, vectors, places, i, padded)
        add_columns(rings, places, vectors[_WEIGHTS], terms, blocks, sums)
        for j in range(n):
            z[i, j] = sums[j]


@uncounted
def _form_residual(n, f, z, wide, i):
    """``g = f - z``, rounded once, kept as float64; sums begin at +0, as those of ``combine`` do."""
    cast = f.dtype.type
    for j in range(n):
        wide[0, j] = np.float64(cast((0.0 + np.float64(f[i, j])) - np.float64(z[i, j])))


@uncounted
def _restart(window, restart, safeguard, wide, lanes, blocks, counts, best, i):
    """Empty the window if that is due, and note the lowest residual."""
    is_due = restart > 0 and counts[i, 1] >= restart
    if safeguard >= 0.0:
        add_product_pairs(wide, 0, wide, 0, 0, blocks, lanes, 0)
        squared = 0.0
        for lane in range(LANES):
            squared += lanes[0, lane]
        is_due |= squared > safeguard * best[i] and counts[i, 0] >= window
        if is_due:
            best[i] = np.inf
        best[i] = squared if squared < best[i] or squared != squared else best[i]
    if is_due:
        counts[i, 0], counts[i, 1] = 0, 0


@uncounted
def _append(n, m, slot, f, wide, rings, i):
    """Write the differences to the value and the residual of the evaluation before into their slot."""
    cast = f.dtype.type
    for j in range(n):
        rings[i, 1 + slot, j] = (0.0 + np.float64(f[i, j])) - np.float64(rings[i, 0, j])
    for j in range(n):
        difference = cast((0.0 + wide[0, j]) - np.float64(rings[i, m + 1, j]))
        rings[i, m + 2 + slot, j] = difference
        wide[1, j] = np.float64(difference)


@uncounted
def _multiply(m, used, slot, rings, wide, lanes, blocks, gram, vectors, i):
    """Inner products of every residual column with the residual and with the newest column, by the pinned tree (S-2)."""
    padded = rings.shape[2]
    begin = (i * rings.shape[1] + m + 2) * padded
    for start in range(0, used, _TOGETHER):
        count = min(_TOGETHER, used - start)
        for c in range(count):
            add_product_pairs(rings, begin + (start + c) * padded, wide, 0, padded, blocks, lanes, 2 * LANES * c)
        t0 = t1 = t2 = t3 = t4 = t5 = t6 = t7 = 0.0
        for lane in range(LANES):
            t0, t1, t2, t3 = t0 + lanes[0, lane], t1 + lanes[1, lane], t2 + lanes[2, lane], t3 + lanes[3, lane]
            t4, t5, t6, t7 = t4 + lanes[4, lane], t5 + lanes[5, lane], t6 + lanes[6, lane], t7 + lanes[7, lane]
        totals = (t0, t1, t2, t3, t4, t5, t6, t7)
        for c in range(count):
            vectors[_PRODUCTS, start + c] = totals[2 * c]
            gram[i, slot, start + c] = gram[i, start + c, slot] = totals[2 * c + 1]


@uncounted
def _slot(newest, age, m):
    """Slot of the column that was written `age` columns before the newest."""
    return newest - age if age <= newest else newest - age + m


@uncounted
def _scale(m, used, newest, ridge, ridge_scale, gram, system, vectors, i):
    """The Gram matrix with its ridge, newest column first, scaled to a unit diagonal; return how many columns count."""
    total, usable = 0.0, 0
    for age in range(used):
        s = _slot(newest, age, m)
        total += gram[i, s, s]
    mean = total / max(used, 1)
    for age in range(used):
        s = _slot(newest, age, m)
        diagonal = gram[i, s, s]
        added = ridge * (mean if ridge_scale == _TRACE else diagonal) if ridge_scale <= _DIAGONAL else ridge
        diagonal += added
        is_usable = math.isfinite(diagonal) and diagonal > 0.0
        system[age, age] = diagonal
        vectors[_SCALE, age] = 1.0 / math.sqrt(diagonal) if is_usable else 0.0
        vectors[_RIGHT, age] = vectors[_PRODUCTS, s] * vectors[_SCALE, age] if is_usable else 0.0
        usable += is_usable
    for row in range(used):
        r, by_row = _slot(newest, row, m), vectors[_SCALE, row]
        for column in range(used):
            by_column = vectors[_SCALE, column]
            value = system[row, row] if row == column else gram[i, r, _slot(newest, column, m)]
            system[row, column] = value * by_row * by_column if by_row > 0.0 and by_column > 0.0 else 0.0
    return usable


@uncounted
def _solve(m, used, newest, ridge, ridge_scale, gram, system, vectors, i):
    """Weights by slot, all zero if one of them would not be finite (see :func:`refdeq.linear.solve_gram`)."""
    cutoff = _scale(m, used, newest, ridge, ridge_scale, gram, system, vectors, i) * _EPS
    width, last = system.shape[1], (used + _DOUBLES - 1) // _DOUBLES
    for j in range(used):
        pivot = system[j, j]
        vectors[_KEPT, j] = 1.0 if pivot > cutoff else 0.0  # not for NaN
        if not pivot > cutoff:
            continue
        for row in range(j + 1, used):
            factor = system[row, j] / pivot
            take_out(system, row * width, j * width, factor, (j + 1) // _DOUBLES, last)
            vectors[_RIGHT, row] -= factor * vectors[_RIGHT, j]
    is_finite = True
    for j in range(used - 1, -1, -1):
        found = 0.0
        if vectors[_KEPT, j] != 0.0:
            later = 0.0
            for column in range(j + 1, used):
                if vectors[_KEPT, column] != 0.0:
                    later += system[j, column] * vectors[_RIGHT, column]
            found = (vectors[_RIGHT, j] - later) / system[j, j]
        vectors[_RIGHT, j] = found  # its right-hand side is used up
        weight = found * vectors[_SCALE, j]
        is_finite &= math.isfinite(weight)
        vectors[_FOUND, _slot(newest, j, m)] = weight
    if not is_finite:
        for s in range(used):
            vectors[_FOUND, s] = 0.0


@uncounted
def _weigh(m, used, rest, vectors, places, i, padded):
    """List the columns of the sum that have a weight other than zero, in ascending slot order; return how many there are."""
    first, count = i * (2 * m + 2), 0
    for half in range(1 if rest == 0.0 else 2):
        factor = 1.0 if half == 0 else -rest
        for c in range(used + 1):
            weight = factor * (1.0 if c == 0 else -vectors[_FOUND, c - 1])
            if weight != 0.0:
                vectors[_WEIGHTS, count] = weight
                places[count] = (first + half * (m + 1) + c) * padded
                count += 1
    return count
