"""Level L8: refusals, the strong guarantee, layouts that may be refused."""

from __future__ import annotations

import numpy as np
import pytest
from refdeq_validation.cases import negative
from refdeq_validation.cases.suite import all_cases
from refdeq_validation.judge.judging import judge
from refdeq_validation.lab.session import CLAIMS, Lab, LabSession
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.transcript import Answer

CASES = {case.slug: case for case in negative.cases("float32")}


class Other(Lab):
    """Sessions of another class."""

    def __init__(self, session):
        super().__init__()
        self.session = session

    def open(self, problem):
        return self.session(problem)


class Advances(LabSession):
    """Refuses a wrong input after the reference has moved."""

    def step(self, u, mask, y):
        try:
            super().step(u, mask, y)
        except (ValueError, TypeError):
            if self.node is not None:
                self.node.r += 1
            raise


class Broadcasts(LabSession):
    """Takes one sample for all."""

    def step(self, u, mask, y):
        if self.node is not None and u.shape == (1, *self.problem.shape) and u.dtype == self.problem.dtype:
            batch = len(self.node.count)
            own = np.empty((batch, *self.problem.shape), bool), np.empty((batch, *self.problem.out_shape), u.dtype)
            super().step(np.repeat(u, batch, axis=0), *own)
            mask[...], y[...] = own[0][:1], own[1][:1]
        else:
            super().step(u, mask, y)


class Casts(LabSession):
    """Converts what it gets."""

    def step(self, u, mask, y):
        super().step(np.asarray(u).astype(self.problem.dtype), mask, y)


class Confuses(LabSession):
    """Reads memory as if every array were contiguous."""

    def step(self, u, mask, y):
        flat = np.lib.stride_tricks.as_strided(u.ravel(order="K"), u.shape)
        super().step(np.ascontiguousarray(flat), mask, y)


class Fails(LabSession):
    """Meets what is wrong with an error of its own."""

    def step(self, u, mask, y):
        try:
            super().step(u, mask, y)
        except (ValueError, TypeError) as error:
            raise RuntimeError("something is wrong") from error


def findings(slug, session=LabSession):
    case = CASES[slug]
    return judge(case, execute(case, Other(session), CLAIMS), CLAIMS)


@pytest.mark.parametrize("slug", list(CASES))
def test_the_plain_implementation_passes(slug):
    found = findings(slug)
    assert found.passed, found.failures


@pytest.mark.parametrize(
    ("session", "slug", "kind"),
    [
        (Advances, "input-is-short-gemm-f32", "mask"),
        (Advances, "input-is-half-conv-f32", "mask"),
        (Broadcasts, "input-is-one-sample-for-all-gemm-f32", "exception"),
        (Casts, "input-is-integer-gemm-f32", "no_exception"),
        (Casts, "input-is-the-other-float-conv-f32", "no_exception"),
        (Confuses, "layout-fortran-gemm-f32", "mask"),
        (Fails, "input-is-short-gemm-f32", "exception"),
        (Fails, "step-before-reset-gemm-f32", "exception"),
    ],
)
def test_what_is_accepted_or_changed_against_the_contract_is_found(session, slug, kind):
    assert kind in {failure.kind for failure in findings(slug, session).failures}


def test_a_layout_may_be_refused_or_right_and_a_crash_is_neither():
    case = CASES["layout-reversed-gemm-f32"]
    at = next(t for t, call in enumerate(case.calls) if call.options.get("may_refuse"))

    class Refuses(LabSession):
        def step(self, u, mask, y):
            if not u.flags.c_contiguous:
                raise ValueError("not contiguous")
            super().step(u, mask, y)

    for session in (LabSession, Refuses):
        assert judge(case, execute(case, Other(session), CLAIMS), CLAIMS).passed
    transcript = execute(case, Other(Refuses), CLAIMS)
    assert transcript.answers[at].error == "refused"
    transcript.answers[at] = Answer("step", {}, "crash", "boom")
    found = judge(case, transcript, CLAIMS)
    assert [(failure.kind, failure.evaluation) for failure in found.failures] == [("exception", at)]


def test_failures_after_a_refusal_keep_the_index_of_their_call():
    case = CASES["input-is-short-gemm-f32"]
    transcript = execute(case, Lab(), CLAIMS)
    transcript.answers[3].results["y"][0, 0] += 1
    assert [failure.evaluation for failure in judge(case, transcript, CLAIMS).failures] == [3]


def test_missing_and_surplus_answers_are_found():
    case = CASES["input-is-short-gemm-f32"]
    transcript = execute(case, Lab(), CLAIMS)
    last = transcript.answers.pop()
    assert not judge(case, transcript, CLAIMS).passed
    transcript.answers += [last, last]
    assert not judge(case, transcript, CLAIMS).passed


def test_one_case_in_seven_is_about_what_must_not_be_done():
    share = sum(case.level == "L8" for case in all_cases()) / len(all_cases())
    assert share >= 0.15, f"{share:.3f}"
