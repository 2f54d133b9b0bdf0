"""Memory of gradients against the number of forward evaluations: clause G-3.

    python benchmarks/gradient_memory.py [--json OUT]

A convolutional cell is solved with a budget of 10, 100 and 1000 evaluations and without a tolerance, so that every one of them
is made. Peaks are those of ``tracemalloc``, which sees all of NumPy's arrays: of the gradient call alone, and of solve and
gradient together. ``ift`` linearises at one point, so its call is flat; the loop keeps one residual per evaluation and sample,
which is all that grows in the sum. ``unrolled`` keeps the values of every evaluation.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import time
import tracemalloc
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import refdeq as rd

EVALUATIONS = (10, 100, 1000)
RESULTS = Path(__file__).parent / "results/gradient_memory.json"


@dataclass(frozen=True)
class Row:
    """One method after one number of forward evaluations; bytes and seconds."""

    method: str
    evaluations: int
    state: int
    values: int
    peak_gradient: int
    peak_both: int
    seconds: float


def problem() -> tuple[rd.Cell, np.ndarray]:
    """Build a contractive cell ``z <- tanh(Conv(z) + x)`` in float32, and a batch of eight images of 8 x 16 x 16."""
    rng = np.random.default_rng(0)
    builder = rd.GraphBuilder("float32")
    z, x = builder.state("z", (8, 16, 16)), builder.injection("x", (8, 16, 16))
    weight = builder.parameter("W", rng.uniform(-0.01, 0.01, (8, 8, 3, 3)).astype(np.float32))
    conv = builder.node("Conv", z, weight, pads=(1, 1, 1, 1))
    builder.output(z, builder.node("Tanh", builder.node("Add", conv, x)))
    return builder.build(), rng.standard_normal((8, 8, 16, 16)).astype(np.float32)


def bytes_per_evaluation(cell: rd.Cell, batch: int) -> int:
    """Bytes of the values of one evaluation that depend on the state."""
    shapes, width = cell.graph.shapes, cell.dtype.itemsize
    return sum(batch * int(np.prod(shapes[name][1:])) * width for name in cell.graph.state_dependent)


def measure(method: rd.Ift | rd.Unrolled, name: str, evaluations: int) -> Row:
    """Solve, then differentiate, and look at the peaks."""
    cell, x = problem()
    g = np.ones_like(x)
    gc.collect()
    tracemalloc.start()
    start, began = tracemalloc.get_traced_memory()[0], time.perf_counter()
    sol = rd.solve(cell, x, stop=rd.StopRule(max_eval=evaluations))
    peak_solve = tracemalloc.get_traced_memory()[1] - start
    tracemalloc.reset_peak()
    held = tracemalloc.get_traced_memory()[0]
    rd.gradient(cell, sol, g, method=method)
    peak = tracemalloc.get_traced_memory()[1]
    seconds = time.perf_counter() - began
    tracemalloc.stop()
    return Row(
        method=name,
        evaluations=evaluations,
        state=x.nbytes,
        values=bytes_per_evaluation(cell, len(x)),
        peak_gradient=peak - held,
        peak_both=max(peak_solve, peak - start),
        seconds=seconds,
    )


def table(rows: list[Row]) -> Table:
    """Kilobytes, and the peak of the gradient call in units of one evaluation's values."""
    out = Table(title="memory of gradients (G-3)")
    for title in ("method", "evaluations", "state kB", "gradient kB", "solve + gradient kB", "gradient / one evaluation", "s"):
        out.add_column(title, justify="left" if title == "method" else "right")
    for row in rows:
        sizes = [f"{n / 1000:.0f}" for n in (row.state, row.peak_gradient, row.peak_both)]
        ratio = f"{row.peak_gradient / row.values:.1f}"
        out.add_row(row.method, str(row.evaluations), *sizes, ratio, f"{row.seconds:.1f}")
    return out


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Memory of gradients against the number of forward evaluations")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go")
    options = parser.parse_args()
    rows = []
    measure(rd.Ift(), "ift", EVALUATIONS[0])  # what is imported and cached once is not memory of a gradient
    for evaluations in EVALUATIONS:
        # the adjoint, too, makes that many products
        adjoint = rd.Ift(stop=rd.StopRule(max_eval=evaluations))
        rows.append(measure(adjoint, "ift", evaluations))
        rows.append(measure(rd.Unrolled(evaluations), "unrolled", evaluations))
    Console(width=120).print(table(sorted(rows, key=lambda row: row.method)))
    environment = {"python": platform.python_version(), "numpy": np.__version__, "refdeq": rd.__version__}
    data = {"environment": environment, "rows": [asdict(row) for row in rows]}
    options.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
