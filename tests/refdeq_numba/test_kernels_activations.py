"""The compiled strict activations have the bits of refdeq.scalar everywhere."""

import numpy as np
import pytest
from numba import njit
from refdeq_numba import activations
from refdeq_numba.kernels import NumbaKernels

from refdeq import scalar

NAMES = {"Tanh": "tanh", "Sigmoid": "sigmoid", "Sin": "sin", "Cos": "cos", "Exp": "exp"}
DTYPES = ["float32", "float64"]


def edges():
    """Every place where a formula changes, one ulp to both sides, with both signs, and the special values."""
    turns = [
        0.625,
        709.782712893384,
        745.1332191019412,
        708.396418532264,
        2.0**20,
        2.0**30,
        372.5,
        354.8,
        20.0,
        1e300,
        0.5,
        1.0,
    ]
    turns += [0.25 * np.pi * k for k in range(1, 9)]
    sides = [np.nextafter(t, towards) for t in turns for towards in (-np.inf, np.inf)]
    tiny = [0.0, 5e-324, 1e-310, 2.2250738585072014e-308, 1e-45, 1.2e-38, 1e-20, 1.7976931348623157e308, np.inf]
    positive = np.array([*turns, *sides, *tiny])
    return np.concatenate([positive, -positive, [np.nan]])


def points(dtype):
    rng = np.random.default_rng(8)
    spread = np.exp(rng.uniform(-740.0, 709.0, 6000)) * rng.choice([-1.0, 1.0], 6000)
    parts = [edges(), rng.standard_normal(6000), rng.uniform(-760, 760, 6000), rng.uniform(-(2**30), 2**30, 6000), spread]
    with np.errstate(over="ignore", under="ignore"):
        return np.concatenate(parts).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_bits_are_those_of_the_scalar_formulas(name, dtype, assert_same_bits):
    x = points(dtype)
    function = getattr(scalar, NAMES[name])
    with np.errstate(over="ignore", under="ignore"):
        expected = np.array([function(float(v)) for v in x]).astype(dtype)
    out = np.empty_like(x)
    NumbaKernels().ops[name]([x[None]], [True], {}, np.ones(1, dtype=bool), out[None])
    assert_same_bits(out, expected)


@pytest.mark.parametrize("name", NAMES)
def test_bits_do_not_depend_on_the_length_of_the_loop(name, assert_same_bits):
    """Vector body and scalar tail of the compiled loop agree."""
    x = np.linspace(-3.0, 3.0, 37)
    whole, single = np.empty_like(x), np.empty_like(x)
    kernels, one = NumbaKernels(), np.ones(1, dtype=bool)
    kernels.ops[name]([x[None]], [True], {}, one, whole[None])
    for k in range(len(x)):
        kernels.ops[name]([x[None, k : k + 1]], [True], {}, one, single[None, k : k + 1])
    assert_same_bits(single, whole)


def test_a_fastmath_caller_does_not_change_the_bits_of_anyone(assert_same_bits):
    """Numba lets functions inherit fastmath from the first caller, for every later caller as well."""

    @njit(fastmath=True)
    def careless(x, y):
        for i in range(x.size):
            y[i] = activations.sin(x[i]) + activations.sigmoid(x[i])

    @njit
    def careful(x, y):
        for i in range(x.size):
            y[i] = activations.sin(x[i]) + activations.sigmoid(x[i])

    x = np.linspace(-7.0, 7.0, 2001)
    first, second = np.empty_like(x), np.empty_like(x)
    careless(x, first)
    careful(x, second)
    expected = np.array([scalar.sin(v) + scalar.sigmoid(v) for v in x.tolist()])
    assert_same_bits(first, expected)
    assert_same_bits(second, expected)
