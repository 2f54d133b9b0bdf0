"""``refdeq judge``: judge the answers that a program in any language gave to a pack."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from refdeq_validation.running import SuiteRun

__all__ = ["judge"]

_PROMPT = typer.Argument(help="Folder of the pack, as refdeq export wrote it.")
_RESPONSE = typer.Argument(help="response.jsonl, or the folder it is in.")
_MANIFEST = typer.Option(help="backend.toml: what the answering implementation claims.")
_REPORT = typer.Option(help="Where the report is written, as JSON.")
_HTML = typer.Option("--html", help="Also write the report as one HTML page.")
_JUNIT = typer.Option("--junit", help="Also write the report as JUnit XML.")
_FAST = typer.Option("--no-self-proof", help="Leave out canaries and witnesses; nothing is granted then.")
_INCOMPLETE = typer.Option("--allow-incomplete", help="Exit with 0 when nothing failed but something is missing.")
_JSON = typer.Option("--json", help="Print the report instead of the table.")


def judge(
    prompt: Annotated[Path, _PROMPT],
    response: Annotated[Path, _RESPONSE],
    manifest: Annotated[Path, _MANIFEST] = Path("backend.toml"),
    report: Annotated[Path, _REPORT] = Path("report.json"),
    html: Annotated[Path | None, _HTML] = None,
    junit: Annotated[Path | None, _JUNIT] = None,
    no_self_proof: Annotated[bool, _FAST] = False,
    allow_incomplete: Annotated[bool, _INCOMPLETE] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Judge the answers that a program gave to a pack.

    The answers become transcripts like those of a live run, read by the same judge: masks and references bit by bit, sums by
    bits or by the bound of the declared arithmetic. What was not answered is missing, and missing never passes.

    Exit codes: 0 granted, 1 nonconformant, 2 usage or broken files, 3 incomplete, 4 invalid run, 5 the program crashed.

    Example: refdeq judge core-pack response.jsonl --manifest backend.toml
    """
    from refdeq.errors import ArgumentError
    from refdeq_validation.protocol.loading import read_manifest
    from refdeq_validation.protocol.manifest import Claims

    began = time.perf_counter()
    for option, path in (("--report", report), ("--html", html), ("--junit", junit)):
        if path is not None and (not path.parent.is_dir() or path.is_dir()):
            raise ArgumentError(option, expected="a file name in an existing folder", got=path)
    claims = Claims.from_manifest(read_manifest(manifest), str(manifest))
    run = _judged(prompt, response, claims, not no_self_proof)
    code = run.exit_code(allow_incomplete)
    if no_self_proof and code == 0 and not allow_incomplete:
        code = 3
    data = _written(run, code, time.perf_counter() - began, report, html, junit)
    if as_json:
        print(json.dumps(data, indent=2))
    else:
        from refdeq.commands.console import result_console
        from refdeq_validation.reports.terminal import print_suites
        from refdeq_validation.reports.wording import outcome

        console = result_console(width=132)
        print_suites(console, data)
        for note in run.notes:
            console.print(note, highlight=False, markup=False, soft_wrap=True)
        console.print(f"{outcome(data)}; report in {report}", highlight=False, markup=False)
    raise typer.Exit(code)


def _judged(prompt: Path, response: Path, claims: Any, self_proof: bool) -> SuiteRun:
    from refdeq.commands.console import progress_bar
    from refdeq_validation.packs.judge_files import judge_pack

    with progress_bar() as progress:
        task = progress.add_task("judging", total=None)
        return judge_pack(
            prompt,
            response,
            claims,
            self_proof=self_proof,
            begin=lambda total: progress.update(task, total=total),
            advance=lambda: progress.update(task, advance=1),
        )


def _written(run: SuiteRun, code: int, seconds: float, report: Path, html: Path | None, junit: Path | None) -> dict[str, Any]:
    """Write the reports that were asked for, and return their data."""
    from refdeq_validation.reports import html as page
    from refdeq_validation.reports import junit as xml
    from refdeq_validation.reports.data import report_data
    from refdeq_validation.reports.writing import write_json

    data = report_data([run], code, seconds=seconds)
    write_json(report, data)
    if html is not None:
        html.write_text(page.render(data), encoding="utf-8")
    if junit is not None:
        junit.write_text(xml.render(data), encoding="utf-8")
    return data
