"""Small linear systems on the host: one per sample, in float64, with the same bits whatever the batch (S-7)."""

from __future__ import annotations

import numpy as np

__all__ = ["normalised_weights", "regularised", "solve_gram"]


def regularised(gram: np.ndarray, valid: np.ndarray, ridge: float, ridge_scale: str) -> np.ndarray:
    """Gram matrices with the ridge on their diagonals (S-7).

    Parameters
    ----------
    gram : (B, k, k) float64
    valid : (B, k) bool
        Columns that exist; what stands in the rows and columns of others is not read.
    ridge : float
    ridge_scale : {"trace", "diagonal", "absolute"}
        The ridge times the mean of the valid diagonal entries, times each diagonal entry, or as it is.

    Returns
    -------
    (B, k, k) float64, zero outside the valid rows and columns

    Examples
    --------
    >>> regularised(np.diag([3.0, 1.0])[None], np.array([[True, True]]), 0.5, "trace")
    array([[[4., 0.],
            [0., 2.]]])
    """
    k = gram.shape[1]
    out: np.ndarray = np.where(valid[:, :, None] & valid[:, None, :], gram, 0.0)
    diagonal = np.array(out[:, range(k), range(k)])
    if ridge_scale == "trace":
        added = ridge * (_row_sums(diagonal) / np.maximum(valid.sum(axis=1), 1))[:, None]
    elif ridge_scale == "diagonal":
        added = ridge * diagonal
    else:
        added = np.full_like(diagonal, ridge)
    out[:, range(k), range(k)] = np.where(valid, diagonal + added, 0.0)
    return out


def solve_gram(gram: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    """Solve ``gram x = rhs`` per sample, leaving out columns that depend on earlier ones (S-7).

    The matrix is scaled to a unit diagonal and eliminated in the order of its columns, which the caller chooses: earlier
    columns are preferred. A column of which no more than ``k eps`` remains after the earlier ones are taken out (or that is
    zero, or not finite) gets the weight 0; k is the number of columns of the sample that are finite and not zero. So there is
    an answer for every matrix, with fewer columns the more singular it is, and no sample can spoil another. Elementary
    operations in one fixed order: no library, no batch, and no column of zeros decides about a bit.

    Parameters
    ----------
    gram : (B, k, k) float64
        Symmetric, positive semi-definite up to rounding.
    rhs : (B, k) float64

    Returns
    -------
    (B, k) float64
        All zero for a sample whose answer would not be finite.

    Examples
    --------
    >>> solve_gram(np.array([[[4.0, 4.0], [4.0, 4.0]]]), np.array([[2.0, 2.0]]))
    array([[0.5, 0. ]])
    """
    k = gram.shape[1]
    diagonal = gram[:, range(k), range(k)].T
    usable = np.isfinite(diagonal) & (diagonal > 0.0)
    n = 1 + int(np.flatnonzero(usable.any(axis=1)).max(initial=-1))  # no sample has a column behind these
    usable, diagonal = usable[:n], diagonal[:n]
    scale = np.where(usable, 1.0 / np.sqrt(np.where(usable, diagonal, 1.0)), 0.0)
    # the batch is the last axis from here on: NumPy is fast along that one, and k is small
    a = np.where(usable[:, None] & usable, gram[:, :n, :n].transpose(1, 2, 0), 0.0)
    a = np.ascontiguousarray(a)
    a *= scale[:, None]
    a *= scale
    b = np.where(usable, rhs[:, :n].T, 0.0) * scale
    cutoff, products, kept = usable.sum(axis=0) * np.finfo(np.float64).eps, np.empty_like(a), np.zeros(b.shape, dtype=bool)
    for j in range(n):
        here = kept[j] = a[j, j] > cutoff  # False for NaN
        if not here.all():
            a[j], b[j] = np.where(here, a[j], 0.0), np.where(here, b[j], 0.0)
        factors = np.where(here, a[j + 1 :, j], 0.0) / np.where(here, a[j, j], 1.0)
        a[j + 1 :, j + 1 :] -= np.multiply(factors[:, None], a[j, j + 1 :], out=products[j + 1 :, j + 1 :])
        b[j + 1 :] -= factors * b[j]
    x = np.zeros((k, len(gram)))
    for j in reversed(range(n)):
        later = np.where(kept[j + 1 :], a[j, j + 1 :] * x[j + 1 : n], 0.0)  # 0 times inf is not to be seen
        x[j] = (b[j] - _sum(later)) / np.where(kept[j], a[j, j], 1.0)
    x[:n] *= scale
    return np.where(np.isfinite(x).all(axis=0), x, 0.0).T


def normalised_weights(gram: np.ndarray) -> np.ndarray:
    """Weights that sum to 1 and minimise ``x^T gram x``: the bordered system ``[[0, 1], [1, gram]]`` (S-7).

    Parameters
    ----------
    gram : (B, k, k) float64
        With its ridge; zero rows for columns that do not exist.

    Returns
    -------
    (B, k) float64
        ``gram^-1 1`` over its sum; all weight on column 0 where that sum is not a positive number.

    Examples
    --------
    >>> normalised_weights(np.diag([1.0, 3.0])[None])
    array([[0.75, 0.25]])
    """
    x = solve_gram(gram, np.ones(gram.shape[:2]))
    total = _row_sums(x)
    solved = np.isfinite(total) & (total > 0.0)
    first = np.arange(gram.shape[1]) == 0
    return np.where(solved[:, None], x / np.where(solved, total, 1.0)[:, None], first)


def _row_sums(rows: np.ndarray) -> np.ndarray:
    """Sums over axis 1 in ascending order."""
    return _sum(rows.T)


def _sum(terms: np.ndarray) -> np.ndarray:
    """Sum over axis 0 in ascending order: unlike that of ``np.sum``, it does not depend on the memory layout."""
    total = np.zeros(terms.shape[1:])
    for term in terms:
        total = total + term
    return total
