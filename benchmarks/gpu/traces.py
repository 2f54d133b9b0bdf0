"""What a GPU could skip on real cells, counted on the CPU: ``python -m benchmarks.gpu.traces --json OUT``.

A GPU skips rows, tiles of rows, columns of one row, not single numbers. For every evaluation of a solve of the trained cells
this counts the shares of elements sent, of rows with anything sent, of 64-row tiles with such a row (rows as they come, and
packed together as a kernel that swaps finished rows would have them), and the density inside those rows. Counts are exact and
do not depend on the machine.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import refdeq as rd
from refdeq.models import load_trained

MODELS = ("image_siren", "image_fourier", "sine")
THRESHOLDS = (0.0, 0.001, 0.01)
TILE, CHUNK = 64, 1024


def count(name: str, threshold: float, budget: int, samples: int) -> list[dict[str, float]]:
    """Shares per evaluation of one solve with a fixed budget from z = 0, protocol (P) of C-4."""
    model = load_trained(name)
    every = len(model.x) if samples == 0 else min(samples, len(model.x))
    rule = rd.DeltaRule(threshold=threshold, compare="gt", memory="sent")
    sums = np.zeros((budget, 5))
    for first in range(0, every, CHUNK):
        x = model.x[first : min(first + CHUNK, every)]
        # a tolerance of zero is met by nothing: the budget alone ends the solve
        stop = rd.StopRule(atol=0.0, max_eval=budget)
        solution = rd.solve(model.cell, x, stop=stop, delta=rule, backend="numba", order="fast", trace=True)
        assert solution.trace is not None
        [mask] = solution.trace.mask.values()
        sent = mask.reshape(len(mask), mask.shape[1], -1) & solution.trace.active[:, :, None]
        rows = sent.any(axis=2)
        tiles = np.add.reduceat(rows, np.arange(0, rows.shape[1], TILE), axis=1) > 0
        length = len(mask)
        sums[:length, 0] += sent.sum(axis=(1, 2))
        sums[:length, 1] += rows.sum(axis=1)
        sums[:length, 2] += tiles.sum(axis=1)
        sums[:, 3] += sent.shape[2] * rows.shape[1]
        sums[:, 4] += tiles.shape[1]
    width = sums[0, 3] / every
    shares = [
        {
            "elements": elements / everything,
            "rows": rows / every,
            "tiles": tiles / number,
            "packed_tiles": float(np.ceil(rows / TILE)) / number,
            "density_in_rows": elements / (rows * width) if rows else 0.0,
        }
        for elements, rows, tiles, everything, number in sums.tolist()
    ]
    return [{key: round(value, 5) for key, value in entry.items()} for entry in shares]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all shares there")
    parser.add_argument("--budget", type=int, default=30, help="evaluations")
    parser.add_argument("--samples", type=int, default=0, help="samples of each model (default: all)")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"means over {options.budget} evaluations")
    print(f"{'model':14s} {'threshold':>9s} {'elements':>9s} {'rows':>7s} {'tiles':>7s} {'packed':>7s}")
    for name in MODELS:
        for threshold in THRESHOLDS:
            found = count(name, threshold, options.budget, options.samples)
            mean = {key: float(np.mean([entry[key] for entry in found])) for key in found[0]}
            mean["density_in_rows"] = mean["elements"] / mean["rows"]  # of all work, not of every evaluation alike
            rows.append({"model": name, "threshold": threshold, "mean": mean, "evaluations": found})
            shares = " ".join(f"{mean[key]:7.3f}" for key in ("rows", "tiles", "packed_tiles"))
            print(f"{name:14s} {threshold:9.3g} {mean['elements']:9.3f} {shares}", flush=True)
    if options.json is not None:
        content = {"schema": "refdeq-gpu-traces/1", "tile": TILE, "budget": options.budget, "rows": rows}
        options.json.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
