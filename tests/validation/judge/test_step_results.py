"""What the judge of unit steps says of results made by hand: structure, bits, margins, and sets of outcomes."""

from dataclasses import replace

import numpy as np
import pytest
from rational.crafting import answers_to, case_of, claims, one_sum
from refdeq_validation.cases.model import Call
from refdeq_validation.judge.judging import judge
from refdeq_validation.judge.steps import judge_steps
from refdeq_validation.judge.verdicts import EDGES
from refdeq_validation.lab.session import CLAIMS, Lab
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.protocol.transcript import Answer, Violation

from refdeq.types import DeltaRule, GateOverride

STRICT = replace(CLAIMS, order="strict")


def changed(transcript, name, value):
    """The transcript with one result of its last answer replaced, or taken away where the value is None."""
    last = transcript.answers[-1]
    results = {key: array for key, array in last.results.items() if key != name}
    if value is not None:
        results[name] = value
    return type(transcript)(transcript.case, [*transcript.answers[:-1], Answer(last.name, results)])


@pytest.fixture
def good():
    """Three terms that add up to 7, exactly."""
    case = one_sum("float32", 1.0, [1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    return case, answers_to(case, 7.0)


def test_what_is_right_passes_and_is_counted(good):
    findings = judge_steps(*good, claims())
    assert findings.passed
    assert findings.decisions == 3
    assert findings.values > 5
    assert findings.ratio_histogram.sum() == 1
    assert findings.margin_histogram.sum() == 3
    assert findings.margin_histogram[EDGES.index(0) + 1] == 3  # tau = 0: the margin is the whole difference


@pytest.mark.parametrize("name", ["mask", "r", "a", "y"])
@pytest.mark.parametrize(
    "value",
    [
        None,
        [[7.0]],
        "nothing",
        np.zeros((2, 3), np.float32),
        np.zeros((1, 3), np.float64),
        np.zeros((1, 1), np.float16),
        np.zeros((1, 3), object),
        np.full((1, 3), np.nan, np.float32),
        np.full((1, 1), np.nan, np.float32),
    ],
    ids=["missing", "list", "text", "rows", "wider", "narrower", "objects", "three-nan", "one-nan"],
)
def test_results_that_are_no_results_fail_without_an_exception(good, name, value):
    case, transcript = good
    findings = judge_steps(case, changed(transcript, name, value), claims())
    assert not findings.passed
    assert findings.failed


def test_what_was_not_asked_for_fails(good):
    case, transcript = good
    assert judge_steps(case, changed(transcript, "z", np.zeros(1)), claims()).failures[0].kind == "declaration"
    longer = type(transcript)(case.id, [*transcript.answers, Answer("step")])
    assert judge_steps(case, longer, claims()).failures[0].kind == "declaration"
    state = type(transcript)(case.id, [Answer("set_state", {"r": np.zeros(1)}), transcript.answers[1]])
    assert judge_steps(case, state, claims()).failures[0].kind == "declaration"
    hidden = replace(claims(), offers=())
    assert judge_steps(case, transcript, hidden).failures[0].kind == "declaration"  # shows what it does not offer


def test_missing_answers_errors_and_violations_fail(good):
    case, transcript = good
    assert not judge_steps(case, type(transcript)(case.id, []), claims()).passed
    broken = type(transcript)(case.id, [Answer("set_state"), Answer("step", {}, "crash", "division by zero")])
    assert judge_steps(case, broken, claims()).failures[0].kind == "exception"
    transcript.violations.append(Violation("guard", 1, "wrote behind y"))
    assert [failure.kind for failure in judge(case, transcript, claims()).failures] == ["guard"]


def test_a_wrong_decision_says_its_margin():
    problem = Problem("Gemm", "float64", (2,), np.eye(2), None, DeltaRule(threshold=0.75))
    state = {"r": np.zeros((1, 2)), "a": np.zeros((1, 2)), "count": np.ones(1, np.int64)}
    case = case_of(problem, Call("set_state", state), Call("step", {"u": np.array([[1.0, 0.5]])}))
    transcript = execute(case, Lab(), STRICT)
    assert judge_steps(case, transcript, STRICT).passed
    wrong = changed(transcript, "mask", np.array([[True, True]]))
    failure = judge_steps(case, wrong, STRICT).failures[0]
    assert (failure.kind, failure.index, failure.margin) == ("mask", (0, 1), 0.25)
    assert "margin 0.25" in failure.sentence()
    histogram = judge_steps(case, transcript, STRICT).margin_histogram
    assert histogram[EDGES.index(-2) + 1] == 2  # 0.25 / 1 and 0.25 / 0.75: both in [1/4, 1/2)


def test_a_sum_beyond_its_bound_says_how_the_bound_is_made():
    case = one_sum("float32", 1.0, [1.0, 2.0], [1.0, 1.0])
    failure = judge_steps(case, answers_to(case, 4.0 + 2.0**-19), claims()).failures[0]
    assert (failure.kind, failure.k, failure.gauge) == ("value", 2, 4.0)
    assert failure.terms["sum"] == 3 * 2.0**-24 * 4.0
    assert failure.ratio == failure.error / failure.bound > 1.0
    assert failure.as_data()["terms"] == failure.terms


def test_exact_cases_ask_for_bits_in_any_order_but_not_for_the_sign_of_zero(good):
    case, _ = good
    near = answers_to(case, 7.0 + 2.0**-21)
    assert judge_steps(case, near, claims()).passed
    assert not judge_steps(replace(case, expect="exact"), near, claims()).passed
    zero = one_sum("float32", 1.0, [1.0], [-1.0])
    for sign in (0.0, -0.0):
        assert judge_steps(replace(zero, expect="exact"), answers_to(zero, sign), claims()).passed
        strict = judge_steps(zero, answers_to(zero, sign), replace(claims(), order="strict"))
        assert strict.passed is (str(sign) == "0.0")


def test_a_sum_of_zeros_is_zero_and_what_is_not_changed_stays():
    nothing = one_sum("float32", 0.0, [1.0, 0.0], [0.0, 1.0])
    assert judge_steps(nothing, answers_to(nothing, 0.0), claims()).passed
    assert not judge_steps(nothing, answers_to(nothing, 2.0**-149), claims()).passed
    problem = Problem("Gemm", "float32", (1,), np.ones((1, 1), np.float32), None, DeltaRule(threshold=1.0))
    state = {"r": np.zeros((1, 1), np.float32), "a": np.full((1, 1), 3.0, np.float32), "count": np.ones(1, np.int64)}
    case = case_of(problem, Call("set_state", state), Call("step", {"u": np.full((1, 1), 0.5, np.float32)}))
    transcript = execute(case, Lab(), claims())
    assert judge_steps(case, transcript, claims()).passed
    moved = np.nextafter(np.full((1, 1), 3.0, np.float32), np.float32(4.0))
    for judged in (claims(), claims(rounding="truncate"), claims(multiply="bfloat16")):
        findings = judge_steps(case, changed(changed(transcript, "a", moved), "y", moved), judged)
        assert [failure.tensor for failure in findings.failures] == ["a"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_overflow_is_legal_only_where_partial_sums_can_leave_the_format(dtype):
    big = float(np.finfo(dtype).max)
    both = one_sum(dtype, 0.0, [1.0] * 4, [big, big, -big, -big])
    for value, legal in ((0.0, True), (np.inf, True), (-np.inf, True), (np.nan, True), (big / 2, False)):
        assert judge_steps(both, answers_to(both, value), claims()).passed is legal, value
    one = one_sum(dtype, 0.0, [1.0] * 3, [big, big, -big * 0.75])
    for value, legal in ((big, False), (np.inf, True), (-np.inf, False), (np.nan, False), (0.0, False)):
        assert judge_steps(one, answers_to(one, value), claims()).passed is legal, value
    none = one_sum(dtype, 0.0, [0.5, 0.25], [big, big])
    for value, legal in ((big * 0.75, True), (np.inf, False), (np.nan, False)):
        assert judge_steps(none, answers_to(none, value), claims()).passed is legal, value
    # A finite part that overflows meets an infinite term.
    mixed = one_sum(dtype, np.inf, [1.0, 1.0], [-big, -big])
    for value, legal in ((np.inf, True), (np.nan, True), (-np.inf, False)):
        assert judge_steps(mixed, answers_to(mixed, value), claims()).passed is legal, value


def test_an_infinite_bias_that_is_folded_takes_itself_away_and_leaves_nan():
    case = one_sum("float32", -np.inf, [1.0], [1.0], bias=-np.inf, bias_form="folded")
    for judged in (claims(), STRICT):
        assert judge_steps(case, answers_to(case, np.nan), judged).passed
        assert not judge_steps(case, answers_to(case, -np.inf), judged).passed


def test_too_coarse_a_model_is_refused_and_does_not_pass():
    k = 2100
    case = one_sum("float32", 0.0, [1.0] * k, [1.0] * k)
    findings = judge_steps(case, answers_to(case, 2048.0), claims(accumulate="float16"))
    assert (findings.passed, findings.vacuous, findings.unclaimed, findings.failed) == (False, True, 1, 0)
    small = one_sum("float32", 0.0, [1.0] * 4, [1.0] * 4)
    assert judge_steps(small, answers_to(small, 4.0), claims(accumulate="float16")).passed
    beyond = one_sum("float32", 0.0, [1.0, 1.0], [1e6, 1.0])
    assert judge_steps(beyond, answers_to(beyond, np.inf), claims(multiply="float16")).vacuous
    chopped = one_sum("float32", 0.0, [1.0] * 70, [1.0] * 70)
    assert judge_steps(chopped, answers_to(chopped, 70.0), claims(accumulate="bfloat16", rounding="truncate")).vacuous


def test_columns_that_were_not_sent_are_read_only_by_those_who_say_so():
    weight = np.array([[1.0, np.nan]], np.float32)
    problem = Problem("Gemm", "float32", (2,), weight, None, DeltaRule(threshold=0.5))
    state = {"r": np.zeros((1, 2), np.float32), "a": np.ones((1, 1), np.float32), "count": np.ones(1, np.int64)}
    case = case_of(problem, Call("set_state", state), Call("step", {"u": np.array([[1.0, 0.25]], np.float32)}))
    skipped = execute(case, Lab(), claims())
    poisoned = changed(changed(skipped, "a", np.full((1, 1), np.nan, np.float32)), "y", np.full((1, 1), np.nan, np.float32))
    assert judge_steps(case, skipped, claims()).passed
    assert not judge_steps(case, poisoned, claims()).passed
    assert judge_steps(case, poisoned, claims(inactive_columns="read")).passed
    strict = replace(claims(inactive_columns="read"), order="strict")
    assert judge_steps(case, poisoned, strict).passed
    assert not judge_steps(case, skipped, strict).passed


def test_gates_have_their_own_threshold_and_nodes_may_be_dense():
    weight = np.array([[1.0, 2.0]], np.float32)
    rule = DeltaRule(threshold=9.0, start="zero", gates={"z": GateOverride(threshold=0.5, granularity="sample")})
    u = np.array([[1.0, 0.25]], np.float32)
    case = case_of(
        Problem("Gemm", "float32", (2,), weight, None, rule), Call("reset", options={"batch": 1}), Call("step", {"u": u})
    )
    results = {"mask": np.ones((1, 2), bool), "r": u, "a": np.array([[1.5]], np.float32), "y": np.array([[1.5]], np.float32)}
    transcript = answers_to(one_sum("float32", 0.0, [1.0, 2.0], [1.0, 0.25]), 1.5)
    transcript.answers = [Answer("reset"), Answer("step", results)]
    assert judge_steps(case, transcript, STRICT).passed
    for ungated in (None, replace(rule, dense=("linear",))):
        dense = case_of(replace(case.problem, rule=ungated), *case.calls)
        mine = {name: array for name, array in results.items() if ungated is not None or name in ("mask", "y")}
        transcript.answers[1] = Answer("step", mine)
        for judged in (STRICT, claims()):
            assert judge_steps(dense, transcript, judged).passed
            assert not judge_steps(dense, changed(transcript, "y", np.array([[1.5 + 2.0**-20]], np.float32)), judged).passed
