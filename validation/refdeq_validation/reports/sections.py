"""The parts of the HTML report, each from the data alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from refdeq_validation.cases.bug_types import BUG_TYPES
from refdeq_validation.reports.markup import NONE, anchor, clip, cut, disposition, number, rest, table, tag

__all__ = ["canaries", "case_table", "cells", "declarations", "environment", "likely", "profiles", "short_time"]

SMALL = 40
"""Entries of the lists that are usually short."""


def short_time(seconds: float | None) -> str:
    """Seconds as people say them.

    >>> short_time(0.0004), short_time(0.25), short_time(75.2), short_time(None) == NONE
    ('0.40 ms', '250 ms', '75 s', True)
    """
    if seconds is None:
        return NONE
    if seconds >= 1.0:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{1e3 * seconds:.0f} ms" if seconds >= 0.01 else f"{1e3 * seconds:.2f} ms"


def profiles(backends: Sequence[Mapping[str, Any]]) -> str:
    """For each implementation one tile per profile: granted, or refused and why; the refused first."""
    named = [backend for backend in backends if backend["profiles"]]
    if not named:
        return (
            "<p>No profile was asked for, and the selected cases cover none: the verdict is about these cases alone.</p>"
            + _notes(backends)
        )
    shown, left = cut(named, SMALL)
    drawn = "".join(
        f'<div style="--n:{min(len(backend["profiles"]), 5)}"><h3>{escape(backend["spec"])}</h3>'
        f"{_tiles(backend['profiles'])}</div>"
        for backend in shown
    )
    return f'<div class="groups">{drawn}</div>{rest(left, "implementations")}{_notes(backends)}'


def _tiles(entries: Sequence[Mapping[str, Any]]) -> str:
    shown, left = cut(sorted(entries, key=lambda entry: entry["granted"]), SMALL)
    drawn = []
    for entry in shown:
        granted = entry["granted"]
        share = f' <span class="where">{entry["passed"]} / {entry["required"]}</span>' if entry["required"] else ""
        reason = "" if granted else f"<p>{clip(entry['reason'] or 'no reason was given')}</p>"
        drawn.append(
            f'<li class="tile {"good" if granted else "bad"}"><h4>{escape(entry["name"])}</h4>'
            f'<p><span class="grant">{"✓ granted" if granted else "✗ refused"}</span>{share}</p>{reason}</li>'
        )
    return f'<ul class="tiles">{"".join(drawn)}</ul>{rest(left, "profiles")}'


def _notes(backends: Sequence[Mapping[str, Any]]) -> str:
    """What is worth knowing and decides nothing."""
    notes, left = cut([(backend["spec"], note) for backend in backends for note in backend["notes"]], SMALL)
    items = "".join(f"<li>{escape(spec)}: {clip(note)}</li>" for spec, note in notes)
    return f"<details><summary>notes</summary><ul>{items}</ul>{rest(left, 'notes')}</details>" if notes else ""


def canaries(backends: Sequence[Mapping[str, Any]]) -> str:
    """Whether the selected cases have teeth: broken implementations that ran on them, and which case each failed."""
    rows = [(backend["spec"], canary) for backend in backends for canary in backend["power"]["by_canary"]]
    if not rows:
        return "<p>No canaries ran: this run does not show that the selected cases reject broken implementations.</p>"
    killed = sum(canary["killed_by"] is not None for _, canary in rows)
    shown, left = cut(sorted(rows, key=lambda row: row[1]["killed_by"] is not None), 3 * SMALL)
    cells = [
        [
            f"<code>{escape(canary['name'])}</code>",
            escape(spec),
            '<span class="d passed"><b aria-hidden="true">✓</b> killed</span>'
            if canary["killed_by"] is not None
            else '<span class="d failed"><b aria-hidden="true">✗</b> survived</span>',
            NONE if canary["killed_by"] is None else f"<code>{clip(canary['killed_by'], 80)}</code>",
        ]
        for spec, canary in shown
    ]
    lead = f"<p>{killed} of {len(rows)} broken implementations were rejected by the cases of this run.</p>"
    listed = table(["canary", "on the cases of", "outcome", "rejected by"], cells, caption="canaries")
    return f"{lead}<details><summary>every canary</summary>{listed}{rest(left, 'canaries')}</details>"


def likely(backends: Sequence[Mapping[str, Any]]) -> str:
    """Bugs that would fail the same cases, for each implementation that failed any."""
    told, left = cut([backend for backend in backends if backend["diagnosis"]], SMALL)
    parts = [f"<details open><summary>{escape(b['spec'])}</summary>{_diagnosis(b['diagnosis'])}</details>" for b in told]
    text = "".join(parts) + rest(left, "implementations")
    return f'<section id="likely"><h3>Likely bugs</h3>{text}</section>' if told else ""


def _diagnosis(diagnosis: Mapping[str, Any]) -> str:
    parts = []
    if diagnosis["note"]:
        parts.append(f'<p class="where">{escape(diagnosis["note"])}</p>')
    if diagnosis["signatures"]:
        items = "".join(
            f"<li><code>{escape(entry['name'])}</code> {tag(entry['bug_type'])} "
            f"<meter min='0' max='1' value='{entry['score']:.3f}' aria-label='likeness'></meter> {entry['score']:.2f}</li>"
            for entry in diagnosis["signatures"]
        )
        parts.append(f"<p>Catalogued bugs whose failing cases look most like these:</p><ol class='ranked'>{items}</ol>")
    if diagnosis["bug_types"]:
        rows = [
            [
                f"<code>{escape(entry['name'])}</code>",
                f"{entry['failed']} of {entry['cases']}",
                escape(BUG_TYPES[entry["name"]].description) if entry["name"] in BUG_TYPES else "",
            ]
            for entry in diagnosis["bug_types"][:SMALL]
        ]
        parts.append(table(["bug type", "its cases that fail", "the mistake"], rows, caption="bug types", right=(1,)))
    return "".join(parts)


def cells(results: Sequence[Mapping[str, Any]]) -> str:
    """Results on trained cells."""
    rows = [result for result in results if result["suite"] == "cells"]
    if not rows:
        return ""
    shown, left = cut(rows, 5 * SMALL)
    drawn = [
        [
            f'<code id="{escape(anchor(row))}">{escape(row["id"])}</code>',
            disposition(row["disposition"]),
            f"{row['inputs']:,}",
            number(row["worst_error_over_bound"]),
            f"{row['decisions']:,}",
            NONE if row["macs_saved"] is None else f"{100 * row['macs_saved']:.1f} %",
            escape(row["quality"] or NONE),
            short_time(row["seconds"]),
        ]
        for row in shown
    ]
    head = ["declaration / cell / preset", "verdict", "inputs", "error / bound", "decisions", "saved", "quality", "time"]
    listed = table(head, drawn, caption="trained cells", right=(2, 3, 4, 5, 7))
    return f'<section id="cells"><h2>Trained cells</h2>{listed}{rest(left, "rows")}</section>'


def case_table(results: Sequence[Mapping[str, Any]], limit: int) -> str:
    """Every case, one row each; those that did not pass first and linked to their card."""
    shown, left = cut(results, limit)
    rows = []
    for result in shown:
        name = escape(result["id"])
        if result.get("failures") is not None:
            link = f'<a href="#{escape(anchor(result))}">{name}</a>'
            head = f"<tr {_marks(result)}>"
        else:
            link, head = name, f'<tr id="{escape(anchor(result))}" {_marks(result)}>'
        rows.append(
            f"{head}<td><code>{link}</code></td><td>{escape(result['backend'])}</td><td>{result['level']}</td>"
            f"<td>{result['dtype']}</td><td>{disposition(result['disposition'])}</td>"
            f"<td class=n>{_worst(result)}</td><td class=n>{result['decisions']:,}</td>"
            f"<td class=n>{short_time(result['seconds'])}</td></tr>"
        )
    head = "<th scope=col>case</th><th scope=col>implementation</th><th scope=col>level</th><th scope=col>dtype</th>"
    head += "<th scope=col>result</th><th scope=col class=n>error / bound</th><th scope=col class=n>decisions</th>"
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="cases"><table id="case-table"><caption>cases</caption>'
        f"<thead><tr>{head}<th scope=col class=n>time</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f"{rest(left, 'cases that passed or did not run')}"
    )


def _worst(result: Mapping[str, Any]) -> str:
    if not result["values"]:
        return NONE
    return "bits" if result["worst_error_over_bound"] == 0.0 else number(result["worst_error_over_bound"])


def _marks(result: Mapping[str, Any]) -> str:
    bugs = " ".join(result["bug_types"])
    return (
        f'data-backend="{escape(result["backend"])}" data-level="{result["level"]}" data-family="{result["family"]}" '
        f'data-disposition="{result["disposition"]}" data-bugs="{bugs}"'
    )


def declarations(backends: Sequence[Mapping[str, Any]]) -> str:
    """What each implementation claims."""
    drawn = []
    shown, left = cut(backends, SMALL)
    for backend in shown:
        entries = "".join(
            f"<div><dt>{escape(name.replace('_', ' '))}</dt><dd>{_claim(value)}</dd></div>"
            for name, value in backend["declared"].items()
        )
        drawn.append(
            f"<details><summary>{escape(backend['spec'])} <small>{escape(backend['name'])} {escape(backend['version'])}, "
            f"manifest {backend['manifest_sha256'][:12]}</small></summary><dl>{entries}</dl></details>"
        )
    return "".join(drawn) + rest(left, "implementations")


def _claim(value: Any) -> str:
    return (", ".join(escape(str(entry)) for entry in value) or "none") if isinstance(value, list) else escape(str(value))


def environment(data: Mapping[str, Any]) -> str:
    """The machine, the software, and the hash of what was planned."""
    entries = {name: value for name, value in data["environment"].items() if value is not None}
    entries |= data["suite"] | {"planned ids": data["planned_ids_sha256"], "pack": data["pack"]["digest"]}
    drawn = "".join(f"<div><dt>{escape(name)}</dt><dd>{clip(str(value))}</dd></div>" for name, value in entries.items())
    return f"<dl>{drawn}</dl>"
