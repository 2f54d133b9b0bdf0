"""Short texts: a Markdown summary for people who read a build, and annotations for its log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refdeq_validation.reports.wording import clean, explain, explain_failure, likely_line, outcome, reasons, severity
from refdeq_validation.trials import DISPOSITIONS

__all__ = ["LIMIT", "annotate", "render"]

LIMIT = 64_000
"""Bytes of a summary."""

TOP = 10
"""Failures told, and annotations made."""

_BAD = ("error", "failed", "xpassed", "missing")


def render(data: Mapping[str, Any]) -> str:
    """Summarise a report in Markdown.

    Parameters
    ----------
    data : mapping
        As ``report_data`` builds it.

    Returns
    -------
    str
        Verdict, profiles, counts, the gravest failures; at most ``LIMIT`` bytes.
    """
    bad = _bad(data)
    head = [f"# refdeq: {outcome(data)}", "", _counted(data), *_profiles(data), *_reasons(data), *_power(data)]
    if bad:
        head += ["", "## Failures", "", *_likely(data)]
    blocks = [["", "```text", *(line.replace("`", "'") for line in explain(result)), "```"] for result in bad[:TOP]]
    while True:
        left = len(bad) - len(blocks)
        lines = [*head, *(line for block in blocks for line in block), *(["", f"and {left} more"] if left else [])]
        text = "\n".join(lines) + "\n"
        if len(text.encode()) <= LIMIT:
            return text
        if not blocks:  # only the lists of the head can be this long
            return text.encode()[: LIMIT - 40].decode(errors="ignore") + "\n\nand more in the report\n"
        blocks.pop()


def annotate(data: Mapping[str, Any]) -> list[str]:
    """Lines that GitHub shows beside a build: at most ten errors, and how many more there are.

    Parameters
    ----------
    data : mapping
        As ``report_data`` builds it.

    Returns
    -------
    list of str
        Empty when nothing failed; the last of ten says what was left out.
    """
    bad = _bad(data)
    shown = bad if len(bad) <= TOP else bad[: TOP - 1]
    lines = [_annotation(result) for result in shown]
    if len(bad) > len(shown):
        lines.append(f"::error title=refdeq::and {len(bad) - len(shown)} more failing cases")
    return lines


def _bad(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return sorted((result for result in data["results"] if result["disposition"] in _BAD), key=severity)


def _annotation(result: Mapping[str, Any]) -> str:
    failures = result.get("failures") or ()
    said = explain_failure(failures[0]) if failures else [clean(str(result.get("reason") or result["disposition"]))]
    text = f"{result['id']}: " + ", ".join(" ".join(line.split()) for line in said)
    title = f"refdeq {result.get('backend') or 'cell'}"
    return f"::error title={_escaped(title, ',:')}::{_escaped(text)}"


def _escaped(text: str, more: str = "") -> str:
    """Workflow commands end at a line break and read per cents."""
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _counted(data: Mapping[str, Any]) -> str:
    tally = data["counts"]
    parts = [f"{tally[name]} {name.replace('_', ' ')}" for name in DISPOSITIONS if tally[name]]
    seconds, digest = data["environment"]["seconds"], data["planned_ids_sha256"][:12]
    return f"{tally['planned']} planned = {' + '.join(parts) or 'nothing'}; {seconds} s; planned ids {digest}"


def _profiles(data: Mapping[str, Any]) -> list[str]:
    rows = [
        f"| {_cell(suite['spec'])} | {_cell(entry['name'])} | {'granted' if entry['granted'] else 'refused'} "
        f"| {entry['passed']} / {entry['required']} | {_cell(entry['reason'] or '')} |"
        for suite in data["backends"]
        for entry in suite["profiles"]
    ]
    if not rows:
        return []
    return ["", "| implementation | profile | verdict | passed | reason |", "|---|---|---|---|---|", *rows]


def _reasons(data: Mapping[str, Any]) -> list[str]:
    lines = [f"- {_quoted(text)}" for text in reasons(data)]
    return ["", *lines] if lines else []


def _power(data: Mapping[str, Any]) -> list[str]:
    ran = sum(suite["power"]["canaries"] for suite in data["backends"])
    killed = sum(suite["power"]["killed"] for suite in data["backends"])
    survivors = [c["name"] for suite in data["backends"] for c in suite["power"]["by_canary"] if c["killed_by"] is None]
    if not ran:
        return ["", "No canaries ran."]
    lost = f"; survived: {_cell(', '.join(dict.fromkeys(survivors)))}" if survivors else ""
    return ["", f"Canaries killed: {killed} of {ran}{lost}"]


def _likely(data: Mapping[str, Any]) -> list[str]:
    told = [(backend["spec"], likely_line(backend["diagnosis"])) for backend in data["backends"] if backend["diagnosis"]]
    return [f"- {_quoted(f'{spec}: {line}')}" for spec, line in told]


def _cell(text: str) -> str:
    return _quoted(clean(text)).replace("|", "\\|")


def _quoted(text: str) -> str:
    """Plain words: what a judged implementation says must not become markup."""
    return clean(text).replace("<", "&lt;").replace("[", "\\[").replace("`", "'")
