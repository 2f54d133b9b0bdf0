"""``refdeq tune``: measure the crossovers of the Numba kernels on this machine, and keep them."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any

import typer

from refdeq.errors import ArgumentError

__all__ = ["tune"]


def tune(
    show: Annotated[bool, typer.Option("--show", help="Show what is in use, measure nothing.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Remove the record; the shipped defaults hold again.")] = False,
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=1000, help="Interleaved runs per density.")] = 15,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Measure which kernel is fastest at which density here, and keep it for later solves.

    Takes seconds. The record holds for this processor and these versions of numba, llvmlite and numpy; it changes times, never
    results. It lies in the user's cache folder, or where REFDEQ_TUNING says.

    Example: refdeq tune --show
    """
    from refdeq_numba import tuning

    if show and reset:
        raise ArgumentError("--reset", expected="one of --show and --reset", got="both")
    facts: dict[str, Any] = {}
    if reset:
        facts["removed"] = tuning.remove()
    elif not show:
        begin = time.perf_counter()
        facts["seconds"] = _measure(rounds, quiet=as_json)
        facts["took_s"] = time.perf_counter() - begin
    tuning.crossovers.cache_clear()
    facts |= _in_use()
    if as_json:
        print(json.dumps(facts, indent=1))
    else:
        _print(facts)


def _measure(rounds: int, quiet: bool) -> dict[str, Any]:
    from rich.console import Console
    from rich.progress import Progress

    from refdeq_numba import crossing, tuning

    seconds, found = {}, {}
    with Progress(console=Console(stderr=True), disable=quiet or not sys.stderr.isatty(), transient=True) as progress:
        for dtype in ("float32", "float64"):
            task = progress.add_task(f"{dtype}: compiling, then measuring", total=len(crossing.DENSITIES))
            times = crossing.measure(dtype, rounds, lambda task=task: progress.advance(task))  # type: ignore[misc]
            seconds[dtype], found[dtype] = times, crossing.choose(times)
    tuning.write(found, {"densities": crossing.DENSITIES, **seconds})
    return seconds


def _in_use() -> dict[str, Any]:
    from refdeq_numba import tuning

    record = tuning.read()
    source = "shipped defaults"
    if record is not None:
        fits = record["machine"] == tuning.machine_key()
        source = "measured on this machine" if fits else "shipped defaults: the record is of another machine or version"
    chosen = {dtype: tuning.crossovers(dtype)._asdict() for dtype in ("float32", "float64")}
    return {"schema": tuning.SCHEMA, "record": str(tuning.record_path()), "source": source, "crossovers": chosen}


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from refdeq_numba.crossing import DENSITIES, WAYS

    console = Console()
    for dtype, times in facts.get("seconds", {}).items():
        table = Table(title=f"{dtype}: microseconds per 480 samples of 256 columns", title_justify="left")
        table.add_column("sent")
        for way in WAYS:
            table.add_column(way, justify="right")
        for i, density in enumerate(DENSITIES):
            row = [times[way][i] for way in WAYS]
            marked = [f"[bold]{1e6 * t:.0f}[/]" if t == min(row) else f"{1e6 * t:.0f}" for t in row]
            table.add_row(f"{density:.0%}", *marked)
        console.print(table)
    table = Table(title=f"crossovers: {facts['source']}", title_justify="left")
    for column in ("", "whole from", "lists by one block from", "by two blocks from"):
        table.add_column(column, justify="left" if not column else "right")
    for dtype, chosen in facts["crossovers"].items():
        table.add_row(dtype, *(f"{chosen[name]:.1%}" for name in ("whole", "one_block", "two_blocks")))
    console.print(table)
    if "removed" in facts:
        console.print("record removed" if facts["removed"] else "there was no record")
    console.print(f"record: {facts['record']}", soft_wrap=True)
