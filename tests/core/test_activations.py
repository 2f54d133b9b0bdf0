"""The array activations are the scalar ones, bit for bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdeq import scalar
from refdeq.activations import STRICT, strict

SPECIALS = [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, -5e-324, 2.2e-308, 1e-300, -1e-300, 1e300, -1e300]
EDGES = [
    709.782712893384,
    709.7827128933841,
    -745.1332191019412,
    -745.2,
    0.625,
    -0.625,
    2.0**20,
    2.0**30,
    -(2.0**30),
    2.0**30 + 1,
]


def points():
    rng = np.random.default_rng(3)
    spread = np.ldexp(rng.uniform(-1, 1, 3000), rng.integers(-40, 32, 3000))
    halves = np.arange(-200, 200) * (math.log(2) / 2)  # where exp changes its power of two
    quarters = np.arange(-200, 200) * (math.pi / 4)  # where sine and cosine change quadrant
    return np.concatenate([spread, halves, quarters, EDGES, SPECIALS])


@pytest.mark.parametrize("name", sorted(STRICT))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_equal_to_the_scalar_formulas(name, dtype, same_bits):
    with np.errstate(all="ignore"):
        x = points().astype(dtype)
        expected = [getattr(scalar, name.lower())(float(value)) for value in x]
        same_bits(strict(name, x), np.array(expected).astype(dtype))


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_float32_is_rounded_once_from_float64(values):
    x = np.array(values, dtype=np.float32)
    with np.errstate(all="ignore"):
        for name in STRICT:
            wide = STRICT[name](x.astype(np.float64))
            np.testing.assert_array_equal(strict(name, x), wide.astype(np.float32))


@pytest.mark.parametrize("name", sorted(STRICT))
def test_shape_dtype_and_independence_of_neighbours(name, same_bits, rng):
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    whole = strict(name, x)
    assert whole.shape == x.shape
    assert whole.dtype == np.float32
    same_bits(whole[1, 2], strict(name, x[1, 2]))  # no vector path of its own
    assert strict(name, x[:0]).shape == (0, 3, 4)
