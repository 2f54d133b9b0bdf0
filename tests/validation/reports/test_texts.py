"""JUnit XML, summaries, annotations, badges, and the words of failures."""

from __future__ import annotations

import copy
import io
from xml.etree import ElementTree

import pytest
from refdeq_validation.mutants.matrix import KillMatrix
from refdeq_validation.reports import badge, diagnosis, junit, summary, terminal, wording
from refdeq_validation.reports.diagnosis import diagnose
from rich.console import Console

VERDICTS = ("granted", "nonconformant", "incomplete", "backend error")


def of_backend(data, spec, disposition="failed"):
    return [r for r in data["results"] if r.get("backend") == spec and r["disposition"] == disposition]


# ---------------------------------------------------------------------------------------------------------------------- JUnit


@pytest.mark.parametrize("verdict", VERDICTS)
def test_junit_has_one_case_per_planned_result_and_totals_that_add_up(reports, verdict):
    data = reports[verdict]
    root = ElementTree.fromstring(junit.render(data))
    assert root.tag == "testsuites"
    for suite in root:
        cases = suite.findall("testcase")
        assert all(case.get("name") and case.get("classname") and float(case.get("time", "0")) >= 0 for case in cases)
        found = {tag: sum(case.find(tag) is not None for case in cases) for tag in ("failure", "error", "skipped")}
        stated = {"failure": "failures", "error": "errors", "skipped": "skipped"}
        assert {tag: int(suite.get(name)) for tag, name in stated.items()} == found
        assert int(suite.get("tests")) == len(cases)
    named = [case for case in root.iter("testcase") if case.get("classname") != "refdeq"]
    assert len(named) == data["counts"]["planned"]
    assert int(root.get("tests")) == sum(1 for _ in root.iter("testcase"))
    red = int(root.get("failures")) + int(root.get("errors"))
    assert (red == 0) == (verdict == "granted")


def test_junit_tells_the_failure(reports):
    root = ElementTree.fromstring(junit.render(reports["nonconformant"]))
    text = root.find(".//failure").text
    for word in ("expected", "f32:", "the last index of axis 1", "repeat: refdeq validate tail --case", "most cases fail"):
        assert word in text


def test_an_invalid_run_is_red_where_nothing_failed(reports):
    data = copy.deepcopy(reports["granted"])
    data["verdict"] = "invalid"
    data["backends"][0]["power"]["by_canary"][0]["killed_by"] = None
    data["backends"][1]["vacuous"] = ["gemm/tie/x-1: zeros pass"]
    root = ElementTree.fromstring(junit.render(data))
    assert root.get("errors") == "1"
    message = root.find(".//error").get("message")
    assert "let broken implementations pass: zeros" in message
    assert "vacuous: gemm/tie/x-1: zeros pass" in message


def test_xml_survives_what_an_implementation_says(reports):
    root = ElementTree.fromstring(junit.render(reports["backend error"]))
    assert "the device <b>fell</b> off & rolled away" in root.find(".//error").get("message")


# ------------------------------------------------------------------------------------------------------ summary and annotations


@pytest.mark.parametrize("verdict", VERDICTS)
def test_summaries_say_the_verdict_and_the_counts(reports, verdict):
    text = summary.render(reports[verdict])
    assert text.startswith(f"# refdeq: {verdict}\n")
    assert f"{reports[verdict]['counts']['planned']} planned = " in text


def test_a_summary_tells_ten_failures_and_counts_the_rest(reports):
    text = summary.render(reports["nonconformant"])
    assert text.count("```text") == 10
    assert "and 4 more" in text
    assert "| tail | core-f32 | refused | 0 / 7 |" in text


