"""Rounding to float16 and bfloat16 against exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdeq.formats import round_to_format

PARAMETERS = {"float16": (11, -24, 65504.0), "bfloat16": (8, -133, 3.3895313892515355e38)}  # precision, smallest step, largest


def oracle(x: float, name: str) -> float:
    """Round to nearest, ties to even, from the definition of the format."""
    precision, lowest, largest = PARAMETERS[name]
    if math.isnan(x) or math.isinf(x) or x == 0.0:
        return x
    step = Fraction(2) ** max(math.frexp(x)[1] - precision, lowest)
    rounded = round(Fraction(x) / step) * step  # Fraction rounds ties to even
    return math.copysign(float(abs(rounded)) if abs(rounded) <= Fraction(largest) else math.inf, x)


def all_numbers(name):
    """Every finite number of a format, from the bits."""
    codes = np.arange(2**16, dtype=np.uint32)
    values = codes.astype(np.uint16).view(np.float16) if name == "float16" else (codes << 16).view(np.float32)
    return np.unique(values[np.isfinite(values)].astype(np.float64))


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_numbers_of_the_format_stay(name, same_bits):
    values = all_numbers(name)
    assert values.max() == PARAMETERS[name][2]
    same_bits(round_to_format(values, name), values)
    same_bits(round_to_format(values.astype(np.float32), name), values.astype(np.float32))


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_midpoints_of_all_neighbours_go_to_the_even_one(name):
    values = all_numbers(name)
    middle = values[:-1] + (values[1:] - values[:-1]) / 2
    below, above = np.nextafter(middle, -np.inf), np.nextafter(middle, np.inf)
    np.testing.assert_array_equal(round_to_format(below, name), values[:-1])
    np.testing.assert_array_equal(round_to_format(above, name), values[1:])
    picked = np.random.default_rng(1).choice(len(middle), 3000, replace=False)
    np.testing.assert_array_equal(round_to_format(middle, name)[picked], [oracle(float(x), name) for x in middle[picked]])


@given(st.floats(), st.sampled_from(sorted(PARAMETERS)))
def test_any_number(x, name):
    np.testing.assert_array_equal(round_to_format(np.array([x]), name), [oracle(x, name)])


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_special_values(name, same_bits):
    largest = PARAMETERS[name][2]
    values = np.array([np.nan, np.inf, -np.inf, -0.0, 1e300, -1e300, largest])
    same_bits(round_to_format(values, name), np.array([np.nan, np.inf, -np.inf, -0.0, np.inf, -np.inf, largest]))
    assert round_to_format(values[:0], name).shape == (0,)


def test_unknown_format():
    with pytest.raises(ValueError, match="float8"):
        round_to_format(np.zeros(1), "float8")
