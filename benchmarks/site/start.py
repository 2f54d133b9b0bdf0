"""The start page: what is measured, the goals with their latest figures, ratios by commit, and the way to asv's pages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from urllib.parse import quote

from benchmarks.site.goals import COLUMNS, GoalRow, Goals
from benchmarks.site.stored import Benchmark, Run, Stored

__all__ = ["render"]

_LINKS = (
    ("Grid", "asv/index.html#/", "every benchmark as a small curve over the commits"),
    ("List", "asv/index.html#/summarylist", "latest values, and what changed last"),
    ("Regressions", "asv/index.html#/regressions", "what became slower or worse"),
)


def render(stored: Stored, goals: Goals) -> str:
    """Draw the start page.

    Parameters
    ----------
    stored : Stored
        Results, at least one run.
    goals : Goals
        The goals, with figures where they were measured.

    Returns
    -------
    str
        A page that refers to nothing but asv's pages beside it.
    """
    newest = stored.runs[-1]
    sections = {
        "goals": ("Goals", _goals(goals)),
        "ratios": ("Ratios by commit", _ratios(stored)),
        "quality": (f"Figures of {newest.commit[:8]}", _quality(stored, newest)),
        "suites": ("What is measured", _suites(stored)),
        "commits": ("Commits", _commits(stored)),
        "machines": ("Machines", _machines(stored)),
    }
    body = "".join(f'<section id="{key}"><h2>{title}</h2>{text}</section>' for key, (title, text) in sections.items())
    ways = "".join(f'<a href="#{key}">{key.capitalize()}</a>' for key in sections)
    cards = "".join(f'<li><a href="{href}">{name}</a><span>{what}</span></li>' for name, href, what in _LINKS)
    style = Path(__file__).with_name("start.css").read_text(encoding="utf-8")
    about = f"{len(stored.benchmarks)} benchmarks, {_plural(len({run.commit for run in stored.runs}), 'commit')}, newest "
    about += f"{newest.commit[:8]} of {_day(newest)}: {newest.subject}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<title>refdeq benchmarks</title><link rel="icon" href="data:,"><style>{style}</style></head><body>'
        f'<header><h1>refdeq benchmarks</h1><p class="about">{escape(about)}</p>'
        f'<ul class="cards">{cards}</ul></header><nav aria-label="sections">{ways}</nav><main>{body}</main></body></html>\n'
    )


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, ids: Sequence[str] = ()) -> str:
    """Draw a table; cells are HTML, and those of the first column are headers of their rows."""
    heads = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = []
    for at, (first, *rest) in enumerate(rows):
        mark = f' id="{ids[at]}"' if ids else ""
        lines.append(f'<tr{mark}><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>')
    return (
        f'<div class="scroll"><table><caption>{caption}</caption><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _goals(goals: Goals) -> str:
    rows = [(row.id, escape(row.work), escape(row.required), _figures_of(row), _verdict(row.verdict)) for row in goals.rows]
    return table(escape(goals.about), ("id", "work", "goal", "measured", "verdict"), rows)


def _figures_of(row: GoalRow) -> str:
    """Lines of a goal, and all its points behind them."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in row.figures)
    text = f"<ul>{lines}</ul>" if lines else ""
    if not row.points:
        return text
    cells = [(*map(escape, point[:-1]), _verdict(point[-1])) for point in row.points]
    return f"{text}<details><summary>{_plural(len(cells), 'point')}</summary>{table(row.id, COLUMNS, cells)}</details>"


def _verdict(words: str) -> str:
    return f'<span class="verdict {words.replace(" ", "-")}">{escape(words)}</span>'


def _ratios(stored: Stored) -> str:
    """One row per ratio and point, one column per run."""
    rows = []
    for benchmark in _tracked(stored, "ratio"):
        for point in benchmark.points():
            values = [run.value(benchmark.name, point) for run in stored.runs]
            if any(_says_something(value) for value in values):
                rows.append((_name(benchmark, point), *(_shown(value) for value in values)))
    if not rows:
        return "<p>No ratio was measured.</p>"
    heads = [f'<a href="#{run.commit[:8]}">{run.commit[:8]}</a>{_where(stored, run)}' for run in stored.runs]
    caption = (
        "How many times as fast as the best dense path, measured by turns with it in one process (Sine: a loop over NumPy "
        "calls; ConvolutionCell: the same backend without a delta rule). A dash: the commit lacks what is measured."
    )
    return table(caption, ["benchmark", *heads], rows)


