"""An implementation that ignores what a rule says of one gate, or that a node has none, is rejected (D-11)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from refdeq_validation.cases.profiles import PROFILES
from refdeq_validation.cases.suite import all_cases
from refdeq_validation.judge.judging import judge
from refdeq_validation.lab.session import CLAIMS, Lab, LabSession
from refdeq_validation.lab.style import STRICT
from refdeq_validation.protocol.execute import execute

from refdeq.types import GateOverride

OVERRIDES = [case for case in all_cases() if case.problem.rule is not None and case.problem.rule.gates]
DENSE = [case for case in all_cases() if case.problem.rule is not None and case.problem.rule.dense]


class Ignores(Lab):
    """The plain implementation, which reads the rule as this function leaves it."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def open(self, problem):
        return LabSession(replace(problem, rule=self.change(problem.rule)), STRICT)


def passes(case, implementation):
    return judge(case, execute(case, implementation, CLAIMS), CLAIMS).passed


def only(**kept):
    """The rule with one part of its override alone."""

    def change(rule):
        gate = rule.gates["z"]
        if "threshold" in kept:
            return replace(rule, threshold=rule.threshold if gate.threshold is None else gate.threshold)
        return replace(rule, granularity=gate.granularity or rule.granularity, tile=gate.tile or rule.tile)

    return change


def test_both_operators_and_dtypes_have_cases():
    for found in (OVERRIDES, DENSE):
        assert {(case.problem.op, case.problem.dtype) for case in found} == {
            (op, dtype) for op in ("Gemm", "Conv") for dtype in ("float32", "float64")
        }


@pytest.mark.parametrize("case", [*OVERRIDES, *DENSE], ids=lambda case: case.id)
def test_ignoring_them_fails(case):
    assert passes(case, Lab())
    assert not passes(case, Ignores(lambda rule: rule))


@pytest.mark.parametrize("case", OVERRIDES, ids=lambda case: case.id)
def test_reading_half_of_an_override_fails(case):
    gate = case.problem.rule.gates["z"]
    if gate.threshold is not None:
        assert not passes(case, Ignores(only(granularity=True)))
    if gate.granularity is not None:
        assert not passes(case, Ignores(only(threshold=True)))


@pytest.mark.parametrize("case", DENSE, ids=lambda case: case.id)
def test_a_zero_threshold_is_not_the_same_as_no_gate(case):
    """With integers the sums agree; the state that was given, or the folded bias, tells them apart."""
    assert not passes(case, Ignores(lambda rule: replace(rule, threshold=0.0, dense=())))


def test_the_rule_of_the_gate_is_the_rule_with_its_override():
    problem = OVERRIDES[0].problem
    rule = replace(problem.rule, granularity="tile", tile=(1, 1, 2), gates={"z": GateOverride(granularity="sample")})
    found = replace(problem, rule=rule).gate_rule
    assert (found.granularity, found.tile, found.threshold) == ("sample", None, rule.threshold)
    other = replace(problem, rule=replace(rule, gates={"u": GateOverride(threshold=1.0)}))
    assert other.gate_rule is other.rule
    assert replace(problem, rule=replace(rule, dense=("linear",))).gate_rule is None
    assert replace(problem, rule=None).gate_rule is None


def test_profiles_require_them():
    for dtype in ("float32", "float64"):
        short = "f" + dtype[-2:]
        mine = [case for case in (*OVERRIDES, *DENSE) if (case.problem.op, case.problem.dtype) == ("Gemm", dtype)]
        assert {case.id for case in mine} <= set(PROFILES[f"core-{short}"].ids)
        granted = {case.slug for case in mine if case.id in set(PROFILES[f"refdeq-{short}"].ids)}
        assert {name.rsplit("-", 1)[0] for name in granted} == {
            "override-threshold-down",
            "override-threshold-up",
            "override-threshold-per-channel",
            "dense-node-dense-separate",
        }


def test_masks_without_a_gate_are_all_true():
    for case in DENSE:
        answers = execute(case, Lab(), CLAIMS).answers
        assert all(np.all(answer.results["mask"]) for answer in answers if answer.name == "step")
