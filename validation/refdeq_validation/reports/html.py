"""The report as one HTML file: self-contained, offline, at most 1 MB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from refdeq.errors import ArgumentError
from refdeq_validation.cases.model import FAMILIES, LEVELS
from refdeq_validation.reports import sections
from refdeq_validation.reports.charts import heat_map, histogram, matrix, segments
from refdeq_validation.reports.failure_cards import card
from refdeq_validation.reports.markup import cut, rest
from refdeq_validation.reports.wording import ORDER, outcome, reasons, severity
from refdeq_validation.trials import DISPOSITIONS

__all__ = ["LIMIT", "render"]

LIMIT = 1_000_000
"""Bytes of the file."""

CARDS, ROWS, MATRICES = 200, 4000, 12
"""Failing cases told in full, rows of the table of cases, and level by family matrices, at first; halved until it fits."""

REASONS = 5
"""Reasons for a verdict that are told at the top."""

HEADLINES = {
    "granted": ("✓", "Granted"),
    "nonconformant": ("✗", "Nonconformant"),
    "incomplete": ("?", "Incomplete"),
    "invalid": ("!", "Invalid run"),
    "backend error": ("!", "The implementation broke"),
}
"""By verdict: symbol and words."""


def render(data: Mapping[str, Any]) -> str:
    """Draw a report.

    Parameters
    ----------
    data : mapping
        As ``report_data`` builds it or ``report.json`` holds it.

    Returns
    -------
    str
        A page without any reference to the outside; what does not fit into ``LIMIT`` bytes is left out, and says how much.

    Raises
    ------
    ArgumentError
        When even the page without cases is too large.
    """
    cards, rows = CARDS, ROWS
    while True:
        page = _page(data, cards, rows)
        if len(page.encode()) <= LIMIT:
            return page
        if not cards and not rows:
            raise ArgumentError("report", expected=f"a page of at most {LIMIT} bytes", got=len(page.encode()))
        cards, rows = (cards // 2, rows) if rows <= 8 * cards else (cards, rows // 2)


def _page(data: Mapping[str, Any], cards: int, rows: int) -> str:
    assets = files("refdeq_validation.reports") / "assets"
    style = (assets / "page.css").read_text(encoding="utf-8")
    script = (assets / "page.js").read_text(encoding="utf-8")
    results = sorted(
        (result for result in data["results"] if result["suite"] == "cases"),
        key=severity,
    )
    names = ", ".join(backend["spec"] for backend in data["backends"])
    parts = {
        "profiles": ("Profiles", sections.profiles(data["backends"])),
        "matrix": ("Levels and families", _matrices(results, data["backends"])),
        "errors": ("Errors and margins", _errors(data, results)),
        "failures": ("Failures", _failures(data, results, cards)),
        "power": ("Power", sections.canaries(data["backends"])),
    }
    body = "".join(f'<section id="{key}"><h2>{title}</h2>{text}</section>' for key, (title, text) in parts.items() if text)
    links = "".join(f'<a href="#{key}">{title}</a>' for key, (title, text) in parts.items() if text)
    links += '<a href="#cases">Cases</a><a href="#environment">Environment</a>'
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<title>{escape(data["verdict"])}: refdeq report</title><link rel="icon" href="data:,"><style>{style}</style></head>'
        f'<body><a class="skip" href="#main">to the report</a>{_header(data, names)}<nav aria-label="sections">{links}</nav>'
        f'<main id="main">{body}{sections.cells(data["results"])}'
        f'<section id="cases"><h2>Cases</h2>{sections.case_table(results, rows)}</section>'
        f'<section id="environment"><h2>Declarations and environment</h2>{sections.declarations(data["backends"])}'
        f"{sections.environment(data)}</section></main><script>{script}</script></body></html>\n"
    )


def _header(data: Mapping[str, Any], names: str) -> str:
    symbol, words = HEADLINES[data["verdict"]]
    words = outcome(data).capitalize() if data["verdict"] == "granted" else words
    tally = data["counts"]
    told = [f"{tally[name]:,} {name.replace('_', ' ')}" for name in DISPOSITIONS if tally[name]]
    profiles = {profile["name"] for backend in data["backends"] for profile in backend["profiles"]}
    wanted = data["profile"] if len(profiles) <= 3 else f"{len(profiles)} profiles"
    about = [names or "trained cells", wanted or "", data["environment"]["finished"].replace("T", " ")[:16] + " UTC"]
    shown, left = cut(reasons(data), REASONS)
    warnings = "".join(f'<p class="warn">{escape(text)}</p>' for text in shown) + rest(left, "reasons")
    kind = escape(data["verdict"].replace(" ", "-"))
    return (
        f'<header class="{kind}"><p class="kicker">refdeq conformance report</p>'
        f'<h1 id="verdict"><span aria-hidden="true">{symbol}</span> {words}</h1>'
        f'<p class="about">{" · ".join(escape(part) for part in about if part)}</p>{segments(tally)}'
        f'<p class="tally"><b>{tally["planned"]:,} planned</b> = {" + ".join(told) or "nothing"}'
        f' <span class="where">in {sections.short_time(data["environment"]["seconds"])}</span></p>{warnings}</header>'
    )


def _matrices(results: Sequence[Mapping[str, Any]], backends: Sequence[Mapping[str, Any]]) -> str:
    if not results:
        return ""
    shown, left = cut(backends, MATRICES)
    drawn = "".join(f"<div>{matrix(results, backend['spec'])}{_impossible(backend)}</div>" for backend in shown)
    return f'<div class="grid">{drawn}</div>{rest(left, "implementations")}'


def _impossible(backend: Mapping[str, Any]) -> str:
    levels = ", ".join(backend["impossible_levels"])
    return (
        f'<p class="more">cannot be judged on {levels}: no case of these levels applies to what it offers</p>' if levels else ""
    )


def _errors(data: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> str:
    if not results:
        return ""
    drawn = ""
    if data["histograms"]["ratio"]:
        drawn += histogram(data["histograms"]["ratio"], "Error over bound", "error / bound; 1 is the proved limit", True)
    if data["histograms"]["margin"]:
        drawn += histogram(
            data["histograms"]["margin"],
            "Decision margins",
            "distance from the threshold / the larger of |delta| and threshold",
            False,
        )
    charts = f'<div class="grid">{drawn}</div>' if drawn else '<p class="where">No histograms were recorded.</p>'
    lead = "<p>Each bound is proved from the data of the case; <i>bits</i>: everything there was compared bitwise.</p>"
    return lead + heat_map(results) + charts


def _failures(data: Mapping[str, Any], results: Sequence[Mapping[str, Any]], limit: int) -> str:
    found = [result for result in results if result.get("failures") is not None]
    broken = [
        row for row in data["results"] if row["suite"] == "cells" and row["disposition"] in ("failed", "error", "missing")
    ]
    told = [*found, *broken]
    shown, left = cut(told, limit)
    if not told:
        return "<p>Nothing failed.</p>" + _filter(results)
    cards = "".join(card(result) for result in shown)
    empty = '<p id="no-failures" class="where" hidden>No failure matches the filter.</p>'
    return f"{sections.likely(data['backends'])}{_filter(results)}{cards}{empty}{rest(left, 'failing cases')}"


def _filter(results: Sequence[Mapping[str, Any]]) -> str:
    """Choices for failures and cases alike; shown where scripts run."""
    if not results:
        return ""
    bugs = sorted({name for result in results for name in result["bug_types"]})
    choices = {
        "disposition": [name for name in ORDER if any(r["disposition"] == name for r in results)],
        "backend": sorted({result["backend"] for result in results}),
        "level": [name for name in LEVELS if any(r["level"] == name for r in results)],
        "family": [name for name in FAMILIES if any(r["family"] == name for r in results)],
        "bugs": bugs,
    }
    titles = {"disposition": "result", "backend": "implementation", "bugs": "bug type"}
    fields = "".join(
        f'<label>{titles.get(key, key)}<select name="{key}"><option value="">all</option>'
        + "".join(f'<option value="{escape(value)}">{escape(value.replace("_", " "))}</option>' for value in values)
        + "</select></label>"
        for key, values in choices.items()
    )
    return (
        f'<form id="filter" aria-label="filter" hidden>{fields}<label>id<input name="text" type="search" size="12"></label>'
        '<button type="reset">clear</button><output aria-live="polite"></output></form>'
    )
