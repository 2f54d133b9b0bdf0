"""Where elements are: ONNX broadcasting, slicing and grouping written out as index arrays over one sample.

All are pure functions of shapes and attributes, hence remembered; the arrays are shared and must not be written to.
"""

from __future__ import annotations

import functools
import math

import numpy as np

__all__ = ["broadcast", "concatenated", "groups", "reduced", "sliced", "transposed"]

Shape = tuple[int, ...]


@functools.lru_cache(maxsize=256)
def broadcast(shape: Shape, target: Shape) -> np.ndarray:
    """For every element of `target`, the flat index of the element of `shape` that is broadcast to it.

    >>> broadcast((2, 1), (2, 3))
    array([0, 0, 0, 1, 1, 1])
    """
    return _flat(np.broadcast_to(_indices(shape), target))


@functools.lru_cache(maxsize=256)
def sliced(shape: Shape, starts: Shape, ends: Shape, axes: Shape, steps: Shape) -> np.ndarray:
    """Flat indices into a sample of the elements that an ONNX Slice keeps; `axes` count the batch as axis 0.

    >>> sliced((4,), (1,), (4,), (1,), (2,))
    array([1, 3])
    """
    picks = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        picks[axis % (len(shape) + 1) - 1] = slice(start, end, step)
    return _flat(_indices(shape)[tuple(picks)])


@functools.lru_cache(maxsize=256)
def concatenated(shapes: tuple[Shape, ...], axis: int) -> tuple[np.ndarray, ...]:
    """For each part of a Concat, the flat indices in the result of its elements; `axis` counts the batch as axis 0.

    >>> concatenated(((1,), (2,)), 1)
    (array([0]), array([1, 2]))
    """
    own = axis % (len(shapes[0]) + 1) - 1
    ends = np.cumsum([shape[own] for shape in shapes])
    whole = (*shapes[0][:own], int(ends[-1]), *shapes[0][own + 1 :])
    return tuple(_flat(part) for part in np.split(_indices(whole), ends[:-1], axis=own))


@functools.lru_cache(maxsize=256)
def transposed(shape: Shape, perm: Shape) -> np.ndarray:
    """For every element of a Transpose, its flat index in the sample it came from; `perm` counts the batch as axis 0.

    >>> transposed((2, 3), (0, 2, 1))
    array([0, 3, 1, 4, 2, 5])
    """
    return _flat(_indices(shape).transpose([axis - 1 for axis in perm[1:]]))


@functools.lru_cache(maxsize=256)
def reduced(shape: Shape, axes: Shape) -> np.ndarray:
    """Flat indices of the elements of each mean, one row per result, in row-major order of the reduced axes.

    >>> reduced((2, 3), (1,))
    array([[0, 3],
           [1, 4],
           [2, 5]])
    """
    own = sorted({axis % (len(shape) + 1) - 1 for axis in axes})
    kept = [axis for axis in range(len(shape)) if axis not in own]
    summands = math.prod(shape[axis] for axis in own)
    return np.ascontiguousarray(_indices(shape).transpose(*kept, *own).reshape(-1, summands))


@functools.lru_cache(maxsize=256)
def groups(shape: Shape, granularity: str, tile: tuple[int, int, int] | None) -> tuple[np.ndarray, int]:
    """Group of every element (D-10) and how many groups there are; no array means that every element decides alone.

    >>> groups((2, 2), "pixel", None)
    (array([0, 1, 0, 1]), 2)
    >>> groups((3,), "channel", None)
    (array([], dtype=int64), 0)
    """
    if granularity == "element" or (granularity == "channel" and len(shape) == 1):
        return np.zeros(0, dtype=np.int64), 0
    if granularity == "sample":
        blocks = shape
    elif granularity == "channel":
        blocks = (1, *shape[1:])
    elif granularity == "pixel":
        blocks = (shape[0], *(1,) * (len(shape) - 1))
    else:
        height, width, channels = tile if tile is not None else (1, 1, 1)
        blocks = (channels, width) if len(shape) == 2 else (channels, height, width)
    counts = tuple(-(-n // block) for n, block in zip(shape, blocks, strict=True))
    corners = [index // block for index, block in zip(np.indices(shape), blocks, strict=True)]
    return _flat(np.ravel_multi_index(tuple(corners), counts)), math.prod(counts)


def _indices(shape: Shape) -> np.ndarray:
    return np.arange(math.prod(shape), dtype=np.int64).reshape(shape)


def _flat(indices: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(indices, dtype=np.int64).reshape(-1)
