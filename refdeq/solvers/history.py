"""Rows and rings: what solvers with a memory keep, per sample (S-7, S-8)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from refdeq.kernels import Array, Kernels

__all__ = ["difference", "inner", "new_ring", "new_row", "newest_first", "row_shape", "write_slot"]


def row_shape(kernels: Kernels, z: Mapping[str, Array]) -> tuple[tuple[int, int], str]:
    """Shape (B, N) and dtype of the states of a batch as rows."""
    parts = list(z.values())
    size = sum(int(np.prod(part.shape[1:])) for part in parts)
    return (len(parts[0]), size), str(parts[0].dtype)


def new_row(kernels: Kernels, shape: tuple[int, int], dtype: str) -> Array:
    """Rows of zeros, one per sample."""
    row = kernels.empty(shape, dtype)
    kernels.fill(0.0, np.ones(shape[0], dtype=bool), row)
    return row


def new_ring(kernels: Kernels, shape: tuple[int, int], dtype: str, length: int) -> list[Array]:
    """A ring of `length` columns, each of one row per sample."""
    return [new_row(kernels, shape, dtype) for _ in range(length)]


def write_slot(kernels: Kernels, row: Array, slot: np.ndarray, active: np.ndarray, ring: list[Array]) -> None:
    """Copy the rows of the active samples into their own slots: rings of different samples stand at different places."""
    for s in np.unique(slot[active]):
        kernels.copy_active(row, active & (slot == s), ring[s])


def newest_first(count: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Slots from the newest column to the oldest, and which of them have been written.

    Parameters
    ----------
    count : (B,) int
        Columns written so far; column i went to slot ``i mod length``.
    length : int

    Returns
    -------
    slots : (B, length) int
    valid : (B, length) bool

    Examples
    --------
    >>> newest_first(np.array([1, 4]), 3)[0]
    array([[0, 2, 1],
           [0, 2, 1]])
    >>> newest_first(np.array([1, 4]), 3)[1]
    array([[ True, False, False],
           [ True,  True,  True]])
    """
    age = np.arange(length)
    return (count[:, None] - 1 - age) % length, age < count[:, None]


def inner(kernels: Kernels, columns: list[Array], row: Array, active: np.ndarray, coupled: bool) -> np.ndarray:
    """Inner products of columns with a row, (B, k) on the host; `coupled`: summed over the active samples."""
    out = np.zeros((len(active), len(columns)))
    if columns:
        kernels.inner(columns, row, active, out)
    if coupled:
        total = np.zeros(len(columns))
        for b in np.flatnonzero(active):
            total = total + out[b]
        out[active] = total
    return out


def difference(kernels: Kernels, left: Array, right: Array, active: np.ndarray, out: Array) -> None:
    """Rows ``left - right``: formed in float64, rounded once."""
    kernels.combine([left, right], np.broadcast_to([1.0, -1.0], (len(active), 2)), active, out)
