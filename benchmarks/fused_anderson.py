"""What the fused plan of Anderson saves: whole solves in one compiled routine against the same solves at op level.

    python benchmarks/fused_anderson.py [--threads 1] [--turns 7] [--json OUT]

RNN cells, the same number of evaluations for all, without a tolerance, so that all samples stay active. The two paths, and
Picard fused as what the evaluations alone take, are run in turns, and medians over the turns are taken; on one thread it is the
time of the thread on its processor. In strict order both paths give the same bits, which is checked before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from solver_overhead import RULES, clock_of, rnn

import refdeq as rd

SHAPES = ((256, 64), (256, 256), (64, 1024))
WINDOWS = (5, 20)
EVALUATIONS = 30
WARM_UP = 1


@dataclass(frozen=True)
class Row:
    """Medians of one setting, in microseconds per evaluation of the whole batch."""

    batch: int
    width: int
    dtype: str
    order: str
    rule: str
    window: int
    fused: float
    op_level: float
    picard: float
    gain: float


def measure(batch: int, width: int, dtype: str, order: str, rule: str, window: int, threads: int, turns: int) -> Row:
    """One setting: fused, op level, and Picard fused, by turns."""
    cell, x = rnn(width, dtype), np.random.default_rng(1).standard_normal((batch, 8)).astype(dtype)
    options = {"delta": RULES[rule], "stop": rd.StopRule(max_eval=EVALUATIONS), "backend": "numba", "order": order}
    anderson, clock = rd.Anderson(window=window), clock_of(threads)
    paths = ((anderson, "fused"), (anderson, "op"), (rd.Picard(), "fused"))
    points = [rd.solve(cell, x, solver=solver, executor=path, **options).z for solver, path in paths[:2]]
    if order == "strict" and points[0].tobytes() != points[1].tobytes():
        raise RuntimeError(f"fused and op level differ: {batch} {width} {dtype} {rule} {window}")
    taken = []
    for _ in range(WARM_UP + turns):
        for solver, path in paths:
            start = clock()
            rd.solve(cell, x, solver=solver, executor=path, threads=threads, **options)
            taken.append(clock() - start)
    medians = 1e6 / EVALUATIONS * np.median(np.reshape(taken, (-1, len(paths)))[WARM_UP:], axis=0)
    fused, op_level, picard = (float(value) for value in medians)
    return Row(batch, width, dtype, order, rule, window, fused, op_level, picard, op_level / fused)


def show(rows: list[Row], title: str, console: Console) -> None:
    """One table for all."""
    table = Table(title=title, title_justify="left")
    for heading in ("batch", "width", "dtype", "order", "rule", "window", "fused", "op level", "picard fused", "gain"):
        table.add_column(heading, justify="left" if heading in ("dtype", "order", "rule") else "right")
    for row in rows:
        times = (f"{value:.0f} us" for value in (row.fused, row.op_level, row.picard))
        table.add_row(
            str(row.batch), str(row.width), row.dtype, row.order, row.rule, str(row.window), *times, f"{row.gain:.2f}"
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the rows there")
    args = parser.parse_args()
    settings = product(SHAPES, ("float32", "float64"), ("strict", "fast"), RULES, WINDOWS)
    rows = [measure(*shape, *others, args.threads, args.turns) for shape, *others in settings]
    title = (
        f"RNN cells, Anderson, {EVALUATIONS} evaluations, {args.threads} thread(s); microseconds per evaluation of the batch, "
        f"medians of {args.turns} interleaved turns"
    )
    show(rows, title, Console(width=130))
    if args.json:
        facts = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "refdeq": rd.__version__,
            "processors": os.cpu_count(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
            "threads": args.threads,
            "turns": args.turns,
            "clock": clock_of(args.threads).__name__,
            "evaluations": EVALUATIONS,
            "unit": "microseconds per evaluation of the batch, but for gain (op level over fused)",
        }
        args.json.write_text(json.dumps({"environment": facts, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
