"""Circular convolutions per frequency against the definition, dense matrices and each other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from refdeq.circular import center, compose, dense_matrix, embedding, inverse_symbol, symbol, transpose_kernel

U = 2.0**-53
SIZES = [(6, 6), (5, 8), (4, 3), (2, 5), (1, 7)]


def direct(kernel, x, origin):
    """The definition with ``np.roll``: ``y[p] = sum_t w[t] x[p + t - origin]``."""
    y = np.zeros((len(x), kernel.shape[0], *x.shape[2:]))
    for tap in itertools.product(*map(range, kernel.shape[2:])):
        shift = tuple(o - t for o, t in zip(origin, tap, strict=True))
        y += np.einsum("oi,ni...->no...", kernel[(..., *tap)], np.roll(x, shift, tuple(range(2, x.ndim))))
    return y


def apply(matrices, x):
    """Multiply by a symbol with NumPy's transforms."""
    axes = tuple(range(2, x.ndim))
    waves = np.moveaxis(np.fft.fftn(x, axes=axes), 1, -1)[..., None]
    return np.fft.ifftn(np.moveaxis((matrices @ waves)[..., 0], -1, 1), axes=axes).real


def limit(kernel, x):
    """Error of a convolution by transforms, and of the direct one.

    Per axis of length n a transform loses less than ``n + 8`` roundings of a unit-modulus sum; both ways, the product with
    C channels of a symbol of T taps (each a rounded phase) and the direct sum of C T products come on top. All are relative to
    the sum of absolute weights times the sum of absolute values of the signal, which bounds every transform.
    """
    taps = int(np.prod(kernel.shape[2:]))
    roundings = 2 * sum(length + 8 for length in x.shape[2:]) + 8 * taps + 2 * x.shape[1] + 8
    return roundings * U * np.abs(kernel).sum() * np.abs(x).sum()


@pytest.mark.parametrize("taps", [(3, 3), (5, 5), (2, 4), (1, 1)])
@pytest.mark.parametrize("size", SIZES)
def test_symbol_against_the_definition(size, taps, rng):
    kernel, x = rng.standard_normal((2, 3, *taps)), rng.standard_normal((2, 3, *size))
    for origin in (center(kernel), (0,) * len(taps), tuple(t - 1 for t in taps)):
        error = apply(symbol(kernel, size, origin), x) - direct(kernel, x, origin)
        assert np.abs(error).max() <= limit(kernel, x)


def test_one_axis(rng):
    kernel, x = rng.standard_normal((2, 2, 3)), rng.standard_normal((1, 2, 9))
    assert np.abs(apply(symbol(kernel, (9,)), x) - direct(kernel, x, (1,))).max() <= limit(kernel, x)


@pytest.mark.parametrize("size", SIZES)
def test_dense_matrix_against_the_definition(size, rng):
    """Integers: no rounding at all. Kernels larger than the signal wrap around more than once."""
    kernel, x = rng.integers(-4, 5, (2, 3, 5, 3)).astype(float), rng.integers(-4, 5, (2, 3, *size)).astype(float)
    for origin in (None, (0, 2)):
        y = direct(kernel, x, center(kernel) if origin is None else origin)
        matrix = dense_matrix(kernel, size, origin)
        np.testing.assert_array_equal((x.reshape(2, -1) @ matrix.T).reshape(y.shape), y)


@pytest.mark.parametrize("size", SIZES)
def test_composition_and_transpose_of_kernels(size, rng):
    left, right = rng.integers(-4, 5, (2, 3, 3, 3)).astype(float), rng.integers(-4, 5, (3, 4, 3, 3)).astype(float)
    product = dense_matrix(left, size) @ dense_matrix(right, size)
    np.testing.assert_array_equal(dense_matrix(compose(left, right), size), product)
    np.testing.assert_array_equal(dense_matrix(transpose_kernel(right), size), dense_matrix(right, size).T)


def test_the_symbol_of_the_transpose_is_the_hermitian_conjugate(rng):
    kernel = rng.standard_normal((3, 2, 3, 5))
    one, two = symbol(transpose_kernel(kernel), (6, 5)), np.conj(np.swapaxes(symbol(kernel, (6, 5)), -1, -2))
    # 15 terms with phases of modulus 1, each a few roundings
    assert np.abs(one - two).max() <= (15 + 16) * 2 * U * np.abs(kernel).sum()


@pytest.mark.parametrize("alpha", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("size", [(6, 6), (4, 3)])
def test_inverse_symbol(size, alpha, rng):
    """Applying ``(1 + alpha) I - alpha W`` to V x gives x back, up to what V and the two applications lose."""
    kernel = 0.2 * rng.standard_normal((3, 3, 5, 5))
    x = rng.standard_normal((2, 3, *size))
    w_hat = symbol(kernel, size)
    forward = (1 + alpha) * np.eye(3) - alpha * w_hat
    v_hat = inverse_symbol(w_hat, alpha)
    condition = np.linalg.cond(forward).max()
    back = apply(forward, apply(v_hat, x))
    # inversion of 3 x 3 complex matrices: a modest multiple of n u cond; two applications by transforms, each below 64 u
    assert np.abs(back - x).max() <= 2 * (64 + 8 * 3) * U * condition * np.abs(x).sum()
    dense = np.linalg.inv((1 + alpha) * np.eye(3 * size[0] * size[1]) - alpha * dense_matrix(kernel, size))
    same = (x.reshape(2, -1) @ dense.T).reshape(x.shape) - apply(v_hat, x)
    assert np.abs(same).max() <= 2 * (64 + 8 * len(dense)) * U * condition * np.abs(x).sum()


def test_embedding_is_a_ring_homomorphism(rng):
    a, b = (rng.integers(-4, 5, (4, 3, 3)) + 1j * rng.integers(-4, 5, (4, 3, 3)) for _ in range(2))
    np.testing.assert_array_equal(embedding(a @ b), embedding(a) @ embedding(b))
    np.testing.assert_array_equal(embedding(np.conj(np.swapaxes(a, -1, -2))), np.swapaxes(embedding(a), -1, -2))
    z = rng.integers(-4, 5, (4, 3, 1)) + 1j * rng.integers(-4, 5, (4, 3, 1))
    stacked = embedding(a) @ np.concatenate([z.real, z.imag], axis=-2)
    np.testing.assert_array_equal(stacked, np.concatenate([(a @ z).real, (a @ z).imag], axis=-2))
