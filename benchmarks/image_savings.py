"""What delta updates save on the image cells, and what they cost in quality: clause C-4, both protocols.

    python benchmarks/image_savings.py [--model image_siren] [--backend numba] [--json OUT]

(P) runs a fixed budget of 31 evaluations from z = 0 without a stop test, as published. (S) stops every sample at a relative
residual of 1e-3 and compares with the dense solve under the same stop. The saving is exact (C-1: sent elements times their
fan-out, the first, dense evaluation included); the official figure counts as the published code does (C-3). The row at
threshold 0 shows what float32 saves by itself: iterates that have become bitwise stationary send nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import refdeq as rd
from refdeq.cost_official import OFFICIAL_NOTE
from refdeq.models import TrainedModel, load_trained

THRESHOLDS = (0.0, 1e-3, 1e-2, 3e-2, 1e-1)
PROTOCOLS = {"P": rd.StopRule(max_eval=31), "S": rd.StopRule(rtol=1e-3, max_eval=100)}


@dataclass(frozen=True)
class Row:
    """One solve of every pixel."""

    model: str
    protocol: str
    memory: str
    threshold: float
    evaluations: float
    evaluations_dense: float
    saved_same_evaluations: float
    saved_against_dense_solve: float
    saved_official: float
    psnr: float
    loss: float
    converged_dense: float


def measure(model: TrainedModel, backend: str, threads: int) -> list[Row]:
    """Every protocol, memory and threshold on one model."""
    rows = []
    for protocol, stop in PROTOCOLS.items():
        common = {"stop": stop, "backend": backend, "threads": threads}
        dense = rd.solve(model.cell, model.x, **common)
        best = model.psnr(dense.z)
        for memory in ("always", "sent"):
            for threshold in THRESHOLDS:
                rule = rd.DeltaRule.preset("refdeq", threshold=threshold, memory=memory)
                sol = rd.solve(model.cell, model.x, delta=rule, verify=True, **common)
                met = sol.residual_dense <= 1e-3 * (sol.scale + sol.stop.eps)
                rows.append(
                    Row(
                        model=model.name,
                        protocol=protocol,
                        memory=memory,
                        threshold=threshold,
                        evaluations=float(sol.n_eval.mean()),
                        evaluations_dense=float(dense.n_eval.mean()),
                        saved_same_evaluations=sol.cost.saved,
                        saved_against_dense_solve=1 - sol.cost.macs / dense.cost.macs,
                        saved_official=1 - sol.cost.official.flops / sol.cost.official.flops_dense,
                        psnr=model.psnr(sol.z),
                        loss=best - model.psnr(sol.z),
                        converged_dense=float(np.mean(met)),
                    )
                )
    return rows


def show(rows: list[Row], console: Console) -> None:
    for model in dict.fromkeys(row.model for row in rows):
        table = Table(title=f"{model}: (P) 31 evaluations without a stop, (S) rtol 1e-3 per sample", title_justify="left")
        for title in (
            "",
            "memory",
            "threshold",
            "evals",
            "dense",
            "saved",
            "vs dense solve",
            "official",
            "PSNR",
            "loss",
            "dense rtol met",
        ):
            table.add_column(title, justify="right")
        for row in (row for row in rows if row.model == model):
            table.add_row(
                row.protocol,
                row.memory,
                f"{row.threshold:g}",
                f"{row.evaluations:.2f}",
                f"{row.evaluations_dense:.2f}",
                f"{100 * row.saved_same_evaluations:.1f} %",
                f"{100 * row.saved_against_dense_solve:.1f} %",
                f"{100 * row.saved_official:.1f} %",
                f"{row.psnr:.2f} dB",
                f"{row.loss:.3f} dB",
                f"{100 * row.converged_dense:.1f} %",
            )
        console.print(table)
    console.print(OFFICIAL_NOTE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", action="append", help="image_siren and image_fourier by default")
    parser.add_argument("--backend", default="numba")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the rows there")
    args = parser.parse_args()
    rows = [
        row
        for name in args.model or ("image_siren", "image_fourier")
        for row in measure(load_trained(name), args.backend, args.threads)
    ]
    show(rows, Console(width=130))
    if args.json:
        facts = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "refdeq": rd.__version__,
            "backend": args.backend,
        }
        args.json.write_text(json.dumps({"environment": facts, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
