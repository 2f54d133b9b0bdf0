"""Canaries: each is killed by the suite, applies where its mistake can show, and nowhere else."""

import numpy as np
import pytest
from refdeq_validation.canary_run import run_canaries
from refdeq_validation.cases.suite import select
from refdeq_validation.mutants.canaries import CANARIES
from refdeq_validation.protocol.guards import PLACEMENTS
from refdeq_validation.protocol.loading import claims_of
from refdeq_validation.running import run_case


@pytest.mark.parametrize("name", CANARIES)
def test_every_canary_is_killed_by_its_cases(name: str) -> None:
    canary = CANARIES[name]()
    claims = claims_of(canary)
    cases = [case for case in select(tier="core") if canary.applies(case)][:40]
    dispositions = [run_case(case, canary, claims, placements=PLACEMENTS[:1]).disposition for case in cases]
    assert {"failed", "error"} & set(dispositions)
    assert canary.summary.endswith(".")


def test_canaries_without_a_case_are_left_out() -> None:
    cases = [case for case in select(families=["gradient"]) if case.problem.dtype == "float64"][:6]
    found = run_canaries(cases)
    assert found["wrong-adjoint"] is not None
    assert "swallows-nan" not in found
    assert "no-reset" not in found


def test_cases_without_teeth_let_a_canary_live() -> None:
    """One case that sends everything in both comparators: the tie canary does not apply, the NaN canary does not either."""
    case = next(case for case in select(families=["exact"]) if case.problem.op == "Gemm" and len(case.calls) == 2)
    found = run_canaries([case])
    assert "ge-for-gt" not in found
    assert found["zeros"] == case.id


def test_a_canary_is_fresh_every_time() -> None:
    first, second = CANARIES["stale"](), CANARIES["stale"]()
    case = next(case for case in select(families=["exact"]) if case.problem.op == "Gemm")
    sessions = [canary.open(case.problem) for canary in (first, second)]
    for session in sessions:
        session.reset(1)
    out = np.ones((1, *case.problem.out_shape), case.problem.dtype)
    u = np.ones((1, *case.problem.shape), case.problem.dtype)
    sessions[0].step(u, np.zeros(u.shape, bool), out)
    assert not out.any()
