"""The HTML report as text: self-contained, bounded, and safe whatever a judged implementation says."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser

import pytest
from refdeq_validation.reports import html

VERDICTS = ("granted", "nonconformant", "incomplete", "backend error")


class Reader(HTMLParser):
    """Collects elements and what is open."""

    VOID = frozenset({"meta", "link", "br", "input"})

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text.append(data)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_pages_are_well_formed_and_refer_to_nothing_outside(reports, verdict):
    page = html.render(reports[verdict])
    reader = Reader(page)
    assert reader.open == []
    links = [
        value for _, attrs in reader.elements for name, value in attrs.items() if name in ("href", "src", "action", "data")
    ]
    assert all(value.startswith(("#", "data:")) for value in links)
    assert not re.search(r"url\(|@import|https?://", page)
    assert html.HEADLINES[verdict][1] in "".join(reader.text)


def test_local_links_have_targets(reports):
    reader = Reader(html.render(reports["nonconformant"]))
    ids = [attrs["id"] for _, attrs in reader.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"][1:] for tag, attrs in reader.elements if tag == "a"} <= set(ids)


def test_what_an_implementation_says_is_text(reports):
    page = html.render(reports["backend error"])
    assert "the device &lt;b&gt;fell&lt;/b&gt; off &amp; rolled" in page
    assert "<b>fell" not in page
    data = copy.deepcopy(reports["incomplete"])
    data["backends"][0]["spec"] = data["results"][0]["backend"] = '"><script>alert(1)</script>'
    data["unavailable"][0]["reason"] = "</style><script>alert(1)</script>"
    page = html.render(data)
    Reader(page)
    assert "<script>alert" not in page


def test_failures_show_bits_pattern_and_command(reports):
    data = reports["nonconformant"]
    failure = data["results"][0]["failures"][0]
    page = html.render(data)
    for text in (failure["expected"], failure["expected_bits"], failure["actual_bits"], failure["pattern"], "f32:", "f64:"):
        assert text in page
    assert data["results"][0]["repro"] in page
    note = data["backends"][0]["diagnosis"]["note"]  # the cases are this test's own: no stored bug was run on them
    assert note
    assert note in page


def test_likely_bugs_are_named_with_their_likeness(reports):
    data = copy.deepcopy(reports["nonconformant"])
    signature = {"bug_type": "TAIL", "name": "last <column> left out", "score": 0.625}
    data["backends"][0]["diagnosis"].update(signatures=[signature], note=None)
    page = html.render(data)
    assert "<code>last &lt;column&gt; left out</code>" in page
    assert "value='0.625'" in page


def test_a_huge_report_stays_small_and_says_what_it_left_out(reports):
    data = copy.deepcopy(reports["nonconformant"])
    cases = [result for result in data["results"] if result["suite"] == "cases"]
    loud = [{**cases[0], "id": f"gemm/sequence/case-{i:08x}", "reason": "x" * 5000} for i in range(2000)]
    quiet = [{**reports["granted"]["results"][0], "id": f"gemm/tie/case-{i:08x}"} for i in range(9000)]
    data["results"] = [*loud, *quiet]
    data["backends"] = [{**data["backends"][0], "spec": f"many-{i}"} for i in range(60)]
    data["unavailable"] = [{"backend": f"b{i}", "reason": "r" * 3000} for i in range(500)]
    page = html.render(data)
    Reader(page)
    assert len(page.encode()) <= html.LIMIT
    counts = dict((what, int(n.replace(",", ""))) for n, what in re.findall(r"and ([\d,]+) more ([a-z ]+)<", page))
    shown = page.count('<article class="failure"')
    assert shown >= 10
    assert counts["failing cases"] == 2000 - shown
    rows = page.count("<td class=n>") // 3
    assert counts["cases that passed or did not run"] == 11000 - rows


def test_a_report_that_cannot_fit_is_an_error(reports, monkeypatch):
    monkeypatch.setattr(html, "LIMIT", 1000)
    with pytest.raises(ValueError, match="at most 1000 bytes"):
        html.render(reports["granted"])


def test_a_run_without_cases_has_a_page(reports):
    data = copy.deepcopy(reports["nonconformant"])
    data["results"] = [result for result in data["results"] if result["suite"] == "cells"]
    data["backends"] = []
    data["histograms"] = {"ratio": None, "margin": None}
    assert "numba strict fused/sine/refdeq" in html.render(data)


def test_canaries_that_survived_are_told_first(reports):
    data = copy.deepcopy(reports["granted"])
    data["backends"][1]["power"]["by_canary"][1]["killed_by"] = None
    power = re.search(r'<section id="power">(.*?)</section>', html.render(data), re.DOTALL).group(1)
    rows = [re.sub(r"<[^>]*>", " ", row).split() for row in re.findall(r"<tr>(.*?)</tr>", power)[1:]]
    assert "3 of 4 broken implementations were rejected" in power
    assert rows[0][:4] == ["stale", "lab:fast", "✗", "survived"]
    assert all(row[2:4] == ["✓", "killed"] for row in rows[1:])


def test_the_gravest_comes_first(reports):
    data = copy.deepcopy(reports["nonconformant"])
    cases = [result for result in data["results"] if result["suite"] == "cases"]
    for result, disposition, worst in zip(cases, ["xpassed", "failed", "error", "failed"], [9.0, 2.0, 0.0, 7.0], strict=False):
        result["disposition"], result["worst_error_over_bound"] = disposition, worst
    for result in cases[4:]:
        result["disposition"] = "passed"
        del result["failures"]
    data["results"] = cases
    shown = re.findall(r'<article class="failure" id="([^"]*)"', html.render(data))
    assert shown == [f"{cases[i]['backend']}:{cases[i]['id']}" for i in (2, 3, 1, 0)]