def test_a_summary_is_bounded(reports):
    data = copy.deepcopy(reports["nonconformant"])
    for result in data["results"]:
        result["bug_types"] = ["LONG" * 2000] if "bug_types" in result else []
    text = summary.render(data)
    assert len(text.encode()) <= summary.LIMIT
    assert "more" in text
    data["backends"] = [{**data["backends"][0], "spec": f"backend-{i}"} for i in range(3000)]
    assert len(summary.render(data).encode()) <= summary.LIMIT


def test_annotations_are_ten_at_most_and_one_line_each(reports):
    lines = summary.annotate(reports["nonconformant"])
    assert len(lines) == 10
    assert all(line.startswith("::error title=refdeq") and "\n" not in line for line in lines)
    assert lines[-1].endswith("and 5 more failing cases")
    assert summary.annotate(reports["granted"]) == []
    few = {**reports["nonconformant"], "results": reports["nonconformant"]["results"][:3]}
    assert len(summary.annotate(few)) == 3


def test_annotations_cannot_end_early():
    result = {"id": "a", "backend": "x:y", "disposition": "error", "worst_error_over_bound": None, "reason": "50 % off\n::stop"}
    (line,) = summary.annotate({"results": [result]})
    assert line == "::error title=refdeq x%3Ay::a: 50 %25 off ::stop"


# ----------------------------------------------------------------------------------------------------------------------- badge


def test_badges(reports):
    svg = ElementTree.fromstring(badge.render(reports["granted"], "core-f32", "lab"))
    assert svg.get("aria-label") == "core-f32 · granted"
    assert "core-f32 · refused" in badge.render(reports["incomplete"], "core-f32")
    assert "refdeq · nonconformant" in badge.render(reports["nonconformant"])
    invalid = {**reports["granted"], "verdict": "invalid"}
    assert "core-f32 · invalid" in badge.render(invalid, "core-f32", "lab")


@pytest.mark.parametrize("chosen", [("core-f32", None), ("conv-f32", None), ("core-f32", "numba")])
def test_a_badge_needs_exactly_one_profile(reports, chosen):
    with pytest.raises(ValueError, match=r"lab core-f32, lab:fast core-f32"):
        badge.render(reports["granted"], *chosen)


# ----------------------------------------------------------------------------------------------------------------------- words


def test_a_failure_in_words_needs_no_second_run(reports):
    (result, *_) = of_backend(reports["nonconformant"], "coarse:fast")
    lines = wording.explain(result)
    failure = result["failures"][0]
    text = "\n".join(lines)
    assert lines[0] == f"coarse:fast, {result['id']}: failed"
    assert f"expected {failure['expected']}  {failure['expected_bits']}" in text
    assert f"error {failure['error']:.4g}, bound {failure['bound']:.4g}, ratio {failure['ratio']:.4g}" in text
    assert lines[-1] == f"  repeat: refdeq validate coarse:fast --case {result['id']}"


def test_the_parts_of_a_bound_are_told():
    failure = {
        **{"kind": "value", "evaluation": 2, "tensor": "a", "index": [0, 3], "failing": 4, "expected": "0x1p+0 (1)"},
        **{"actual": "0x1.8p+0 (1.5)", "expected_bits": "f32:3f800000", "actual_bits": "f32:3fc00000", "error": 0.5},
        **{"bound": 0.25, "ratio": 2.0, "gauge": 3.0, "k": 2, "terms": {"sum": 0.2, "storage": 0.05, "operands": 0.0}},
        **{"margin": None, "pattern": "axis 1 = 0 mod 4"},
    }
    assert wording.explain_failure(failure) == [
        "value: a[0, 3], call 2 (4 elements fail)",
        "  expected 0x1p+0 (1)  f32:3f800000",
        "  got      0x1.8p+0 (1.5)  f32:3fc00000",
        "  error 0.5, bound 0.25, ratio 2, k 2, gauge 3; bound = 0.2 sum + 0.05 storage",
        "  failing elements: axis 1 = 0 mod 4",
    ]
    mask = {**failure, "kind": "mask", "margin": 1e-3, "bound": None, "evaluation": 1}
    result = {"id": "x", "disposition": "failed", "failures": [failure, mask], "failed_checks": 9}
    lines = wording.explain(result, shown=1)
    assert "  and 8 more failing checks" in lines
    assert "  first decision that differs: a[0, 3], call 1, margin 0.001" in lines


