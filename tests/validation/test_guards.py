"""Arrays under guard: what is written, kept or handed out against the contract is found, whoever does it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from planting import misbehaving
from planting.misbehaving import Broken, write_at
from refdeq_validation.cases.building import gemm, prepared, ruled, started
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.lab.session import CLAIMS, Lab
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.guards import PLACEMENTS, Guarded, Placement, scribble
from refdeq_validation.protocol.layouts import LAYOUTS, SPOILED, laid_out, spoiled
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.running import run_case

from refdeq.errors import ArgumentError
from refdeq.types import StopRule

WEIGHT = np.array([[1, 2, -3], [-2, 5, 1]], "float32")
BIAS = np.array([3, -4], "float32")
US = [np.array([[1, 2, 3], [-2, 1, 0]], "float32"), np.array([[1, 3, 3], [-2, -1, 0.25]], "float32")]
RULE = ruled(0.5)


def steps(*calls, problem=None, level="L2"):
    return Case("demo", level, "memory", problem or gemm(WEIGHT.copy(), BIAS.copy(), RULE), calls, ("ALIASING",), requires=())


STARTED = started(*US, *US)
PREPARED = prepared(np.ones((2, 3), "float32"), np.ones((2, 2), "float32"), *US)


def solves():
    weight = np.array([[0.25, 0.125], [-0.125, 0.25]], "float32")
    problem = Problem("Gemm", "float32", (2,), weight, np.ones(2, "float32"), RULE, stop=StopRule(max_eval=3))
    x, z0 = np.ones((2, 2), "float32"), np.zeros((2, 2), "float32")
    calls = [Call("solve", {"x": x * scale, "z0": z0}, {"trace": True}) for scale in (1, 2)]
    return Case("demo", "L2", "solver", problem, tuple(calls), ("ALIASING",), requires=("solve", "trace"))


# ---------------------------------------------------------------------------------------------------------------- the arrays


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool", "int64"])
@pytest.mark.parametrize("placement", PLACEMENTS, ids=lambda placement: placement.name)
def test_one_byte_beyond_an_output_is_noticed_on_either_side(dtype, placement):
    for offset in (-1, "end"):
        out = Guarded((2, 3), np.dtype(dtype), placement, "any")
        assert out.broken() == ""
        out.array[...] = 0
        assert out.broken() == ""
        write_at(out.array, out.array.nbytes if offset == "end" else offset)
        assert "was written" in out.broken()


def test_an_input_cannot_be_written_and_writing_it_all_the_same_is_noticed():
    values = np.arange(6.0).reshape(2, 3)
    given = Guarded(values.shape, values.dtype, PLACEMENTS[0], "any", values)
    np.testing.assert_array_equal(given.array, values)
    with pytest.raises(ValueError, match="read-only"):
        given.array[0, 0] = 1
    write_at(given.array, 0, 99)
    assert given.broken() == "an input was written"


def test_misaligned_arrays_are_one_byte_off_only_where_that_is_claimed():
    anywhere = Guarded((3,), np.dtype("float64"), PLACEMENTS[1], "any")
    natural = Guarded((3,), np.dtype("float64"), PLACEMENTS[1], "natural")
    aligned = Guarded((3,), np.dtype("float64"), PLACEMENTS[0], "natural")
    assert [out.array.ctypes.data % 64 for out in (anywhere, natural, aligned)] == [1, 8, 0]
    assert [out.array.flags.aligned for out in (anywhere, natural, aligned)] == [False, True, True]


def test_outputs_are_full_of_canaries():
    assert np.isnan(Guarded((3,), np.dtype("float32"), PLACEMENTS[0], "any").array).all()
    assert (Guarded((3,), np.dtype("float32"), PLACEMENTS[1], "any").array == 2.0**100).all()
    mask = Guarded((3,), np.dtype(bool), PLACEMENTS[0], "any")
    assert not mask.is_written()
    mask.array[...] = True
    assert mask.is_written()


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool", "int64", "int32"])
def test_scribbling_changes_every_element(dtype):
    for value in (0, 1):
        array = np.full((2, 3), value, dtype)
        scribble(array)
        assert (array != np.full((2, 3), value, dtype)).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_hold_the_same_values(layout):
    values = np.repeat(np.arange(5, dtype="float32")[None], 3, axis=0)
    odd = laid_out(values, layout)
    np.testing.assert_array_equal(odd, values)
    assert odd.strides != values.strides or not odd.flags.aligned or not odd.dtype.isnative


@pytest.mark.parametrize("how", SPOILED)
def test_spoiled_outputs_differ_in_shape_or_dtype(how):
    mask, y = np.zeros((2, 3), bool), np.zeros((2, 2), "float32")
    odd = spoiled(how, mask, y)
    assert [(a.shape, a.dtype) for a in odd] != [(a.shape, a.dtype) for a in (mask, y)]


def test_names_of_layouts_and_outputs_that_do_not_exist_are_refused():
    with pytest.raises(ArgumentError, match="diagonal"):
        laid_out(np.zeros((2, 2)), "diagonal")
    with pytest.raises(ArgumentError, match="y wide"):
        spoiled("y wide", np.zeros((2, 2)), np.zeros((2, 2)))


# ------------------------------------------------------------------------------------------------------------- misbehaviours


def test_the_plain_implementation_keeps_the_contract():
    for case in (steps(*STARTED), steps(*PREPARED), solves()):
        result = run_case(case, Lab(), CLAIMS)
        assert result.disposition == "passed", result.findings.failures
        assert result.repeated is True


@pytest.mark.parametrize(
    ("session", "kind", "case"),
    [
        (misbehaving.WritesBefore, "guard", steps(*STARTED)),
        (misbehaving.WritesAfter, "guard", steps(*STARTED)),
        (misbehaving.WritesInput, "input_mutated", steps(*STARTED)),
        (misbehaving.WritesWeight, "input_mutated", steps(*STARTED)),
        (misbehaving.LeavesMask, "guard", steps(*STARTED)),
        (misbehaving.LeavesOutput, "value", steps(*STARTED)),
        (misbehaving.WritesLater, "alias", steps(*STARTED)),
        (misbehaving.HandsOut, "alias", solves()),
        (misbehaving.Remembers, "nondeterminism", steps(*STARTED)),
        (misbehaving.Crashes, "exception", steps(*STARTED)),
        (misbehaving.Exits, "exception", steps(*STARTED)),
        (misbehaving.Unsupported, "exception", steps(*STARTED)),
        (misbehaving.ReturnsNone, "exception", solves()),
    ],
)
def test_a_broken_contract_is_found(session, kind, case):
    result = run_case(case, Broken(session), CLAIMS)
    assert result.disposition in ("failed", "error")
    assert kind in result.kinds, result.findings.failures


def test_bits_that_differ_from_time_to_time_are_found_where_repetition_is_claimed():
    fast = replace(CLAIMS, order="fast", determinism="R1")
    case, unclaimed = steps(*STARTED), replace(fast, determinism="R0")
    assert run_case(case, Lab(), fast).disposition == "passed"
    result = run_case(case, Broken(misbehaving.Random), fast)
    assert (result.disposition, result.repeated) == ("failed", False)
    assert result.kinds == ("nondeterminism",)
    assert run_case(case, Broken(misbehaving.Random), unclaimed).disposition == "passed"


def test_a_kept_view_is_told_apart_from_a_wrong_number():
    from refdeq_validation.suites import judge_cases
    from refdeq_validation.waivers import Waivers

    case = steps(*PREPARED)
    results = judge_cases([case], Broken(misbehaving.KeepsInput), CLAIMS, Waivers(), lambda count: None)
    assert results[0].disposition == "failed"
    assert results[0].kinds[-1] == "alias"


def test_weights_that_were_written_are_put_back():
    case = steps(*STARTED)
    run_case(case, Broken(misbehaving.WritesWeight), CLAIMS)
    np.testing.assert_array_equal(case.problem.weight, WEIGHT)
    assert run_case(case, Lab(), CLAIMS).disposition == "passed"


def test_what_nobody_wrote_shows_although_nan_was_expected():
    nan = np.full((2, 3), np.nan, "float32")
    case = steps(*started(nan, nan))
    assert run_case(case, Lab(), CLAIMS).disposition == "passed"
    assert run_case(case, Broken(misbehaving.LeavesOutput), CLAIMS, placements=PLACEMENTS[:1]).disposition == "passed"
    assert run_case(case, Broken(misbehaving.LeavesOutput), CLAIMS).disposition == "failed"


def test_memory_that_is_allocated_is_poisoned_and_freed_of_it_again():
    told = []

    class Poisoned(Lab):
        def poison(self, value):
            told.append(value)

    for placement in PLACEMENTS:
        execute(steps(*STARTED), Poisoned(), CLAIMS, placement)
    first, second, third, fourth = told
    assert math.isnan(first)
    assert (second, third, fourth) == (None, 2.0**100, None)


def test_a_session_has_been_used_before_the_calls_that_count():
    seen = []

    class Watched(misbehaving.LabSession):
        def step(self, u, mask, y):
            seen.append(u.copy())
            super().step(u, mask, y)

    execute(steps(*STARTED), Broken(Watched), CLAIMS, Placement("again", math.nan, prelude=True))
    assert len(seen) == 8
    np.testing.assert_array_equal(seen[0], US[0][::-1])
    np.testing.assert_array_equal(seen[4], US[0])
