"""False alarms: legal variants of the plain implementation, judged by their own true claims on random cases and on the suite.

    python benchmarks/judge/false_alarms.py [--seeds 3200] [--processes 2]

writes ``benchmarks/results/judge/false_alarms.json``. Every execution must pass; one that does not is printed with its seed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from refdeq_validation.applicability import why_not
from refdeq_validation.cases.fuzz import fuzz_case
from refdeq_validation.cases.model import Case
from refdeq_validation.cases.suite import all_cases
from refdeq_validation.judge.judging import judge
from refdeq_validation.lab.variants import VARIANTS
from refdeq_validation.protocol.execute import execute
from refdeq_validation.provenance import judge_hash
from rich.progress import Progress

RESULT = Path(__file__).resolve().parents[1] / "results" / "judge" / "false_alarms.json"
KINDS = (("float32", None), ("float64", None), ("float32", "float16"), ("float32", "bfloat16"))
"""Dtypes and storage formats of the random cases."""

BLOCK = 200
"""Seeds per task."""


def cases_of(block: int | None) -> Iterator[tuple[str, Case]]:
    """Random cases of one block of seeds, or the whole suite."""
    if block is None:
        for case in all_cases():
            yield case.problem.storage or case.problem.dtype, case
        return
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        dtype, storage = KINDS[seed % len(KINDS)]
        yield storage or dtype, fuzz_case(seed, dtype, storage=storage)


def judge_block(name: str, block: int | None) -> dict[str, object]:
    """Executions, decisions, largest error over bound, and alarms of one variant on one block."""
    variant = VARIANTS[name]
    implementation, claims = variant.implementation(), variant.claims
    executions: dict[str, int] = {}
    alarms, decisions, worst, unclaimed = [], 0, 0.0, 0
    for dtype, case in cases_of(block):
        if why_not(case, claims):
            continue
        findings = judge(case, execute(case, implementation, claims), claims)
        executions[dtype] = executions.get(dtype, 0) + 1
        unclaimed += not findings.passed and not findings.failed
        decisions, worst = decisions + findings.decisions, max(worst, findings.worst)
        if findings.failed:
            alarms.append({"variant": name, "case": case.id, "failure": [f.sentence() for f in findings.failures[:1]]})
    return {
        "variant": name,
        "executions": executions,
        "decisions": decisions,
        "worst": worst,
        "unclaimed": unclaimed,
        "alarms": alarms,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    blocks = [None, *range(options.seeds // BLOCK)]
    tasks = [(name, block) for block in blocks for name in VARIANTS]
    began, parts = time.perf_counter(), []
    with ProcessPoolExecutor(options.processes) as pool, Progress() as progress:
        task = progress.add_task("judging variants", total=len(tasks))
        for part in pool.map(judge_block, *zip(*tasks, strict=True)):
            parts.append(part)
            progress.advance(task)
            for alarm in part["alarms"]:
                print(alarm)
    rows = {name: _joined([part for part in parts if part["variant"] == name]) for name in VARIANTS}
    total = sum(sum(row["executions"].values()) for row in rows.values())
    alarms = [alarm for part in parts for alarm in part["alarms"]]
    data = {
        "command": f"python benchmarks/judge/false_alarms.py --seeds {options.seeds}",
        "date": datetime.now(UTC).date().isoformat(),
        "source_hash": judge_hash(),
        "executions": total,
        "decisions": sum(row["decisions"] for row in rows.values()),
        "alarms": alarms,
        "seconds": round(time.perf_counter() - began, 1),
        "variants": rows,
    }
    options.out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    for name, row in rows.items():
        print(f"{name:16} {row['executions']} err/bound {row['worst']:.3f}")
    print(f"{total} executions of {len(rows)} variants, {data['decisions']} decisions, {len(alarms)} false alarms")


def _joined(parts: list[dict[str, object]]) -> dict[str, object]:
    executions: dict[str, int] = {}
    for part in parts:
        for dtype, count in part["executions"].items():
            executions[dtype] = executions.get(dtype, 0) + count
    decisions = sum(part["decisions"] for part in parts)
    unclaimed = sum(part["unclaimed"] for part in parts)
    worst = max(part["worst"] for part in parts)
    return {"executions": executions, "decisions": decisions, "worst": worst, "unclaimed": unclaimed}


if __name__ == "__main__":
    main()
