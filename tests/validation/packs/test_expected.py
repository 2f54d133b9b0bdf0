"""Expected values of packs against exact rational arithmetic, and against the plain implementation."""

from fractions import Fraction

import numpy as np
import pytest
from refdeq_validation.cases.draw import uniform
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.judge.arithmetic import same_bits
from refdeq_validation.packs.expected import expected_steps, operand_sizes
from refdeq_validation.protocol.problem import Problem

from refdeq.types import DeltaRule


def made(dtype, op="Gemm", **rule):
    if op == "Gemm":
        problem = Problem(
            op, dtype, (9,), uniform(1, "W", (5, 9), dtype), uniform(1, "b", (5,), dtype), DeltaRule(threshold=0.5, **rule)
        )
        shape = (2, 9)
    else:
        weight = uniform(1, "W", (4, 2, 3, 2), dtype)
        problem = Problem(op, dtype, (2, 5, 4), weight, None, DeltaRule(threshold=0.5, **rule), {"pads": (1, 0, 1, 1)})
        shape = (2, 2, 5, 4)
    steps = [Call("step", {"u": uniform(1, f"u{t}", shape, dtype)}) for t in range(3)]
    return Case("made", "L2", "bound", problem, (Call("reset", {}, {"batch": 2}), *steps), ("TAIL",))


def exact_gemm(case):
    """Sum and gauge of every step in fractions, written from the clauses alone (D-1 to D-6)."""
    problem, r, found = case.problem, None, []
    for call in case.calls[1:]:
        u = call.arrays["u"]
        first = r is None
        r = np.zeros_like(u) if first else r
        sent = np.ones(u.shape, bool) if first else ~(np.abs(u - r) <= u.dtype.type(problem.rule.threshold))
        d = u if first else np.where(sent, u - r, 0)
        r = np.where(sent, u, r)
        terms = [
            [
                [Fraction(float(w)) * Fraction(float(x)) for w, x, s in zip(row, sample, mask, strict=True) if s]
                for row in problem.weight
            ]
            for sample, mask in zip(d, sent, strict=True)
        ]
        found.append((sent, r, terms))
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_are_exact_to_a_hundred_bits(dtype):
    case = made(dtype)
    for step, (sent, r, terms) in zip(expected_steps(case)[1:], exact_gemm(case), strict=True):
        assert (step["mask"] == sent).all()
        assert (step["r"] == r).all()
        for b, row in enumerate(terms):
            for i, products in enumerate(row):
                exact, gauge = sum(products, Fraction(0)), sum(map(abs, products), Fraction(0))
                pair = Fraction(float(step["sum_hi"][b, i])) + Fraction(float(step["sum_lo"][b, i]))
                assert abs(pair - exact) <= gauge * Fraction(1, 2**100)
                assert abs(Fraction(float(step["gauge"][b, i])) - gauge) <= gauge * Fraction(1, 2**48)
                assert step["k"][b, i] == len(products)


@pytest.mark.parametrize("op", ["Gemm", "Conv"])
def test_low_parts_are_below_half_a_unit_of_the_high_ones(op):
    for step in expected_steps(made("float64", op))[1:]:
        assert (np.abs(step["sum_lo"]) <= np.spacing(np.abs(step["sum_hi"])) / 2).all()
        assert (step["sum_lo"] != 0).any()


@pytest.mark.parametrize("memory", ["sent", "always"])
@pytest.mark.parametrize("bias", ["separate", "folded"])
@pytest.mark.parametrize("op", ["Gemm", "Conv"])
def test_sums_refer_to_the_accumulator_before(memory, bias, op):
    case = made("float64", op, memory=memory, bias=bias, refresh=2)
    steps, before = expected_steps(case)[1:], None
    shift = 0 if case.problem.bias is None else case.problem.bias
    for step in steps:
        total = step["sum_hi"] + step["sum_lo"]
        base = 0 if step["fresh"].all() else before
        folded_in = shift if bias == "folded" and step["fresh"].all() else 0
        np.testing.assert_allclose(step["a"], base + total + folded_in, rtol=0, atol=1e-13)
        before = step["a"]
    assert [bool(step["fresh"].all()) for step in steps] == [True, False, True]


def test_masks_references_and_strict_values_are_those_of_the_plain_implementation(cases, transcripts):
    compared = 0
    for case, transcript in zip(cases, transcripts, strict=True):
        for step, answer in zip(expected_steps(case), transcript.answers, strict=True):
            for name in ("mask", "r", "a", "y") if step is not None else ():
                assert same_bits(step[name], answer.results[name]).all(), (case.id, name)
                compared += step[name].size
    assert compared > 2000


def test_margins_are_distances_from_the_threshold():
    problem = Problem("Gemm", "float32", (2,), np.ones((1, 2), "float32"), None, DeltaRule(threshold=0.5))
    state = {"r": np.zeros((3, 2), "float32"), "a": np.zeros((3, 1), "float32"), "count": np.ones(3, "int64")}
    u = np.array([[0.5, 2.0], [0.75, 0.0], [np.nan, 1.0]], "float32")
    case = Case("margins", "L1", "tie", problem, (Call("set_state", state), Call("step", {"u": u})), ("TIE_RULE",))
    assert expected_steps(case)[1]["margin"].tolist() == [0.0, 0.25, 0.5]
    assert np.isinf(expected_steps(made("float32"))[1]["margin"]).all()


def test_operand_sizes_add_weights_and_differences():
    case = made("float64")
    for step, sizes, (sent, _, _) in zip(expected_steps(case)[1:], operand_sizes(case)[1:], exact_gemm(case), strict=True):
        weights = sent @ np.abs(case.problem.weight).T
        assert (sizes >= weights - 1e-12).all()
        assert ((sizes - weights) <= step["k"] * 4.0).all()
    assert operand_sizes(case)[0] is None
