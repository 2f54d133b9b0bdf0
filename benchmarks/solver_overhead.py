"""Where the time of a solve goes: the step of each solver against the evaluation of f, both at op level.

    python benchmarks/solver_overhead.py [--batch 256] [--width 256] [--threads 1] [--turns 15] [--json OUT]

Every solver runs the same number of evaluations of one RNN cell, without a tolerance, so that all samples stay active. Solvers
take turns, and the median over the turns is taken, so that a busy machine troubles all of them alike; on one thread it is the
time of the thread on its processor, not on the clock. A step is everything the solver does between two evaluations: what it
keeps, its inner products and its small linear systems on the host. The last column is what a fused plan of the solver could
save at most, if its step and the loop around it cost nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import refdeq as rd
from refdeq.evaluation import Evaluator
from refdeq.loop import iterate

Clock = Callable[[], float]
EVALUATIONS = 20
WARM_UP = 2

SOLVERS = {
    "picard": rd.Picard(),
    "km": rd.KrasnoselskiiMann(alpha=0.9),
    "anderson": rd.Anderson(),
    "anderson(5)": rd.Anderson(window=5),
    "anderson(10)": rd.Anderson(window=10),
    "anderson(5), weights": rd.Anderson(window=5, form="weights", ridge=1e-8),
    "broyden": rd.Broyden(),
    "broyden(5)": rd.Broyden(window=5),
    "broyden(5), bad": rd.Broyden(window=5, update="bad"),
}
RULES = {"dense": None, "delta": rd.DeltaRule.preset("refdeq", threshold=1e-2)}


@dataclass(frozen=True)
class Row:
    """Medians of one solver, in microseconds per evaluation of the whole batch."""

    backend: str
    dtype: str
    rule: str
    solver: str
    evaluation: float
    step: float
    whole: float
    ratio: float
    could_save: float


class Timed:
    """Passes everything on to an object and adds up the time spent in one of its methods."""

    def __init__(self, inner: Any, method: str, clock: Clock) -> None:
        self._inner, self._method, self._clock, self.seconds = inner, method, clock, 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._run(found) if name == self._method else found

    def _run(self, function: Any) -> Any:
        def run(*arguments: Any) -> Any:
            start = self._clock()
            try:
                return function(*arguments)
            finally:
                self.seconds += self._clock() - start

        return run


def clock_of(threads: int) -> Clock:
    """Time on the processor for one thread, time on the clock for several."""
    return time.thread_time if threads == 1 else time.perf_counter


def rnn(width: int, dtype: str) -> rd.Cell:
    """A contraction: the norm of its weight is about 0.9."""
    rng = np.random.default_rng(0)
    arrays = 0.45 / np.sqrt(width) * rng.standard_normal((width, width)), rng.standard_normal((width, 8)), np.zeros(width)
    return rd.models.rnn(*(array.astype(dtype) for array in arrays))


def run(solver: Any, cell: rd.Cell, x: np.ndarray, rule: rd.DeltaRule | None, backend: str, threads: int) -> np.ndarray:
    """Seconds of one solve: in f, in the steps, in all."""
    kernels = rd.load_backend(backend).kernels(order="strict", threads=threads)
    clock = clock_of(threads)
    f = Timed(Evaluator(cell, kernels, {"x": x}, len(x), rule), "evaluate", clock)
    steps = Timed(solver, "step", clock)
    z = {"z": np.zeros((len(x), *cell.graph.states["z"]), dtype=x.dtype)}
    start = clock()
    with np.errstate(all="ignore"):
        iterate(f, kernels, steps, rd.StopRule(max_eval=EVALUATIONS), z)
    return np.array([f.seconds, steps.seconds, clock() - start])


def measure(batch: int, width: int, backend: str, threads: int, turns: int) -> list[Row]:
    """Every dtype, rule and solver; solvers take turns."""
    rows = []
    for dtype in ("float32", "float64"):
        cell, x = rnn(width, dtype), np.random.default_rng(1).standard_normal((batch, 8)).astype(dtype)
        for rule, chosen in RULES.items():
            taken = [[run(s, cell, x, chosen, backend, threads) for s in SOLVERS.values()] for _ in range(WARM_UP + turns)]
            medians = 1e6 / EVALUATIONS * np.median(taken[WARM_UP:], axis=0)
            for name, (evaluation, step, whole) in zip(SOLVERS, medians, strict=True):
                rows.append(
                    Row(
                        backend=backend,
                        dtype=dtype,
                        rule=rule,
                        solver=name,
                        evaluation=float(evaluation),
                        step=float(step),
                        whole=float(whole),
                        ratio=float(step / evaluation),
                        could_save=float(1 - evaluation / whole),
                    )
                )
    return rows


def show(rows: list[Row], title: str, console: Console) -> None:
    """One table for all."""
    table = Table(title=title, title_justify="left")
    for heading in ("dtype", "rule", "solver", "evaluation", "step", "whole", "step / evaluation", "fused saves at most"):
        table.add_column(heading, justify="left" if heading in ("dtype", "rule", "solver") else "right")
    for row in rows:
        times = (f"{getattr(row, name):.0f} us" for name in ("evaluation", "step", "whole"))
        table.add_row(row.dtype, row.rule, row.solver, *times, f"{row.ratio:.2f}", f"{100 * row.could_save:.0f} %")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--backend", default="numba")
    parser.add_argument("--json", type=Path, help="also write the rows there")
    args = parser.parse_args()
    rows = measure(args.batch, args.width, args.backend, args.threads, args.turns)
    title = (
        f"RNN cell, batch {args.batch}, width {args.width}, {EVALUATIONS} evaluations, backend {args.backend}, strict order, "
        f"{args.threads} thread(s); microseconds per evaluation of the batch, medians of {args.turns} interleaved turns"
    )
    show(rows, title, Console(width=130))
    if args.json:
        facts = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "refdeq": rd.__version__,
            "processors": os.cpu_count(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
            **{name: getattr(args, name) for name in ("batch", "width", "threads", "backend", "turns")},
            "clock": clock_of(args.threads).__name__,
            "evaluations": EVALUATIONS,
            "unit": "microseconds per evaluation of the batch, but for ratio and could_save",
        }
        args.json.write_text(json.dumps({"environment": facts, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
