"""``refdeq validate``: judge backends and say what was proved."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refdeq.errors import ArgumentError, BackendUnavailableError

if TYPE_CHECKING:
    from refdeq_validation.schedule import Selection
    from refdeq_validation.session import Declaration, Row

__all__ = ["validate"]


def validate(
    backends: Annotated[list[str] | None, typer.Argument(help="Backends to judge; all that can run by default.")] = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A spread subset of cases and inputs, in seconds.")] = False,
    cell: Annotated[list[str] | None, typer.Option(help="designed, or a trained cell; all by default.")] = None,
    preset: Annotated[list[str] | None, typer.Option(help="Delta presets; all four by default.")] = None,
    order: Annotated[list[str] | None, typer.Option(help="strict or fast; all a backend declares by default.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Threshold on the trained cells.")] = None,
    samples: Annotated[int | None, typer.Option(help="Inputs per trained cell; all by default.")] = None,
    threads: Annotated[int, typer.Option(help="Tasks judged at the same time.")] = min(2, os.cpu_count() or 1),
    report: Annotated[Path, typer.Option(help="Where the report is written.")] = Path("report.json"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report instead of the table.")] = False,
) -> None:
    """Judge backends by replaying every transition of their own runs.

    Masks and memory must be bitwise right, sums bitwise (strict) or within a proved bound (fast), over designed cases and over
    the trained cells on all their inputs, for every delta preset.

    Exit codes: 0 granted, 1 nonconformant, 2 usage, 3 incomplete, 4 nothing selected, 5 a backend broke.

    Example: refdeq validate numba --quick
    """
    from refdeq_validation import report as reporting
    from refdeq_validation.schedule import Selection, planned_ids

    began = time.perf_counter()
    _check_options(samples, threads, threshold, report)
    declared, unavailable, named_missing = _find_backends(backends, order)
    cells, presets = _select(cell, preset)
    selection = Selection(declared, cells, presets, quick, samples, threads, threshold)
    planned = planned_ids(selection)
    rows = _judge(selection) if planned else []
    code = reporting.exit_code(rows, len(planned), named_missing)
    data = reporting.report_data(rows, planned, unavailable, code, time.perf_counter() - began)
    reporting.write_json(report, data)
    if as_json:
        print(json.dumps(data, indent=2))
    else:
        _print(rows, data, unavailable, report)
    raise typer.Exit(code)


def _check_options(samples: int | None, threads: int, threshold: float | None, report: Path) -> None:
    if samples is not None and samples < 1:
        raise ArgumentError("--samples", expected="an integer >= 1", got=samples)
    if threads < 1:
        raise ArgumentError("--threads", expected="an integer >= 1", got=threads)
    if threshold is not None and not threshold >= 0.0:
        raise ArgumentError("--threshold", expected="a number >= 0", got=threshold)
    if not report.parent.is_dir() or report.is_dir():
        raise ArgumentError("--report", expected="a file name in an existing folder", got=report)


def _find_backends(
    names: list[str] | None, orders: list[str] | None
) -> tuple[list[Declaration], list[tuple[str, str]], list[str]]:
    """Declarations to judge, backends that cannot run with their reasons, and those of them that were asked for by name."""
    from refdeq.registry import backend_names, load_backend
    from refdeq_validation.session import declarations

    unknown = sorted(set(orders or ()) - {"strict", "fast"})
    if unknown:
        raise ArgumentError("--order", expected="strict or fast", got=unknown[0])
    known = backend_names()
    missing = [name for name in names or () if name not in known]
    unavailable = [(name, f"no such backend is installed (known: {', '.join(known)})") for name in missing]
    found: list[Declaration] = []
    for name in dict.fromkeys(names or known):
        if name in missing:
            continue
        try:
            found += declarations(load_backend(name), orders)
        except BackendUnavailableError as error:
            unavailable.append((name, error.reason))
    return found, unavailable, [name for name, _ in unavailable if names]


def _select(cells: list[str] | None, presets: list[str] | None) -> tuple[list[str], list[str]]:
    from refdeq.models import trained_names
    from refdeq_validation.designed.families import PRESET_NAMES

    known = ["designed", "sine", *(name for name in trained_names() if name != "sine")]
    for option, chosen, allowed in (("--cell", cells, known), ("--preset", presets, list(PRESET_NAMES))):
        unknown = sorted(set(chosen or ()) - set(allowed))
        if unknown:
            raise ArgumentError(option, expected=f"one of {', '.join(allowed)}", got=unknown[0])
    return list(cells or known), list(presets or PRESET_NAMES)


def _judge(selection: Selection) -> list[Row]:
    """Judge everything, with a progress bar."""
    from refdeq.commands.console import progress_bar
    from refdeq_validation import schedule

    with progress_bar() as progress:
        task = progress.add_task("judging")
        return schedule.run(
            selection,
            begin=lambda total: progress.update(task, total=total),
            advance=lambda steps: progress.update(task, advance=steps),
        )


def _print(rows: list[Row], data: dict[str, Any], unavailable: list[tuple[str, str]], report: Path) -> None:
    from refdeq.commands.console import result_console
    from refdeq_validation import report as reporting

    console = result_console(width=132)
    if rows:
        reporting.print_table(console, rows)
    for name, reason in unavailable:
        console.print(f"[yellow]cannot run[/yellow] {name}: {reason}", highlight=False)
    tally = data["counts"]
    text = ", ".join(f"{tally[name]} {name}" for name in ("passed", "failed", "error", "missing"))
    seconds = data["environment"]["seconds"]
    console.print(f"{data['verdict']}: {tally['planned']} rows planned, {text}; {seconds:.0f} s; report in {report}")
