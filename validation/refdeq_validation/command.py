"""``refdeq validate``: judge implementations and say what was proved."""

from __future__ import annotations

import json
import os
import time
from contextlib import nullcontext
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refdeq.errors import ArgumentError

if TYPE_CHECKING:
    from refdeq_validation.case_suites import Request
    from refdeq_validation.cases.model import Case
    from refdeq_validation.schedule import Selection
    from refdeq_validation.session import Row
    from refdeq_validation.suites import SuiteRun
    from refdeq_validation.targets import Found
    from refdeq_validation.waivers import Waivers

__all__ = ["validate"]


def validate(
    backends: Annotated[
        list[str] | None,
        typer.Argument(help="Backends, backend:order:path, module:attribute or backend.toml files; all installed by default."),
    ] = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Smoke cases and a spread subset of the rest, in seconds.")] = False,
    profile: Annotated[list[str] | None, typer.Option(help="Judge the cases of a profile, and grant it or not.")] = None,
    tier: Annotated[str | None, typer.Option(help="smoke, core or full; full also judges trained cells.")] = None,
    case: Annotated[list[str] | None, typer.Option(help="Judge the case with this id alone.")] = None,
    list_ids: Annotated[bool, typer.Option("--list", help="Print the ids of the selected cases and run nothing.")] = False,
    power: Annotated[bool, typer.Option("--power", help="Measure the suite: how many planted bugs it finds.")] = False,
    skips: Annotated[Path | None, typer.Option(help="skips.toml: exact ids, reasons, issues, ends.")] = None,
    xfails: Annotated[Path | None, typer.Option(help="xfails.toml: the same with the kind of failure.")] = None,
    allow_incomplete: Annotated[
        bool, typer.Option("--allow-incomplete", help="Exit 0 where it would be 3; the report says so.")
    ] = False,
    cell: Annotated[list[str] | None, typer.Option(help="cases, designed, or a trained cell; all by default.")] = None,
    preset: Annotated[list[str] | None, typer.Option(help="Delta presets; all four by default.")] = None,
    order: Annotated[list[str] | None, typer.Option(help="strict or fast; all a backend declares by default.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Threshold on the trained cells.")] = None,
    samples: Annotated[int | None, typer.Option(help="Inputs per trained cell; all by default.")] = None,
    threads: Annotated[int, typer.Option(help="Tasks at the same time.")] = min(2, os.cpu_count() or 1),
    report: Annotated[Path, typer.Option(help="Where the report is written.")] = Path("report.json"),
    html: Annotated[Path | None, typer.Option(help="The report as one self-contained page.")] = None,
    junit: Annotated[Path | None, typer.Option(help="The report as JUnit XML.")] = None,
    summary: Annotated[Path | None, typer.Option(help="The report as short Markdown.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report instead of the tables.")] = False,
) -> None:
    """Judge backends by replaying every transition of their own runs.

    Masks and memory must be bitwise right, sums bitwise (strict) or within a proved bound (fast): over the cases of the suite
    through the public protocol, and for backends of refdeq over designed graphs and the trained cells on all their inputs.

    Exit codes: 0 granted, 1 nonconformant, 2 usage, 3 incomplete, 4 invalid, 5 a backend broke.

    Example: refdeq validate numba --profile core-f32
    """
    from refdeq_validation.processes import prepare
    from refdeq_validation.supervising import announce, supervise

    began = time.perf_counter()
    _check_options(samples, threads, threshold, tier)
    for name, path in (("--report", report), ("--html", html), ("--junit", junit), ("--summary", summary)):
        if path is not None and (not path.parent.is_dir() or path.is_dir()):
            raise ArgumentError(name, expected="a file name in an existing folder", got=path)
    if not (list_ids or power):
        supervise()
        if threads > 1 and not case:
            prepare()
    cells, presets = _select(cell, preset, narrowed=bool(profile or case or tier in ("smoke", "core")))
    cases = _cases(profile, tier or ("smoke" if quick else "full"), case) if "cases" in cells else ()
    if list_ids:
        print("\n".join(entry.id for entry in cases))
        raise typer.Exit(0 if cases else 4)
    if power:
        from refdeq_validation.mutants.power import report_power

        raise typer.Exit(report_power(threads))
    from refdeq_validation.case_suites import Request
    from refdeq_validation.targets import find_targets

    waivers = _waivers(skips, xfails, profile or [])
    found = find_targets(backends, order)
    request = Request(tuple(cases), tuple(profile or ()), waivers, canaries=not case)
    selection = _selection(found, [name for name in cells if name != "cases"], presets, quick, samples, threads, threshold)
    for path in (report, html, junit, summary):
        if path is not None:
            path.unlink(missing_ok=True)  # a run that never ends must not leave the verdict of another behind
    suites, rows = _run(found, request, selection)
    code = _exit_code(found, suites, selection, rows)
    data = _report(found, suites, selection, rows, code, allow_incomplete, time.perf_counter() - began)
    _write(data, rows, as_json, json=report, html=html, junit=junit, summary=summary)
    announce()
    raise typer.Exit(data["exit_code"])


