"""One failing case, told so that nobody has to run it again to understand it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from refdeq_validation.reports.markup import NONE, anchor, clip, cut, disposition, number, rest, table, tag

__all__ = ["card"]

SHOWN = 5
"""Failing places shown per case."""


def card(result: Mapping[str, Any]) -> str:
    """Heading, tags, the failing places with their bits and bounds, and the command that repeats it."""
    found: Sequence[Mapping[str, Any]] = result.get("failures") or ()
    shown, _ = cut(found, SHOWN)
    hidden = max(len(found), result.get("failed_checks") or 0) - len(shown)
    where = " · ".join(escape(str(result[key])) for key in ("backend", "level", "family", "dtype") if result.get(key))
    tags = "".join(tag(name) for name in result.get("bug_types", ()))
    return (
        f'<article class="failure" id="{escape(anchor(result))}" {_filters(result)}>'
        f'<h3><a href="#{escape(anchor(result))}">{escape(result["id"])}</a> {disposition(result["disposition"])}</h3>'
        f'<p class="where">{where} {tags}</p>{_said(result)}'
        f"{_places(shown)}{rest(hidden, 'failing checks of this case')}{_repeat(result)}</article>"
    )


def _filters(result: Mapping[str, Any]) -> str:
    values = {key: str(result.get(key) or "") for key in ("backend", "level", "family", "disposition")}
    values["bugs"] = " ".join(result.get("bug_types", ()))
    return " ".join(f'data-{key}="{escape(value)}"' for key, value in values.items())


def _said(result: Mapping[str, Any]) -> str:
    parts = [str(result[key]) for key in ("title", "reason", "error") if result.get(key)]
    return "".join(f"<p>{clip(part)}</p>" for part in parts)


def _places(found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return ""
    head = ["check", "call", "where", "expected", "got", "error", "bound", "error / bound", "k"]
    rows = [_place(failure) for failure in found]
    notes = list(dict.fromkeys(note for failure in found if (note := _notes(failure))))
    listed = f'<ul class="notes">{"".join(f"<li>{note}</li>" for note in notes)}</ul>' if notes else ""
    return table(head, rows, caption="failing checks", right=(1, 5, 6, 7, 8)) + listed


def _place(failure: Mapping[str, Any]) -> list[str]:
    index = f"[{', '.join(map(str, failure['index']))}]" if failure["index"] else ""
    more = f"<br><small>{failure['failing']:,} elements</small>" if failure["failing"] > 1 else ""
    return [
        escape(failure["kind"].replace("_", " ")),
        NONE if failure["evaluation"] < 0 else str(failure["evaluation"]),
        f"<code>{clip(failure['tensor'], 80)}{index}</code>{more}",
        _value(failure, "expected"),
        _value(failure, "actual"),
        number(failure.get("error")),
        number(failure.get("bound")),
        f"<b>{number(failure.get('ratio'))}</b>" if failure.get("ratio") is not None else NONE,
        NONE if failure.get("k") is None else str(failure["k"]),
    ]


def _value(failure: Mapping[str, Any], which: str) -> str:
    bits = failure.get(f"{which}_bits")
    return f"<code>{clip(failure[which])}</code>" + (f"<br><code class='bits'>{escape(bits)}</code>" if bits else "")


def _notes(failure: Mapping[str, Any]) -> str:
    """The parts of the bound, the gauge, the margin, and the pattern of the failing elements."""
    parts = []
    if failure.get("pattern"):
        parts.append(f"failing elements: {escape(failure['pattern'])}")
    if failure.get("gauge") is not None:
        parts.append(f"gauge {number(failure['gauge'], 4)}")
    if failure.get("terms"):
        summands = " + ".join(f"{number(value)} ({escape(name)})" for name, value in failure["terms"].items() if value)
        parts.append(f"bound = {summands}")
    if failure.get("margin") is not None:
        parts.append(f"decision margin {number(failure['margin'])}")
    return f"<code>{clip(failure['tensor'], 80)}</code>: " + "; ".join(parts) if parts else ""


def _repeat(result: Mapping[str, Any]) -> str:
    command = result.get("repro")
    if not command:
        return ""
    return f'<p class="repro"><code>{escape(command)}</code> <button type="button" class="copy" hidden>copy</button></p>'
