"""``refdeq validate``: exit codes, the report, and that nothing is half-written."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from refdeq_validation import report as reporting
from refdeq_validation.exit_codes import EXIT_CODES
from refdeq_validation.judge.verdicts import Failure, Findings
from refdeq_validation.reports.writing import write_json
from refdeq_validation.session import Row
from typer.testing import CliRunner

from refdeq import registry
from refdeq.cli import app
from refdeq.errors import BackendUnavailableError
from refdeq.reference import ReferenceBackend, ReferenceKernels

SMALL = ["--cell", "sine", "--preset", "refdeq", "--samples", "8", "--threads", "1"]


@pytest.fixture
def validate(tmp_path, monkeypatch):
    """Run the command in an empty folder; return its result and the report, if there is one."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        result = CliRunner().invoke(app, ["validate", *arguments])
        path = tmp_path / "report.json"
        return result, json.loads(path.read_text()) if path.exists() else None

    return run


class _Broken(ReferenceKernels):
    def gate(self, *arguments):
        raise ZeroDivisionError("the device fell off")


class _Wrong(ReferenceKernels):
    def gate(self, u, spec, active, r, mask, d):
        super().gate(u, spec, active, r, mask, d)
        r[active] = np.nextafter(r[active], np.inf)


def offer(monkeypatch, kernels):
    """Let ``reference`` be a backend with other kernels."""
    backend = ReferenceBackend()
    monkeypatch.setattr(backend, "kernels", lambda *, order, threads: kernels(), raising=False)
    monkeypatch.setattr(registry, "load_backend", lambda name: backend)


def refuse(monkeypatch, refused="numba"):
    load = registry.load_backend

    def loaded(name):
        if name == refused:
            raise BackendUnavailableError(name, "its device is not here", "plug it in")
        return load(name)

    monkeypatch.setattr(registry, "load_backend", loaded)


# ----------------------------------------------------------------------------------------------------------------- exit codes


def test_reference_is_granted_on_a_quick_sine_cell(validate):
    result, report = validate("reference", "--cell", "sine", "--quick")
    assert result.exit_code == 0, result.output
    assert report["verdict"] == "granted"
    assert {name: count for name, count in report["counts"].items() if count} == {"planned": 5, "passed": 5}
    assert "passed: 5 planned" in result.stdout  # no profile was judged, so nothing was granted


def test_quick_designed_cases_cover_every_preset(validate):
    result, report = validate("reference", "--cell", "designed", "--quick")
    assert result.exit_code == 0, result.output
    presets = {row["id"].rpartition("/")[2] for row in report["results"]}
    assert presets == {"paper", "deltadeq-code", "delta-network", "refdeq", "other rules"}
    assert all(row["runs"] >= 3 for row in report["results"])


def test_a_wrong_backend_is_rejected(validate, monkeypatch):
    offer(monkeypatch, _Wrong)
    result, report = validate("reference", *SMALL)
    assert result.exit_code == 1
    assert report["verdict"] == "nonconformant"
    by_preset = {row["id"].rpartition("/")[2]: row for row in report["results"]}
    assert by_preset["dense"]["disposition"] == "passed"
    assert by_preset["refdeq"]["failures"][0]["kind"] == "memory"
    assert "failed" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cell", "cosine"],
        ["--preset", "none"],
        ["--order", "slow"],
        ["--samples", "0"],
        ["--threads", "0"],
        ["--threshold", "-1"],
        ["--report", "absent/report.json"],
        ["--no-such-option"],
    ],
)
def test_bad_options_are_usage_errors_and_write_nothing(validate, tmp_path, arguments):
    result, report = validate("reference", *arguments)
    assert result.exit_code == 2
    assert report is None
    assert list(tmp_path.iterdir()) == []
    assert "Traceback" not in result.output


def test_an_unknown_backend_is_incomplete(validate):
    result, report = validate("abacus", *SMALL)
    assert result.exit_code == 3
    assert report["verdict"] == "incomplete"
    assert report["unavailable"][0]["backend"] == "abacus"


