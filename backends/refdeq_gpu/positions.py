"""Where elements go: moves of ONNX operators as index arrays over one sample, read off the operators of the reference.

An index array is what the operator itself makes of the numbers 0, 1, 2, ... All are functions of shapes and attributes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refdeq.ops import OPS

__all__ = ["broadcast", "concatenated", "groups", "picked", "reduced"]

Shape = tuple[int, ...]


def broadcast(shape: Shape, target: Shape) -> np.ndarray:
    """For every element of `target`, the flat index of the element of `shape` that is broadcast to it.

    >>> broadcast((2, 1), (2, 3))
    array([0, 0, 0, 1, 1, 1])
    """
    return _flat(np.broadcast_to(_indices(shape), target))


def picked(op: str, shape: Shape, attributes: Mapping[str, Any]) -> np.ndarray:
    """Flat indices into a sample of the elements that Slice or Transpose puts into its result, in its order.

    >>> picked("Transpose", (2, 3), {"perm": (0, 2, 1)})
    array([0, 3, 1, 4, 2, 5])
    """
    return _flat(OPS[op].forward([_indices(shape)[None]], attributes))


def concatenated(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> list[np.ndarray]:
    """For each part of a Concat, the flat indices in the result of its elements.

    >>> concatenated([(1,), (2,)], {"axis": 1})
    [array([0]), array([1, 2])]
    """
    ends = np.cumsum([0, *(math.prod(shape) for shape in shapes)])
    numbered = [(_indices(shape) + start)[None] for shape, start in zip(shapes, ends[:-1], strict=True)]
    origin = _flat(OPS["Concat"].forward(numbered, attributes))
    target = np.empty_like(origin)
    target[origin] = np.arange(len(origin))
    return [target[start:end] for start, end in itertools.pairwise(ends)]


def reduced(shape: Shape, axes: Sequence[int]) -> np.ndarray:
    """Flat indices of the elements of each mean, one row per result; `axes` count the batch as axis 0.

    >>> reduced((2, 3), (1,)).tolist()
    [[0, 3], [1, 4], [2, 5]]
    """
    own = sorted({axis % (len(shape) + 1) - 1 for axis in axes})
    kept = [axis for axis in range(len(shape)) if axis not in own]
    return np.ascontiguousarray(_indices(shape).transpose(*kept, *own).reshape(-1, math.prod(shape[axis] for axis in own)))


def groups(shape: Shape, granularity: str, tile: tuple[int, int, int] | None) -> tuple[np.ndarray, int] | None:
    """Group of every element (D-10) and how many groups there are; None where every element decides alone.

    >>> groups((2, 2), "pixel", None)
    (array([0, 1, 0, 1], dtype=int32), 2)
    """
    if granularity == "element" or (granularity == "channel" and len(shape) == 1):
        return None
    whole: dict[str, Shape] = {"sample": shape, "channel": (1, *shape[1:]), "pixel": (shape[0], *(1,) * (len(shape) - 1))}
    blocks: Shape
    if granularity == "tile":
        height, width, channels = tile if tile is not None else (1, 1, 1)
        blocks = (channels, height, width) if len(shape) == 3 else (channels, width)
    else:
        blocks = whole[granularity]
    counts = [-(-length // block) for length, block in zip(shape, blocks, strict=True)]
    number = np.zeros(shape, dtype=np.int64)
    for index, block, many in zip(np.indices(shape), blocks, counts, strict=True):
        number = number * many + index // block
    return number.reshape(-1).astype(np.int32), math.prod(counts)


def _indices(shape: Shape) -> np.ndarray:
    return np.arange(math.prod(shape), dtype=np.int64).reshape(shape)


def _flat(indices: np.ndarray) -> np.ndarray:
    return np.array(indices, dtype=np.int64, order="C").reshape(-1)
