"""Every case can fail: it rejects all six implementations of nothing; one that does not is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from refdeq_validation.cases.bug_types import BUG_TYPES
from refdeq_validation.cases.building import Numbers, gemm, prepared, ruled, started, unit
from refdeq_validation.cases.model import FAMILIES
from refdeq_validation.cases.nulls import FORMS, NULLS, null_transcript
from refdeq_validation.cases.suite import all_cases, select
from refdeq_validation.cases.witness import FAST, VacuousCaseError, golden_transcript, holds, is_unit_step, prove
from refdeq_validation.judge.judging import judge

LARGE = 1 << 20
"""Bytes of a case beyond which only its witness in one form is asserted here."""

CHUNKS = 12


def weight_of(case):
    """Bytes of all arrays of a case."""
    arrays = [*case.problem.arrays().values(), *(array for call in case.calls for array in call.arrays.values())]
    return sum(array.nbytes for array in arrays)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_case_of_unit_steps_is_proved(chunk):
    cases = [case for case in all_cases() if is_unit_step(case) and weight_of(case) <= LARGE][chunk::CHUNKS]
    assert len(cases) > 50
    for case in cases:
        proved = prove(case)
        assert proved.id == case.id
        assert set(proved.witness["nulls"]) == {f"{null} ({form})" for null in NULLS for form in FORMS}
        assert ("exact" in proved.witness) == (case.expect == "exact")


@pytest.mark.parametrize("family", ["determinism", "negative", "solver", "certificate", "gradient"])
def test_other_levels_are_proved_in_a_sample(family):
    cases = [case for case in select(families=[family]) if not is_unit_step(case)]
    assert cases
    for case in cases[:: max(1, len(cases) // 6)]:
        prove(case)


def test_all_families_have_cases_and_all_bug_types_are_cited():
    families = {case.family for case in all_cases()}
    assert families == set(FAMILIES) - {"fuzz_regression"}
    assert {name for case in all_cases() for name in case.bug_types} == set(BUG_TYPES)


def small(change=1.0, family="exact", **options):
    """A case of one step, whose inputs change by this much against a threshold of 1/2."""
    number = Numbers("small", "float32")
    r = number.integers("r", (2, 4), -3, 3)
    moved = number.array([[change, 0.0, 0.25, change], [0.0, change, change, 0.25]])
    problem = gemm(number.signed("weight", (3, 4), 1, 5), number.signed("bias", (3,), 1, 5), ruled(0.5))
    return unit(family, "small", "", ("MASK",), problem, prepared(r, number.signed("a", (2, 3), 1, 9), r + moved), **options)


def test_an_ordinary_case_is_proved_and_holds():
    proved = prove(small())
    assert proved.witness["sent"] == [4, 8]
    assert float.fromhex(proved.witness["margin"]) == 0.25
    assert proved.witness["exact"]["q"] == 0
    holds(proved)


def test_a_case_that_sends_nothing_or_everything_is_refused():
    with pytest.raises(VacuousCaseError, match="0 of 8 sent"):
        prove(small(0.25))
    case = small()
    everything = replace(case, problem=replace(case.problem, rule=replace(case.problem.rule, threshold=0.0, compare="ge")))
    with pytest.raises(VacuousCaseError, match="8 of 8 sent"):
        prove(everything)
    prove(replace(everything, flags=("uniform-mask",)))


def test_a_case_that_accepts_zeros_is_refused():
    zero = np.zeros((2, 3), np.float32)
    case = small(exact=False)
    silent = replace(case, problem=replace(case.problem, weight=np.zeros((3, 4), np.float32)))
    silent = replace(silent, calls=(replace(case.calls[0], arrays={**case.calls[0].arrays, "a": zero}), case.calls[1]))
    with pytest.raises(VacuousCaseError, match="zeros"):
        prove(silent)
    with pytest.raises(VacuousCaseError, match="zeros"):
        holds(silent)


def test_a_case_that_accepts_the_dense_result_is_refused():
    number = Numbers("dense", "float32")
    weight = number.full("weight", (3, 4))
    first = number.full("first", (2, 4))
    second = first.copy()
    second[:, 1] += 1.0
    case = unit("bound", "dense", "", ("MASK",), gemm(weight, None, ruled(0.5)), started(first, second), exact=False)
    with pytest.raises(VacuousCaseError, match="dense"):
        prove(case)


def test_a_case_that_is_called_exact_and_is_not_is_refused():
    number = Numbers("inexact", "float32")
    weight = number.full("weight", (3, 4))
    case = small()
    with pytest.raises(VacuousCaseError, match="exact in every order"):
        prove(replace(case, problem=replace(case.problem, weight=weight)))


@pytest.mark.parametrize("null", NULLS)
@pytest.mark.parametrize("form", FORMS)
def test_null_transcripts_are_what_they_say(null, form):
    case = small()
    golden = golden_transcript(case)
    results = null_transcript(case, golden, null, form).answers[-1].results
    expected = {
        "zeros": np.zeros((2, 3)),
        "copy": case.calls[-1].arrays["u"][:, :3],
        "identity": (golden.answers[-1].results["r"] if form == "values" else case.calls[-1].arrays["u"])[:, :3],
        "stale": case.calls[0].arrays["a"],
        "dense": case.calls[-1].arrays["u"] @ case.problem.weight.T,
        "nan": np.full((2, 3), np.nan),
    }[null]
    if null != "identity" or form == "values":
        np.testing.assert_array_equal(results["a"], expected)
    if form == "values":
        np.testing.assert_array_equal(results["mask"], golden.answers[-1].results["mask"])
        np.testing.assert_array_equal(results["y"], results["a"] + case.problem.bias)
    assert not judge(case, null_transcript(case, golden, null, form), FAST).passed
