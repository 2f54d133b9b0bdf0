"""How many returned points of the suite's solves have a certificate, and by how much its radii overestimate the distance.

    python benchmarks/judge/certificates.py

writes ``benchmarks/results/judge/certificates.json``: per family and dtype, converged samples of cells with a bounded second
derivative, those with a proved fixed point near the returned one, and the median of radius over distance.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from refdeq_validation.cases.suite import all_cases
from refdeq_validation.judge.bounds_solver import CURVATURE
from refdeq_validation.judge.certificate import certify
from refdeq_validation.lab.session import CLAIMS, Lab
from refdeq_validation.protocol.execute import execute
from refdeq_validation.provenance import judge_hash

from refdeq.types import Status

RESULT = Path(__file__).resolve().parents[1] / "results" / "judge" / "certificates.json"
FAMILIES = ("solver", "certificate", "warm", "sequence")


def measured() -> dict[str, dict[str, Any]]:
    """Counts and medians by family and dtype."""
    found: dict[str, list[float | None]] = defaultdict(list)
    for case in all_cases():
        problem = case.problem
        solves = [call.name == "solve" for call in case.calls]
        if case.family not in FAMILIES or not any(solves) or problem.activation not in CURVATURE:
            continue
        for call, answer in zip(case.calls, execute(case, Lab(), CLAIMS).answers, strict=True):
            if call.name != "solve" or answer.error:
                continue
            for b in np.flatnonzero(answer.results["status"] == Status.CONVERGED):
                z = answer.results["z"][b]
                certificate = certify(problem, call.arrays["x"][b], z, np.inf, np.zeros(z.shape))
                found[f"{case.family} {problem.dtype}"].append(None if certificate is None else certificate.ratio)
    table = {}
    for name, ratios in found.items():
        proved = [ratio for ratio in ratios if ratio is not None]
        told = [ratio for ratio in proved if np.isfinite(ratio)]
        table[name] = {
            "converged": len(ratios),
            "certified": len(proved),
            "median overestimate": float(np.median(told)) if told else None,
            "largest overestimate": max(told) if told else None,
        }
    return table


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULT, help="JSON file to write")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    with np.errstate(all="ignore"):
        table = measured()
    converged, certified = (sum(row[name] for row in table.values()) for name in ("converged", "certified"))
    data = {
        "schema": "refdeq-certificates/1",
        "command": "python benchmarks/judge/certificates.py",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "source_hash": judge_hash(),
        "seconds": round(time.perf_counter() - began, 1),
        "converged": converged,
        "certified": certified,
        "table": table,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{certified} of {converged} converged samples certified\n")


if __name__ == "__main__":
    main(sys.argv[1:])
