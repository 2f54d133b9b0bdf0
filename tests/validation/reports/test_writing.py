"""Files of reports, what GitHub is told, and the command ``refdeq report``."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
import typer
from refdeq_validation.reports.command import report
from refdeq_validation.reports.writing import announce, read_report, write_json, write_reports, write_text
from typer.testing import CliRunner

from refdeq.errors import ArgumentError, FileFormatError

COMMAND = typer.Typer()
COMMAND.command()(report)


@pytest.fixture
def stored(reports, tmp_path, monkeypatch):
    """A folder with the report of a nonconformant run."""
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "report.json", reports["nonconformant"])
    return tmp_path


def test_files_appear_complete_or_not_at_all(tmp_path):
    write_text(tmp_path / "a.txt", "one\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.txt", {"x": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "two \ud800")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "one\n"


def test_every_form_is_written(reports, tmp_path):
    names = {"json": "r.json", "html": "r.html", "junit": "r.xml", "summary": "r.md", "badge": "r.svg"}
    write_reports(reports["granted"], **{form: tmp_path / name for form, name in names.items()})
    assert read_report(tmp_path / "r.json") == json.loads(json.dumps(reports["granted"]))
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
    assert ElementTree.parse(tmp_path / "r.xml").getroot().get("tests") == "14"
    assert ElementTree.parse(tmp_path / "r.svg").getroot().get("aria-label") == "refdeq · granted"
    assert (tmp_path / "r.md").read_text().startswith("# refdeq: granted")
    with pytest.raises(ArgumentError, match="pdf"):
        write_reports(reports["granted"], pdf=tmp_path / "r.pdf")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": "refdeq-report/2"}', '{"schema": "refdeq-report/1"}'])
def test_what_is_no_report_is_refused(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(FileFormatError, match="report"):
        read_report(tmp_path / "r.json")


@pytest.mark.parametrize("path", [("counts",), ("backends", 0, "diagnosis"), ("results", 0, "family"), ("results", -1, "runs")])
def test_a_report_that_lacks_something_is_refused(reports, tmp_path, path):
    data = json.loads(json.dumps(reports["nonconformant"]))
    at = data
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(FileFormatError, match=f"lacks {path[-1]}"):
        read_report(tmp_path / "r.json")


def test_a_missing_report_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match=r"absent\.json"):
        read_report(tmp_path / "absent.json")


def test_github_is_told_once_and_nobody_else(reports, tmp_path):
    step = tmp_path / "step.md"
    step.write_text("before\n")
    assert announce(reports["nonconformant"], {"GITHUB_STEP_SUMMARY": str(step)}) == []
    assert step.read_text() == "before\n"
    lines = announce(reports["nonconformant"], {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(step)})
    assert len(lines) == 10
    assert step.read_text().startswith("before\n# refdeq: nonconformant")


def test_the_command_draws_a_stored_report(stored):
    names = ["--html", "r.html", "--junit", "r.xml", "--summary", "r.md", "--badge", "r.svg"]
    result = CliRunner().invoke(COMMAND, ["report.json", *names, "--profile", "core-f32", "--backend", "tail"])
    assert result.exit_code == 1
    assert "refused core-f32" in result.stdout
    assert result.stdout.rstrip().endswith("nonconformant")
    assert {path.name for path in stored.iterdir()} == {"report.json", "r.html", "r.xml", "r.md", "r.svg"}
    assert "core-f32 · refused" in (stored / "r.svg").read_text()


def test_the_command_annotates_on_github(stored):
    result = CliRunner().invoke(COMMAND, ["--github"], env={"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": "step.md"})
    assert sum(line.startswith("::error") for line in result.stdout.splitlines()) == 10
    assert (stored / "step.md").exists()


@pytest.mark.parametrize("arguments", [["--html", "absent/r.html"], ["--junit", "."], ["--profile", "core-f32"]])
def test_bad_options_write_nothing(stored, arguments):
    result = CliRunner().invoke(COMMAND, ["report.json", "--summary", "r.md", *arguments])
    assert isinstance(result.exception, ArgumentError)
    assert [path.name for path in stored.iterdir()] == ["report.json"]
