"""The bounds of the judge: never exceeded by any order of summation, and nearly reached by some."""

from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planting.orders import ORDERS
from refdeq_validation.judge import bounds
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.models import plain
from refdeq_validation.judge.nodes import linear_node
from refdeq_validation.judge.verdicts import Findings

DTYPES = ("float32", "float64")


def ratio(dtype, a, weights, values, got):
    """Error of one accumulate over its bound, by exact rationals."""
    products = [Fraction(float(w)) * Fraction(float(v)) for w, v in zip(weights, values, strict=True)]
    gauge = abs(Fraction(float(a))) + sum(map(abs, products))
    error = abs(Fraction(float(got)) - Fraction(float(a)) - sum(products))
    limit = bounds.accumulate_bound(np.array(len(products)), np.array(float(gauge)), np.dtype(dtype))
    return float(error / Fraction(float(limit))) if limit > 0 else float(error > 0)


def strict(a, weights, values):
    for w, v in zip(weights, values, strict=True):
        a = a + w * v
    return a


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_bound_is_nearly_reached(dtype, k):
    """Products and sums that all round the same way, each by almost half an ulp of one."""
    real, u = np.dtype(dtype).type, bounds.unit_roundoff(np.dtype(dtype))
    step = real(2.0 ** np.floor(np.log2(u) / 2))  # (1 + step)^2 = 1 + 2 step + step^2, of which the square is about u
    below = real(u) * (real(1) - real(4 * u))
    attempts = [
        (real(1), [real(1)] * k, [below] * k),
        (real(below), [real(1) + step] + [real(1)] * (k - 1), [real(1) + step] + [below] * (k - 1)),
        (real(0), [real(1)] * k, [real(1)] + [below] * (k - 1)),
    ]
    reached = [ratio(dtype, a, w, d, strict(a, w, d)) for a, w, d in attempts]
    assert 0.4 <= max(reached) <= 1.0
    # The judge's own sums say the same.
    a, weights, values = attempts[int(np.argmax(reached))]
    node = linear_node(
        {"name": "a", "op": "Gemm", "inputs": ["u", "W"], "attributes": {}}, {"W": np.array(weights, dtype)[:, None]}
    )
    findings = Findings()
    arrays = np.array([values], dtype), np.ones((1, k), bool), np.array([[a]], dtype)
    assert Comparer(findings).accumulate(0, "a", node, *arrays, np.array([[strict(a, weights, values)]], dtype), "fast")
    assert findings.worst == pytest.approx(max(reached), rel=2.0**-20)


@pytest.mark.parametrize("dtype", DTYPES)
def test_beyond_the_bound_is_rejected(dtype):
    node = linear_node({"name": "a", "op": "Gemm", "inputs": ["u", "W"], "attributes": {}}, {"W": np.ones((2, 1), dtype)})
    d, sent, base = np.array([[0.5, 0.25]], dtype), np.ones((1, 2), bool), np.array([[0.25]], dtype)
    for ulps, accepted in ((0, True), (2, True), (4, False), (-4, False)):
        got = np.array([[1.0]], dtype) + dtype_ulp(dtype) * ulps
        findings = Findings()
        assert Comparer(findings).accumulate(0, "a", node, d, sent, base, got.astype(dtype), "fast") is accepted
        assert (findings.failed == 0) is accepted


def dtype_ulp(dtype):
    return np.finfo(dtype).eps / np.dtype(dtype).type(2)


