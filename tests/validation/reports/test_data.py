"""The report as data: it conforms to its schema, its counts close, and nothing in it is not a number."""

from __future__ import annotations

import copy
import hashlib
import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
from refdeq_validation.judge.verdicts import EDGES, KINDS, Failure
from refdeq_validation.reports.bits import bits_text
from refdeq_validation.reports.data import VERDICTS, backend_data, failure_data, finite, report_data
from refdeq_validation.reports.environment import environment
from refdeq_validation.reports.writing import write_json
from refdeq_validation.trials import DISPOSITIONS

SCHEMA = json.loads((files("refdeq_validation.reports") / "schema" / "report-1.json").read_text())
CHECK = jsonschema.Draft202012Validator(SCHEMA)


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("verdict", ["granted", "nonconformant", "incomplete", "backend error"])
def test_reports_of_real_runs_conform(reports, verdict):
    CHECK.validate(reports[verdict])
    assert reports[verdict]["verdict"] == verdict


def test_an_empty_run_conforms_and_grants_nothing():
    data = report_data([], 4, seconds=0.0)
    CHECK.validate(data)
    assert (data["verdict"], data["counts"]["planned"]) == ("invalid", 0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("verdict",), "fine"),
        (("exit_code",), 2),
        (("planned_ids_sha256",), "abc"),
        (("counts", "passed"), -1),
        (("results", 0, "disposition"), "ok"),
        (("results", 0, "failures", 0, "kind"), "oops"),
        (("results", 0, "failures", 0, "error"), "big"),
        (("backends", 0, "profiles", 0, "reason"), None),
        (("backends", 0, "surprise"), 1),
        (("histograms", "ratio", "counts", 0), 0.5),
    ],
)
def test_the_schema_rejects_wrong_reports(reports, path, value):
    data = copy.deepcopy(reports["nonconformant"])
    at = data
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert not CHECK.is_valid(data)


def test_a_failed_case_must_say_how_and_how_to_repeat_it(reports):
    data = copy.deepcopy(reports["nonconformant"])
    del data["results"][0]["repro"]
    assert not CHECK.is_valid(data)


def test_the_schema_knows_what_the_judge_knows():
    definitions = SCHEMA["$defs"]
    assert set(KINDS) <= set(definitions["failure"]["properties"]["kind"]["enum"])
    assert set(DISPOSITIONS) == set(definitions["case"]["properties"]["disposition"]["enum"])
    assert set(VERDICTS.values()) == set(SCHEMA["properties"]["verdict"]["enum"])


@pytest.mark.parametrize("verdict", ["granted", "nonconformant", "incomplete", "backend error"])
def test_counts_close(reports, verdict):
    for counts in (reports[verdict]["counts"], *(backend["counts"] for backend in reports[verdict]["backends"])):
        assert counts["planned"] == sum(count for name, count in counts.items() if name != "planned")


def test_what_was_planned_can_be_checked(reports):
    data = reports["granted"]
    planned = sorted(f"{result['backend']} {result['id']}" for result in data["results"])
    assert data["planned_ids_sha256"] == hashlib.sha256("\n".join(planned).encode()).hexdigest()
    cases = sorted({result["id"] for result in data["results"]})
    assert data["pack"] == {"digest": "sha256:" + hashlib.sha256("\n".join(cases).encode()).hexdigest(), "cases": len(cases)}


def test_histograms_hold_every_decision(reports):
    data = reports["nonconformant"]
    decisions = sum(result["decisions"] for result in data["results"] if result["suite"] == "cases")
    margins = data["histograms"]["margin"]
    assert sum(margins["counts"]) == decisions
    assert (len(margins["counts"]), margins["edges"]) == (len(EDGES) + 1, list(EDGES))
    over = sum(data["histograms"]["ratio"]["counts"][EDGES.index(0) + 1 :])
    assert over > 0
    assert sum(reports["granted"]["histograms"]["ratio"]["counts"][EDGES.index(0) + 1 :]) == 0


