"""Restarted Krylov spaces: the dominant part of a spectrum from products with the matrix alone.

Restarts keep Schur vectors (Stewart, "A Krylov-Schur algorithm for large eigenproblems", SIAM J. Matrix Anal. Appl. 23, 2002):
the whole dominant part of the spectrum stays in the space, so that of several eigenvalues of nearly one modulus, complex pairs
among them, none is filtered out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["ROUNDINGS", "UNIT", "KrylovSchur", "Product"]

Array = np.ndarray
Product = Callable[[Array], Array]
"""``(n,) -> (n,)``, linear."""

UNIT = 2.0**-53
_WINDOW = 32
"""Vectors of a Krylov basis."""
_KEPT = 12
"""Ritz values that a restart keeps, at least; a pair is not split."""
_RESOLVED = 6
"""Ritz values that must be resolved well enough not to exceed the dominant one."""
ROUNDINGS = 2 * _WINDOW
"""Roundings of a projection on such a basis, beside the n of a product, in the backward error of a Ritz value."""


class KrylovSchur:
    """Restarted Krylov space of one matrix.

    Parameters
    ----------
    product : callable
    start : (n,) float64
        Not zero.

    Attributes
    ----------
    values : (k,) complex128
        Ritz values, largest modulus first; none before the first :meth:`run`.
    residuals : (k,) float64
        ``||A x - value x||`` of each, with ``||x|| = 1``.
    invariant : bool
        Whether the space became invariant: with a start in general position it then holds every eigenvalue.
    finite : bool
        False once a product was not; nothing is known then.
    products : int
        Spent so far.

    Examples
    --------
    >>> a = np.diag([0.9, -0.5, 0.25])
    >>> space = KrylovSchur(lambda v: a @ v, np.ones(3))
    >>> space.run(lambda space: bool(space.residuals[0] <= 1e-9), budget=3)
    >>> [round(float(value.real), 12) for value in space.values]
    [0.9, -0.5, 0.25]
    """

    def __init__(self, product: Product, start: Array) -> None:
        self._product = product
        self._m = min(len(start), _WINDOW)
        self._basis = np.zeros((self._m + 1, len(start)))
        self._h = np.zeros((self._m + 1, self._m))
        self._basis[0] = start / np.linalg.norm(start)
        self._size, self._full, self.invariant = 0, 0, False
        self._vectors = np.zeros((0, 0), dtype=np.complex128)
        self.values, self.residuals = np.zeros(0, dtype=np.complex128), np.zeros(0)
        self.finite, self.products = True, 0

    def vector(self, i: int) -> Array:
        """Ritz vector of one Ritz value, of norm 1; complex128."""
        vector: Array = self._vectors[:, i] @ self._basis[: self._full]
        return vector

    @property
    def known(self) -> bool:
        """Whether there are Ritz values."""
        return self.finite and len(self.values) > 0

    def run(self, done: Callable[[KrylovSchur], bool], budget: int) -> None:
        """Expand and restart until ``done(self)``, or until the budget is short of a window."""
        limit = self.products + budget
        if self.known and done(self):
            return
        while self.finite and not self.invariant:
            if self.products + self._m - (self._kept if self._full else 0) > limit:
                return
            if self._full:
                self._restart()
            self._expand()
            if self.finite:
                self._extract()
                if done(self):
                    return

    @property
    def _kept(self) -> int:
        """Ritz values that a restart keeps, at least."""
        return min(_KEPT, self._m // 2)

    def _expand(self) -> None:
        """Products up to the whole window, or until the space becomes invariant."""
        basis, h, n = self._basis, self._h, self._basis.shape[1]
        for j in range(self._size, self._m):
            w = self._product(basis[j])
            self.products += 1
            scale = np.linalg.norm(w)
            for _ in range(2):  # once more, because cancellation leaves components of the size of rounding
                along = basis[: j + 1] @ w
                h[: j + 1, j] += along
                w = w - along @ basis[: j + 1]
            h[j + 1, j] = rest = np.linalg.norm(w)
            self._full = j + 1
            if not np.isfinite(rest):
                self.finite = False
                return
            if rest <= (n + ROUNDINGS) * UNIT * scale or j + 1 == n:  # what is left is rounding
                h[j + 1, j] = 0.0
                self.invariant = True
                return
            basis[j + 1] = w / rest

    def _extract(self) -> None:
        """Ritz values, vectors and residuals of the space as it is."""
        k = self._full
        values, vectors = np.linalg.eig(self._h[:k, :k])
        order = np.argsort(-np.abs(values), kind="stable")
        self.values, self._vectors = values[order].astype(np.complex128), vectors[:, order].astype(np.complex128)
        self.residuals = np.abs(self._h[k, :k] @ self._vectors)

    def _restart(self) -> None:
        """Keep the Schur vectors of the dominant Ritz values, and the vector to go on from."""
        m, kept, sizes = self._m, self._kept, np.abs(self.values)
        last = m // 2 + kept // 2
        gap = kept + int(np.argmax(sizes[kept - 1 : last] - sizes[kept : last + 1]))
        triangular, turn = self._schur(gap)
        size = turn.shape[1]
        basis, h = np.zeros_like(self._basis), np.zeros_like(self._h)
        basis[:size], basis[size] = turn.T @ self._basis[:m], self._basis[m]
        h[:size, :size], h[size, :size] = triangular, self._h[m] @ turn
        self._basis, self._h, self._size, self._full = basis, h, size, size

    def _schur(self, count: int) -> tuple[Array, Array]:
        """Schur form of the first `count` Ritz values (one more where that would split a pair), and its vectors as columns."""
        from scipy.linalg import schur

        k, sizes = self._full, np.abs(self.values)
        if count >= k:
            cut = -1.0
        else:
            cut = 0.5 * (sizes[count - 1] + sizes[count])
            if self.values[count - 1] == self.values[count].conj():  # the second member of a pair comes after the first
                cut = 0.5 * (sizes[count] + (sizes[count + 1] if count + 1 < k else 0.0))
        triangular, turn, size = schur(self._h[:k, :k], output="real", sort=lambda re, im=0.0: abs(complex(re, im)) > cut)
        return triangular[:size, :size], turn[:, :size]

    def invariant_basis(self, tolerance: float) -> Array:
        """Orthonormal rows that span the leading Ritz values with residuals of at most `tolerance`, in full where pairs are."""
        resolved = self.residuals <= tolerance
        count = len(resolved) if resolved.all() else int(np.argmin(resolved))
        rows: Array = self._schur(count)[1].T @ self._basis[: self._full]
        return rows

    def excess(self, size: float | None = None) -> float:
        """By how much a Ritz value that is not resolved yet may turn out larger than `size`, or than the first; at least 0."""
        most = (np.abs(self.values) + self.residuals)[1:_RESOLVED]
        return max(0.0, float(np.max(most, initial=0.0) - (np.abs(self.values[0]) if size is None else size)))
