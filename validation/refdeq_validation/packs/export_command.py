"""``refdeq export``: write the cases of a profile as a pack of files."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from refdeq_validation.cases.model import Case

__all__ = ["export"]

_OUT = typer.Argument(help="Folder to write, new or empty; with --lint the pack to look at.")
_PROFILE = typer.Option(help="Profile whose cases are written, such as core-f32; 'all' writes the whole suite.")
_BLIND = typer.Option("--blind", help="Leave the expected values out.")
_CHECK = typer.Option(help="Older pack or its manifest.json: nothing is written if one of its ids changed or vanished.")
_C_ARRAYS = typer.Option("--c-arrays", help="Add the folder c/: cases as C arrays, and the judge as a C99 header.")
_READMEMH = typer.Option("--readmemh", help="Add the folder hex/: $readmemh files and a SystemVerilog bench.")
_STRICT = typer.Option("--strict", help="With --readmemh: compare accumulators in every case, for hardware in strict order.")
_LINT = typer.Option("--lint", help="Write nothing; say what is wrong with the pack OUT.")
_JSON = typer.Option("--json", help="Print one JSON object instead of text.")


def export(
    out: Annotated[Path, _OUT],
    profile: Annotated[str, _PROFILE] = "core-f32",
    blind: Annotated[bool, _BLIND] = False,
    check: Annotated[Path | None, _CHECK] = None,
    c_arrays: Annotated[bool, _C_ARRAYS] = False,
    readmemh: Annotated[bool, _READMEMH] = False,
    strict: Annotated[bool, _STRICT] = False,
    lint: Annotated[bool, _LINT] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Write the cases of a profile as files for any language.

    A pack holds questions, exact expected values (never tolerances) and digests of everything; the same suite gives the same
    bytes on every machine. Answers are judged by refdeq judge.

    Exit codes: 0 written, or nothing wrong; 1 --check or --lint found something; 2 usage.

    Example: refdeq export --profile core-f32 core-pack
    """
    began = time.perf_counter()
    if lint:
        _end(_lint(out), {"pack": str(out)}, as_json)
        return
    cases = _chosen(profile)
    command = "refdeq export" + "".join(
        f" {text}"
        for text, given in (
            (f"--profile {profile}", True),
            ("--blind", blind),
            ("--c-arrays", c_arrays),
            ("--readmemh", readmemh),
            ("--strict", strict),
        )
        if given
    )
    contents = _with_progress(
        len(cases), lambda advance: _contents(cases, profile, command, blind, c_arrays, readmemh, strict, advance)
    )
    problems = _append_only(check, contents)
    if not problems:
        from refdeq_validation.packs.export import place_files

        place_files(out, contents.files)
    facts = {
        "pack": str(out),
        "profile": profile,
        "cases": len(cases),
        "families": contents.manifest["families"],
        "bytes": sum(len(data) for data in contents.files.values()),
        "digest": contents.manifest["digest"],
        "prompt": contents.manifest["prompt"],
        "seconds": round(time.perf_counter() - began, 2),
    }
    _end(problems, facts, as_json)


def _chosen(profile: str) -> tuple[Case, ...]:
    from refdeq_validation.cases.suite import all_cases, select

    return all_cases() if profile == "all" else select(profile=profile)


def _contents(
    cases: tuple[Case, ...],
    profile: str,
    command: str,
    blind: bool,
    c_arrays: bool,
    readmemh: bool,
    strict: bool,
    advance: Callable[[], None],
) -> Any:
    from refdeq_validation.packs.c_arrays import c_files
    from refdeq_validation.packs.export import contents_of
    from refdeq_validation.packs.readmemh import readmemh_files

    more: dict[str, bytes] = {}
    if c_arrays:
        more |= c_files(cases)
    if readmemh:
        more |= readmemh_files(cases, strict=strict)
    return contents_of(cases, profile, blind=blind, command=command, more=more, advance=advance)


def _with_progress(total: int, work: Callable[[Callable[[], None]], Any]) -> Any:
    from refdeq.commands.console import progress_bar

    with progress_bar() as progress:
        task = progress.add_task("exporting", total=total)
        return work(lambda: progress.update(task, advance=1))


def _append_only(old: Path | None, contents: Any) -> list[str]:
    if old is None:
        return []
    from refdeq_validation.packs.lint import append_only

    retired = json.loads(contents.files["retired.json"])["retired"]
    return append_only(old, {**contents.manifest, "retired": retired})


def _lint(folder: Path) -> list[str]:
    from refdeq_validation.packs.lint import lint

    return lint(folder)


def _end(problems: list[str], facts: dict[str, Any], as_json: bool) -> None:
    """Print what was done, and exit with 1 when something is wrong."""
    if as_json:
        print(json.dumps({"schema": "refdeq-export/1", **facts, "problems": problems}, indent=2))
    else:
        for problem in problems:
            print(f"wrong: {problem}")
        if problems:
            print(f"{len(problems)} problems")
        elif "cases" not in facts:
            print(f"{facts['pack']}: nothing wrong")
        else:
            families = ", ".join(f"{count} {name}" for name, count in facts["families"].items())
            print(f"{facts['pack']}: {facts['cases']} cases ({families}), {facts['bytes'] / 1e6:.2f} MB, {facts['seconds']} s")
            print(f"pack   {facts['digest']}\nprompt {facts['prompt']}")
    raise typer.Exit(1 if problems else 0)
