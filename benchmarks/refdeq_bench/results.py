"""The file that ``refdeq bench --json`` writes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refdeq.errors import ArgumentError
from refdeq_bench.goals import Outcome
from refdeq_bench.recording import SCHEMA
from refdeq_bench.running import Findings, Job

__all__ = ["plain_outcome", "result_of", "write_result"]


def plain_outcome(outcome: Outcome) -> dict[str, Any]:
    """An outcome in the types of JSON: what was not measured is null."""
    demand = outcome.demand
    figures = {name: getattr(outcome, name) for name in ("value", "low", "high", "noise", "margin")}
    return {
        "goal": outcome.goal,
        "threads": outcome.threads,
        "workload": demand.workload,
        "point": dict(demand.point),
        "required": demand.required,
        "figure": demand.figure,
        "bandwidth": demand.bandwidth,
        "met": outcome.met,
        **{name: None if math.isnan(value) else value for name, value in figures.items()},
        "share": outcome.share,
        "best": outcome.best,
        "reason": outcome.reason,
        "details": dict(outcome.details),
    }


def result_of(
    facts: Mapping[str, Any], findings: Sequence[Findings], jobs: Sequence[Job], noise_limit: float
) -> dict[str, Any]:
    """Everything that was measured; the schema of ``refdeq bench --json``."""
    return {
        "schema": SCHEMA,
        "facts": dict(facts),
        "noise_limit": noise_limit,
        "noise": {str(found.threads): found.noise for found in findings},
        "noisy": any(found.noise["spread"] > noise_limit for found in findings),
        "rows": [row for found in findings for row in found.rows.values()],
        "skipped": [
            {"job": jobs[index].title, "threads": found.threads, "reason": reason, "wrong": index in found.wrong}
            for found in findings
            for index, reason in sorted({**found.skipped, **found.wrong}.items())
        ],
    }


def write_result(target: str | None, result: Mapping[str, Any]) -> None:
    """Write the result whole, or not at all."""
    if target is None:
        return
    text = json.dumps(result, indent=1, allow_nan=False) + "\n"
    if target == "-":
        print(text, end="")
        return
    path = Path(target)
    beside = path.with_name(path.name + ".part")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise ArgumentError("--json", hint=f"{target} cannot be written: {error}") from error
