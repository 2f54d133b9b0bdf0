"""Small pieces of HTML: escaping, tables, tags, numbers as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["LABELS", "NONE", "SYMBOLS", "anchor", "clip", "cut", "disposition", "number", "rest", "table", "tag"]

NONE = "\N{EN DASH}"
"""Shown where there is no value."""

SYMBOLS: Mapping[str, str] = {
    "passed": "✓",
    "failed": "✗",
    "error": "!",
    "xpassed": "✗",
    "xfailed": "≈",
    "missing": "?",
    "skipped": NONE,
    "not_applicable": "·",
}
"""By disposition: what a reader sees who sees no colours."""

LABELS: Mapping[str, str] = {
    "xfailed": "failed as expected",
    "xpassed": "passed unexpectedly",
    "not_applicable": "not applicable",
}
"""By disposition, where the word itself is no English."""


def disposition(name: str) -> str:
    """Disposition as symbol and word."""
    return f'<span class="d {escape(name)}"><b aria-hidden="true">{SYMBOLS[name]}</b> {LABELS.get(name, name)}</span>'


def tag(text: str) -> str:
    """A short label."""
    return f'<span class="tag">{escape(text)}</span>'


def anchor(result: Mapping[str, Any]) -> str:
    """Id of an element about a result: the case id, after its backend where there are several.

    >>> anchor({"id": "gemm/tie/ge-1a2b3c4d", "backend": "lab"})
    'lab:gemm/tie/ge-1a2b3c4d'
    """
    backend = result.get("backend")
    return f"{backend}:{result['id']}" if backend else str(result["id"])


def number(value: float | None, digits: int = 3) -> str:
    """A number for people, an en dash for none.

    >>> number(0.47123), number(4709.4), number(None) == NONE, number(1e-9)
    ('0.471', '4.71e+03', True, '1e-09')
    """
    return NONE if value is None else f"{value:.{digits}g}"


def cut(items: Sequence[Any], limit: int) -> tuple[Sequence[Any], int]:
    """The first `limit` items, and how many are left out."""
    return items[:limit], max(0, len(items) - limit)


def rest(left: int, what: str) -> str:
    """Says how much was left out; nothing where nothing was."""
    return f'<p class="more">and {left:,} more {escape(what)}</p>' if left else ""


def clip(text: str, limit: int = 240) -> str:
    """Escaped text of a bounded length: what a judged backend says may be of any size."""
    return escape(text if len(text) <= limit else f"{text[:limit]}… and {len(text) - limit:,} more characters")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, right: Iterable[int] = ()) -> str:
    """A table of prepared cells that scrolls inside its own box; columns `right` hold numbers."""
    numeric = set(right)
    mark = [' class="n"' if i in numeric else "" for i in range(len(head))]
    titles = "".join(f'<th scope="col"{mark[i]}>{title}</th>' for i, title in enumerate(head))
    body = "".join("<tr>" + "".join(f"<td{mark[i]}>{c}</td>" for i, c in enumerate(row)) + "</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
    )
