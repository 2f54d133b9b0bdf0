"""Evaluations of f that every solver and dialect needs on a hard set, to relative residuals 1e-3, 1e-6 and 1e-10.

    python benchmarks/convergence.py [--problem NAME] [--dtype float64] [--json OUT]

Every run is measured by the same yardstick, whatever the solver reports of itself: at each evaluation of f, in the order they
are made (line searches included), the relative residual ||f(z) - z|| / (||f(z)|| + 1e-9) of each of the 8 samples is formed
from the trace, and a tolerance counts as met at the first evaluation at which that sample meets it. The table shows the worst
sample; "-" means that some sample never met it within the budget. Peers solve each sample alone: several of them couple the
samples of a batch, and this is the best case for those.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from hard_set import HARD_SET, Problem, problem
from rich.console import Console
from rich.progress import track
from rich.table import Table

import refdeq as rd
from refdeq.errors import UnsupportedError
from refdeq.solvers.dialects import dialect_options
from refdeq.stopping import relative

BUDGET = 300
TOLERANCES = {"float64": (1e-3, 1e-6, 1e-10), "float32": (1e-3, 1e-6)}

OURS = {
    "picard": rd.Picard(),
    "km(0.5)": rd.KrasnoselskiiMann(alpha=0.5),
    "anderson": rd.Anderson(),
    "anderson(5)": rd.Anderson(window=5),
    "broyden": rd.Broyden(),
    "broyden(10)": rd.Broyden(window=10),
    "broyden, bad update": rd.Broyden(update="bad"),
    "broyden, armijo": rd.Broyden(line_search="armijo"),
    "forward-backward": rd.ForwardBackward(alpha="auto"),
    "peaceman-rachford": rd.PeacemanRachford(alpha="auto"),
}
PEERS: dict[str, dict[str, object]] = {
    "locuslab-v1/broyden": {},
    "locuslab-v2/broyden": {},
    "locuslab-v2/anderson": {},
    "torchdeq/broyden": {},
    "torchdeq/broyden, window 10": {"LBFGS_thres": 10},
    "torchdeq/anderson": {},
    "torchdeq/fixed_point_iter": {},
    "deq-flow/broyden": {},
    "deq-flow/anderson": {},
    "deq-flow/km": {},
    "jaxopt/anderson": {},
    "jaxopt/fixed_point": {},
    "jaxopt/broyden": {},
    "scipy/broyden1": {},
    "scipy/broyden1, alpha 1": {"alpha": 1.0, "line_search": None},
    "scipy/broyden2": {},
    "scipy/anderson": {},
    "scipy/anderson, alpha 1": {"alpha": 1.0, "line_search": None},
    "hopdeq/anderson": {},
    "hopdeq/picard": {},
}
"""Label (``name/method``, then what differs from the peer's defaults) to options."""


@dataclass(frozen=True)
class Row:
    """One solver on one problem: evaluations to each tolerance (None: not within the budget), and the best residual seen."""

    problem: str
    dtype: str
    solver: str
    is_peer: bool
    evaluations: list[int | None]
    lowest: float


def measure(case: Problem, label: str, options: dict, is_peer: bool) -> Row:
    """Solve with a trace and find where each tolerance is first met."""
    parts = [case.x[b : b + 1] for b in range(len(case.x))] if is_peer else [case.x]
    seen = [
        column for x in parts for column in residuals(rd.solve(case.cell, x, trace=True, backend="numba", **options).trace).T
    ]
    dtype = str(case.cell.dtype)
    evaluations = []
    for tolerance in TOLERANCES[dtype]:
        first = [int(np.argmax(column <= tolerance)) + 1 if (column <= tolerance).any() else None for column in seen]
        evaluations.append(None if None in first else max(first))
    return Row(case.name, dtype, label, is_peer, evaluations, float(max(column.min() for column in seen)))


def residuals(trace: rd.Trace) -> np.ndarray:
    """Relative residual of every evaluation and sample, (T, B); infinite where it is not finite or not evaluated."""
    z, f = (part["z"].astype(np.float64).reshape(*trace.active.shape, -1) for part in (trace.z, trace.f))
    with np.errstate(all="ignore"):
        residual = relative(np.linalg.norm(f - z, axis=2), np.linalg.norm(f, axis=2), 1e-9)
    return np.where(np.isfinite(residual), residual, np.inf)


def runs(dtype: str) -> list[tuple[str, dict, bool]]:
    """Every solver with its defaults; a tenth of the smallest tolerance ends a run, relative where the peer knows that."""
    stop = rd.StopRule(rtol=min(TOLERANCES[dtype]) / 10, max_eval=BUDGET)
    ours = [(name, {"solver": solver, "stop": stop}, False) for name, solver in OURS.items()]
    peers = []
    for label, changes in PEERS.items():
        peer, method = label.partition(",")[0].split("/")
        wanted = {"max_iter": BUDGET, "tol": stop.rtol, "mode": "rel", **changes}
        known = dialect_options(peer, method)  # hopdeq has no tolerance, SciPy no relative one of this kind
        chosen = rd.dialect(peer, method, **{key: value for key, value in wanted.items() if key in known})
        peers.append((label, {"dialect": chosen}, True))
    return ours + peers


def show(rows: list[Row], console: Console) -> None:
    """One table per problem and dtype; the fewest evaluations in bold."""
    for name, dtype in dict.fromkeys((row.problem, row.dtype) for row in rows):
        mine = [row for row in rows if (row.problem, row.dtype) == (name, dtype)]
        table = Table(title=f"{name}, {dtype}: {problem(name, dtype).why}", title_justify="left")
        table.add_column("solver")
        for tolerance in TOLERANCES[dtype]:
            table.add_column(f"{tolerance:g}", justify="right")
        table.add_column("lowest", justify="right")
        fewest = [min(r.evaluations[i] or BUDGET + 1 for r in mine) for i in range(len(TOLERANCES[dtype]))]
        for row in mine:
            cells = [
                "-" if n is None else f"[bold]{n}[/bold]" if n == best else str(n)
                for n, best in zip(row.evaluations, fewest, strict=True)
            ]
            table.add_row(f"[dim]{row.solver}[/dim]" if row.is_peer else row.solver, *cells, f"{row.lowest:.1e}")
        console.print(table)


def summarise(rows: list[Row], console: Console) -> None:
    """Fewest evaluations of ours and of the peers, per problem and tolerance, and who needed them."""
    table = Table(title="fewest evaluations: ours / peers", title_justify="left")
    for title in ("problem", "dtype", "tolerance", "ours", "", "peers", ""):
        table.add_column(title, justify="right" if title in ("ours", "peers") else "left")
    for name, dtype in dict.fromkeys((row.problem, row.dtype) for row in rows):
        for i, tolerance in enumerate(TOLERANCES[dtype]):
            cells = []
            for is_peer in (False, True):
                mine = [r for r in rows if (r.problem, r.dtype, r.is_peer) == (name, dtype, is_peer)]
                met = [(r.evaluations[i], r.solver) for r in mine if r.evaluations[i] is not None]
                cells += [str(min(met)[0]), min(met)[1]] if met else ["-", ""]
            table.add_row(name, dtype, f"{tolerance:g}", *cells)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--problem", action="append", choices=HARD_SET)
    parser.add_argument("--dtype", action="append", choices=tuple(TOLERANCES))
    parser.add_argument("--json", type=Path, help="also write the rows there")
    args = parser.parse_args()
    rows = []
    planned = [(name, dtype) for dtype in args.dtype or TOLERANCES for name in args.problem or HARD_SET]
    for name, dtype in track(planned, description="solving", console=Console(stderr=True)):
        case = problem(name, dtype)
        for label, options, is_peer in runs(dtype):
            try:
                rows.append(measure(case, label, options, is_peer))
            except UnsupportedError:  # a splitting, on a cell that is no monotone network
                if case.is_monotone:
                    raise
    show(rows, Console(width=110))
    summarise(rows, Console(width=110))
    if args.json:
        facts = {"python": platform.python_version(), "numpy": np.__version__, "refdeq": rd.__version__, "budget": BUDGET}
        args.json.write_text(json.dumps({"environment": facts, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
