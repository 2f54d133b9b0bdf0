"""Views of batches as rows, and other changes of shape on the way to a compiled kernel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refdeq_numba import positions

__all__ = ["active_rows", "bias_row", "parameter_row", "rows_of", "sample_shape", "sample_size"]


def active_rows(active: np.ndarray) -> np.ndarray:
    """Ascending indices of the active samples, int64.

    >>> active_rows(np.array([True, False, True]))
    array([0, 2])
    """
    return np.flatnonzero(active).astype(np.int64, copy=False)


def sample_size(array: np.ndarray) -> int:
    """Elements per sample of a (B, ...) array, also when B is 0.

    >>> sample_size(np.empty((0, 2, 3)))
    6
    """
    return math.prod(array.shape[1:])


def rows_of(array: np.ndarray) -> np.ndarray:
    """View of a C-contiguous (B, ...) array as (B, n); never a copy, since kernels write through it.

    >>> rows_of(np.zeros((2, 3, 4))).shape
    (2, 12)
    """
    assert array.flags.c_contiguous, "only then is reshape a view"
    return array.reshape(len(array), sample_size(array))


def sample_shape(array: np.ndarray, rank: int) -> tuple[int, ...]:
    """Per-sample shape of a parameter that broadcasts against values of `rank` axes, the batch included.

    A parameter as long as the values has length 1 on the batch axis, or the graph would not have been built.

    >>> sample_shape(np.zeros((1, 3, 1)), 3), sample_shape(np.zeros(4), 3)
    ((3, 1), (4,))
    """
    return array.shape[1:] if array.ndim == rank else array.shape


def parameter_row(array: np.ndarray, target: tuple[int, ...]) -> np.ndarray:
    """A parameter written out for one sample of shape `target`, flat.

    >>> parameter_row(np.array([[1.0], [2.0]]), (2, 2))
    array([1., 1., 2., 2.])
    """
    shape = sample_shape(array, len(target) + 1)
    return array.reshape(-1)[positions.broadcast(shape, target)]


def bias_row(bias: np.ndarray | None, target: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """A bias written out for one sample; an empty row when there is none."""
    return np.empty(0, dtype=dtype) if bias is None else parameter_row(bias, target)
