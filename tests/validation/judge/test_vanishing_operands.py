"""Operands that their declared format rounds to zero: times an infinite value they are NaN, which is no mistake of the sum."""

from __future__ import annotations

import numpy as np
import pytest
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.judge.judging import judge
from refdeq_validation.lab.variants import VARIANTS
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.problem import Problem

from refdeq.types import DeltaRule


def case_with(weight):
    problem = Problem("Gemm", "float32", (2,), np.array([[weight, 1.0]], np.float32), None, DeltaRule(threshold=0.5))
    u = np.array([[1.0, 1.0]], np.float32)
    calls = (
        Call("reset", {}, {"batch": 1}),
        Call("step", {"u": u}),
        Call("step", {"u": np.array([[np.inf, 1.0]], np.float32)}),
    )
    return Case("vanishing", "L2", "special", problem, calls, ("SPECIAL_VALUES",))


@pytest.mark.parametrize(("weight", "answer"), [(2.0**-30, np.nan), (2.0**-10, np.inf)])
def test_a_weight_below_float16_times_infinity_may_be_nan_where_float16_operands_are_declared(weight, answer):
    variant, case = VARIANTS["float16"], case_with(weight)
    transcript = execute(case, variant.implementation(), variant.claims)
    got = transcript.answers[-1].results["a"][0, 0]
    assert got == answer or (np.isnan(got) and np.isnan(answer))
    assert not judge(case, transcript, variant.claims).failed


def test_nan_is_a_mistake_where_float32_operands_are_declared():
    case, fast = case_with(2.0**-30), VARIANTS["reverse"]
    transcript = execute(case, VARIANTS["float16"].implementation(), VARIANTS["float16"].claims)
    assert judge(case, transcript, fast.claims).failed
