"""Suites: dispositions, counts that close, profiles, canaries, exit codes."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from planting import misbehaving
from planting.misbehaving import Broken
from refdeq_validation import suites
from refdeq_validation.applicability import untested_claims, why_not
from refdeq_validation.canary_run import run_canaries
from refdeq_validation.cases.building import conv, gemm, ruled, started
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.cases.profiles import PROFILES, Profile
from refdeq_validation.cases.suite import select
from refdeq_validation.exit_codes import EXIT_CODES, PRECEDENCE, worst
from refdeq_validation.judge.verdicts import Findings
from refdeq_validation.lab.session import CLAIMS, Lab, LabSession
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.running import Result, SuiteRun, run_case, run_suite
from refdeq_validation.waivers import Waiver, Waivers

U = [np.array(rows, "float32") for rows in ([[1, 2], [0, -1]], [[1, 3], [0.25, -1]], [[2, 3], [0, -1]])]
WEIGHT = np.array([[1, 2], [-3, 1]], "float32")


def case_of(slug, rule=None, op="Gemm", **more):
    if op == "Gemm":
        problem, us = gemm(WEIGHT.copy(), None, rule or ruled(0.5)), U
    else:
        problem = conv(np.ones((1, 1, 1), "float32"), None, rule or ruled(0.5), (1, 2))
        us = [u[:, None] for u in U]
    options = {"requires": (), **more}
    return Case(slug, "L2", "memory", problem, started(*us), ("MEMORY_RULE",), **options)


A, B, C = case_of("a"), case_of("b", ruled(0.5, compare="ge")), case_of("c", op="Conv")


@pytest.fixture
def profile(monkeypatch):
    """A profile that requires the cases a and b."""
    made = Profile("demo", "two cases", lambda case: False)
    made.__dict__["ids"] = (A.id, B.id)
    monkeypatch.setitem(PROFILES, "demo", made)
    return "demo"


@pytest.fixture(autouse=True)
def toothed(monkeypatch):
    """Cases here are too small to prove that they could fail."""
    monkeypatch.setattr(suites, "holds", lambda case: None)


def run(cases=(A, B, C), implementation=None, claims=CLAIMS, **options):
    return run_suite(cases, implementation or Lab(), claims, canaries=False, **options)


def waiver(case, kind=""):
    return Waiver(case.id, "known", "https://example.org/1", date(2100, 1, 1), kind)


def test_what_passes_is_granted_and_closes(profile):
    found = run(profiles=[profile])
    assert found.counts == {"planned": 3, "passed": 3} | dict.fromkeys(
        ("failed", "xfailed", "xpassed", "skipped", "not_applicable", "missing", "error"), 0
    )
    assert found.closes
    assert found.exit_code() == 0
    assert [(outcome.name, outcome.granted, outcome.reason) for outcome in found.profiles] == [("demo", True, "")]


def test_every_case_runs_in_fresh_sessions_and_again_in_another_order():
    opened = []

    class Watched(Lab):
        def open(self, problem):
            opened.append(problem)
            return super().open(problem)

    cases = [case_of(f"n{i}") for i in range(8)]
    run(cases, Watched())
    problems = [case.problem for case in cases]
    assert opened[:8] == problems
    assert opened[8:] != problems
    assert {id(problem) for problem in opened[8:]} == {id(problem) for problem in problems}


def test_cases_beyond_the_claims_do_not_apply_and_refuse_the_profile(profile):
    modest = replace(CLAIMS, compare=("gt",), ops=("Gemm",))
    found = run(claims=modest, profiles=[profile])
    assert [result.disposition for result in found.results] == ["passed", "not_applicable", "not_applicable"]
    assert "ge" in found.results[1].reason
    assert found.profiles[0].reason == "1 not applicable"
    assert found.exit_code() == 3
    assert found.exit_code(allow_incomplete=True) == 0
    assert run(claims=modest).exit_code() == 0


def test_an_implementation_that_calls_a_required_case_unsupported_fails_it():
    found = run([A], Broken(misbehaving.Unsupported))
    assert found.results[0].disposition == "failed"
    assert found.exit_code() == 1


def test_crashes_win_over_failures():
    class Mixed(Lab):
        def open(self, problem):
            return (misbehaving.Crashes if problem is A.problem else misbehaving.LeavesOutput)(problem)

    found = run([A, B], Mixed())
    assert [result.disposition for result in found.results] == ["error", "failed"]
    assert found.exit_code() == 5
    assert found.exit_code(allow_incomplete=True) == 5


def test_skips_are_counted_and_make_a_run_incomplete(profile):
    found = run(waivers=Waivers({C.id: waiver(C)}))
    assert found.counts["skipped"] == 1
    assert (found.exit_code(), found.exit_code(allow_incomplete=True)) == (3, 0)
    refused = run(waivers=Waivers({A.id: waiver(A)}), profiles=[profile])
    assert refused.profiles[0].reason == "1 skipped"


def test_expected_failures_must_fail_and_in_the_way_they_say():
    broken = Broken(misbehaving.LeavesOutput)
    kinds = run([A], broken).results[0].kinds
    assert kinds == ("value",)
    xfailed = run([A, C], implementation=None, waivers=Waivers({}, {A.id: waiver(A, "value")}))
    assert xfailed.results[0].disposition == "xpassed"
    assert xfailed.exit_code() == 1
    found = run([A, B], broken, waivers=Waivers({}, {case.id: waiver(case, "value") for case in (A, B)}))
    assert [result.disposition for result in found.results] == ["xfailed", "xfailed"]
    assert found.exit_code() == 3  # nothing passed
    other = run([A], broken, waivers=Waivers({}, {A.id: waiver(A, "mask")}))
    assert other.results[0].disposition == "failed"
    crash = run([A], Broken(misbehaving.Crashes), waivers=Waivers({}, {A.id: waiver(A, "value")}))
    assert crash.results[0].disposition == "error"


def test_nothing_selected_doubled_unplanned_and_lost_results_are_no_pass():
    passed = [Result(case, "passed", Findings(values=1)) for case in (A, B)]
    assert run([]).exit_code() == 4
    assert SuiteRun("s", CLAIMS, (A.id,), passed).exit_code() == 4
    assert SuiteRun("s", CLAIMS, (A.id, B.id), [passed[0], passed[0]]).exit_code() == 4
    assert SuiteRun("s", CLAIMS, (A.id, A.id), [passed[0]]).exit_code() == 4
    lost = SuiteRun("s", CLAIMS, (A.id, B.id), passed[:1])
    assert (lost.counts["missing"], lost.exit_code()) == (1, 3)
    assert SuiteRun("s", CLAIMS, (A.id,), [Result(A, "fine")]).exit_code() == 4


def test_a_vacuous_case_and_a_surviving_canary_make_a_run_invalid(profile):
    passed = [Result(case, "passed", Findings(values=1)) for case in (A, B)]
    found = SuiteRun("s", CLAIMS, (A.id, B.id), passed, vacuous=("a accepts zeros",))
    assert found.exit_code(allow_incomplete=True) == 4
    assert SuiteRun("s", CLAIMS, (A.id, B.id), passed, canaries={"zeros": A.id}).exit_code() == 0
    assert SuiteRun("s", CLAIMS, (A.id, B.id), passed, canaries={"zeros": A.id, "stale": None}).exit_code() == 4
    refused = suites.conclude((A, B), passed, CLAIMS, profiles=[profile], canaries={"zeros": None})
    assert refused.profiles[0].reason == "a canary survived the selected cases"


def test_an_empty_judgement_is_a_failure(monkeypatch):
    monkeypatch.setattr("refdeq_validation.trials.judge", lambda *arguments: Findings())
    result = run_case(A, Lab(), CLAIMS)
    assert (result.disposition, result.reason) == ("failed", "nothing was compared")


def test_a_case_that_accepts_zeros_is_told(monkeypatch):
    monkeypatch.undo()
    vacuous = Case("v", "L2", "memory", A.problem, started(*(np.zeros_like(u) for u in U)), (), requires=())
    assert len(suites.check_cases([vacuous])) == 1


def test_every_canary_falls_to_the_core_profiles():
    for name, more in (("core-f32", {"no-reset", "tail-drop", "ge-for-gt"}), ("conv-f32", {"swallows-nan"})):
        killed = run_canaries(select(profile=name))
        assert None not in killed.values()
        assert {"zeros", "stale", "dense", "always-for-sent", "tf32", *more} <= set(killed)
    assert "wrong-adjoint" in run_canaries(select(profile="gradient-f32"))


def test_canaries_survive_where_the_cases_about_their_bug_have_lost_their_teeth(monkeypatch):
    monkeypatch.setattr("refdeq_validation.canary_run.run_case", lambda case, *rest, **more: Result(case, "passed"))
    assert set(run_canaries(select(tier="smoke")).values()) == {None}


def test_repetition_that_nobody_claims_is_a_note():
    modest = replace(CLAIMS, determinism="R0")
    assert any("R1" in note for note in run(claims=modest).notes)
    assert not any("R1" in note for note in run().notes)


def test_claims_that_no_case_is_about_are_told():
    claims = Claims(name="mine", compare=("gt", "ge"), offers=("state", "solve"), solvers=("broyden",))
    untested = untested_claims(claims, [A])
    assert {"compare: ge", "solvers: broyden", "offers: solve"} <= set(untested)
    assert "compare: gt" not in untested
    assert "solvers: broyden" not in untested_claims(replace(claims, offers=("state",)), [A])


def test_a_solver_that_is_claimed_and_not_offered_fails():
    class Fewer(LabSession):
        def solve(self, x, z0, *, keep, trace):
            if self.problem.solver["name"] == "broyden":
                raise NotImplementedError("no Broyden")
            return super().solve(x, z0, keep=keep, trace=trace)

    problem = Problem("Gemm", "float32", (2,), WEIGHT / 8, None, ruled(0.5), solver={"name": "broyden"})
    calls = (Call("solve", {"x": U[0], "z0": U[1]}, {"trace": True}),)
    case = Case("s", "L2", "solver", problem, calls, (), requires=("solve", "trace"))
    assert run_case(case, Broken(Fewer), CLAIMS).disposition == "failed"
    assert run_case(case, Broken(Fewer), replace(CLAIMS, solvers=("picard",))).disposition == "not_applicable"


def test_largest_array_and_ladder_decide_what_applies():
    assert "4 are claimed" not in why_not(A, replace(CLAIMS, largest=4))
    assert "2 are claimed" in why_not(A, replace(CLAIMS, largest=2))
    repeated = case_of("r", requires=("R3",))
    assert why_not(repeated, CLAIMS) == ""
    assert "R1 is" in why_not(repeated, replace(CLAIMS, determinism="R1"))


def test_the_worst_code_wins():
    assert PRECEDENCE == (4, 2, 5, 1, 3, 0)
    assert set(PRECEDENCE) == set(EXIT_CODES)
    for i, code in enumerate(PRECEDENCE):
        assert worst(PRECEDENCE[i:]) == code
        assert worst(reversed(PRECEDENCE[i:])) == code