def test_an_incomplete_run_that_is_allowed_is_still_called_so(granted_suite):
    data = report_data([granted_suite], 3, seconds=0.0, allow_incomplete=True)
    assert (data["verdict"], data["exit_code"], data["incomplete_allowed"]) == ("incomplete", 0, True)
    assert report_data([granted_suite], 1, seconds=0.0, allow_incomplete=True)["exit_code"] == 1
    assert report_data([granted_suite], 3, seconds=0.0)["exit_code"] == 3
    assert (
        report_data([], 3, seconds=0.0, allow_incomplete=True)["exit_code"] == 3
    )  # where nothing passed, nothing is let through


def test_numbers_that_are_not_finite_are_null(tmp_path):
    failure = Failure("value", 1, "y", (0,), "0x1p+0 (1)", "nan", error=float("nan"), bound=0.5, terms={"sum": np.inf})
    data = finite(failure_data(failure, "float32"))
    assert (data["error"], data["ratio"], data["terms"], data["k"]) == (None, None, {"sum": None}, None)
    write_json(tmp_path / "failure.json", data)
    jsonschema.validate(json.loads((tmp_path / "failure.json").read_text()), {**SCHEMA["$defs"]["failure"]})


@pytest.mark.parametrize(
    ("text", "tensor", "dtype", "expected"),
    [
        ("0x1.0000000000000p+0 (1)", "y", "float32", "f32:3f800000"),
        ("-0x0.0p+0 (-0)", "y", "float32", "f32:80000000"),
        ("-inf", "a", "float64", "f64:fff0000000000000"),
        ("inf (inf)", "a", "float32", "f32:7f800000"),
        ("0x1.0000000000001p+0 (1)", "a", "float32", "f64:3ff0000000000001"),
        ("0x0.0000000000001p-1022 (4.94065646e-324)", "a", "float64", "f64:0000000000000001"),
        ("0x1.0000000000000p+0 (1)", "trace.scale", "float32", "f64:3ff0000000000000"),
        ("nan (nan)", "y", "float32", None),
        ("True", "mask", "float32", None),
        ("information", "y", "float32", None),
        ("an answer", "y", "float32", None),
    ],
)
def test_bits_of_numbers(text, tensor, dtype, expected):
    assert bits_text(text, tensor, dtype) == expected


def test_the_environment_is_told():
    told = environment(1.25, threads=2)
    assert (told["numpy"], told["seconds"], told["threads"]) == (np.__version__, 1.25, 2)
    assert told["blas"]


def test_an_invalid_run_grants_nothing(granted_suite):
    assert backend_data(granted_suite)["profiles"][0]["granted"]
    granted_suite.vacuous = ("gemm/tie/x-1: zeros pass",)
    (profile,) = backend_data(granted_suite)["profiles"]
    assert (profile["granted"], profile["reason"]) == (False, "the run is invalid")


def test_levels_that_cannot_be_judged_are_named(granted_suite):
    assert backend_data(granted_suite)["impossible_levels"] == []
    for result in granted_suite.results:
        if result.case.level == "L1":
            result.disposition = "not_applicable"
    assert backend_data(granted_suite)["impossible_levels"] == ["L1"]
    granted_suite.results[0].disposition = "not_applicable"
    assert backend_data(granted_suite)["impossible_levels"] == ["L1"]


def test_failures_carry_the_parts_of_their_bound(reports):
    results = [result for result in reports["nonconformant"]["results"] if result.get("backend") == "coarse:fast"]
    sums = [failure for result in results for failure in result["failures"] if failure["bound"] is not None]
    assert sums
    for failure in sums:
        assert failure["k"] >= 1
        assert failure["gauge"] > 0.0
        assert 0.0 < sum(failure["terms"].values()) <= failure["bound"]
        assert failure["ratio"] == failure["error"] / failure["bound"] > 1.0
    assert {failure["pattern"] for failure in sums} & {"every element"}
