"""Circular convolutions as matrices per frequency: symbols, their inverses, composition of kernels.

A convolution here is ONNX's, that is a correlation: ``y[p] = sum_t w[t] x[p + t - origin]``, with indices modulo the lengths of
the signal. Everything is float64. Source: Winston and Kolter, "Monotone operator equilibrium networks", NeurIPS 2020.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

__all__ = ["center", "compose", "dense_matrix", "embedding", "inverse_symbol", "symbol", "transpose_kernel"]

Array = np.ndarray
Shape = tuple[int, ...]
Index = tuple[Any, ...]


def center(kernel: Array) -> Shape:
    """Middle tap of a kernel, the origin of an odd one: ``(k - 1) // 2`` per axis.

    >>> center(np.zeros((2, 2, 3, 5)))
    (1, 2)
    """
    return tuple((k - 1) // 2 for k in kernel.shape[2:])


def symbol(kernel: Array, size: Shape, origin: Shape | None = None) -> Array:
    """Symbol ``w_hat(k) = sum_t w[t] exp(2 pi i k.(t - origin) / size)`` of a circular convolution.

    Parameters
    ----------
    kernel : (M, C, ...) array
    size : tuple of int
        Lengths of the signal, one per spatial axis.
    origin : tuple of int, optional
        The tap that meets its own site; the middle one by default.

    Returns
    -------
    (*size, M, C) complex128
        One matrix per frequency: the transform of the convolution's output is this matrix times the transform of its input.

    Examples
    --------
    >>> symbol(np.ones((1, 1, 3)), (4,))[:, 0, 0].real.round(12)
    array([ 3.,  1., -1.,  1.])
    """
    origin = center(kernel) if origin is None else origin
    found = np.asarray(kernel, dtype=np.float64).astype(np.complex128)
    for axis, (length, first) in enumerate(zip(size, origin, strict=True)):
        taps = np.arange(kernel.shape[2 + axis]) - first
        # the product is reduced modulo the length, so that the angle stays below one turn
        phase = np.exp(2j * np.pi * (np.outer(np.arange(length), taps) % length) / length)
        # contracts the next spatial axis of the kernel and appends its frequencies
        found = np.tensordot(found, phase, axes=(2, 1))
    return np.moveaxis(found, (0, 1), (-2, -1))


def inverse_symbol(w_hat: Array, alpha: float) -> Array:
    """Symbol of ``V = ((1 + alpha) I - alpha W)^-1``, one small inverse per frequency.

    Parameters
    ----------
    w_hat : (..., C, C) complex
    alpha : float

    Examples
    --------
    >>> inverse_symbol(np.full((1, 1, 1), -1.0 + 0j), 1.0).real
    array([[[0.33333333]]])
    """
    inverse: Array = np.linalg.inv((1.0 + alpha) * np.eye(w_hat.shape[-1]) - alpha * w_hat)
    return inverse


def embedding(w_hat: Array) -> Array:
    """Real form ``[[a, -b], [b, a]]`` of complex matrices ``a + b i``: it maps (real parts, imaginary parts) to the same.

    >>> embedding(np.array([[1.0 + 2.0j]]))
    array([[ 1., -2.],
           [ 2.,  1.]])
    """
    return np.block([[w_hat.real, -w_hat.imag], [w_hat.imag, w_hat.real]])


def compose(left: Array, right: Array) -> Array:
    """Kernel of "`right`, then `left`", centred when both are: taps add, channels multiply.

    Parameters
    ----------
    left : (M, K, ...) array
    right : (K, C, ...) array

    Returns
    -------
    (M, C, ...) array, of ``k_left + k_right - 1`` taps per axis

    Examples
    --------
    >>> compose(np.array([[[1.0, 2.0]]]), np.array([[[1.0, 0.0, 3.0]]]))
    array([[[1., 2., 3., 6.]]])
    """
    lengths = tuple(m + n - 1 for m, n in zip(left.shape[2:], right.shape[2:], strict=True))
    out = np.zeros((left.shape[0], right.shape[1], *lengths))
    for tap in itertools.product(*map(range, left.shape[2:])):
        source: Index = (..., *tap)
        target: Index = (..., *(slice(t, t + n) for t, n in zip(tap, right.shape[2:], strict=True)))
        out[target] += np.tensordot(left[source], right, axes=1)
    return out


def transpose_kernel(kernel: Array) -> Array:
    """Kernel of the transpose of a centred circular convolution: channels exchanged, taps reversed.

    >>> transpose_kernel(np.array([[[1.0, 2.0, 3.0]]]))
    array([[[3., 2., 1.]]])
    """
    return np.flip(np.swapaxes(kernel, 0, 1), axis=tuple(range(2, kernel.ndim)))


def dense_matrix(kernel: Array, size: Shape, origin: Shape | None = None) -> Array:
    """Matrix (M prod(size), C prod(size)) of a circular convolution, by the definition: for small cases and for tests.

    >>> dense_matrix(np.array([[[0.0, 1.0, 5.0]]]), (3,))
    array([[1., 5., 0.],
           [0., 1., 5.],
           [5., 0., 1.]])
    """
    origin = center(kernel) if origin is None else origin
    outputs, inputs = kernel.shape[:2]
    matrix = np.zeros((outputs, *size, inputs, *size))
    for site in itertools.product(*map(range, size)):
        for tap in itertools.product(*map(range, kernel.shape[2:])):
            source = ((p + t - o) % n for p, t, o, n in zip(site, tap, origin, size, strict=True))
            entry: Index = (slice(None), *site, slice(None), *source)
            weights: Index = (..., *tap)
            matrix[entry] += kernel[weights]
    return matrix.reshape(outputs * int(np.prod(size)), inputs * int(np.prod(size)))
