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
    from refdeq_validation.session import Declaration, Row

__all__ = ["validate"]

QUICK_SAMPLES = 128
QUICK_STRIDE = 7
"""Not a divisor of the four presets, through which the cases cycle."""


def validate(
    backends: Annotated[list[str] | None, typer.Argument(help="Backends to judge; all that can run by default.")] = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A spread subset of cases and inputs, in seconds.")] = False,
    cell: Annotated[list[str] | None, typer.Option(help="designed, or a trained cell; all by default.")] = None,
    preset: Annotated[list[str] | None, typer.Option(help="Delta presets; all four by default.")] = None,
    order: Annotated[list[str] | None, typer.Option(help="strict or fast; all a backend declares by default.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Threshold on the trained cells.")] = None,
    samples: Annotated[int | None, typer.Option(help="Inputs per trained cell; all by default.")] = None,
    threads: Annotated[int, typer.Option(help="Chunks judged at the same time.")] = min(2, os.cpu_count() or 1),
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

    began = time.perf_counter()
    _check_options(samples, threads, report)
    declared, unavailable, named_missing = _find_backends(backends, order)
    cells, presets = _select(cell, preset)
    console = _console(as_json)
    planned = _planned(declared, cells, presets)
    rows = _judge(declared, cells, presets, quick, samples, threads, threshold, console) if planned else []
    code = reporting.exit_code(rows, len(planned), named_missing)
    data = reporting.report_data(rows, planned, unavailable, code, time.perf_counter() - began)
    reporting.write_json(report, data)
    if as_json:
        print(json.dumps(data, indent=2))
    else:
        _print(console, rows, data, unavailable, report)
    raise typer.Exit(code)


def _console(stderr: bool) -> Any:
    """Console wide enough for the table where nothing limits it."""
    from rich.console import Console

    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=max(console.width, 132))


def _check_options(samples: int | None, threads: int, report: Path) -> None:
    if samples is not None and samples < 1:
        raise ArgumentError("--samples", expected="an integer >= 1", got=samples)
    if threads < 1:
        raise ArgumentError("--threads", expected="an integer >= 1", got=threads)
    if not report.parent.is_dir():
        raise ArgumentError("--report", expected="a path in an existing folder", got=report)


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
    from refdeq_validation.cases import PRESET_NAMES

    known = ["designed", "sine", *(name for name in trained_names() if name != "sine")]
    for option, chosen, allowed in (("--cell", cells, known), ("--preset", presets, list(PRESET_NAMES))):
        unknown = sorted(set(chosen or ()) - set(allowed))
        if unknown:
            raise ArgumentError(option, expected=f"one of {', '.join(allowed)}", got=unknown[0])
    return list(cells or known), list(presets or PRESET_NAMES)


def _planned(declared: list[Declaration], cells: list[str], presets: list[str]) -> list[str]:
    """Ids of every row that must come out."""
    return [
        f"{declaration.name}/{cell}/{preset}"
        for declaration in declared
        for cell in cells
        for preset in (*presets, "other rules" if cell == "designed" else "dense")
    ]


def _judge(
    declared: list[Declaration],
    cells: list[str],
    presets: list[str],
    quick: bool,
    samples: int | None,
    threads: int,
    threshold: float | None,
    console: Any,
) -> list[Row]:
    """Judge everything, with a progress bar."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from refdeq.models import load_trained
    from refdeq_validation.cases import PRESET_NAMES, designed_cases
    from refdeq_validation.session import inputs_judged, judge_designed, judge_trained

    cases = [] if "designed" not in cells else list(designed_cases())
    dropped = set(PRESET_NAMES) - set(presets)
    cases = [case for case in cases if not any(f"-{name}-" in case.name for name in dropped)]
    cases = cases[::QUICK_STRIDE] if quick else cases
    models = [load_trained(name) for name in cells if name != "designed"]
    taken = samples if samples is not None else QUICK_SAMPLES if quick else None
    inputs = sum(inputs_judged(declaration, model, taken) for declaration in declared for model in models)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn())
    rows: list[Row] = []
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("judging", total=len(declared) * len(cases) + inputs * (1 + len(presets)))

        def advance(steps: int) -> None:
            progress.update(task, advance=steps)

        for declaration in declared:
            progress.update(task, description=declaration.name)
            if "designed" in cells:
                rows += judge_designed(declaration, cases, advance)
            for model in models:
                rows += judge_trained(declaration, model, presets, advance, samples=taken, threads=threads, threshold=threshold)
    return rows


def _print(console: Any, rows: list[Row], data: dict[str, Any], unavailable: list[tuple[str, str]], report: Path) -> None:
    from refdeq_validation import report as reporting

    if rows:
        reporting.print_table(console, rows)
    for name, reason in unavailable:
        console.print(f"[yellow]cannot run[/yellow] {name}: {reason}", highlight=False)
    tally = data["counts"]
    text = ", ".join(f"{tally[name]} {name}" for name in ("passed", "failed", "error", "missing"))
    seconds = data["environment"]["seconds"]
    console.print(f"{data['verdict']}: {tally['planned']} rows planned, {text}; {seconds:.0f} s; report in {report}")
