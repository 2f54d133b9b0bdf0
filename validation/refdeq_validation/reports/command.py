"""``refdeq report``: a stored report in other forms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]


def report(
    source: Annotated[Path, typer.Argument(help="report.json of refdeq validate or refdeq judge.")] = Path("report.json"),
    *,
    html: Annotated[Path | None, typer.Option(help="One self-contained page, at most 1 MB.")] = None,
    junit: Annotated[Path | None, typer.Option(help="JUnit XML, one test case per result.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Markdown, at most 64 kB.")] = None,
    badge: Annotated[Path | None, typer.Option(help="SVG badge of the verdict, or of --profile.")] = None,
    profile: Annotated[str | None, typer.Option(help="Profile of the badge.")] = None,
    backend: Annotated[str | None, typer.Option(help="Whose profile, where several were judged.")] = None,
    github: Annotated[bool, typer.Option("--github", help="Print annotations, append to the summary of the step.")] = False,
) -> None:
    """Show a stored report again, and write it in other forms.

    Nothing is run or judged: every form is drawn from the report's own data. The exit code is that of the run.

    Example: refdeq report report.json --html report.html --junit report.xml
    """
    from refdeq.commands.console import result_console
    from refdeq.errors import ArgumentError
    from refdeq_validation.reports import badge as badges
    from refdeq_validation.reports.terminal import print_suites
    from refdeq_validation.reports.wording import reasons
    from refdeq_validation.reports.writing import announce, read_report, write_reports, write_text

    wanted = {"--html": html, "--junit": junit, "--summary": summary, "--badge": badge}
    for option, path in wanted.items():
        if path is not None and (not path.parent.is_dir() or path.is_dir()):
            raise ArgumentError(option, expected="a file name in an existing folder", got=path)
    if (profile or backend) and badge is None:
        raise ArgumentError("--profile and --backend", expected="--badge FILE with them", got="none")
    data = read_report(source)
    write_reports(data, html=html, junit=junit, summary=summary)
    if badge is not None:
        write_text(badge, badges.render(data, profile, backend))
    console = result_console(width=132)
    print_suites(console, data)
    for text in (*reasons(data), data["verdict"]):
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    if github:
        for line in announce(data, os.environ):
            print(line)
    raise typer.Exit(data["exit_code"])
