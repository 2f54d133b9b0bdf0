"""Declared arithmetic in whole sessions: narrow storage, flushed subnormals, sessions that show no state."""

from dataclasses import replace

import numpy as np
import pytest
from rational.crafting import answers_to, case_of, claims, one_sum
from refdeq_validation.cases.fuzz import fuzz_case
from refdeq_validation.cases.model import Call
from refdeq_validation.judge.gating import Gate
from refdeq_validation.judge.steps import judge_steps
from refdeq_validation.lab.session import CLAIMS, Lab
from refdeq_validation.lab.style import Style
from refdeq_validation.lab.variants import VARIANTS
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.protocol.transcript import Answer, Transcript

from refdeq.types import DeltaRule

STRICT = replace(CLAIMS, order="strict")


def stored_sum(r, u, storage="float16", **rule):
    """One element with weight 1 in a narrow storage format, from a reference."""
    problem = Problem(
        "Gemm",
        "float32",
        (1,),
        np.ones((1, 1), np.float32),
        None,
        DeltaRule(threshold=0.0, compare="ge", **rule),
        storage=storage,
    )
    state = {"r": np.full((1, 1), r, np.float32), "a": np.zeros((1, 1), np.float32), "count": np.ones(1, np.int64)}
    return case_of(problem, Call("set_state", state), Call("step", {"u": np.full((1, 1), u, np.float32)}))


@pytest.mark.parametrize(
    ("r", "u", "narrow", "wide"),
    [
        (-2048.0, 1.0, 2048.0, 2049.0),  # 2049 needs twelve bits; the tie goes to the even number
        (-60000.0, 60000.0, np.inf, 120000.0),
        (60000.0, -60000.0, -np.inf, -120000.0),
        (2.0**-24, 2.0**-23, 2.0**-24, 2.0**-24),  # subnormals of float16 are numbers
    ],
)
def test_differences_are_rounded_to_the_storage_format_unless_declared_wider(r, u, narrow, wide):
    for dtype, value in ((None, narrow), ("float32", wide)):
        case = stored_sum(r, u, delta_dtype=dtype)
        y = np.float32(np.float16(value)) if abs(value) < 65520 else np.float32(np.copysign(np.inf, value))
        assert judge_steps(case, answers_to(case, value, y), STRICT).passed
        other = wide if value is narrow else narrow
        if other != value:
            assert not judge_steps(case, answers_to(case, other, y), STRICT).passed
        assert judge_steps(case, execute(case, Lab(), STRICT), STRICT).passed


def test_outputs_are_rounded_once_and_accumulators_are_not():
    case = one_sum("float32", 2048.0, [1.0], [1.0], storage="float16", bias=0.5)
    right, early = answers_to(case, 2049.0, 2050.0), answers_to(case, 2049.0, 2048.0)
    assert judge_steps(case, right, STRICT).passed  # 2049.5 to the nearest even number of float16
    assert not judge_steps(case, early, STRICT).passed  # that of 2049, before the bias
    assert not judge_steps(case, answers_to(case, 2048.0, 2048.0), STRICT).passed


@pytest.mark.parametrize(("storage", "tau"), [("float16", 0.0999755859375), ("bfloat16", 0.10009765625)])
def test_thresholds_are_rounded_to_the_storage_format(storage, tau):
    for compare, sent in (("ge", True), ("gt", False)):
        problem = replace(stored_sum(0.0, tau, storage).problem, rule=DeltaRule(threshold=0.1, compare=compare))
        gate = Gate(problem, problem.rule)
        u = np.full((1, 1), tau, np.float32)
        done = gate.advance(u, np.zeros_like(u), np.zeros(1, bool))
        assert bool(done.sent[0, 0]) is sent
        assert done.margin[0, 0] == done.relative[0, 0] == 0.0


def subnormal_walk():
    """A subnormal change, and a second one; tau is 0."""
    tiny = 2.0**-126
    weight = np.array([[2.0]], np.float32)
    problem = Problem("Gemm", "float32", (1,), weight, None, DeltaRule(threshold=0.0, start="zero"))
    u = [np.full((1, 1), tiny * n, np.float32) for n in (0.5, 0.75)]
    return case_of(problem, Call("reset", options={"batch": 1}), *(Call("step", {"u": value}) for value in u))


def outcome(*steps):
    names = ("mask", "r", "a", "y")
    dtypes = (bool, np.float32, np.float32, np.float32)
    answers = [Answer("reset")]
    for values in steps:
        answers.append(Answer("step", {n: np.full((1, 1), v, t) for n, v, t in zip(names, values, dtypes, strict=True)}))
    return answers


def test_subnormals_are_kept_or_flushed_but_not_both():
    case, tiny = subnormal_walk(), 2.0**-126
    kept = outcome((True, 0.5 * tiny, tiny, tiny), (True, 0.75 * tiny, 1.5 * tiny, 1.5 * tiny))
    flushed = outcome((False, 0.0, 0.0, 0.0), (False, 0.0, 0.0, 0.0))
    mixed = [*kept[:2], outcome((False, 0.0, 0.0, 0.0), (False, 0.5 * tiny, tiny, tiny))[2]]
    for order in ("strict", "fast"):
        plain, flushing = replace(claims(), order=order), replace(claims(subnormals="ftz"), order=order)
        for answers, by_plain, by_flushing in ((kept, True, True), (flushed, False, True), (mixed, False, False)):
            transcript = Transcript(case.id, answers)
            assert judge_steps(case, transcript, plain).passed is by_plain
            assert judge_steps(case, transcript, flushing).passed is by_flushing


