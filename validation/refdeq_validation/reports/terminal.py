"""Tables for people at a terminal: profiles, families, and failures in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from refdeq_validation.cases.model import FAMILIES
from refdeq_validation.reports.sections import short_time
from refdeq_validation.reports.wording import clean, explain, likely_line, severity

__all__ = ["print_suites"]

SHOWN = 3
"""Failing cases told per implementation."""

_BAD = ("error", "failed", "xpassed", "missing")
_IDLE = ("skipped", "not_applicable", "xfailed")


def print_suites(console: Console, data: Mapping[str, Any]) -> None:
    """Print what every implementation was granted, its families line by line, and its failures in words.

    Parameters
    ----------
    console : Console
    data : mapping
        As ``report_data`` builds it.
    """
    for backend in data["backends"]:
        results = [result for result in data["results"] if result.get("backend") == backend["spec"]]
        console.print(_families(backend, results))
        for profile in backend["profiles"]:
            _print_profile(console, profile)
        if backend["impossible_levels"]:
            levels = ", ".join(backend["impossible_levels"])
            console.print(f"cannot be judged on {levels}: no case of these levels applies to what it offers", highlight=False)
        _print_power(console, backend["power"])
        _print_failures(console, results)
        if backend["diagnosis"]:
            console.print(escape(clean(likely_line(backend["diagnosis"]))), highlight=False, soft_wrap=True)
        console.print()


def _families(backend: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(
        title=escape(clean(backend["spec"])),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("family", no_wrap=True)
    for title in ("passed", "failed", "n.a.", "err/bound", "decisions", "ambiguous", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    for family in FAMILIES:
        members = [result for result in results if result["family"] == family]
        if members:
            table.add_row(family, *_cells(members))
    table.add_section()
    table.add_row("all", *_cells(results))
    return table


def _cells(results: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    bad = sum(result["disposition"] in _BAD for result in results)
    idle = sum(result["disposition"] in _IDLE for result in results)
    passed = len(results) - bad - idle
    return (
        f"[green]{passed}[/green]" if passed else "0",
        f"[red]{bad}[/red]" if bad else "0",
        str(idle) if idle else "",
        _worst([result for result in results if result["values"]]),
        f"{sum(result['decisions'] for result in results):,}",
        str(sum(result["ambiguous"] for result in results) or ""),
        short_time(sum(result["seconds"] for result in results)),
    )


def _worst(results: Sequence[Mapping[str, Any]]) -> str:
    """Largest error over bound; ``bitwise`` where everything was compared by its bits."""
    ratios = [result["worst_error_over_bound"] for result in results]
    if any(ratio is None for ratio in ratios):
        return "[red]not finite[/red]"
    worst = max(ratios, default=0.0)
    text = f"{worst:.3f}" if worst < 100 else f"{worst:.3g}"
    return f"[red]{text}[/red]" if worst > 1.0 else text if worst else "bitwise" if ratios else ""


def _print_profile(console: Console, profile: Mapping[str, Any]) -> None:
    share = f"{profile['passed']} of {profile['required']} required cases passed"
    if profile["granted"]:
        console.print(f"[green]granted[/green] {escape(profile['name'])}: {share}", highlight=False)
    else:
        reason = escape(clean(profile["reason"] or "no reason was given"))
        console.print(f"[red]refused[/red] {escape(profile['name'])}: {reason} ({share})", highlight=False)


def _print_power(console: Console, power: Mapping[str, Any]) -> None:
    if not power["canaries"]:
        return
    console.print(f"canaries killed: {power['killed']} of {power['canaries']}", highlight=False)
    for canary in power["by_canary"]:
        if canary["killed_by"] is None:
            console.print(f"[red]survived[/red] canary {escape(canary['name'])}", highlight=False)


def _print_failures(console: Console, results: Sequence[Mapping[str, Any]]) -> None:
    bad = sorted((result for result in results if result["disposition"] in _BAD), key=severity)
    for result in bad[:SHOWN]:
        first, *others = explain(result, shown=2)
        console.print(f"[red]{result['disposition']}[/red] {escape(first)}", highlight=False)
        for line in others:
            console.print(escape(line), highlight=False, soft_wrap=True)
    if len(bad) > SHOWN:
        console.print(f"and {len(bad) - SHOWN} more failing cases", highlight=False)
