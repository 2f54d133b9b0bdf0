"""Small systems of Gram matrices, one sample at a time, columns from the newest to the oldest (S-7)."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["eliminate", "normalised", "with_ridge"]

Array = np.ndarray[Any, Any]


def with_ridge(gram: Array, ridge: float, scale: str) -> Array:
    """Gram matrix with the ridge on its diagonal: relative to the mean diagonal, to each entry, or absolute."""
    out, k = gram.copy(), len(gram)
    diagonal = np.diag(gram).copy()
    if scale == "trace":
        added = np.full(k, ridge * (ascending(diagonal) / max(k, 1)))
    elif scale == "diagonal":
        added = ridge * diagonal
    else:
        added = np.full(k, ridge)
    out[np.arange(k), np.arange(k)] = diagonal + added
    return out


def eliminate(gram: Array, rhs: Array) -> Array:
    """Solve by elimination of the matrix scaled to a unit diagonal; a column that depends on earlier ones gets 0 (S-7).

    >>> eliminate(np.array([[4.0, 4.0], [4.0, 4.0]]), np.array([2.0, 2.0]))
    array([0.5, 0. ])
    """
    k = len(gram)
    diagonal = np.diag(gram)
    usable = np.isfinite(diagonal) & (diagonal > 0.0)
    scale = np.where(usable, 1.0 / np.sqrt(np.where(usable, diagonal, 1.0)), 0.0)
    matrix = np.where(usable[:, None] & usable, gram, 0.0) * scale[:, None] * scale
    right = np.where(usable, rhs, 0.0) * scale
    least = usable.sum() * np.finfo(np.float64).eps
    kept = np.zeros(k, bool)
    for j in range(k):
        kept[j] = matrix[j, j] > least
        if not kept[j]:
            continue
        factors = matrix[j + 1 :, j] / matrix[j, j]
        matrix[j + 1 :, j + 1 :] = matrix[j + 1 :, j + 1 :] - factors[:, None] * matrix[j, j + 1 :]
        right[j + 1 :] = right[j + 1 :] - factors * right[j]
    x = np.zeros(k)
    for j in reversed(range(k)):
        if kept[j]:
            later = np.where(kept[j + 1 :], matrix[j, j + 1 :] * x[j + 1 :], 0.0)
            x[j] = (right[j] - ascending(later)) / matrix[j, j]
    x = x * scale
    return x if np.isfinite(x).all() else np.zeros(k)


def normalised(gram: Array) -> Array:
    """Weights that sum to 1 and minimise the mixed residual; all on the newest where there is no such answer (S-7).

    >>> normalised(np.diag([1.0, 3.0]))
    array([0.75, 0.25])
    """
    x = eliminate(gram, np.ones(len(gram)))
    total = ascending(x)
    if np.isfinite(total) and total > 0.0:
        return x / total
    return np.where(np.arange(len(gram)) == 0, 1.0, 0.0)


def ascending(terms: Array) -> float:
    """Sum in ascending order."""
    total = 0.0
    for term in terms.tolist():
        total = total + term
    return total
