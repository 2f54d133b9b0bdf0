"""What the compilers make of every kernel, beside what is on record: ``python -m benchmarks.gpu.resources``; no GPU is needed.

Every kernel of both backends is compiled for sm_80 and sm_90. A spill is an error; so is anything that differs from
``benchmarks/results/gpu_kernels.csv``, which ``--write`` renews, so that every change of registers, stack or shared memory
shows in a diff. With compilers of another version than the file's, numbers are not compared, only spills looked for.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from refdeq_gpu.table import all_kernels

__all__ = ["COLUMNS", "RECORD", "compiled", "problems"]

RECORD = Path(__file__).resolve().parents[1] / "results" / "gpu_kernels.csv"
COLUMNS = ("language", "kernel", "dtype", "arch", "registers", "spills", "stack", "shared")
ARCHITECTURES = ("sm_80", "sm_90")
SLOW = ("row_tile", "row_tile_wide", "fc_solve")
"""Modules that take the compiler long: begun first."""
COMPILERS = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvcc", "nvidia-nvvm", "numba-cuda")

Row = dict[str, Any]


def compiled(architectures: Sequence[str] = ARCHITECTURES, processes: int = 2) -> list[Row]:
    """Compile everything; rows of :data:`COLUMNS`, sorted."""
    from refdeq_gpu.table import kernel_names

    modules = {all_kernels()[name].module for name in kernel_names("cupy")}
    ordered = sorted(modules, key=lambda module: (module not in SLOW, module))
    jobs: list[Future[list[Row]]] = []
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs += [pool.submit(_cupy, arch, module) for module in ordered for arch in architectures]
        names = list(kernel_names("cuda"))
        jobs += [
            pool.submit(_cuda, arch, names[first : first + 8]) for arch in architectures for first in range(0, len(names), 8)
        ]
        rows = [row for job in jobs for row in job.result()]
    return sorted(rows, key=lambda row: tuple(str(row[column]) for column in COLUMNS[:4]))


def _cupy(arch: str, module: str) -> list[Row]:
    from refdeq_cupy.static import compile_all

    return [_row("cupy", found, found["spills"]) for found in compile_all(arch, modules=(module,))]


def _cuda(arch: str, names: list[str]) -> list[Row]:
    from refdeq_cuda.static import compile_all

    found = compile_all(arch, names=names, processes=1)
    return [_row("cuda", entry, entry["spill_stores"] + entry["spill_loads"]) for entry in found]


def _row(language: str, found: Row, spills: int) -> Row:
    known = {"language": language, "spills": spills}
    return {column: known.get(column, found.get(column)) for column in COLUMNS}


def versions() -> str:
    """Versions of the compilers, as the first line of the record has them."""
    found = []
    for name in COMPILERS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} absent")
    return ", ".join(found)


def text_of(rows: Sequence[Row]) -> str:
    """The record as text."""
    out = io.StringIO()
    out.write(f"# {versions()}\n")
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def problems(rows: Sequence[Row], recorded: str) -> list[str]:
    """What is wrong, in sentences: spills, kernels of the table that were not compiled, differences from the record."""
    found = [f"{_name(row)} spills {row['spills']} bytes" for row in rows if row["spills"]]
    there = {(row["language"], row["kernel"], row["dtype"]) for row in rows}
    wanted = {
        (lang, kernel.name, dtype) for kernel in all_kernels().values() for lang in kernel.languages for dtype in kernel.dtypes
    }
    found += [f"{' '.join(missing)} was not compiled" for missing in sorted(wanted - there)]
    head, _, _ = recorded.partition("\n")
    if head == f"# {versions()}" and recorded != text_of(rows):
        ours, theirs = set(text_of(rows).splitlines()), set(recorded.splitlines())
        lines = [f"now {line}" for line in sorted(ours - theirs)] + [f"was {line}" for line in sorted(theirs - ours)]
        found.append("the record differs (renew it with --write):\n  " + "\n  ".join(lines[:20]))
    return found


def _name(row: Row) -> str:
    return " ".join(str(row[column]) for column in COLUMNS[:4])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when all is well, 1 with one line per problem."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.resources", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="renew the record")
    parser.add_argument("--json", action="store_true", help="print all rows as JSON, compare nothing")
    parser.add_argument("--arch", action="append", choices=ARCHITECTURES, help="only this one (with --json)")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    rows = compiled(options.arch or ARCHITECTURES, os.cpu_count() or 2)
    if options.json:
        print(json.dumps(rows))
        return 0
    if options.write:
        RECORD.write_text(text_of(rows), encoding="utf-8")
    recorded = RECORD.read_text(encoding="utf-8") if RECORD.is_file() else ""
    wrong = problems(rows, recorded)
    for problem in wrong:
        print(f"benchmarks.gpu.resources: {problem}", file=sys.stderr)
    compared = recorded.startswith(f"# {versions()}\n")
    print(
        f"{len(rows)} kernels compiled in {time.monotonic() - start:.0f} s, {len(wrong)} problems; the record "
        + ("agrees" if compared and not wrong else "was compared" if compared else "is of other compilers and was not compared")
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