def test_strict_order_with_flushed_operations_is_known_in_bits():
    tiny = 2.0**-126
    case = one_sum("float32", 0.0, [1.0, 0.5, 1.0], [tiny, tiny, 0.75 * tiny])
    flushing = replace(claims(subnormals="ftz"), order="strict")
    assert judge_steps(case, answers_to(case, 2.25 * tiny), flushing).passed  # subnormals kept
    assert judge_steps(case, answers_to(case, tiny), flushing).passed  # all of them flushed
    assert not judge_steps(case, answers_to(case, 1.75 * tiny), flushing).passed  # some


@pytest.mark.parametrize(("weight", "u"), [(64.0, 2.0**-127), (2.0**-127, 64.0)])
@pytest.mark.parametrize("op", ["Gemm", "Conv"])
def test_subnormal_operands_may_be_taken_as_zeros(op, weight, u):
    shape = (1, 1) if op == "Gemm" else (1, 1, 1)
    problem = Problem(op, "float32", shape[1:], np.full(shape, weight, np.float32), None, DeltaRule(threshold=0.0))
    case = case_of(problem, Call("reset", options={"batch": 1}), Call("step", {"u": np.full(shape, u, np.float32)}))
    for value, plain, flushing in ((weight * u, True, True), (0.0, False, True), (weight * u / 2.0, False, False)):
        y = np.full(shape, value, np.float32)
        results = {"mask": np.ones(shape, bool), "r": case.calls[1].arrays["u"], "a": y, "y": y}
        transcript = Transcript(case.id, [Answer("reset"), Answer("step", results)])
        for order in ("strict", "fast"):
            judged = replace(STRICT, order=order)
            assert judge_steps(case, transcript, judged).passed is plain
            assert judge_steps(case, transcript, replace(judged, subnormals="ftz")).passed is flushing


@pytest.mark.parametrize("storage", [None, "float16", "bfloat16"])
@pytest.mark.parametrize(
    "name", ["strict", "reverse", "pairwise", "fma", "tf32", "bfloat16", "truncate", "ftz", "zeros", "kahan"]
)
def test_legal_implementations_pass_whether_they_show_their_state_or_not(name, storage):
    variant, compared = VARIANTS[name], 0
    for seed in range(6):
        case = fuzz_case(seed, "float32", storage=storage)
        for judged in (variant.claims, replace(variant.claims, offers=())):
            if not judged.offers and any(call.name == "set_state" for call in case.calls):
                continue
            findings = judge_steps(case, execute(case, variant.implementation(), judged), judged)
            assert not findings.failed, [failure.sentence() for failure in findings.failures]
            compared += findings.values
    assert compared > 1000


@pytest.mark.parametrize("accumulate", ["float16", "bfloat16"])
def test_narrow_sums_pass_where_they_are_declared_and_only_there(accumulate):
    style = Style(kernel="ascending", accumulate=accumulate)
    honest = replace(CLAIMS, order="fast", accumulate=accumulate, dtypes=("float32",))
    lie = replace(honest, accumulate="same")
    for seed in range(6):
        case = fuzz_case(seed, "float32")
        transcript = execute(case, Lab(honest, style), honest)
        assert not judge_steps(case, transcript, honest).failed
        assert judge_steps(case, transcript, lie).failed


def hidden_walk(wrong):
    """A session without state: three steps of a thousandth each, the output of the second of them wrong by some ulp."""
    rng = np.random.default_rng(4)
    weight = rng.uniform(-1, 1, (3, 6)).astype(np.float32)
    problem = Problem("Gemm", "float32", (6,), weight, np.ones(3, np.float32), DeltaRule(threshold=0.0, start="zero"))
    us = [rng.uniform(-1, 1, (2, 6)).astype(np.float32) for _ in range(3)]
    case = case_of(problem, Call("reset", options={"batch": 2}), *(Call("step", {"u": u}) for u in us))
    judged = replace(claims(), offers=())
    transcript = execute(case, Lab(), judged)
    y = transcript.answers[2].results["y"]
    y += np.float32(wrong) * np.spacing(y)
    return judge_steps(case, transcript, judged)


def test_without_state_errors_add_up_and_no_further():
    assert hidden_walk(0).passed
    assert hidden_walk(1).passed
    failure = hidden_walk(400).failures[0]
    assert (failure.tensor, failure.evaluation, failure.failing) == ("y", 2, 6)
    assert hidden_walk(np.nan).failed == 1


@pytest.mark.parametrize("kind", ["mask", "y"])
def test_without_state_masks_are_certified_and_strict_outputs_are_bits(kind):
    case = fuzz_case(3, "float32")
    while any(call.name == "set_state" for call in case.calls):
        case = fuzz_case(len(case.calls) + 40, "float32")
    judged = replace(STRICT, offers=())
    transcript = execute(case, Lab(), judged)
    assert judge_steps(case, transcript, judged).passed
    last = transcript.answers[-1].results[kind]
    last.reshape(-1)[0] = ~last.reshape(-1)[0] if kind == "mask" else np.nextafter(last.reshape(-1)[0], np.float32(9e9))
    assert [failure.kind for failure in judge_steps(case, transcript, judged).failures] == [
        "mask" if kind == "mask" else "value"
    ]
