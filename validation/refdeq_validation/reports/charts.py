"""Drawings of the report, as tables and inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from refdeq_validation.cases.model import FAMILIES, LEVELS
from refdeq_validation.reports.markup import NONE, cut, number, rest, table

__all__ = ["heat_map", "histogram", "matrix", "segments"]

WIDTH, HEIGHT, BASE = 560, 170, 138
"""Of a histogram: view box, and the line its bars stand on."""

BAD = ("failed", "xpassed", "error", "missing")
IDLE = ("skipped", "not_applicable", "xfailed")


def segments(counts: Mapping[str, int]) -> str:
    """One bar, divided by disposition."""
    parts = [(name, counts[name]) for name in counts if name != "planned" and counts[name]]
    total = sum(count for _, count in parts) or 1
    at, drawn = 0.0, []
    for name, count in parts:
        width = 1000 * count / total
        title = escape(f"{count} {name.replace('_', ' ')}")
        drawn.append(f'<rect class="s {name}" x="{at:.2f}" y="0" width="{width:.2f}" height="10"><title>{title}</title></rect>')
        at += width
    label = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in parts) or "nothing"
    return (
        f'<svg class="segments" viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{"".join(drawn)}</svg>'
    )


def matrix(results: Sequence[Mapping[str, Any]], backend: str) -> str:
    """Level by family: how many cases passed, failed, and did not run, for one implementation."""
    mine = [result for result in results if result.get("backend") == backend]
    levels = [level for level in LEVELS if any(result["level"] == level for result in mine)]
    rows = []
    for family in (name for name in FAMILIES if any(result["family"] == name for result in mine)):
        cells = [escape(family)]
        for level in levels:
            found = [r["disposition"] for r in mine if r["family"] == family and r["level"] == level]
            cells.append(_matrix_cell(found, backend, family, level))
        rows.append(cells)
    return table(["family", *levels], rows, caption=backend, right=range(1, len(levels) + 1))


def _matrix_cell(found: Sequence[str], backend: str, family: str, level: str) -> str:
    if not found:
        return '<span class="cell none">' + NONE + "</span>"
    bad, idle = sum(name in BAD for name in found), sum(name in IDLE for name in found)
    passed = len(found) - bad - idle
    parts = [f"{passed} ✓"] if passed else []
    parts += [f"{bad} ✗"] if bad else []
    parts += [f"{idle} n.a."] if idle else []
    kind = "bad" if bad else "good" if passed else "idle"
    label = f"{family}, {level}: {passed} passed, {bad} failed, {idle} did not run"
    attributes = " ".join(f'data-{k}="{escape(v)}"' for k, v in (("backend", backend), ("family", family), ("level", level)))
    return f'<a class="cell {kind}" href="#cases" {attributes} aria-label="{escape(label)}">{" ".join(parts)}</a>'


def heat_map(results: Sequence[Mapping[str, Any]], limit: int = 12) -> str:
    """Largest error/bound by family and dtype; ``bits`` where everything was compared bitwise."""
    ran = [result for result in results if result["values"]]
    columns, left = cut(sorted({(result["backend"], result["dtype"]) for result in ran}), limit)
    rows = []
    for family in (name for name in FAMILIES if any(result["family"] == name for result in ran)):
        cells = [escape(family)]
        for backend, dtype in columns:
            here = [r for r in ran if (r["backend"], r["dtype"], r["family"]) == (backend, dtype, family)]
            cells.append(_heat_cell(here))
        rows.append(cells)
    head = ["family", *(f"{escape(backend)}<br>{escape(dtype)}" for backend, dtype in columns)]
    text = table(head, rows, caption="largest error / bound", right=range(1, len(columns) + 1))
    return text + rest(left, "columns")


def _heat_cell(results: Sequence[Mapping[str, Any]]) -> str:
    if not results:
        return '<span class="heat none">' + NONE + "</span>"
    ratios = [r["worst_error_over_bound"] for r in results]
    known = [ratio for ratio in ratios if ratio is not None]
    worst = max(known, default=0.0)
    failed = any(r["disposition"] == "failed" for r in results)
    if len(known) < len(ratios):
        return '<span class="heat bad">not finite</span>'
    if worst > 1.0:
        return f'<span class="heat bad">{number(worst)} ✗</span>'
    word = "bits" if worst == 0.0 else f"{worst:.2f}" if worst >= 0.005 else "&lt; 0.01"
    if failed:
        return f'<span class="heat bad">{word} ✗</span>'
    return f'<span class="heat" style="--w:{round(8 + 62 * worst)}%">{word}</span>'


def histogram(data: Mapping[str, Any], title: str, unit: str, limit: bool) -> str:
    """Counts over powers of two, on a logarithmic height; a line may mark a limit of one.

    Parameters
    ----------
    data : mapping
        ``edges``: binary logarithms of the edges between bins, n - 1 for n ``counts``: the first bin is what lies below all
        edges, the last what lies above.
    title : str
    unit : str
        What the horizontal axis shows.
    limit : bool
        Whether one is a limit, and what is over it bad.
    """
    edges, counts = data["edges"], data["counts"]
    total, most = sum(counts), max(counts)
    first, last = _window(edges, counts, limit)
    step = WIDTH / (last - first)
    drawn = []
    for i in (i for i in range(first, last) if counts[i]):
        height = max(2.0, (BASE - 26) * math.log10(counts[i] + 1.0) / math.log10(most + 1.0))
        over = " over" if limit and i > 0 and edges[i - 1] >= 0 else ""
        drawn.append(
            f'<rect class="bar{over}" x="{(i - first) * step + 0.5:.2f}" y="{BASE - height:.2f}" width="{step - 1:.2f}" '
            f'height="{height:.2f}"><title>{escape(_bin(edges, i))}: {counts[i]:,}</title></rect>'
        )
    every = next(n for n in (1, 2, 4, 8, 16, 32, 64) if n * step >= 48 or n == 64)
    for i in (i for i in range(first, last - 1) if edges[i] % every == 0):
        x = (i + 1 - first) * step
        drawn.append(f'<line class="tick" x1="{x:.2f}" x2="{x:.2f}" y1="{BASE}" y2="{BASE + 4}"/>')
        drawn.append(f'<text x="{x:.2f}" y="{BASE + 17}" text-anchor="middle">{_power(edges[i])}</text>')
        if limit and edges[i] == 0:
            drawn.append(f'<line class="one" x1="{x:.2f}" x2="{x:.2f}" y1="14" y2="{BASE}"/>')
    label = f"{title}: {total:,} values, the most in {_bin(edges, counts.index(most))}"
    return (
        f"<figure><figcaption><b>{escape(title)}</b> {total:,} values, logarithmic height</figcaption>"
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f'<line class="axis" x1="0" x2="{WIDTH}" y1="{BASE}" y2="{BASE}"/>{"".join(drawn)}'
        f'<text class="unit" x="{WIDTH}" y="{HEIGHT - 1}" text-anchor="end">{escape(unit)}</text></svg></figure>'
    )


def _window(edges: Sequence[float], counts: Sequence[int], limit: bool) -> tuple[int, int]:
    """First and last-but-one bin worth drawing: all that hold something, those beside a limit, and a margin."""
    one = list(edges).index(0) if 0 in edges else 0
    filled = [*([one, one + 1] if limit else []), *(i for i, count in enumerate(counts) if count)]
    return max(0, min(filled) - 2), min(len(counts), max(filled) + 3)


def _power(edge: float) -> str:
    return "1" if edge == 0 else f'2<tspan dy="-4" font-size="8">{edge:g}</tspan>'


def _bin(edges: Sequence[float], i: int) -> str:
    if i == 0:
        return f"below 2^{edges[0]:g}"
    return f"2^{edges[-1]:g} and above" if i == len(edges) else f"2^{edges[i - 1]:g} to 2^{edges[i]:g}"
