"""The report as JUnit XML: one test case per result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from refdeq_validation.reports.wording import clean, explain, likely_line, reasons

__all__ = ["render"]

_ELEMENTS = {
    "failed": "failure",
    "xpassed": "failure",
    "error": "error",
    "missing": "error",
    "skipped": "skipped",
    "not_applicable": "skipped",
    "xfailed": "skipped",
}


def render(data: Mapping[str, Any]) -> str:
    """Write a report as JUnit XML.

    Parameters
    ----------
    data : mapping
        As ``report_data`` builds it.

    Returns
    -------
    str
        One suite per implementation and one of trained cells; planned cases without a result are errors, a run whose verdict
        is not ``granted`` has at least one failure or error.
    """
    results = data["results"]
    groups = [
        (b["spec"], [r for r in results if r.get("backend") == b["spec"]], b["counts"]["missing"]) for b in data["backends"]
    ]
    told = sum(b["counts"]["missing"] for b in data["backends"])
    cells = [result for result in results if result["suite"] == "cells"]
    missing_cells = data["counts"]["missing"] - told - sum(r["disposition"] == "missing" for r in cells)
    if cells or missing_cells > 0:
        groups.append(("cells", cells, missing_cells + sum(r["disposition"] == "missing" for r in cells)))
    root = ElementTree.Element("testsuites", name="refdeq validate")
    for name, members, missing in groups:
        recorded = sum(result["disposition"] == "missing" for result in members)
        _suite(root, data, name, members, missing - recorded)
    if data["verdict"] != "granted" and not any(int(suite.get("failures", 0)) + int(suite.get("errors", 0)) for suite in root):
        _verdict(root, data)
    for total in ("tests", "failures", "errors", "skipped"):
        root.set(total, str(sum(int(suite.get(total, "0")) for suite in root)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(
    root: ElementTree.Element, data: Mapping[str, Any], name: str, results: Sequence[Mapping[str, Any]], missing: int
) -> None:
    diagnoses = {backend["spec"]: backend["diagnosis"] for backend in data["backends"]}
    kinds = Counter(_ELEMENTS.get(result["disposition"]) for result in results)
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name=clean(name),
        tests=str(len(results) + missing),
        failures=str(kinds["failure"]),
        errors=str(kinds["error"] + missing),
        skipped=str(kinds["skipped"]),
        time=f"{sum(result['seconds'] or 0.0 for result in results):.6f}",
        timestamp=data["environment"]["finished"].removesuffix("+00:00"),
    )
    for result in results:
        _testcase(suite, result, diagnoses.get(result.get("backend")))
    for i in range(missing):
        case = ElementTree.SubElement(
            suite, "testcase", classname="refdeq.missing", name=f"planned case without a result {i + 1}"
        )
        ElementTree.SubElement(case, "error", type="missing", message="planned, but nothing came back")


def _testcase(suite: ElementTree.Element, result: Mapping[str, Any], diagnosis: Mapping[str, Any] | None) -> None:
    group = f"refdeq.{result['level']}.{result['family']}" if result["suite"] == "cases" else "refdeq.cells"
    seconds = f"{result['seconds'] or 0.0:.6f}"
    case = ElementTree.SubElement(suite, "testcase", classname=group, name=clean(result["id"]), time=seconds)
    element = _ELEMENTS.get(result["disposition"])
    if element is None:
        return
    lines = explain(result)
    message = lines[1].strip() if len(lines) > 1 else lines[0]
    if element == "skipped":
        ElementTree.SubElement(case, element, message=f"{result['disposition']}: {message}")
        return
    said = ElementTree.SubElement(case, element, type=result["disposition"], message=message)
    said.text = "\n".join([*lines, likely_line(diagnosis)]).rstrip()


def _verdict(root: ElementTree.Element, data: Mapping[str, Any]) -> None:
    """A run that was not granted must not look green where only the colours of JUnit are read."""
    suite = ElementTree.SubElement(
        root, "testsuite", name="verdict", tests="1", failures="0", errors="1", skipped="0", time="0"
    )
    case = ElementTree.SubElement(suite, "testcase", classname="refdeq", name="verdict", time="0")
    refused = [f"{p['name']}: {p['reason']}" for b in data["backends"] for p in b["profiles"] if not p["granted"]]
    told = [*reasons(data), *refused]
    message = f"{data['verdict']}; {'; '.join(told)}" if told else data["verdict"]
    ElementTree.SubElement(case, "error", type=data["verdict"], message=clean(message))
