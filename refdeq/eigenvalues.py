"""Dominant eigenvalues of batches of real matrices, each with an estimate of its error: dense, or from products alone.

What the power method gets wrong is got right here in this way. Its Rayleigh quotient oscillates when the dominant eigenvalues
are a complex pair; a Krylov space of the iterate holds the pair (with two vectors it is the fit of ``l^2 - a l - b`` to three
iterates, and here it has more), restarted from the real span of its dominant Ritz vector. A small residual alone says little
when the matrix is far from normal; the condition of the eigenvalue, from a left eigenvector found in the same way from a start
of its own, turns it into an error. And a second run that sees a larger eigenvalue than the first denies convergence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Dominant", "arnoldi", "dense_dominant", "krylov_dominant", "krylov_norm"]

Array = np.ndarray
Product = Callable[[Array], Array]
"""``(B, n) -> (B, n)``: one matrix per sample times one vector per sample; no sample reads another."""

UNIT = 2.0**-53
_WINDOW = 32
"""Vectors of a Krylov basis."""
_ROUNDINGS = 2 * _WINDOW
"""Roundings of a projection on that basis, beside the n of a product, in the backward error of a Ritz value."""


@dataclass(frozen=True, eq=False)
class Dominant:
    """Eigenvalue of largest modulus per sample, with imaginary part >= 0, and an estimate of its error.

    Attributes
    ----------
    value : (B,) complex128
        NaN where the matrix is not finite.
    error : (B,) float64
        First-order estimate of ``|value - exact|``: residual and rounding, times the condition of the eigenvalue.
    found : (B,) bool
        False where an iteration ran out of products, or two runs contradict each other.
    """

    value: Array
    error: Array
    found: Array


def dense_dominant(matrices: Array) -> tuple[Dominant, Array, Array]:
    """Eigenvalues and largest singular values of a batch of matrices.

    Parameters
    ----------
    matrices : (B, n, n) float64

    Returns
    -------
    Dominant
        The error is that of rounding: the largest by which a perturbation of norm ``n u ||A||_F``, the backward error of the
        QR algorithm, can raise or lower the largest modulus, to first order by the condition of every eigenvalue, or by
        Elsner's bound ``(2 ||A||)^(1 - 1/n) ||E||^(1/n)`` where that is smaller (defective eigenvalues have no first order).
    eigenvalues : (B, n) complex128
    norms : (B,) float64

    Examples
    --------
    >>> found, _, norms = dense_dominant(np.array([[[0.0, -0.5], [0.5, 0.0]]]))
    >>> print(f"{found.value[0]:.12f}, {norms[0]:.12f}", bool(found.error[0] < 1e-14))
    0.000000000000+0.500000000000j, 0.500000000000 True
    """
    batch, n = matrices.shape[:2]
    eigenvalues = np.full((batch, n), np.nan, dtype=np.complex128)
    value, error, norms = np.full(batch, np.nan, dtype=np.complex128), np.full(batch, np.nan), np.full(batch, np.nan)
    finite = np.isfinite(matrices).all(axis=(1, 2))
    for b in np.flatnonzero(finite):
        a = matrices[b]
        norms[b] = np.linalg.norm(a, 2)
        eigenvalues[b], condition = _conditions(a)
        sizes = np.abs(eigenvalues[b])
        top = int(np.argmax(sizes))
        value[b] = _upper(eigenvalues[b, top])
        noise = n * UNIT * np.linalg.norm(a)
        if noise == 0.0:
            error[b] = 0.0
            continue
        raised = np.max(sizes + condition * noise) - sizes[top]
        elsner = (2 * norms[b] + noise) ** (1 - 1 / n) * noise ** (1 / n)
        # the radius lies between 0 and the norm, whatever else is known
        error[b] = min(max(raised, condition[top] * noise), elsner, max(norms[b] - sizes[top], sizes[top]))
    return Dominant(value, error, finite), eigenvalues, norms


def _conditions(a: Array) -> tuple[Array, Array]:
    """Eigenvalues with their condition numbers ``1 / |y^H x|``; infinite for a defective one."""
    from scipy.linalg import eig

    values, left, right = eig(a, left=True, right=True)
    cosines = np.abs(np.einsum("ij,ij->j", left.conj(), right))
    with np.errstate(divide="ignore"):
        return values, np.where(cosines > 0.0, 1.0 / cosines, np.inf)


def _upper(value: Array) -> Array:
    """The member of a conjugate pair with imaginary part >= 0."""
    return np.where(np.imag(value) < 0.0, np.conj(value), value)


def arnoldi(product: Product, start: Array, m: int) -> tuple[Array, Array]:
    """Orthonormal Krylov basis of every sample.

    Parameters
    ----------
    product : callable
    start : (B, n) float64
        Not zero.
    m : int
        Products, at most n.

    Returns
    -------
    basis : (B, m + 1, n)
        Rows; zero from the one on where a sample's space became invariant.
    h : (B, m + 1, m)
        ``A basis[:m]^T = basis^T h``. A sample that is not finite has entries that are not finite.
    """
    batch, n = start.shape
    basis, h = np.zeros((batch, m + 1, n)), np.zeros((batch, m + 1, m))
    basis[:, 0] = start / np.linalg.norm(start, axis=1, keepdims=True)
    for j in range(m):
        w = product(basis[:, j])
        scale = np.linalg.norm(w, axis=1)
        for _ in range(2):  # once more, because cancellation leaves components of the size of rounding
            along = np.einsum("bjn,bn->bj", basis[:, : j + 1], w)
            h[:, : j + 1, j] += along
            w = w - np.einsum("bj,bjn->bn", along, basis[:, : j + 1])
        rest = np.linalg.norm(w, axis=1)
        ended = rest <= n * UNIT * scale  # what is left is rounding: the space is invariant
        h[:, j + 1, j] = np.where(ended, 0.0, rest)
        basis[:, j + 1] = np.where(ended[:, None], 0.0, w / np.where(ended, 1.0, rest)[:, None])
    return basis, h


@dataclass(eq=False)
class _Run:
    """State of a restarted Arnoldi iteration, per sample."""

    start: Array
    value: Array
    vector: Array
    residual: Array
    largest: Array


def _begin(start: Array) -> _Run:
    batch = len(start)
    infinite = np.full(batch, np.inf)
    return _Run(start, np.zeros(batch, np.complex128), start.astype(np.complex128), infinite, np.zeros(batch))


def _iterate(product: Product, run: _Run, m: int, tolerance: Array, budget: int, near: Array | None = None) -> int:
    """Restart until the dominant Ritz pair has a residual of `tolerance` times its modulus; return the products spent.

    With `near`, the Ritz value nearest to it among those within 1 % of the largest modulus counts as dominant, so that of
    several eigenvalues of one modulus a left and a right run find the same.
    """
    spent = 0
    while spent + m <= budget:
        basis, h = arnoldi(product, run.start, m)
        spent += m
        broken = ~np.isfinite(h).all(axis=(1, 2))
        values, vectors = np.linalg.eig(np.where(broken[:, None, None], 0.0, h[:, :m]))
        sizes = np.abs(values)
        largest = sizes.max(axis=1)
        if near is None:
            choice = np.argmax(sizes, axis=1)
        else:
            distance = np.minimum(np.abs(values - near[:, None]), np.abs(values.conj() - near[:, None]))
            choice = np.argmin(np.where(sizes >= 0.99 * largest[:, None], distance, np.inf), axis=1)
        rows = np.arange(len(values))
        y = vectors[rows, :, choice]
        value = values[rows, choice]
        y = np.where((value.imag < 0.0)[:, None], y.conj(), y)
        residual = h[:, m, m - 1] * np.abs(y[:, -1])
        vector = np.einsum("bj,bjn->bn", y, basis[:, :m])
        waiting = ~(run.residual <= tolerance * np.abs(run.value))
        run.value = np.where(broken, np.nan, np.where(waiting, _upper(value), run.value))
        run.residual = np.where(broken, np.nan, np.where(waiting, residual, run.residual))
        run.vector = np.where(waiting[:, None], vector, run.vector)
        run.largest = np.where(waiting, largest, run.largest)
        restart = run.vector.real + run.vector.imag
        usable = np.isfinite(restart).all(axis=1) & (np.abs(restart).max(axis=1, initial=0.0) > 0.0)
        run.start = np.where(usable[:, None], restart, run.start)
        if np.all(broken | (run.residual <= tolerance * np.abs(run.value))):
            break
    return spent


def krylov_dominant(
    product: Product, transpose: Product, starts: tuple[Array, Array], rtol: float, budget: int, scale: Array
) -> tuple[Dominant, int]:
    """Eigenvalue of largest modulus of every sample, from products with its matrix and with the transpose.

    Parameters
    ----------
    product, transpose : callable
    starts : two (B, n) float64 arrays
        Random, independent of each other: the right and the left run.
    rtol : float
        Relative error asked for.
    budget : int
        Products that each of the two runs may spend, in two rounds.
    scale : (B,) float64
        Norms of the matrices (or estimates), for the error of rounding.

    Returns
    -------
    Dominant
    products : int
    """
    n = starts[0].shape[1]
    m = min(n, _WINDOW)
    right, left = (_begin(start) for start in starts)
    tolerance = np.full(len(scale), rtol / 16)
    spent = 0
    # The second round knows the conditions, and asks for residuals that make up for them. It has a budget of its own: how much
    # of the first a slow neighbour used must not matter to a sample.
    for _ in range(2):
        spent += _iterate(product, right, m, tolerance, budget // 2)
        spent += _iterate(transpose, left, m, tolerance, budget // 2, near=right.value)
        lengths = np.linalg.norm(right.vector, axis=1) * np.linalg.norm(left.vector, axis=1)
        cosines = np.abs(np.einsum("bn,bn->b", left.vector, right.vector))
        condition = np.where(cosines > 0.0, lengths / np.where(cosines > 0.0, cosines, 1.0), np.inf)
        tolerance = np.maximum(rtol / (16 * condition), UNIT)
    noise = right.residual + (n + _ROUNDINGS) * UNIT * scale
    error = np.where(noise == 0.0, 0.0, condition * np.where(noise == 0.0, 1.0, noise))
    size = np.abs(right.value)
    met = (right.residual <= rtol * size) & (left.residual <= rtol * size)
    agreed = np.maximum(left.largest, right.largest) <= (1 + 2 * rtol) * size
    return Dominant(right.value, error, met & agreed), spent


def krylov_norm(product: Product, transpose: Product, start: Array, rtol: float, budget: int) -> tuple[Array, Array, int]:
    """Largest singular value of every sample, by the same iteration on the symmetric ``A^T A``.

    Returns
    -------
    norm, error : (B,) float64
        Some singular value lies within `error` of `norm`; NaN where the matrix is not finite.
    products : int
        Products with the matrix and with its transpose.
    """
    run = _begin(start)
    tolerance = np.full(len(start), rtol / 16)
    spent = _iterate(lambda v: transpose(product(v)), run, min(start.shape[1], _WINDOW), tolerance, budget // 2)
    norm = np.sqrt(np.abs(run.value))
    # |norm^2 - sigma^2| <= residual, so |norm - sigma| <= residual / norm
    noise = run.residual + (start.shape[1] + _ROUNDINGS) * UNIT * norm**2
    error = np.where(noise == 0.0, 0.0, noise / np.where(norm > 0.0, norm, 1.0))
    return norm, error, 2 * spent
