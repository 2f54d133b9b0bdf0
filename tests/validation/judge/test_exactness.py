"""Proofs that sums are exact in every order: they hold for what they say, and are refused for what they cannot."""

from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rational.crafting import case_of, claims, one_sum
from rational.orders import nearest, outcomes
from refdeq_validation.cases.model import Call
from refdeq_validation.judge.exactness import Proof, covers, lowest_bit, prove, significant_bits
from refdeq_validation.judge.models import declared, plain
from refdeq_validation.protocol.problem import Problem

from refdeq.errors import ArgumentError
from refdeq.types import DeltaRule


@given(st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=5), st.integers(-30, 30))
def test_bits_are_those_of_integers(whole, exponent):
    values = np.array([n * 2.0**exponent for n in whole])
    odd = [abs(n) for n in whole if n]
    if odd:
        assert lowest_bit(values) == exponent + min((n & -n).bit_length() - 1 for n in odd)
        assert significant_bits(values) == max((n // (n & -n)).bit_length() for n in odd)
    else:
        assert (lowest_bit(values), significant_bits(values)) == (1023, 0)


@given(
    st.integers(-(2**20), 2**20),
    st.lists(st.tuples(st.integers(-(2**9), 2**9), st.integers(-(2**9), 2**9)), min_size=1, max_size=4),
    st.integers(-8, 8),
)
def test_a_proven_sum_is_the_same_in_every_order(a, terms, exponent):
    scale = 2.0**exponent
    weights, values = [w * 1.0 for w, _ in terms], [d * scale for _, d in terms]
    case = one_sum("float32", a * scale, weights, values)
    proof = prove(case)
    exact = Fraction(a * scale) + sum(Fraction(w) * Fraction(d) for w, d in zip(weights, values, strict=True))
    products = [Fraction(w) * Fraction(d) for w, d in zip(weights, values, strict=True)]
    assert outcomes(Fraction(a * scale), products, partial(nearest, name="float32")) == {exact}
    assert proof.gauge == abs(a * scale) + float(sum(map(abs, products)))


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 24), ("float64", 53)])
def test_the_budget_is_that_of_the_format(dtype, bits):
    full = 2.0**bits
    assert prove(one_sum(dtype, full - 2.0, [1.0], [1.0])) == Proof(0, full - 1.0, 1, 1.0, 1.0)
    with pytest.raises(ArgumentError, match="multiples of"):
        prove(one_sum(dtype, full - 1.0, [1.0], [1.0]))  # the sum of magnitudes is 2^p: an order with -1 could need p + 1 bits
    with pytest.raises(ArgumentError, match="multiples of"):
        prove(
            one_sum(
                dtype,
                full / 2.0,
                [0.5],
                [
                    1.0,
                ][:1],
            )
        )
    with pytest.raises(ArgumentError, match="multiples of"):
        prove(one_sum(dtype, 0.5, [1.0], [full - 2.0]))  # the accumulator's own bits count
    assert prove(one_sum(dtype, 0.75, [0.5], [0.5])).q == 2


def test_gauges_that_float64_rounds_are_not_mistaken_for_small_ones():
    terms = 2**12
    case = one_sum("float64", 0.0, [1.0] * terms, [2.0**41 + 1.0] * terms)
    with pytest.raises(ArgumentError):
        prove(case)


def test_what_is_not_finite_is_not_exact():
    for a, weights, values in ((np.inf, [1.0], [1.0]), (1.0, [np.nan], [1.0]), (1.0, [1.0], [np.inf])):
        with pytest.raises(ArgumentError, match="finite"):
            prove(one_sum("float32", a, weights, values))


def test_all_steps_count_and_so_does_a_folded_bias():
    rule = DeltaRule(threshold=0.5, start="zero", refresh=2)
    problem = Problem("Gemm", "float32", (2,), np.array([[1.0, 3.0]], np.float32), np.array([5.0], np.float32), rule)
    steps = [np.array([[n, 1.0]], np.float32) for n in (1.0, 2.0, 2.0**20)]
    case = case_of(problem, Call("reset", options={"batch": 1}), *(Call("step", {"u": u}) for u in steps))
    # 1 + 3, then |4| + 1, then the dense 2^20 + 3: the largest gauge is that of the refresh
    assert prove(case).gauge == 2.0**20 + 3.0
    folded = replace(case, problem=replace(problem, rule=replace(rule, bias="folded", refresh=0)))
    # |10| + 2 |5| + (2^20 - 2): from the accumulator 5 + 4 + 1, which carries the bias
    assert prove(folded).gauge == 2.0**20 - 2.0 + 20.0
    last = [*case.calls[:-1], Call("step", {"u": np.array([[2.0**20, 2.0**-6]], np.float32)})]
    with pytest.raises(ArgumentError):
        prove(replace(case, calls=tuple(last)))


def test_a_proof_covers_what_it_was_made_for():
    case = one_sum("float32", 3.0, [5.0, 1.0], [7.0, 0.25])
    assert prove(case) == Proof(2, 38.25, 3, 7.0, 0.25)
    for options in ({"multiply": "tf32"}, {"multiply": "bfloat16"}, {"accumulate": "float16"}, {"multiply": "bfloat16x3"}):
        assert covers(case, declared(claims(**options), "float32")), options
    sums = declared(claims(accumulate="bfloat16"), "float32")
    assert covers(case, sums)  # quarters below 64: eight bits
    assert not covers(one_sum("float32", 32.0, [5.0, 1.0], [7.0, 0.25]), sums)
    wide = one_sum("float32", 0.0, [257.0], [1.0])
    assert not covers(wide, declared(claims(multiply="bfloat16"), "float32"))
    assert covers(wide, declared(claims(multiply="tf32"), "float32"))
    assert not covers(one_sum("float32", 0.0, [1.0], [2.0**-20]), declared(claims(multiply="float16"), "float32"))
    assert not Proof(127, 2.0**-110, 1, 1.0, 1.0).covers(plain("float32"))  # subnormal: could be flushed
    assert not covers(one_sum("float32", 2.0**24, [1.0], [1.0]), plain("float32"))