def values_of(dtype):
    width = 32 if dtype == "float32" else 64
    large = 2.0**40
    return st.one_of(
        st.floats(-large, large, width=width),
        st.floats(-1.0, 1.0, width=width),
        st.integers(-9, 9).map(lambda n: n * float(np.finfo(dtype).smallest_subnormal)),
        st.sampled_from([1.0, -1.0, 1.0 + np.finfo(dtype).eps, float(np.finfo(dtype).tiny)]),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_no_order_exceeds_the_bound(dtype, data):
    numbers = data.draw(st.lists(st.tuples(values_of(dtype), values_of(dtype)), min_size=1, max_size=8))
    a = np.dtype(dtype).type(data.draw(values_of(dtype)))
    weights, values = (np.array(column, dtype) for column in zip(*numbers, strict=True))
    order = data.draw(st.permutations(range(len(numbers))))
    with np.errstate(under="ignore"):
        terms = (weights * values)[:, None]
        for name, add in ORDERS.items():
            if name == "compensated":
                continue  # makes more operations than one per term; its error is below, but by another argument
            got = add(np.array([a]), terms[list(order)])[0]
            assert ratio(dtype, a, weights, values, got) <= 1.0, name
        assert ratio(dtype, a, weights, values, strict(a, weights, values)) <= 1.0


def fused(a, w, v):
    """``fl(w v + a)`` with one rounding, by rationals."""
    exact = Fraction(float(w)) * Fraction(float(v)) + Fraction(float(a))
    return exact.numerator / exact.denominator


@given(st.lists(st.tuples(values_of("float64"), values_of("float64")), min_size=1, max_size=8), values_of("float64"))
def test_fused_multiply_add_does_not_exceed_the_bound(numbers, a):
    got = a
    for w, v in numbers:
        got = fused(got, w, v)
    weights, values = zip(*numbers, strict=True)
    assert ratio("float64", a, weights, values, got) <= 1.0


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_folded_bias_stays_within_its_bound(dtype, data):
    numbers = data.draw(st.lists(st.tuples(values_of(dtype), values_of(dtype)), min_size=0, max_size=6))
    a, b = (np.dtype(dtype).type(data.draw(values_of(dtype))) for _ in range(2))
    weights, values = (np.array(column, dtype) for column in (zip(*numbers, strict=True) if numbers else ((), ())))
    with np.errstate(under="ignore"):
        s = strict(np.dtype(dtype).type(0), weights, values)
        got = ((s + b) + a) - b
    products = [Fraction(float(w)) * Fraction(float(v)) for w, v in zip(weights, values, strict=True)]
    total, gauge = sum(products, Fraction(0)), sum(map(abs, products), Fraction(0))
    k = np.array(len(products))
    wide = [np.array(float(n)) for n in (gauge, Fraction(float(a)), Fraction(float(b)))]
    bound = bounds.folded(plain(dtype), k, *wide, np.array(False))
    assert abs(Fraction(float(got)) - total - Fraction(float(a))) <= Fraction(float(bound.limit))
    dense = bounds.folded(plain(dtype), k, *wide, np.array(True))
    assert abs(Fraction(float(s + b)) - total - Fraction(float(b))) <= Fraction(float(dense.limit))


@pytest.mark.parametrize("size", [1, 2, 33, 1000])
def test_norms_in_any_order_stay_within_their_bound(size):
    rng = np.random.default_rng(size)
    for _ in range(20):
        d = rng.standard_normal(size) * 10.0 ** rng.uniform(-3, 3, size)
        exact = Fraction(0)
        for value in d:
            exact += Fraction(float(value)) ** 2
        for got in (np.sqrt(np.sum(d * d)), np.linalg.norm(d), np.sqrt(np.cumsum((d * d)[::-1])[-1])):
            # |got - sqrt(e)| <= B sqrt(e), squared so that it stays rational
            low, high = (1 + sign * Fraction(bounds.residual_bound(size)) for sign in (-1, 1))
            assert low**2 * exact <= Fraction(float(got)) ** 2 <= high**2 * exact


def test_nan_is_never_within_a_bound():
    findings = Findings()
    compare = Comparer(findings)
    one = np.ones(1)
    assert not compare.within("value", 0, "a", one, np.array([np.nan]), np.array([np.nan]), one)
    assert not compare.within("value", 0, "a", one, np.array([np.inf]), np.array([np.inf]), one)
    assert compare.within("value", 0, "a", np.array([np.nan]), np.array([np.nan]), np.array([np.nan]), one)
    assert not compare.within("value", 0, "a", np.array([np.inf]), np.array([-np.inf]), np.array([np.nan]), one)
    big = np.array([sys.float_info.max])
    with np.errstate(over="ignore"):
        assert compare.within("value", 0, "a", big, np.array([np.inf]), np.array([np.inf]), big)
    assert findings.failed == 3
