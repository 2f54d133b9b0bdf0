"""Monotone operator equilibrium networks: a unique fixed point for weights of any norm.

``z <- relu(W z + U x + b)`` with ``W = (1 - m) I - A^T A + B - B^T``, so that the symmetric part of ``I - W`` is
``m I + A^T A``: strongly monotone with constant m for every A and B. Source: Winston and Kolter, "Monotone operator equilibrium
networks", NeurIPS 2020 (initial weights: uniform within ``1 / sqrt(fan_in)``, the default of the published code's layers).
"""

from __future__ import annotations

import numpy as np

from refdeq.checks import check_integer, check_number
from refdeq.errors import DTypeError, ShapeError
from refdeq.graph import Cell, GraphBuilder

__all__ = ["monotone", "monotone_pullback", "monotone_weight", "random_monotone"]

Array = np.ndarray


def check_monotonicity(m: float) -> float:
    """Monotonicity constant as a float; must be positive."""
    check_number("m", m, "a number > 0", low=0.0, open_low=True, high=1e300)
    return float(m)


def monotone_weight(a: Array, b_skew: Array, m: float = 1.0) -> Array:
    """Weight ``W = (1 - m) I - A^T A + B - B^T``, formed in float64 and rounded once.

    Parameters
    ----------
    a : (k, n) float32 or float64
    b_skew : (n, n), same dtype
    m : float
        Strong monotonicity of ``I - W``, > 0.

    Returns
    -------
    (n, n) array of the dtype of `a`

    Examples
    --------
    >>> monotone_weight(np.eye(2), np.array([[0.0, 3.0], [1.0, 0.0]]))
    array([[-1.,  2.],
           [-2., -1.]])
    """
    m = check_monotonicity(m)
    if a.ndim != 2 or b_skew.shape != (a.shape[1], a.shape[1]):
        raise ShapeError("a and b_skew", expected="(k, n) and (n, n)", got=(a.shape, b_skew.shape))
    if a.dtype != b_skew.dtype:
        raise DTypeError("b_skew", expected=a.dtype, got=b_skew.dtype)
    wide, skew = a.astype(np.float64), b_skew.astype(np.float64)
    weight: Array = (1.0 - m) * np.eye(a.shape[1]) - wide.T @ wide + (skew - skew.T)
    return weight.astype(a.dtype)


def monotone(a: Array, b_skew: Array, u: Array, b: Array, m: float = 1.0) -> Cell:
    """Build the cell ``z <- relu(W z + (U x + b))``; the bias belongs to the x-only Gemm (E-1).

    Parameters
    ----------
    a : (k, n) float32 or float64
    b_skew : (n, n), same dtype
    u : (n, d), same dtype
    b : (n,), same dtype
    m : float
        Strong monotonicity of ``I - W``, > 0.

    Returns
    -------
    Cell with state ``z`` (n,), injection ``x`` (d,) and parameters ``W``, ``U``, ``b``

    Examples
    --------
    >>> import refdeq
    >>> cell = monotone(np.eye(1), np.zeros((1, 1)), np.ones((1, 1)), np.zeros(1))  # z <- relu(-z + x)
    >>> sol = refdeq.solve(cell, np.array([[3.0], [-3.0]]), solver=refdeq.PeacemanRachford(alpha=0.5))
    >>> bool(abs(sol.z[0, 0] - 1.5) < 1e-5), bool(abs(sol.z[1, 0]) < 1e-5)
    (True, True)
    """
    builder = GraphBuilder(str(a.dtype))
    weight = builder.parameter("W", monotone_weight(a, b_skew, m))
    z, x = builder.state("z", (a.shape[1],)), builder.injection("x", u.shape[1:])
    inward, bias = builder.parameter("U", u), builder.parameter("b", b)
    injected = builder.node("Gemm", x, inward, bias, transB=1, name="injected")
    recurrent = builder.node("Gemm", z, weight, transB=1, name="recurrent")
    total = builder.node("Add", recurrent, injected, name="total")
    builder.output(z, builder.node("Relu", total, name="f"))
    return builder.build()


def monotone_pullback(a: Array, gradient: Array) -> tuple[Array, Array]:
    """Gradients of A and B from that of W: ``dA = -A (G + G^T)``, ``dB = G - G^T``.

    Parameters
    ----------
    a : (k, n) array
    gradient : (n, n) array
        ``dL/dW``.

    Returns
    -------
    to_a : (k, n) array
    to_b : (n, n) array

    Examples
    --------
    >>> monotone_pullback(np.ones((1, 2)), np.array([[1.0, 2.0], [0.0, 0.0]]))
    (array([[-4., -2.]]), array([[ 0.,  2.],
           [-2.,  0.]]))
    """
    return -a @ (gradient + gradient.T), gradient - gradient.T


def random_monotone(n: int, d: int, rng: np.random.Generator, *, dtype: str = "float64") -> tuple[Array, Array, Array, Array]:
    """Draw A, B, U and b by the published defaults: each uniform within ``1 / sqrt(fan_in)``.

    Parameters
    ----------
    n, d : int
        Lengths of state and injection, at least 1.
    rng : numpy.random.Generator
    dtype : {"float64", "float32"}

    Returns
    -------
    a, b_skew, u, b
        As :func:`monotone` takes them.

    Examples
    --------
    >>> [array.shape for array in random_monotone(4, 2, np.random.default_rng(0))]
    [(4, 4), (4, 4), (4, 2), (4,)]
    """
    check_integer("n", n, low=1)
    check_integer("d", d, low=1)

    def draw(fan_in: int, *shape: int) -> Array:
        return rng.uniform(-(fan_in**-0.5), fan_in**-0.5, shape).astype(dtype)

    return draw(n, n, n), draw(n, n, n), draw(d, n, d), draw(d, n)
