"""What the tests of the Numba backend share: equality of bits, arrays full of awkward numbers, and the planted bugs."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / "validation"), str(Path(__file__).parent)]

SPECIAL = [
    0.0,
    -0.0,
    np.nan,
    np.inf,
    -np.inf,
    5e-324,
    -5e-324,
    1e-45,
    -1e-45,
    1e-310,
    3e38,
    -3e38,
    1.7e308,
    65519.0,
    65520.0,
    6e-8,
]


def _assert_same_bits(got, expected):
    """Same dtype, shape and bits; a NaN may be any NaN (its payload is not arithmetic)."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    unsigned = f"u{got.dtype.itemsize}"
    same = np.ascontiguousarray(got).view(unsigned) == np.ascontiguousarray(expected).view(unsigned)
    if got.dtype.kind == "f":
        same = same | (np.isnan(got) & np.isnan(expected))
    assert same.all(), f"{(~same).sum()} of {same.size} differ, first: {got[~same][0]!r} instead of {expected[~same][0]!r}"


def _numbers(rng, shape, dtype, special=0.0):
    """Normal numbers, of which the share `special` is replaced by awkward ones."""
    values = rng.standard_normal(shape)
    awkward = rng.random(shape) < special
    with np.errstate(over="ignore"):
        return np.where(awkward, rng.choice(SPECIAL, shape), values).astype(dtype)


@pytest.fixture(scope="session")
def assert_same_bits():
    return _assert_same_bits


@pytest.fixture(scope="session")
def numbers():
    return _numbers
