"""Tables for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from refdeq.commands.console import ResultConsole, result_console
from refdeq_bench.comparing import Change
from refdeq_bench.goals import GOALS, Goal, Outcome
from refdeq_bench.recording import Row
from refdeq_bench.running import Findings

__all__ = ["print_changes", "print_facts", "print_findings", "print_goals"]

UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (0.0, "ns"))
QUALITIES = {"density": ".3f", "saved": ".1%", "evaluations": ".4g", "err/bound": ".2g", "PSNR": ".2f dB", "MSE": ".2g"}
"""Those that are numbers, and how they are written."""


def seconds(value: float) -> str:
    """A time with a unit that suits it.

    >>> seconds(0.0123), seconds(2.5e-6)
    ('12.3 ms', '2.5 us')
    """
    scale, unit = next((scale, unit) for scale, unit in UNITS if value >= scale)
    return f"{value / (scale or 1e-9):.3g} {unit}"


def _table(title: str, columns: Sequence[str], left: int = 1) -> Table:
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right")
    return table


def _add(table: Table, *cells: str) -> None:
    table.add_row(*(Text(cell) for cell in cells))


def print_facts(console: ResultConsole, facts: Mapping[str, Any], findings: Sequence[Findings], limit: float) -> None:
    """Where, with what, and how noisy."""
    named = ", ".join(f"{name} {facts[name]}" for name in ("numpy", "numba", "torch") if facts.get(name))
    absent = "" if facts.get("torch") else "; torch: not installed"
    console.print(f"{facts['cpu']}, {facts['cores']} cores; Python {facts['python']}, {named}{absent}; {facts['blas']}")
    for found in findings:
        noise = found.noise
        words = "too noisy to conclude" if noise["spread"] > limit else "quiet enough"
        console.print(
            f"A/A with {found.threads} thread(s): {noise['median']:.3f}, quartiles {noise['q1']:.3f} to {noise['q3']:.3f}: "
            f"{words} (spread {noise['spread']:.1%}, limit {limit:.0%})"
        )


def print_findings(findings: Sequence[Findings], titles: Sequence[str], limit: float) -> None:
    """Every contender of every row."""
    console = result_console(150)
    for found in findings:
        for row in found.rows.values():
            title = f"{_title(row)}; {row['rounds']} rounds"
            level = f"{row['noise']['confidence']:.0%} interval"
            table = _table(title, ("contender", "median", "IQR", "over best", level, "A/A", "work"))
            for contender in row["contenders"]:
                _add(table, *_cells(row, contender, limit))
            console.print(table)
            for name, reason in row["skipped"].items():
                console.print(f"  {name}: {reason}", markup=False)
        for index, reason in sorted({**found.skipped, **found.wrong}.items()):
            word = "WRONG" if index in found.wrong else "skipped"
            console.print(f"{word}: {titles[index]} threads={found.threads}: {reason}", markup=False)


def _title(row: Row) -> str:
    point = ", ".join(f"{name} {value}" for name, value in row["point"].items())
    return f"{row['workload']}: {row['backend']} {row['order']}, threads {row['threads']}, {point}"


def _cells(row: Row, contender: Mapping[str, Any], limit: float) -> list[str]:
    ratio, name = contender["ratio"], contender["name"]
    is_first = contender is row["contenders"][0]
    noise = f"{row['noise']['spread']:.1%}" + (" noisy" if row["noise"]["spread"] > limit else "") if is_first else ""
    return [
        name + (" (best dense)" if name == row["best"] else ""),
        seconds(contender["median"]),
        seconds(contender["q3"] - contender["q1"]),
        "" if ratio is None else f"{ratio['median']:.2f}x",
        "" if ratio is None else f"{ratio['low']:.2f} to {ratio['high']:.2f}",
        noise,
        _work(contender["quality"]),
    ]


def _work(quality: Mapping[str, Any]) -> str:
    """Figures of quality on one line; what has no format of its own is left to the JSON."""
    numbers = [
        f"{name} {format(quality[name], form.split()[0])}{form[len(form.split()[0]) :]}"
        for name, form in QUALITIES.items()
        if isinstance(quality.get(name), float)
    ]
    return ", ".join(numbers + ([str(quality["status"])] if "status" in quality else []))


def print_changes(changes: Sequence[Change], unmatched: int) -> None:
    """Verdicts of a comparison."""
    console = result_console(150)
    table = _table("now against then", ("row", "measured by", "times as fast", "interval with noise", "verdict"), 2)
    for change in changes:
        interval = f"{change.low:.2f} to {change.high:.2f}"
        _add(table, change.row, change.by, f"{change.factor:.2f}", interval, change.verdict)
    console.print(table)
    if unmatched:
        console.print(f"{unmatched} row(s) of this run have no counterpart in the file")


def print_goals(outcomes: Sequence[Outcome], limit: float) -> None:
    """One row per goal and number of threads, then every demand that was missed."""
    console = result_console(150)
    columns = ("goal", "work", "required", "threads", "demands met", "nearest to, or farthest below", "A/A", "verdict")
    table = _table("goals (docs/performance.md)", columns, 3)
    for goal in GOALS:
        for threads in sorted({outcome.threads for outcome in outcomes if outcome.goal == goal.id}):
            chosen = [outcome for outcome in outcomes if (outcome.goal, outcome.threads) == (goal.id, threads)]
            _add(table, *_goal_cells(goal, threads, chosen, limit))
    console.print(table)
    missed = [outcome for outcome in outcomes if not outcome.met]
    if not missed:
        return
    details = _table("demands that were not met", ("goal", "threads", "point", "required", "measured", "best dense", "A/A"), 3)
    for outcome in missed:
        point = " ".join(f"{name}={value}" for name, value in outcome.demand.point.items() if name != "bandwidth")
        noise = "" if outcome.reason else f"{outcome.noise:.1%}"
        required = _required(outcome)
        _add(
            details, outcome.goal, str(outcome.threads), point, required, outcome.reason or _value(outcome), outcome.best, noise
        )
    console.print(details)


def _goal_cells(goal: Goal, threads: int, outcomes: Sequence[Outcome], limit: float) -> list[str]:
    measured = [outcome for outcome in outcomes if outcome.met is not None]
    met = sum(bool(outcome.met) for outcome in measured)
    count = f"{met} of {len(outcomes)}"
    if not measured:
        return [goal.id, goal.work, goal.required, str(threads), count, outcomes[0].reason, "", "not measured"]
    worst = min(measured, key=lambda outcome: outcome.margin)
    noise = max(outcome.noise for outcome in measured)
    verdict = "met" if met == len(outcomes) else "missed" if len(measured) == len(outcomes) else "not all measured"
    return [
        goal.id,
        goal.work,
        goal.required,
        str(threads),
        count,
        f"{_value(worst)} of {_required(worst)}",
        f"{noise:.1%}",
        f"{verdict}, noisy" if noise > limit else verdict,
    ]


def _required(outcome: Outcome) -> str:
    if outcome.demand.figure == "seconds":
        return seconds(outcome.demand.required)
    share = f", {outcome.demand.bandwidth:.0%} of bandwidth" if outcome.demand.bandwidth else ""
    return f"{outcome.demand.required:.3g}x{share}"


def _value(outcome: Outcome) -> str:
    if outcome.demand.figure == "seconds":
        others = ", ".join(f"{name} {seconds(value)}" for name, value in outcome.details.items())
        return f"{seconds(outcome.value)} ({others})"
    share = "" if outcome.share is None else f", {outcome.share:.0%} of bandwidth"
    return f"{outcome.value:.2f}x ({outcome.low:.2f} to {outcome.high:.2f}){share}"
