"""``refdeq validate`` on the cases of the suite: choices, profiles, waivers, specs, reports."""

from __future__ import annotations

import json

import pytest
from refdeq_validation.cases.profiles import PROFILES
from refdeq_validation.cases.suite import by_id, select
from typer.testing import CliRunner

from refdeq.cli import app

SMOKE = [case.id for case in select(tier="smoke") if case.problem.op == "Gemm" and case.level == "L1"]
ONE, TWO = SMOKE[:2]

WAIVER = '[[{table}]]\nid = "{id}"\nreason = "known"\nissue = "https://example.org/1"\nexpires = {expires}\n{more}\n'

BACKEND = """
import numpy as np
from refdeq_validation.lab.session import Lab, LabSession


class Wrong(LabSession):
    def step(self, u, mask, y):
        super().step(u, mask, y)
        y[...] = np.nextafter(y, np.inf)


class Backend(Lab):
    def open(self, problem):
        return Wrong(problem)


class Crashing(Lab):
    def open(self, problem):
        raise ZeroDivisionError("no device")
"""


@pytest.fixture
def validate(tmp_path, monkeypatch):
    """Run the command in a folder with a wrong backend; return its result and the report, if there is one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "wrong_backend.py").write_text(BACKEND, encoding="utf-8")

    def run(*arguments):
        result = CliRunner().invoke(app, ["validate", *arguments])
        path = tmp_path / "report.json"
        return result, json.loads(path.read_text()) if path.exists() else None

    return run


def waived(tmp_path, table, case=ONE, expires="2100-01-01", more=""):
    path = tmp_path / f"{table}s.toml"
    path.write_text(WAIVER.format(table=table, id=case, expires=expires, more=more), encoding="utf-8")
    return str(path)


def dispositions(report):
    return {result["id"]: result["disposition"] for result in report["results"]}


def test_one_case_on_every_declaration_of_a_backend(validate):
    result, report = validate("numba", "--case", ONE)
    assert result.exit_code == 0, result.output
    assert [backend["spec"] for backend in report["backends"]] == [
        "numba:strict:op",
        "numba:strict:fused",
        "numba:fast:op",
        "numba:fast:fused",
    ]
    assert report["counts"]["planned"] == report["counts"]["passed"] == 4
    assert {entry["suite"] for entry in report["results"]} == {"cases"}


def test_a_wrong_backend_fails_and_the_repro_is_a_command(validate):
    result, report = validate("wrong_backend:Backend", "--case", ONE, "--case", TWO)
    assert result.exit_code == 1
    failed = next(entry for entry in report["results"] if entry["disposition"] == "failed")
    assert failed["repro"] == f"refdeq validate wrong_backend:Backend --case {failed['id']}"
    again, _ = validate(*failed["repro"].split()[2:])
    assert again.exit_code == 1


def test_a_backend_that_crashes_is_told_apart_from_one_that_fails(validate):
    result, report = validate("wrong_backend:Crashing", "--case", ONE)
    assert result.exit_code == 5
    assert "no device" in report["results"][0]["reason"]
    assert "likely bug" not in result.output
    assert "the case is about" not in result.output


def test_a_backend_that_cannot_be_imported(validate):
    result, report = validate("no_such_module_here:x", "--case", ONE)
    assert result.exit_code == 5
    assert report["unavailable"][0]["backend"] == "no_such_module_here:x"
    assert result.output.count("cannot run no_such_module_here:x: ModuleNotFoundError") == 1
    assert "nothing was selected" not in result.output


def test_an_id_that_no_case_has_is_a_usage_error(validate):
    result, report = validate("reference", "--case", ONE, "--case", "gemm/exact/absent-00000000")
    assert (result.exit_code, report) == (2, None)
    assert "absent" in result.output
    assert "--list" in result.output
    assert f"did you mean {ONE}?" in validate("reference", "--case", ONE[:-1])[0].output


def test_one_case_is_passed_not_granted(validate):
    result, report = validate("reference", "--case", ONE)
    assert "passed: 1 planned, 1 passed" in result.output
    assert "granted" not in result.output
    assert report["verdict"] == "granted"


def test_a_small_profile_is_granted(validate):
    result, report = validate("reference", "--profile", "delta-network-f32")
    assert result.exit_code == 0, result.output
    (profile,) = report["backends"][0]["profiles"]
    assert (profile["name"], profile["granted"], profile["required"]) == (
        "delta-network-f32",
        True,
        len(PROFILES["delta-network-f32"].ids),
    )
    power = report["backends"][0]["power"]
    assert power["canaries"] == power["killed"] > 3


def test_a_profile_beyond_the_claims_is_incomplete_and_stays_so(validate):
    result, report = validate("reference", "--profile", "storage-f16")
    assert (result.exit_code, report["verdict"]) == (3, "incomplete")
    result, report = validate("reference", "--case", ONE, "--allow-incomplete", "numba:no")
    assert result.exit_code == 2


def test_a_skipped_case_makes_a_run_incomplete_unless_that_is_allowed(validate, tmp_path):
    options = ("reference", "--case", ONE, "--case", TWO, "--skips", waived(tmp_path, "skip"))
    result, report = validate(*options)
    assert result.exit_code == 3
    assert dispositions(report)[ONE] == "skipped"
    result, report = validate(*options, "--allow-incomplete")
    assert result.exit_code == 0
    assert report["verdict"] == "incomplete"
    assert report["incomplete_allowed"]


def test_an_expected_failure_that_passes_fails(validate, tmp_path):
    path = waived(tmp_path, "xfail", more='kind = "value"')
    result, report = validate("reference", "--case", ONE, "--xfails", path)
    assert result.exit_code == 1
    assert dispositions(report)[ONE] == "xpassed"
    result, report = validate("wrong_backend:Backend", "--case", ONE, "--xfails", path)
    assert dispositions(report)[ONE] == "xfailed"


@pytest.mark.parametrize("more", [{"expires": "2020-01-01"}, {"case": "gemm/exact/absent-00000000"}, {"more": 'pattern = "*"'}])
def test_stale_waivers_are_usage_errors_and_nothing_runs(validate, tmp_path, more):
    result, report = validate("reference", "--case", ONE, "--skips", waived(tmp_path, "skip", **more))
    assert (result.exit_code, report) == (2, None)
    assert "skips.toml: skip 1" in result.output


def test_what_a_profile_requires_cannot_be_waived(validate, tmp_path):
    required = PROFILES["delta-network-f32"].ids[0]
    result, report = validate("reference", "--profile", "delta-network-f32", "--skips", waived(tmp_path, "skip", required))
    assert (result.exit_code, report) == (2, None)


def test_ids_are_listed_and_nothing_runs(validate):
    result, report = validate("--profile", "core-f32", "--list")
    assert result.exit_code == 0
    assert result.stdout.split() == list(PROFILES["core-f32"].ids)
    assert report is None
    assert validate("--tier", "full", "--list")[0].stdout.split() == list(by_id())
    assert validate("--case", "gemm/exact/absent-00000000", "--list")[0].exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--profile", "absent"],
        ["--tier", "some"],
        ["--skips", "absent.toml"],
        ["--html", "absent/r.html"],
        ["reference:fast:op"],
    ],
)
def test_bad_options_are_usage_errors(validate, arguments):
    result, report = validate("reference", "--case", ONE, *arguments)
    assert (result.exit_code, report) == (2, None)
    assert "Traceback" not in result.output


def test_other_forms_of_the_report_are_written(validate, tmp_path):
    forms = ("--html", "r.html", "--junit", "r.xml", "--summary", "r.md")
    result, _ = validate("reference", "--case", ONE, *forms)
    assert result.exit_code == 0
    assert (tmp_path / "r.html").read_text().lower().startswith("<!doctype html>")
    assert "<testsuite" in (tmp_path / "r.xml").read_text()
    assert "# refdeq: passed" in (tmp_path / "r.md").read_text()


def test_processes_find_what_one_process_finds(validate, monkeypatch):
    from refdeq_validation import case_suites

    monkeypatch.setattr(case_suites, "WORTH_A_PROCESS", 1)
    result, report = validate("reference", "wrong_backend:Backend", "--profile", "delta-network-f32", "--threads", "2")
    assert result.exit_code == 1
    monkeypatch.setattr(case_suites, "WORTH_A_PROCESS", 10**9)
    _, alone = validate("reference", "wrong_backend:Backend", "--profile", "delta-network-f32", "--threads", "2")
    for key in ("counts", "planned_ids_sha256"):
        assert report[key] == alone[key]
    assert [(entry["id"], entry["disposition"], entry["failed_checks"]) for entry in report["results"]] == [
        (entry["id"], entry["disposition"], entry["failed_checks"]) for entry in alone["results"]
    ]
    assert report["backends"][0]["power"] == alone["backends"][0]["power"]