def _check_options(samples: int | None, threads: int, threshold: float | None, tier: str | None) -> None:
    if samples is not None and samples < 1:
        raise ArgumentError("--samples", expected="an integer >= 1", got=samples)
    if threads < 1:
        raise ArgumentError("--threads", expected="an integer >= 1", got=threads)
    if threshold is not None and not threshold >= 0.0:
        raise ArgumentError("--threshold", expected="a number >= 0", got=threshold)
    if tier not in (None, "smoke", "core", "full"):
        raise ArgumentError("--tier", expected="smoke, core or full", got=tier)


def _select(cells: list[str] | None, presets: list[str] | None, narrowed: bool) -> tuple[list[str], list[str]]:
    """Cells and presets; a choice among the cases leaves out everything that is no case."""
    from refdeq.models import trained_names
    from refdeq_validation.designed.families import PRESET_NAMES

    known = ["cases", "designed", "sine", *(name for name in trained_names() if name != "sine")]
    for option, chosen, allowed in (("--cell", cells, known), ("--preset", presets, list(PRESET_NAMES))):
        unknown = sorted(set(chosen or ()) - set(allowed))
        if unknown:
            raise ArgumentError(option, expected=f"one of {', '.join(allowed)}", got=unknown[0])
    return list(cells or (["cases"] if narrowed else known)), list(presets or PRESET_NAMES)


def _cases(profiles: list[str] | None, tier: str, ids: list[str] | None) -> tuple[Case, ...]:
    """Selected cases in the order of the suite."""
    from refdeq_validation.cases.profiles import PROFILES
    from refdeq_validation.cases.suite import all_cases, by_id, select

    unknown = [name for name in profiles or () if name not in PROFILES]
    if unknown:
        raise ArgumentError("--profile", expected=f"one of {', '.join(PROFILES)}", got=unknown[0])
    if ids:
        absent = next((name for name in ids if name not in by_id()), None)
        if absent is not None:
            raise ArgumentError("--case", expected="the id of a case", got=absent, hint=_nearest(absent, list(by_id())))
        return tuple(entry for entry in all_cases() if entry.id in set(ids))
    if profiles:
        wanted = {name for profile in profiles for name in PROFILES[profile].ids}
        return tuple(entry for entry in select(tier=tier) if entry.id in wanted)
    return select(tier=tier)


def _nearest(name: str, ids: list[str]) -> str:
    """What may have been meant by an id that no case has, and how to list them all."""
    near = get_close_matches(name, ids, n=1)
    listing = "refdeq validate --tier full --list prints all ids"
    return f"did you mean {near[0]}? {listing}" if near else listing


