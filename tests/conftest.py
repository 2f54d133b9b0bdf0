"""What every test may use: seeded randomness, bit comparison, and the cells that appear all over the core's tests."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import settings

import refdeq as rd

gc.set_threshold(20_000, 20, 20)
"""Tests and Numba's compiler make many objects that stay: looking through them as often as usual takes a tenth of the time."""


def pytest_collection_finish():
    """What collecting made stays until the end: no need to look through it ever again."""
    gc.freeze()


settings.register_profile("refdeq", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("refdeq")


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


def _bits(array):
    """The bits of a float array; all NaNs count as one value, +0 and -0 as two."""
    array = np.asarray(array)
    if array.dtype.kind != "f":
        return array
    return np.where(np.isnan(array), np.array(np.nan, dtype=array.dtype), array).view(f"u{array.dtype.itemsize}")


@pytest.fixture(scope="session")
def same_bits():
    """Assert that two arrays have one shape, dtype and bit pattern (whatever NaN payload)."""

    def check(actual, expected):
        actual, expected = np.ascontiguousarray(actual), np.ascontiguousarray(expected)
        assert actual.dtype == expected.dtype
        assert actual.shape == expected.shape
        np.testing.assert_array_equal(_bits(actual), _bits(expected))

    return check


@pytest.fixture(scope="session")
def affine_cell():
    """Build ``z <- A z + (b + x)``: the fixed point is a linear solve."""

    def build(a, b):
        builder = rd.GraphBuilder(str(a.dtype))
        z, x = builder.state("z", (len(a),)), builder.injection("x", (len(a),))
        shift = builder.node("Add", x, builder.parameter("b", b), name="shift")
        linear = builder.node("Gemm", z, builder.parameter("A", a), transB=1, name="linear")
        builder.output(z, builder.node("Add", linear, shift, name="f"))
        return builder.build()

    return build


@pytest.fixture(scope="session")
def tanh_cell():
    """Build a seeded contraction ``z <- tanh(W z + (U x + b))`` with the given norm of W."""

    def build(n=6, d=2, dtype="float64", norm=0.8, seed=1):
        rng = np.random.default_rng(seed)
        w = rng.standard_normal((n, n))
        w *= norm / np.linalg.norm(w, 2)
        return rd.models.rnn(w.astype(dtype), rng.standard_normal((n, d)).astype(dtype), rng.standard_normal(n).astype(dtype))

    return build


@pytest.fixture(scope="session")
def conv_cell():
    """Build a small convolutional cell with a shared gate: ``z <- tanh(C1(z) + x) * sigmoid(C2(z))``."""

    def build(channels=3, dtype="float64", seed=2, scale=0.15):
        rng = np.random.default_rng(seed)
        builder = rd.GraphBuilder(dtype)
        z, x = builder.state("z", (channels, 4, 5)), builder.injection("x", (channels, 4, 5))

        def weight(name):
            return builder.parameter(name, (scale * rng.standard_normal((channels, channels, 3, 3))).astype(dtype))

        bias = builder.parameter("b1", rng.standard_normal(channels).astype(dtype))
        first = builder.node("Conv", z, weight("W1"), bias, pads=(1, 1, 1, 1), name="c1")
        second = builder.node("Conv", z, weight("W2"), pads=(1, 1, 1, 1), name="c2")
        value = builder.node("Tanh", builder.node("Add", first, x))
        builder.output(z, builder.node("Mul", value, builder.node("Sigmoid", second), name="f"))
        return builder.build()

    return build