def test_a_named_backend_that_cannot_run_is_incomplete_though_others_pass(validate, monkeypatch):
    refuse(monkeypatch)
    result, report = validate("reference", "numba", *SMALL)
    assert result.exit_code == 3
    assert report["counts"]["passed"] == report["counts"]["planned"] == 2
    [entry] = report["unavailable"]
    assert entry["backend"] == "numba"
    assert entry["reason"].startswith("its device is not here")


def test_a_backend_that_was_not_named_may_be_missing(validate, monkeypatch):
    refuse(monkeypatch)
    result, report = validate(*SMALL)
    assert result.exit_code == 0
    missing = {entry["backend"] for entry in report["unavailable"]}
    assert {"numba"} <= missing <= {"numba", "cuda", "cupy", "cupy-bf16", "cupy-bf16x2", "cupy-bf16x3"}


def test_an_empty_selection_is_no_pass(validate):
    result, report = validate("reference", "--order", "fast", *SMALL)
    assert result.exit_code == 4
    assert report["verdict"] == "invalid"
    assert report["counts"]["planned"] == 0


def test_a_backend_that_breaks_is_reported_as_such(validate, monkeypatch):
    offer(monkeypatch, _Broken)
    result, report = validate("reference", *SMALL)
    assert result.exit_code == 5
    assert report["verdict"] == "backend error"
    errors = [row["error"] for row in report["results"]]
    assert errors == [None, "ZeroDivisionError: the device fell off"]


def rows_of(*dispositions):
    made = []
    for disposition in dispositions:
        findings = Findings(values=1)
        if disposition == "failed":
            findings.add(Failure("value", 0, "a", (0,), "1", "2"))
        error = "broke" if disposition == "error" else ""
        made.append(Row("b strict op", "sine", str(len(made)), findings, runs=disposition != "missing", error=error))
        assert made[-1].disposition == disposition
    return made


@pytest.mark.parametrize(
    ("dispositions", "planned", "unavailable", "code"),
    [
        (["passed", "passed"], 2, [], 0),
        (["passed", "failed"], 2, ["cuda"], 1),
        (["passed"], 1, ["cuda"], 3),
        (["passed"], 2, [], 3),
        (["passed", "missing"], 2, [], 3),
        ([], 0, ["cuda"], 3),
        ([], 0, [], 4),
        (["passed", "passed"], 1, [], 4),
        (["failed", "error"], 2, [], 5),
        (["failed", "failed"], 1, [], 4),
    ],
)
def test_exit_codes_by_precedence(dispositions, planned, unavailable, code):
    assert reporting.exit_code(rows_of(*dispositions), planned, unavailable) == code
    assert code in EXIT_CODES


def test_a_row_that_compared_nothing_is_missing():
    assert Row("b strict op", "sine", "dense").disposition == "missing"
    assert Row("b strict op", "sine", "dense", Findings(), runs=3).disposition == "missing"


# ---------------------------------------------------------------------------------------------------------------- the report


def test_the_report_says_what_was_done(validate):
    _, report = validate("reference", *SMALL)
    assert report["schema"] == "refdeq-report/1"
    assert report["exit_code"] == 0
    required = "verdict suite environment protocol counts planned_ids_sha256 unavailable results"
    assert set(required.split()) <= set(report)
    ids = [row["id"] for row in report["results"]]
    assert ids == ["reference strict op/sine/dense", "reference strict op/sine/refdeq"]
    assert report["planned_ids_sha256"] == hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
    dense, gated = report["results"]
    assert dense["inputs"] == gated["inputs"] == 8
    assert dense["decisions"] == 0
    assert gated["decisions"] > 0
    assert gated["macs_saved"] > 0.0
    assert gated["worst_error_over_bound"] == 0.0
    counts = report["counts"]
    assert counts["planned"] == sum(counts[name] for name in ("passed", "failed", "error", "missing"))


def test_json_on_the_standard_output_is_the_report(validate):
    result, report = validate("reference", "--json", *SMALL)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == report


def test_the_report_goes_where_it_is_asked_to(validate, tmp_path):
    (tmp_path / "there").mkdir()
    result, report = validate("reference", "--report", "there/r.json", *SMALL)
    assert result.exit_code == 0
    assert report is None
    assert json.loads((tmp_path / "there" / "r.json").read_text())["verdict"] == "granted"
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["r.json"]


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("old")
    for bad in ({"number": float("nan")}, {"thing": object()}):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, bad)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}