def _where(stored: Stored, run: Run) -> str:
    """Machine and environment of a run, where there are several."""
    words = [run.machine] * (len({other.machine for other in stored.runs}) > 1)
    words += [run.environment] * (len({other.environment for other in stored.runs}) > 1)
    return "".join(f"<br><small>{escape(word)}</small>" for word in words)


def _quality(stored: Stored, run: Run) -> str:
    """Everything tracked of one run: a table per class, metrics beside one another."""
    classes: dict[str, list[Benchmark]] = {}
    for benchmark in _tracked(stored):
        classes.setdefault(benchmark.name.rpartition(".")[0], []).append(benchmark)
    parts = []
    for name, metrics in classes.items():
        rows = []
        for point in metrics[0].points():
            values = [run.value(metric.name, point) for metric in metrics]
            if any(_says_something(value) for value in values):
                rows.append((_point(metrics[0], point), *map(_shown, values)))
        if rows:
            heads = [
                f'<a href="{_graph(metric)}">{metric.metric}</a> <small>{escape(metric.unit)}</small>' for metric in metrics
            ]
            parts.append(table(f"<b>{escape(name)}</b>", [", ".join(metrics[0].param_names), *heads], rows))
    return "".join(parts) or "<p>Nothing was tracked.</p>"


def _suites(stored: Stored) -> str:
    rows = []
    for suite, what in stored.suites.items():
        own = [benchmark for benchmark in stored.benchmarks.values() if benchmark.suite == suite]
        if own:
            links = ", ".join(f'<a href="{_graph(b)}">{escape(b.name.partition(".")[2])}</a>' for b in own)
            rows.append((escape(suite), escape(what), links))
    kinds = (
        "Names say what is measured: <code>time_</code> seconds, <code>peakmem_</code> bytes, <code>track_</code> a figure in "
        "the unit shown. The first parameter is always the backend; baselines are backends of their own."
    )
    return table(kinds, ("suite", "what", "benchmarks"), rows)


def _commits(stored: Stored) -> str:
    rows = []
    for run in stored.runs[::-1]:
        there, skipped, failed = run.count()
        rows.append(
            (
                f"<code>{run.commit[:8]}</code>",
                escape(run.subject),
                _day(run),
                escape(run.machine),
                escape(f"{run.environment}, Python {run.python}"),
                f"{there}",
                f"{skipped}",
                f"{failed}",
            )
        )
    ids: list[str] = []
    for run in stored.runs[::-1]:  # links of asv's pages lead to a commit; other machines' rows follow it
        ids.append(run.commit[:8] if run.commit[:8] not in ids else f"{run.commit[:8]}-{len(ids)}")
    head = ("commit", "subject", "date", "machine", "environment", "values", "skipped", "failed")
    return table("Skipped: the commit or the environment lacks what the benchmark needs.", head, rows, ids=ids)


def _machines(stored: Stored) -> str:
    keys = ("cpu", "num_cpu", "arch", "ram", "os")
    rows = [(escape(name), *(escape(about.get(key, "")) for key in keys)) for name, about in stored.machines.items()]
    return table("Times of different machines are not compared.", ("machine", "processor", "cores", *keys[2:]), rows)


def _tracked(stored: Stored, metric: str = "") -> list[Benchmark]:
    return [b for b in stored.benchmarks.values() if b.kind == "track" and b.metric.startswith(metric)]


def _graph(benchmark: Benchmark) -> str:
    return "asv/index.html#" + quote(benchmark.name)


def _name(benchmark: Benchmark, point: tuple[str, ...]) -> str:
    owner, _, _ = benchmark.name.rpartition(".")
    return f'<a href="{_graph(benchmark)}">{escape(owner)}</a> {_point(benchmark, point)}'


def _point(benchmark: Benchmark, point: tuple[str, ...]) -> str:
    """Parameters of a point; strings without their quotes, numbers with their names."""
    named = zip(benchmark.param_names, point, strict=True)
    words = [value.strip("'") if value.startswith("'") else f"{name} {value}" for name, value in named]
    return escape(", ".join(words))


def _says_something(value: float | None) -> bool:
    """A number or a failure: anything but skipped."""
    return value is None or not math.isnan(value)


def _shown(value: float | None) -> str:
    if value is None:
        return '<span class="failed">failed</span>'
    return "-" if math.isnan(value) else f"{value:.4g}"


def _day(run: Run) -> str:
    return datetime.fromtimestamp(run.date / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"
