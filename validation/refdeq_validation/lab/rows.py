"""Rows of float64: sums by the pinned tree, products and combinations of columns (S-2, S-7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from refdeq_validation.lab.formats import store
from refdeq_validation.protocol.problem import Problem

__all__ = ["combine", "inner", "norm", "tree_sum"]

Array = np.ndarray[Any, Any]

LANES = 32


def tree_sum(terms: Array) -> float:
    """Sum of a vector: lane l adds the elements l, l + 32, ... in ascending order, then the lanes are added (S-2).

    >>> tree_sum(np.ones(70))
    70.0
    """
    lanes = np.zeros(LANES)
    for first in range(0, len(terms), LANES):
        block = terms[first : first + LANES]
        lanes[: len(block)] = lanes[: len(block)] + block
    total = 0.0
    for lane in lanes.tolist():
        total = total + lane
    return float(total)


def norm(row: Array, kind: str) -> float:
    """Norm of a float64 vector (S-2); in linf NaN wins."""
    if kind == "linf":
        return float(np.max(np.abs(row), initial=0.0))
    return float(np.sqrt(tree_sum(row * row)))


def inner(left: Array, right: Array) -> float:
    """Inner product in float64 by the tree (S-7)."""
    return tree_sum(left.astype(np.float64) * right.astype(np.float64))


def combine(problem: Problem, weights: Sequence[float], columns: Sequence[Array]) -> Array:
    """Weighted sum in float64 from +0 in the given order, rounded once; columns of weight zero are not read (S-7)."""
    total = np.zeros(columns[0].shape, np.float64)
    for weight, column in zip(weights, columns, strict=True):
        if weight != 0.0:
            total = total + weight * column.astype(np.float64)
    return store(problem, total)
