"""The scalar truth: hand-computed cases, and activations against 60-digit decimal arithmetic."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdeq import scalar

TINY = 5e-324


# ------------------------------------------------------------------------------------------------------------ the delta rule


@pytest.mark.parametrize(
    ("delta", "threshold", "gt", "ge"),
    [
        (0.5, 0.5, False, True),
        (-0.5, 0.5, False, True),
        (math.nextafter(0.5, 1), 0.5, True, True),
        (-math.nextafter(0.5, 0), 0.5, False, False),
        (math.nan, 0.5, True, True),
        (math.nan, math.inf, True, True),
        (math.inf, 0.5, True, True),
        (-math.inf, math.inf, False, True),
        (0.0, 0.0, False, True),
        (-0.0, 0.0, False, True),
        (TINY, 0.0, True, True),
        (TINY, TINY, False, True),
        (1e308, math.inf, False, False),
    ],
)
def test_decisions_at_and_around_the_threshold(delta, threshold, gt, ge):
    assert scalar.is_sent(delta, threshold, "gt") is gt
    assert scalar.is_sent(delta, threshold, "ge") is ge


@pytest.mark.parametrize("delta", [math.nan, math.inf, -1.0, -0.0])
def test_what_is_not_sent_is_positive_zero(delta):
    assert math.copysign(1.0, scalar.gated(delta, False)) == 1.0
    assert scalar.gated(delta, False) == 0.0
    assert scalar.gated(delta, True) is delta


def test_memory_keeps_the_bits_of_the_value():
    assert math.copysign(1.0, scalar.remember(-0.0, 0.0, False, "always")) == -1.0
    assert math.copysign(1.0, scalar.remember(-0.0, 0.0, False, "sent")) == 1.0
    assert math.copysign(1.0, scalar.remember(-0.0, 0.0, True, "sent")) == -1.0
    # r + (u - r) would round to 1.0: the reference takes the bits of u
    assert scalar.remember(1e-17, 1.0, True, "sent") == 1e-17
    assert scalar.remember(9.0, 1.0, True, "feedback", 0.25) == 1.25
    assert math.copysign(1.0, scalar.remember(9.0, -0.0, False, "feedback", 0.0)) == -1.0


def test_accumulate_rounds_twice_per_term_in_ascending_order():
    big = 2.0**53
    assert scalar.accumulate(big, [1.0, 1.0], [1.0, 1.0], [True, True]) == big  # each one is lost
    assert scalar.accumulate(0.0, [1.0, 1.0, big], [1.0, 1.0, 1.0], [True] * 3) == big + 2  # in another order it would be big
    x = 1.0 + 2.0**-30
    exact = Fraction(x) * Fraction(x) - 1  # a fused multiply-add would round this once
    assert scalar.accumulate(-1.0, [x], [x], [True]) != float(exact)


def test_accumulate_does_not_read_what_is_not_sent():
    assert scalar.accumulate(1.0, [math.nan, math.inf], [0.0, 1.0], [False, False]) == 1.0


def test_float32_scalars_round_in_float32():
    third = np.float32(1) / np.float32(3)
    assert scalar.accumulate(np.float32(1), [third], [third], [True]).dtype == np.float32
    assert scalar.relax(np.float32(1), np.float32(2), np.float32(0.9), np.float32(0.1)).dtype == np.float32


# -------------------------------------------------------------------------------------------------------------- the residual


def test_l2_lanes_are_added_in_ascending_order():
    f = [1e8] + [0.0] * 31 + [1.0] + [0.0] * 31 + [3.0]  # lane 0 gets 1e16 + 1 + 9
    assert scalar.residual(f, [0.0] * 65, "l2") == math.sqrt((1e16 + 1.0) + 9.0)
    split = [1e8, 1.0, 3.0]  # three lanes
    assert scalar.residual(split, [0.0] * 3, "l2") == math.sqrt((1e16 + 1.0) + 9.0)
    assert (1e16 + 1.0) + 9.0 != 1e16 + (1.0 + 9.0)


def test_differences_are_formed_in_float64():
    assert scalar.residual([np.float32(1)], [np.float32(2.0**-40)], "l2") == 1.0 - 2.0**-40


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_nan_wins(norm):
    assert math.isnan(scalar.residual([1.0, math.nan, math.inf], [0.0] * 3, norm))
    assert scalar.residual([1.0, -math.inf], [0.0] * 2, norm) == math.inf
    assert scalar.residual([], [], norm) == 0.0


@given(st.lists(st.floats(-1e100, 1e100), max_size=70))
def test_norms_are_near_the_exact_ones(values):
    exact = sum(Fraction(v) ** 2 for v in values)
    got = Fraction(scalar.residual(values, [0.0] * len(values), "l2")) ** 2
    # n squares and additions of non-negative terms, one square root: relative error below (n + 3) u each way
    slack = Fraction(len(values) + 6, 2**52)
    assert exact * (1 - slack) - Fraction(1, 10**300) <= got <= exact * (1 + slack) + Fraction(1, 10**300)


# ------------------------------------------------------------------------------------------------------ activations, in ulp

getcontext().prec = 60
_TERMS = 60


def _series(x: Decimal, first: int) -> Decimal:
    """sin (first=1) or cos (first=0) of a small argument."""
    term = x if first else Decimal(1)
    total, n = term, first
    while abs(term) > Decimal(10) ** -58:
        term *= -x * x / ((n + 1) * (n + 2))
        n += 2
        total += term
    return total


def _arctan_inverse(k: int) -> Decimal:
    return sum(((-1) ** n / (Decimal(2 * n + 1) * Decimal(k) ** (2 * n + 1)) for n in range(_TERMS)), Decimal(0))


with localcontext() as _context:
    _context.prec = 80
    PI = 4 * (4 * _arctan_inverse(5) - _arctan_inverse(239))  # Machin


def _sin_or_cos(x: float, quarter: int) -> Decimal:
    with localcontext() as context:
        context.prec = 80
        n = int((Decimal(x) / (PI / 2)).to_integral_value())
        t = Decimal(x) - n * (PI / 2)
        value = _series(t, 1 - (n + quarter) % 2)
        return -value if (n + quarter) % 4 >= 2 else value


EXACT = {
    "exp": lambda x: Decimal(x).exp(),
    "tanh": lambda x: 1 - 2 / ((2 * Decimal(x)).exp() + 1),
    "sigmoid": lambda x: 1 / (1 + (-Decimal(x)).exp()),
    "sin": lambda x: _sin_or_cos(x, 0),
    "cos": lambda x: _sin_or_cos(x, 1),
}
ULPS = {"exp": 2.0, "tanh": 2.0, "sigmoid": 3.0, "sin": 2.5, "cos": 2.5}  # the documented limits
RANGES = {
    "exp": (-745.0, 709.0),
    "tanh": (-25.0, 25.0),
    "sigmoid": (-700.0, 40.0),
    "sin": (-(2**20), 2**20),
    "cos": (-(2**20), 2**20),
}


def _points(name):
    rng = np.random.default_rng(5)
    low, high = RANGES[name]
    wide = rng.uniform(low, high, 150)
    near = rng.uniform(-3, 3, 400)
    small = np.ldexp(rng.uniform(-1, 1, 60), rng.integers(-60, 0, 60))
    quarters = np.arange(1, 120) * (math.pi / 2)  # where the trigonometric functions cancel
    edges = np.array([0.625, np.nextafter(0.625, 0), 0.34657359, -0.34657359, low, high])
    points = np.concatenate([wide, near, small, quarters, edges])
    return [float(x) for x in points if low <= x <= high]


@pytest.mark.parametrize("name", sorted(EXACT))
def test_documented_accuracy(name):
    function = getattr(scalar, name)
    worst = 0.0
    for x in _points(name):
        if x == 0.0:
            continue
        exact = EXACT[name](x)
        worst = max(worst, float(abs(Decimal(function(x)) - exact) / Decimal(math.ulp(float(exact)))))
    assert worst < ULPS[name]
    assert worst > 0.4  # the measure itself is alive: no double result is always within 0.4 ulp


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_far_arguments_err_by_no_more_than_one_ulp_of_the_argument(name):
    rng = np.random.default_rng(6)
    for x in rng.uniform(2.0**20, 2.0**30, 100):
        exact = EXACT[name](float(x))
        error = abs(Decimal(getattr(scalar, name)(float(x))) - exact)
        assert error <= Decimal(math.ulp(x)) + Decimal("2.5") * Decimal(math.ulp(float(exact)))


@pytest.mark.parametrize("name", ["tanh", "sin"])
def test_odd_functions_keep_the_sign_of_zero_and_of_their_argument(name):
    function = getattr(scalar, name)
    assert math.copysign(1.0, function(-0.0)) == -1.0
    assert math.copysign(1.0, function(0.0)) == 1.0
    for x in (TINY, 1e-300, 0.3, 0.7, 5.0, 1000.5):
        assert function(-x) == -function(x)
    assert function(TINY) == TINY


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("exp", 0.0, 1.0),
        ("exp", 709.782712893384, EXACT["exp"](709.782712893384)),
        ("exp", math.nextafter(709.782712893384, math.inf), math.inf),
        ("exp", math.inf, math.inf),
        ("exp", -math.inf, 0.0),
        ("exp", -745.2, 0.0),
        ("exp", -745.0, TINY),
        ("tanh", math.inf, 1.0),
        ("tanh", -math.inf, -1.0),
        ("tanh", 1e300, 1.0),
        ("sigmoid", math.inf, 1.0),
        ("sigmoid", -math.inf, 0.0),
        ("sigmoid", 0.0, 0.5),
        ("cos", 0.0, 1.0),
    ],
)
def test_special_values(name, x, expected):
    assert getattr(scalar, name)(x) == pytest.approx(float(expected), rel=2 * 2.0**-52, abs=0.0)


@pytest.mark.parametrize("name", sorted(EXACT))
def test_nan_stays_nan(name):
    assert math.isnan(getattr(scalar, name)(math.nan))


@pytest.mark.parametrize("name", ["sin", "cos"])
@pytest.mark.parametrize("x", [math.inf, -math.inf, math.nextafter(2.0**30, math.inf), -1e300])
def test_trigonometric_range_is_limited(name, x):
    assert math.isnan(getattr(scalar, name)(x))
    assert not math.isnan(getattr(scalar, name)(2.0**30))


@given(st.floats(-745, 709))
def test_exp_is_within_its_limit_everywhere(x):
    exact = EXACT["exp"](x)
    assert abs(Decimal(scalar.exp(x)) - exact) < 2 * Decimal(math.ulp(float(exact)))
