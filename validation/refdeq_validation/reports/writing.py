"""Writing reports: files that appear complete or not at all, and what GitHub shows of a run."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from refdeq.errors import ArgumentError, FileFormatError
from refdeq_validation.reports import badge, html, junit, summary

__all__ = ["SCHEMA", "announce", "read_report", "write_json", "write_reports", "write_text"]

SCHEMA = "refdeq-report/1"


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears complete or not at all.

    Parameters
    ----------
    path : Path
        In an existing folder.
    text : str
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON file that appears complete or not at all; numbers that are not finite are an error."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def write_reports(data: Mapping[str, Any], **paths: Path | None) -> None:
    """Write a report in several forms.

    Parameters
    ----------
    data : mapping
        As :func:`refdeq_validation.reports.data.report_data` builds it.
    **paths : Path or None
        ``json``, ``html``, ``junit``, ``summary`` (Markdown), ``badge`` (SVG, of the verdict); None writes nothing.
    """
    forms = {"html": html.render, "junit": junit.render, "summary": summary.render, "badge": badge.render}
    for form, path in paths.items():
        if form != "json" and form not in forms:
            raise ArgumentError("form of a report", expected=f"json, {', '.join(forms)}", got=form)
        if path is not None and form == "json":
            write_json(path, data)
        elif path is not None:
            write_text(path, forms[form](data))


def announce(data: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Tell GitHub of a run: the summary of the job's step, and annotations.

    Parameters
    ----------
    data : mapping
    environment : mapping
        Variables such as ``os.environ``; where ``GITHUB_STEP_SUMMARY`` names a file, the summary is appended to it.

    Returns
    -------
    list of str
        Lines to be printed on stdout, at most ten; empty outside GitHub.
    """
    if environment.get("GITHUB_ACTIONS") != "true":
        return []
    if "GITHUB_STEP_SUMMARY" in environment:
        with open(environment["GITHUB_STEP_SUMMARY"], "a", encoding="utf-8") as file:
            file.write(summary.render(data))
    return summary.annotate(data)


def read_report(path: Path) -> dict[str, Any]:
    """Read a report that was written as JSON.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict

    Raises
    ------
    FileFormatError
        When the file is no such report, or lacks what its schema requires.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path}: no report could be read: {error}") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise FileFormatError(f"{path}: expected a report with the schema {SCHEMA}")
    schema = json.loads((files("refdeq_validation.reports") / "schema" / "report-1.json").read_text(encoding="utf-8"))
    _require(path, "the report", data, schema)
    for what, kind in (("backends", "backend"), ("results", "case")):
        for i, entry in enumerate(data[what]):
            name = "cell" if what == "results" and entry.get("suite") == "cells" else kind
            _require(path, f"{what}[{i}]", entry, schema["$defs"][name])
    return data


def _require(path: Path, what: str, data: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Refuse an object that lacks what its schema requires."""
    lacking = sorted(set(schema["required"]) - set(data))
    if lacking:
        raise FileFormatError(f"{path}: {what} lacks {', '.join(lacking)}; it may come from another version of refdeq")
