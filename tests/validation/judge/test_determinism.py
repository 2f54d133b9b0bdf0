"""Level L7: bits that must repeat, whatever the claims say about their values."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from refdeq_validation.cases import determinism
from refdeq_validation.judge.determinism import judge_determinism
from refdeq_validation.judge.judging import judge
from refdeq_validation.judge.verdicts import Findings
from refdeq_validation.lab.session import CLAIMS, Lab, LabSession
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.transcript import Transcript

FAST = replace(CLAIMS, order="fast", determinism="R3")
CASES = {case.slug: case for case in (*determinism.cases("float32"), *determinism.solve_cases("float32"))}


def silent(case, transcript, claims):
    """A judge that has nothing to say of single calls."""
    return Findings()


class Other(Lab):
    """Sessions of another class."""

    def __init__(self, session):
        super().__init__()
        self.session = session

    def open(self, problem):
        return self.session(problem)


class ByCall(LabSession):
    """Every third output is an ulp off: within the bound, and not repeated."""

    calls = 0

    def step(self, u, mask, y):
        super().step(u, mask, y)
        ByCall.calls += 1
        if ByCall.calls % 3 == 0:
            self.node.a[...] = np.nextafter(self.node.a, np.float32(np.inf))
            y[...] = self.node.a + self.bias

    @property
    def bias(self):
        return self.problem.bias.reshape(-1, *(1,) * (self.node.a.ndim - 2))


class ByBatch(ByCall):
    """An output is an ulp off when its sample has company."""

    def step(self, u, mask, y):
        LabSession.step(self, u, mask, y)
        if len(u) > 4:
            self.node.a[...] = np.nextafter(self.node.a, np.float32(np.inf))
            y[...] = self.node.a + self.bias


class ByThreads(ByCall):
    """An output is an ulp off with more than two threads."""

    count = 1

    def threads(self, count):
        self.count = count

    def step(self, u, mask, y):
        LabSession.step(self, u, mask, y)
        if self.count > 2:
            self.node.a[...] = np.nextafter(self.node.a, np.float32(np.inf))
            y[...] = self.node.a + self.bias


def findings(case, implementation, claims):
    return judge(case, execute(case, implementation, claims), claims)


@pytest.mark.parametrize("slug", list(CASES))
@pytest.mark.parametrize("claims", [CLAIMS, FAST], ids=["strict", "fast"])
def test_the_plain_implementation_passes(slug, claims):
    found = findings(CASES[slug], Lab(), claims)
    assert found.passed, found.failures


@pytest.mark.parametrize(
    ("session", "slugs"),
    [
        (ByCall, ["repeated-gemm-f32", "repeated-conv-f32", "repeated-runs-gemm-f32", "repeated-runs-conv-f32"]),
        (ByBatch, ["batch-others-gemm-f32", "batch-poisoned-gemm-f32", "batch-others-conv-f32", "batch-poisoned-conv-f32"]),
        (ByThreads, ["threads-gemm-f32", "threads-conv-f32"]),
    ],
)
def test_an_ulp_within_the_bound_that_does_not_repeat_is_found(session, slugs):
    for slug in slugs:
        found = findings(CASES[slug], Other(session), FAST)
        assert "nondeterminism" in {failure.kind for failure in found.failures}, slug


def test_other_sessions_know_no_threads_and_pass():
    assert findings(CASES["threads-gemm-f32"], Lab(), FAST).passed


def test_strict_bits_are_asked_for_by_the_order_alone():
    class Backwards(LabSession):
        """The product as the library forms it, whatever the order."""

        def step(self, u, mask, y):
            before = self.node.r.copy()
            a = self.node.a.copy()
            super().step(u, mask, y)
            d = np.where(mask, u - before, np.float32(0))
            self.node.a[...] = a + (d @ self.problem.weight.T).astype(u.dtype)
            y[...] = self.node.a + self.problem.bias

    case = CASES["order-gemm-f32"]
    assert not findings(case, Other(Backwards), CLAIMS).passed
    assert findings(case, Other(Backwards), FAST).passed


@pytest.mark.parametrize("level", ["R4", "R5"])
def test_a_declared_order_must_be_the_strict_one(level):
    contradiction = replace(CLAIMS, order="fast", determinism=level)
    found = findings(CASES["repeated-gemm-f32"], Lab(), contradiction)
    assert [failure.kind for failure in found.failures] == ["declaration"]


def test_the_sign_of_a_zero_counts():
    case = CASES["zeros-gemm-f32"]
    transcript = execute(case, Lab(), CLAIMS)
    assert judge(case, transcript, CLAIMS).passed
    a = transcript.answers[1].results["a"]
    assert np.signbit(a[a == 0]).any()
    a[a == 0] = 0.0
    assert not judge(case, transcript, CLAIMS).passed


@pytest.mark.parametrize("part", ["z", "residual", "trace.f", "status"])
def test_results_of_solves_are_compared_in_the_rows_of_the_sample(part):
    case = CASES["solve-batch-picard-f32"]
    transcript = execute(case, Lab(), CLAIMS)
    clean = judge_determinism(case, transcript, FAST, silent)
    assert clean.passed
    call = next(t for t, call in enumerate(case.calls) if t > 1 and call.options["same"] == "solve")
    row = case.calls[call].options["rows"][0]
    results = transcript.answers[call].results
    target = results[part][0] if part.startswith("trace.") else results[part]
    other = (row + 1) % len(target)
    target[other] = target[other] + 1  # another sample's
    assert judge_determinism(case, transcript, FAST, silent).passed
    target[row] = target[row] + 1
    found = judge_determinism(case, transcript, FAST, silent)
    assert [(failure.kind, failure.evaluation, failure.tensor) for failure in found.failures] == [
        ("nondeterminism", call, part)
    ]


def test_answers_that_lack_a_result_are_found():
    case = CASES["repeated-gemm-f32"]
    transcript = execute(case, Lab(), CLAIMS)
    last = max(t for t, call in enumerate(case.calls) if "same" in call.options)
    transcript.answers[last].results = {"mask": transcript.answers[last].results["mask"][:, 1:]}
    kinds = Counter(failure.tensor for failure in judge_determinism(case, transcript, FAST, silent).failures)
    assert kinds == {"mask": 1, "y": 1, "r": 1, "a": 1}


def test_an_empty_transcript_is_no_pass():
    case = CASES["repeated-gemm-f32"]
    assert not judge(case, Transcript(case.id), CLAIMS).passed