def test_bug_types_are_ranked_by_how_much_of_them_fails(granted_suite):
    results = granted_suite.results
    assert diagnose(results) is None
    by_family = {result.case.family: result for result in results}
    by_family["memory"].disposition = "failed"
    for result in results[:2]:
        result.disposition = "failed"
    assert diagnose(results)["bug_types"] == [
        {"name": "ALIASING", "failed": 1, "cases": 1},
        {"name": "MEMORY_RULE", "failed": 1, "cases": 1},
        {"name": "ACCUMULATE", "failed": 2, "cases": 4},
        {"name": "TAIL", "failed": 2, "cases": 5},
    ]


def test_crashes_are_not_diagnosed(granted_suite):
    for result in granted_suite.results:
        result.disposition = "error"
    assert diagnose(granted_suite.results) is None


def test_where_most_cases_fail_bugs_are_not_ranked(granted_suite):
    for result in granted_suite.results[:5]:
        result.disposition = "failed"
    told = diagnose(granted_suite.results)
    assert (told["signatures"], told["bug_types"]) == ([], [])
    assert wording.likely_line(told) == "most cases fail (5 of 7): the first failure is the best clue"
    granted_suite.results[0].disposition = "passed"  # 4 of 7 are fewer than 60 %
    assert diagnose(granted_suite.results)["bug_types"]


def test_signatures_come_from_the_stored_matrix(granted_suite, monkeypatch):
    asked = []

    def ranked(failed, executed):
        asked.append((list(failed), len(executed)))
        return [("TAIL", "tail_drop", 0.97), ("BIAS", "bias_twice", 0.2)]

    monkeypatch.setattr(diagnosis, "rank", ranked)
    granted_suite.results[0].disposition = "failed"
    granted_suite.results[1].disposition = "not_applicable"
    told = diagnose(granted_suite.results)
    assert asked == [([granted_suite.results[0].case.id], 6)]
    assert told["signatures"][0] == {"bug_type": "TAIL", "name": "tail_drop", "score": 0.97}
    assert wording.likely_line(told) == "likely bug: failures match those of tail_drop (0.97), bias_twice (0.20)"
    assert told["note"] is None


def test_without_a_match_the_reason_is_told(granted_suite, monkeypatch):
    granted_suite.results[0].disposition = "failed"
    monkeypatch.setattr(diagnosis, "rank", lambda failed, executed: [])
    for cases, note in (((), diagnosis.NO_TABLE), (("a",), diagnosis.NO_MATCH)):
        monkeypatch.setattr(diagnosis, "stored_matrix", lambda cases=cases: KillMatrix(cases, {}))
        assert diagnose(granted_suite.results)["note"] == note


# -------------------------------------------------------------------------------------------------------------------- terminal


def printed(data):
    console = Console(file=io.StringIO(), width=120)
    terminal.print_suites(console, data)
    return console.file.getvalue()


def test_the_terminal_shows_families_grants_and_failures(reports):
    text = printed(reports["nonconformant"])
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert lines["sequence"][1:3] == ["0", "4"]
    assert "refused core-f32: 7 of 7 required cases did not pass (0 of 7 required cases passed)" in text
    assert "and 4 more failing cases" in text
    assert "most cases fail (7 of 7): the first failure is the best clue" in text
    assert "bitwise" in printed(reports["granted"])


def test_the_terminal_is_not_fooled_by_markup(reports):
    data = copy.deepcopy(reports["backend error"])
    for result in data["results"]:
        result["reason"] = "[green]passed[/green] [/nonsense]"
    assert "[green]passed[/green] [/nonsense]" in printed(data)
