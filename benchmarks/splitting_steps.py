"""Evaluations that splittings need against their step length: the sensitivity to alpha, and the limit that is proved.

    python benchmarks/splitting_steps.py [--json OUT]

One monotone cell of 30 units (m = 0.1, skew part three times the symmetric one) and one convolutional cell of 4 channels on an
8 x 8 image, 8 samples each, solved to a relative residual of 1e-6 (clause S-3) with at most 20000 evaluations. Forward-backward
splitting converges for every alpha below ``2 m / |I - W|^2``; the table says how far beyond that it still does on these cells.
Peaceman-Rachford converges for every alpha. Picard is the reference for what a contraction would have allowed.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import refdeq as rd
from refdeq.solvers import Solver, forward_backward_limit, monotone_constants, peaceman_rachford_alpha

RESULTS = Path(__file__).parent / "results/splitting_steps.json"
SHARES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
STEPS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
STOP = rd.StopRule(rtol=1e-6, max_eval=20000, divergence=1e6)


@dataclass(frozen=True)
class Row:
    """One solver with one step length on one cell."""

    cell: str
    solver: str
    alpha: float | None
    of_limit: float | None
    ends: dict[str, int]
    median: float
    largest: int


def cells() -> dict[str, tuple[rd.Cell, np.ndarray]]:
    """Build the two cells, each with a batch of 8 injections."""
    rng = np.random.default_rng(0)
    a, b_skew = rng.standard_normal((2, 30, 30)) / np.sqrt(30)
    dense = rd.models.monotone(a, 3 * b_skew, rng.standard_normal((30, 10)), rng.standard_normal(30), m=0.1)
    conv = rd.models.monotone_conv(*rd.models.random_monotone_conv(4, 1, rng), (8, 8), g=2.0, h=3.0, m=1.0)
    return {"fc": (dense, rng.standard_normal((8, 10))), "conv": (conv, rng.standard_normal((8, 1, 8, 8)))}


def measure(title: str, cell: rd.Cell, x: np.ndarray, solver: Solver, alpha: float | None, of_limit: float | None) -> Row:
    """Solve once on the Numba backend, whose strict order has the bits of the reference."""
    solution = rd.solve(cell, x, solver=solver, stop=STOP, backend="numba")
    ends = {status.name: count for status, count in solution.counts().items()}
    return Row(title, solver.name, alpha, of_limit, ends, float(np.median(solution.n_eval)), int(solution.n_eval.max()))


def rows() -> list[Row]:
    """Every cell with every step length."""
    found = []
    for title, (cell, x) in cells().items():
        limit = forward_backward_limit(cell)
        found.append(measure(title, cell, x, rd.Picard(), None, None))
        for share in SHARES:
            found.append(measure(title, cell, x, rd.ForwardBackward(alpha=share * limit), share * limit, share))
        for alpha in (*STEPS, peaceman_rachford_alpha(cell)):
            found.append(measure(title, cell, x, rd.PeacemanRachford(alpha=alpha), alpha, None))
    return found


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the rows go")
    out = parser.parse_args().json
    table = Table("cell", "solver", "alpha / limit", "ends", "evaluations (median)", "largest", box=None)
    found = rows()
    for row in found:
        share = "" if row.of_limit is None else f"{row.of_limit:g}"
        ends = ", ".join(f"{name} {count}" for name, count in row.ends.items())
        table.add_row(row.cell, row.solver, share, ends, f"{row.median:g}", str(row.largest))
    console = Console()
    for title, (cell, _) in cells().items():
        m, lipschitz = monotone_constants(cell)
        console.print(
            f"{title}: m = {m:.4f}, |I - W| = {lipschitz:.3f}, forward-backward limit {forward_backward_limit(cell):.5f}"
        )
    console.print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
