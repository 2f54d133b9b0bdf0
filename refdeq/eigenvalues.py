"""Dominant eigenvalues of real matrices, each with an estimate of its error: of dense ones, or from products alone.

What the power method gets wrong is got right here in this way. Its Rayleigh quotient oscillates when the dominant eigenvalues
are a complex pair; a Krylov space of the iterate holds the pair (with two vectors it is the fit of ``l^2 - a l - b`` to three
iterates; :mod:`refdeq.krylov` has more, and keeps every near rival). A small residual alone says little when the matrix is far
from normal; the condition of the eigenvalue, from a left eigenvector found in the same way from a start of its own, turns it
into an error. And rivals that are not resolved, or turn up when what was found is projected out, deny convergence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from refdeq.krylov import ROUNDINGS, UNIT, KrylovSchur, Product

__all__ = ["Dominant", "dense_dominant", "krylov_dominant", "krylov_norm"]

Array = np.ndarray

_RIVAL = 0.01
"""Eigenvalues are rivals of the dominant one down to this relative distance in modulus: all are searched for."""


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
        # LAPACK scales matrices of extreme size, and scipy.linalg.eig does not undo it; a power of two does, exactly
        exponent = int(np.frexp(np.abs(matrices[b]).max(initial=0.0))[1])
        found, top, bound, norm = _dominant_of(np.ldexp(matrices[b], -exponent))
        eigenvalues[b] = _scaled(found, exponent)
        value[b] = _upper(eigenvalues[b, top])
        error[b], norms[b] = np.ldexp(bound, exponent), np.ldexp(norm, exponent)
    return Dominant(value, error, finite), eigenvalues, norms


def _dominant_of(a: Array) -> tuple[Array, int, float, float]:
    """Eigenvalues of a matrix of entries up to 1, which of them is largest, its error, and the norm of the matrix."""
    n, norm = len(a), float(np.linalg.norm(a, 2))
    eigenvalues, condition = _conditions(a)
    sizes = np.abs(eigenvalues)
    top = int(np.argmax(sizes))
    noise = n * UNIT * np.linalg.norm(a)
    if noise == 0.0:
        return eigenvalues, top, 0.0, norm
    raised = np.max(sizes + condition * noise) - sizes[top]
    elsner = (2 * norm + noise) ** (1 - 1 / n) * noise ** (1 / n)
    # the radius lies between 0 and the norm, whatever else is known
    error = min(max(raised, condition[top] * noise), elsner, max(norm - sizes[top], sizes[top]))
    return eigenvalues, top, float(error), norm


def _scaled(values: Array, exponent: int) -> Array:
    scaled: Array = np.ldexp(values.real, exponent) + 1j * np.ldexp(values.imag, exponent)
    return scaled


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


def krylov_dominant(
    product: Product, transpose: Product, starts: tuple[Array, Array], rtol: float, budget: int, scale: float
) -> tuple[Dominant, int]:
    """Eigenvalue of largest modulus of one matrix, from products with it and with its transpose.

    Parameters
    ----------
    product, transpose : callable
    starts : two (n,) float64 arrays
        Random, independent of each other: of the right and of the left run.
    rtol : float
        Relative error asked for.
    budget : int
        Products that each of the three runs may spend: from the right, from the left, and in search of rivals.
    scale : float
        Norm of the matrix (or an estimate), for the error of rounding.

    Returns
    -------
    Dominant
        Arrays of one element.
    products : int

    Examples
    --------
    >>> a = np.array([[0.0, -0.5], [0.5, 0.0]])
    >>> one, two = np.array([1.0, 0.5]), np.array([-0.25, 1.0])
    >>> found, products = krylov_dominant(lambda v: a @ v, lambda v: a.T @ v, (one, two), 1e-9, 10, 0.5)
    >>> print(f"{found.value[0]:.12f}", found.found[0], products)
    0.000000000000+0.500000000000j True 4
    """
    n = len(starts[0])
    right, left = KrylovSchur(product, starts[0]), KrylovSchur(transpose, starts[1])
    tolerance, condition = rtol / 16, np.inf
    value, nearest = 0j, 0
    for _ in range(2):  # the second round knows the condition, and asks for residuals that make up for it
        right.run(partial(_accepted, tolerance=tolerance, rtol=rtol), budget - right.products)
        if not right.known:
            break
        value = complex(_upper(right.values[0]))
        left.run(partial(_found, value=value, tolerance=tolerance), budget - left.products)
        if not left.known:
            break
        nearest = _nearest(left, value)
        condition = _condition(right, left, nearest)
        tolerance = max(rtol / (16 * condition), UNIT)
    spent = right.products + left.products
    if not right.finite or not left.finite:
        return Dominant(np.full(1, np.nan + 0j), np.full(1, np.nan), np.zeros(1, dtype=bool)), spent
    if not right.known or not left.known:
        return Dominant(np.full(1, value), np.full(1, np.inf), np.zeros(1, dtype=bool)), spent
    noise = right.residuals[0] + (n + ROUNDINGS) * UNIT * scale
    error = max(condition * noise if noise > 0.0 else 0.0, right.excess())
    met = _accepted(right, rtol, rtol) and _found(left, value, rtol)
    sure = np.abs(left.values)[left.residuals <= rtol * abs(value)]
    agreed = met and float(np.max(sure, initial=0.0)) <= (1 + 2 * rtol) * abs(value)
    if agreed:
        most, products = _rivals(product, right, starts[1], rtol, budget)
        spent += products
        agreed, error = most <= (1 + 2 * rtol) * abs(value), max(error, most - abs(value))
    return Dominant(np.full(1, value), np.full(1, error), np.full(1, agreed)), spent


def _rivals(product: Product, space: KrylovSchur, start: Array, rtol: float, budget: int) -> tuple[float, int]:
    """Largest modulus that a run may have missed, and the products spent; infinite when the budget does not suffice.

    Of many eigenvalues of nearly one modulus a run resolves those first that stand apart. So what it has resolved is taken out
    of the matrix by a projection, and the rest searched from another start, until nothing of that modulus is left.
    """
    size, spent, most = abs(space.values[0]), 0, 0.0
    taken = space.invariant_basis(rtol * size)
    while len(taken) < len(start) and not space.invariant:
        space = KrylovSchur(partial(_projected, product, taken), _without(taken, start))
        space.run(partial(_accepted, tolerance=rtol / 16, rtol=rtol), budget - spent)
        spent += space.products
        if not space.known or not _accepted(space, rtol, rtol):
            return np.inf, spent
        most = max(most, abs(space.values[0]) + space.excess())
        if most > (1 + 2 * rtol) * size or abs(space.values[0]) <= (1 - _RIVAL) * size:
            break
        taken = np.concatenate([taken, space.invariant_basis(rtol * size)])
        taken = np.linalg.qr(taken.T)[0].T
    return most, spent


def _projected(product: Product, taken: Array, v: Array) -> Array:
    """Product with a matrix that sends an invariant subspace to 0 and keeps the other eigenvalues."""
    return _without(taken, product(v))


def _without(taken: Array, v: Array) -> Array:
    """Component orthogonal to orthonormal rows, twice because the first time leaves rounding."""
    once = v - (taken @ v) @ taken
    rest: Array = once - (taken @ once) @ taken
    return rest


def _accepted(space: KrylovSchur, tolerance: float, rtol: float) -> bool:
    """Whether the first Ritz value has a small residual, and no other may turn out larger."""
    size = np.abs(space.values[0])
    return bool(space.residuals[0] <= tolerance * size and space.excess() <= rtol * size)


def _found(space: KrylovSchur, value: complex, tolerance: float) -> bool:
    """Whether the Ritz value nearest to a given one has a small residual."""
    return bool(space.residuals[_nearest(space, value)] <= tolerance * abs(value))


def _nearest(space: KrylovSchur, value: complex) -> int:
    """The Ritz value of `space` nearest to one with imaginary part >= 0."""
    return int(np.argmin(np.abs(_upper(space.values) - value)))


def _condition(right: KrylovSchur, left: KrylovSchur, i: int) -> float:
    """Condition of the first Ritz value of `right`, ``1 / |y^T x|``, with the left eigenvector of the same member of a pair."""
    x, y = right.vector(0), left.vector(i)
    if right.values[0].imag * left.values[i].imag < 0.0:
        y = y.conj()
    cosine = abs(np.sum(x * y))
    return float(1.0 / cosine) if cosine > 0.0 else np.inf


def krylov_norm(product: Product, transpose: Product, start: Array, rtol: float, budget: int) -> tuple[float, float, bool, int]:
    """Largest singular value of one matrix, by the same iteration on the symmetric ``A^T A``.

    Returns
    -------
    norm, error : float
        Some singular value lies within `error` of `norm`; NaN where the matrix is not finite.
    found : bool
        Whether it is the largest as far as the iteration can tell.
    products : int
        With the matrix and with its transpose.

    Examples
    --------
    >>> norm, error, found, _ = krylov_norm(lambda v: 2.0 * v, lambda v: 2.0 * v, np.ones(3), 1e-9, 10)
    >>> norm, error < 1e-13, found
    (2.0, True, True)
    """
    space = KrylovSchur(lambda v: transpose(product(v)), start)
    space.run(partial(_accepted, tolerance=rtol / 16, rtol=rtol), budget // 2)
    if not space.known:
        unknown = np.nan if not space.finite else np.inf
        return np.nan, unknown, False, 2 * space.products
    norm = float(np.sqrt(np.abs(space.values[0])))
    # |norm^2 - sigma^2| <= residual, so |norm - sigma| <= residual / norm
    noise = float(space.residuals[0]) + (len(start) + ROUNDINGS) * UNIT * norm**2
    error = (noise + space.excess()) / norm if norm > 0.0 else 0.0
    return norm, error, _accepted(space, rtol, rtol), 2 * space.products
