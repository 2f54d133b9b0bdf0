"""Which downgrades of precision the suite sees: narrower operands, sums or arrays than declared.

    python benchmarks/judge/downgrades.py

writes ``benchmarks/results/judge/downgrades.json``: per number of terms, whether each downgrade is caught, by how many bounds
it misses, and what the statistic of errors says.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from refdeq_validation.cases.downgrades import DOWNGRADES, terms_of
from refdeq_validation.cases.model import Case
from refdeq_validation.cases.suite import DTYPES, select
from refdeq_validation.cases.witness import FAST
from refdeq_validation.judge.judging import judge
from refdeq_validation.protocol.execute import execute
from refdeq_validation.provenance import judge_hash

RESULT = Path(__file__).resolve().parents[1] / "results" / "judge" / "downgrades.json"


def measured(case: Case, name: str) -> dict[str, Any]:
    """What the judge says of one downgrade on one case, under the claim of plain arithmetic in any order."""
    findings = judge(case, execute(case, DOWNGRADES[name], FAST), FAST)
    statistic = [failure.error for failure in findings.failures if failure.kind == "declaration"]
    return {
        "caught": not findings.passed,
        "bounds": float(f"{findings.worst:.3g}"),
        "statistic": float(f"{statistic[0]:.3g}") if statistic else None,
    }


def table(dtype: str) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Every downgrade of a dtype on every case of the families ``bound_k1`` and ``bound``."""
    cases = [c for c in select(families=["bound_k1", "bound"]) if c.problem.dtype == dtype and c.problem.storage is None]
    names = [name for name in DOWNGRADES if name != dtype]
    return {name: {case.id: {"k": terms_of(case), **measured(case, name)} for case in cases} for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    began = time.perf_counter()
    tables = {dtype: table(dtype) for dtype in DTYPES}
    missed = [
        f"{dtype}: {name}: {case}"
        for dtype, rows in tables.items()
        for name, row in rows.items()
        for case, seen in row.items()
        if not seen["caught"]
    ]
    data = {
        "command": "python benchmarks/judge/downgrades.py",
        "date": datetime.now(UTC).date().isoformat(),
        "source_hash": judge_hash(),
        "seconds": round(time.perf_counter() - began, 1),
        "not caught": missed,
        "tables": tables,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    for dtype, rows in tables.items():
        for name, row in rows.items():
            caught = sum(seen["caught"] for seen in row.values())
            print(f"{name} passed off as {dtype}: caught by {caught} of {len(row)} cases")
    for line in missed:
        print("not caught:", line)


if __name__ == "__main__":
    main()
