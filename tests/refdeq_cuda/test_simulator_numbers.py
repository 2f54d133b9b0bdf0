"""Numbers in the simulator: fused multiply-add, narrow formats, widths of integers, mixtures of types."""

from fractions import Fraction

import numpy as np
import pytest
from numba import float64, int32, uint32
from refdeq_cuda.arithmetic import fma, plus
from refdeq_cuda.rounding import to_bfloat16, to_float16
from refdeq_cuda.simulator import launch
from refdeq_cuda.simulator_linker import link

from refdeq.errors import LaunchError
from refdeq.formats import round_to_format


def nearest(exact, kind):
    """The number of `kind` next to a rational one, ties to even (for results that are no subnormals and do not overflow)."""
    digits = {np.float32: 24, np.float64: 53}[kind]
    if exact == 0:
        return kind(0)
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= size < Fraction(2) ** exponent
    unit = Fraction(2) ** (exponent - digits + 1)
    return kind(float(round(exact / unit) * unit))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_fused_multiply_add_is_rounded_once(kind):
    """Among them sums next to the middle of two numbers, which rounding twice gets wrong."""
    rng = np.random.default_rng(1)
    fused = link(fma_of)
    differs = 0
    small = {np.float32: -36, np.float64: -80}[kind]
    for _ in range(500):
        a, b = kind(rng.standard_normal()), kind(rng.standard_normal())
        c = kind(rng.standard_normal())
        if rng.random() < 0.5:  # a c with few bits, and a product that ends far below its last
            a = kind(1 + 2.0 ** -rng.integers(1, 12))
            b, c = kind(2.0 ** rng.integers(small, -20)), kind(1 + rng.integers(0, 99) * 2.0**-22)
        exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
        assert fused(a, b, c) == nearest(exact, kind)
        differs += fused(a, b, c) != a * b + c
    assert differs > 50


def fma_of(a, b, c):
    return fma(a, b, c)


def test_float32_is_not_rounded_through_float64():
    """A sum just below the middle of two numbers of float32, by less than float64 can tell."""
    a, b, c = np.float32(2**-12 + 2**-27), np.float32(2**-12 - 2**-27), np.float32(1 + 2**-23)
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    assert link(fma_of)(a, b, c) == nearest(exact, np.float32) == c
    assert np.float32(np.float64(a) * np.float64(b) + np.float64(c)) == np.float32(1 + 2**-22)


@pytest.mark.parametrize(("function", "name", "digits"), [(to_float16, "float16", 11), (to_bfloat16, "bfloat16", 8)])
def test_narrow_formats_are_rounded_as_by_the_reference(function, name, digits):
    """Ties, their neighbours, subnormals and overflow, over all exponents."""
    exponents = np.arange(-160, 131)
    steps = 1 + np.arange(0, 40, 3) * 2.0 ** -(digits + 1)
    values = np.ldexp(*(part.reshape(-1) for part in np.meshgrid(steps, exponents)))
    values = np.concatenate(
        [values, np.nextafter(values, 0), np.nextafter(values, np.inf), [0.0, np.inf, np.nan, 65519.99, 1e300]]
    )
    values = np.concatenate([values, -values])
    expected = round_to_format(values, name)
    with np.errstate(all="ignore"):
        got = np.array([link(function)(x) for x in values])
    same = (got.view("u8") == expected.view("u8")) | (np.isnan(got) & np.isnan(expected))
    assert same.all(), values[~same][:5]


def test_integers_are_as_wide_as_they_say():
    def widths(out):
        out[0] = uint32(-1)
        out[1] = int32(7)

    out = np.zeros(2, dtype=np.int64)
    launch(widths, 1, 1, (out,))
    assert out.tolist() == [2**32 - 1, 7]

    def too_wide(out):
        out[0] = int32(2**31)

    with pytest.raises(LaunchError, match="does not fit in int32"):
        launch(too_wide, 1, 1, (out,))


def test_sums_and_products_are_those_of_one_type():
    def mixed(x):
        x[0] = plus(x[0], float64(1))

    with pytest.raises(LaunchError, match="float32 and float64"):
        launch(mixed, 1, 1, (np.zeros(1, np.float32),))