def _waivers(skips: Path | None, xfails: Path | None, profiles: list[str]) -> Waivers:
    from refdeq_validation.cases.profiles import PROFILES
    from refdeq_validation.cases.suite import by_id
    from refdeq_validation.waivers import Waivers, check_waivers, read_waivers

    if skips is None and xfails is None:
        return Waivers()
    required = {name for profile in profiles for name in PROFILES[profile].ids}
    skipped = [] if skips is None else read_waivers(skips, "skip")
    expected = [] if xfails is None else read_waivers(xfails, "xfail")
    return check_waivers(skipped, expected, by_id(), required, date.today())


def _selection(
    found: Found, cells: list[str], presets: list[str], quick: bool, samples: int | None, threads: int, threshold: float | None
) -> Selection:
    from refdeq_validation.schedule import Selection

    return Selection(found.declared if cells else [], cells, presets, quick, samples, threads, threshold)


def _run(found: Found, request: Request, selection: Selection) -> tuple[list[SuiteRun], list[Row]]:
    """Judge everything, with progress bars: in other processes where there is much to do."""
    from refdeq.commands.console import progress_bar
    from refdeq_validation import schedule
    from refdeq_validation.case_suites import is_worth_processes, run_targets, steps
    from refdeq_validation.processes import Workers

    is_large = selection.threads > 1 and is_worth_processes(found.targets, request)
    with progress_bar() as progress, Workers(selection.threads) if is_large else nullcontext() as workers:
        suites: list[SuiteRun] = []
        if request.cases and found.targets:
            task = progress.add_task("cases", total=steps(found.targets, request))
            suites = run_targets(found.targets, request, lambda count: progress.update(task, advance=count), workers)
        if not (selection.declared and selection.cells):
            return suites, []
        bar = progress.add_task("cells")
        rows = schedule.run(
            selection,
            begin=lambda total: progress.update(bar, total=total),
            advance=lambda count: progress.update(bar, advance=count),
            workers=workers,
        )
    return suites, rows


def _exit_code(found: Found, suites: list[SuiteRun], selection: Selection, rows: list[Row]) -> int:
    from refdeq_validation import report as reporting
    from refdeq_validation.exit_codes import worst
    from refdeq_validation.schedule import planned_ids

    planned = len(planned_ids(selection))
    codes = [suite.exit_code() for suite in suites]
    codes += [reporting.exit_code(rows, planned)] if planned else []
    codes += [3] if found.named else []
    codes += [5] if found.broken else []
    return worst(codes) if codes else 4


def _report(
    found: Found,
    suites: list[SuiteRun],
    selection: Selection,
    rows: list[Row],
    code: int,
    allow_incomplete: bool,
    seconds: float,
) -> dict[str, Any]:
    from refdeq_validation import report as reporting
    from refdeq_validation.reports.data import report_data
    from refdeq_validation.schedule import planned_ids
    from refdeq_validation.session import STOP

    return report_data(
        suites,
        code,
        seconds=seconds,
        threads=selection.threads,
        rows=[reporting.row_data(row) for row in rows],
        planned_rows=planned_ids(selection),
        unavailable=found.unavailable,
        protocol={"name": "S", "rtol": STOP.rtol, "max_eval": STOP.max_eval},
        allow_incomplete=allow_incomplete,
    )


def _write(data: dict[str, Any], rows: list[Row], as_json: bool, **paths: Path | None) -> None:
    """Write the reports, and print the JSON or the tables."""
    from refdeq.commands.console import result_console
    from refdeq_validation import report as reporting
    from refdeq_validation.reports.terminal import print_suites
    from refdeq_validation.reports.wording import outcome, reasons
    from refdeq_validation.reports.writing import announce, write_reports

    write_reports(data, **paths)
    if as_json:
        print(json.dumps(data, indent=2))
        return
    console = result_console(width=132)
    print_suites(console, data)
    if rows:
        reporting.print_table(console, rows)
    for text in reasons(data):
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    tally = data["counts"]
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in tally.items() if name != "planned" and count)
    seconds = data["environment"]["seconds"]
    text = f"{outcome(data)}: {tally['planned']} planned, {told or 'nothing ran'}; {seconds:.0f} s; report in {paths['json']}"
    console.print(text, highlight=False, markup=False)
    for line in announce(data, os.environ):
        print(line)
