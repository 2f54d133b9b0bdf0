"""Every rule of version 1 is told from every other, and a downgrade of precision from what was declared."""

from __future__ import annotations

from dataclasses import replace

import pytest
from refdeq_validation.cases.downgrades import DOWNGRADES, terms_of
from refdeq_validation.cases.suite import DTYPES, select
from refdeq_validation.cases.variants import Misdeclared, separator, variants
from refdeq_validation.cases.witness import FAST
from refdeq_validation.judge.judging import judge
from refdeq_validation.protocol.execute import execute

HIDDEN = replace(FAST, offers=())
"""Masks and outputs alone."""


def passes(case, implementation, claims=FAST):
    """Whether an implementation passes a case under the weakest claims."""
    return judge(case, execute(case, implementation, claims), claims).passed


def neighbours(rule, rules):
    """Rules that differ in one choice (a format belongs to its memory, a tile to its granularity)."""
    choices = ("compare", "memory", "start", "bias", "granularity")
    return [other for other in rules if sum(rule[name] != other[name] for name in choices) == 1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["Gemm", "Conv"])
def test_rules_that_differ_in_one_choice_fail_under_each_others_declaration(op, dtype):
    rules = variants(op)
    start = DTYPES.index(dtype)
    for rule in rules[start :: len(rules) // 6]:
        case = separator(op, rule, dtype)
        assert passes(case, Misdeclared(rule))
        for other in neighbours(rule, rules):
            assert not passes(case, Misdeclared(other)), (case.id, other)


@pytest.mark.parametrize("op", ["Gemm", "Conv"])
def test_rules_far_apart_fail_too(op):
    rules = variants(op)
    for index in range(0, len(rules), len(rules) // 4):
        case = separator(op, rules[index], "float32")
        for other in rules[(index + 1) % 7 :: 7]:
            assert passes(case, Misdeclared(other)) == (other == rules[index])


def test_separators_belong_to_the_suite():
    slugs = {case.slug for case in select(families=["memory", "conv"])}
    for op in ("Gemm", "Conv"):
        for dtype in DTYPES:
            assert {separator(op, rule, dtype).slug for rule in variants(op)} <= slugs


@pytest.mark.parametrize("claims", [FAST, HIDDEN], ids=["state", "outputs"])
def test_ramps_part_always_from_sent_within_a_hundred_steps(claims):
    ramps = [case for case in select(families=["ramp"]) if case.problem.rule.memory != "feedback" and "slow" in case.slug]
    assert len(ramps) >= 8
    for case in ramps:
        memory = case.problem.rule.memory
        assert passes(case, Misdeclared({}), claims)
        other = "always" if memory == "sent" else "sent"
        assert not passes(case, Misdeclared({"memory": other}), claims), case.id
        assert sum(call.name == "step" for call in case.calls) <= 101


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", DOWNGRADES)
def test_every_downgrade_is_caught_by_every_case_of_few_terms(name, dtype):
    cases = [case for case in select(families=["bound_k1"]) if case.problem.dtype == dtype and case.problem.storage is None]
    assert len(cases) >= 15
    assert max(terms_of(case) for case in cases) <= 24
    for case in cases:
        assert passes(case, Misdeclared({}))
        if name != dtype:
            assert not passes(case, DOWNGRADES[name]), case.id


@pytest.mark.parametrize("name", [name for name in DOWNGRADES if name != "float32"])
@pytest.mark.parametrize("terms", [256, 1024, 4096])
def test_the_statistic_sees_downgrades_that_the_bound_may_not(name, terms):
    (case,) = [case for case in select(families=["bound"]) if case.slug == f"narrow-operands-{terms}-terms-f32"]
    assert passes(case, Misdeclared({}))
    findings = judge(case, execute(case, DOWNGRADES[name], FAST), FAST)
    assert any(failure.kind == "declaration" for failure in findings.failures)
    if terms == 4096 and "tf32" in name:
        assert findings.worst < 1.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_few_terms_come_near_their_bound(dtype):
    for k in (1, 2, 3, 4):
        worst = 0.0
        for case in select(families=["bound_k1"]):
            if f"{k}-terms-onto" in case.slug and case.problem.dtype == dtype:
                worst = max(worst, judge(case, execute(case, Misdeclared({}), FAST), FAST).worst)
        assert 0.4 <= worst <= 1.0, (k, worst)
