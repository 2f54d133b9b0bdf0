"""Residual and scale by the pinned summation tree (S-2), over a range of samples.

States are concatenated in declared order without being copied together: each part is added to the 32 lanes of its sample, going
on at the lane where the part before it ended.
"""

from __future__ import annotations

import numpy as np

from refdeq_numba.compilation import compiled, inlined

__all__ = ["LANES", "add_part", "finish_l2", "finish_linf"]

LANES = 32


@inlined
def _add_squares(values, point, offset, differences, sizes):
    """Add squares to the lanes; element k of the part belongs to lane ``(offset + k) % 32``."""
    size = len(values)
    head = min(size, -offset % LANES)  # up to the first lane
    for k in range(head):
        f = np.float64(values[k])
        d = f - np.float64(point[k])
        differences[(offset + k) % LANES] += d * d
        sizes[(offset + k) % LANES] += f * f
    whole = head + (size - head) // LANES * LANES
    for start in range(head, whole, LANES):
        for lane in range(LANES):
            f = np.float64(values[start + lane])
            d = f - np.float64(point[start + lane])
            differences[lane] += d * d
            sizes[lane] += f * f
    for k in range(whole, size):
        f = np.float64(values[k])
        d = f - np.float64(point[k])
        differences[k - whole] += d * d
        sizes[k - whole] += f * f


@inlined
def _larger(a, b):
    """The larger of two numbers; NaN wins."""
    return b if b > a or b != b else a


@inlined
def _take_larger(values, point, differences, sizes):
    """Largest magnitudes, kept in the first lane; a NaN there stays."""
    for k in range(len(values)):
        f = np.float64(values[k])
        differences[0] = _larger(differences[0], abs(f - np.float64(point[k])))
        sizes[0] = _larger(sizes[0], abs(f))


@compiled
def add_part(rows, first, last, f, z, offset, is_linf, differences, sizes):
    """Take one state into account.

    Parameters
    ----------
    f, z : (B, n) arrays
    offset : int
        Elements of the states before this one.
    is_linf : bool
    differences, sizes : (B, 32) float64, changed in place
        Lanes of ``f - z`` and of ``f``; zero before the first part.
    """
    for r in range(first, last):
        b = rows[r]
        if is_linf:
            _take_larger(f[b], z[b], differences[b], sizes[b])
        else:
            _add_squares(f[b], z[b], offset, differences[b], sizes[b])


@inlined
def _root_of_sum(lanes):
    total = 0.0
    for lane in range(LANES):
        total = total + lanes[lane]
    return np.sqrt(total)


@compiled
def finish_l2(rows, first, last, differences, sizes, residual, scale):
    """Add the lanes in ascending order and take the root."""
    for r in range(first, last):
        b = rows[r]
        residual[b] = _root_of_sum(differences[b])
        scale[b] = _root_of_sum(sizes[b])


@compiled
def finish_linf(rows, first, last, differences, sizes, residual, scale):
    """Read the first lane."""
    for r in range(first, last):
        b = rows[r]
        residual[b] = differences[b, 0]
        scale[b] = sizes[b, 0]
