"""Rows of whole graphs and trained cells: the table for people, the data for the report, the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from refdeq_validation.session import Row

__all__ = ["exit_code", "print_table", "row_data"]


def counts(rows: Sequence[Row], planned: int) -> dict[str, int]:
    """Rows by disposition; what was planned but has no row is missing."""
    tally = {name: sum(row.disposition == name for row in rows) for name in ("passed", "failed", "error", "missing")}
    tally["missing"] += planned - len(rows)
    return {"planned": planned, **tally}


def exit_code(rows: Sequence[Row], planned: int, unavailable: Sequence[str] = ()) -> int:
    """Exit code of a session, by precedence 4 > 5 > 1 > 3 > 0 (:mod:`refdeq_validation.exit_codes`)."""
    tally = counts(rows, planned)
    if planned == 0 and not unavailable:
        return 4
    if sum(tally[name] for name in ("passed", "failed", "error", "missing")) != planned or tally["missing"] < 0:
        return 4
    if tally["error"]:
        return 5
    if tally["failed"]:
        return 1
    return 3 if unavailable or tally["missing"] else 0


def print_table(console: Console, rows: Sequence[Row]) -> None:
    """Print one table per declaration, one line per row, and every failure in words."""
    console.print(
        "dense res.: largest relative residual of the dense cell at the returned points; "
        "time: untraced solve of at most 512 inputs on one thread, ratio against the dense solve of the same backend"
    )
    for declaration in dict.fromkeys(row.declaration for row in rows):
        table = Table(
            title=escape(declaration),
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        for title in ("cell", "preset", "verdict"):
            table.add_column(title, no_wrap=True)
        for title in ("inputs", "err/bound", "decisions", "saved", "dense res.", "quality (change)", "time", "ratio"):
            table.add_column(title, justify="right", no_wrap=True)
        for row in rows:
            if row.declaration == declaration:
                table.add_row(*_cells(row))
        console.print(table)
    for row in rows:
        title = escape(f"{row.declaration}, {row.cell}, {row.preset}")
        if row.error:
            console.print(f"[red]error[/red] {title}: {escape(row.error)}", highlight=False)
        for failure in row.findings.failures[:3]:
            console.print(f"[red]failed[/red] {title}: {escape(failure.sentence())}", highlight=False)
        if row.findings.failed > 3:
            console.print(f"       {title}: and {row.findings.failed - 3} more", highlight=False)


def _cells(row: Row) -> tuple[str, ...]:
    colour = "green" if row.disposition == "passed" else "red"
    bitwise = " strict " in row.declaration and not row.findings.worst
    return (
        row.cell,
        row.preset,
        f"[{colour}]{row.disposition}[/{colour}]",
        f"{row.inputs:,}",
        "bitwise" if bitwise else f"{row.findings.worst:.3f}",
        f"{row.findings.decisions:,}",
        "" if row.macs_saved is None else f"{100 * row.macs_saved:.1f} %",
        "" if row.dense_residual is None else f"{row.dense_residual:.1e}",
        row.quality,
        "" if row.seconds is None else f"{row.seconds:.3f} s",
        "" if row.seconds is None or not row.seconds_dense else f"{row.seconds / row.seconds_dense:.2f}",
    )


def row_data(row: Row) -> dict[str, Any]:
    """JSON-able fields of a row; numbers that are not finite, as a broken backend may make them, become null."""
    data = {
        "id": f"{row.declaration}/{row.cell}/{row.preset}",
        "disposition": row.disposition,
        "runs": row.runs,
        "inputs": row.inputs,
        "decisions": row.findings.decisions,
        "values": row.findings.values,
        "worst_error_over_bound": row.findings.worst,
        "failed_checks": row.findings.failed,
        "failures": [failure.as_data() for failure in row.findings.failures],
        "error": row.error or None,
        "macs_saved": row.macs_saved,
        "worst_dense_residual": row.dense_residual,
        "quality": row.quality or None,
        "seconds": row.seconds,
        "seconds_dense": row.seconds_dense,
    }
    return {name: None if isinstance(v, float) and not np.isfinite(v) else v for name, v in data.items()}
