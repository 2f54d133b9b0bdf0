"""Which delta rules the suite tells apart: every rule of version 1 run under the declaration of every other.

    python benchmarks/judge/separation.py [--processes 2]

writes ``benchmarks/results/judge/separation.json``. A pair is separated by a case when one of the two rules passes it and the
other does not. Judged under the weakest claims (fast order), once with the state shown and once from masks and outputs alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from refdeq_validation.cases.suite import DTYPES, select
from refdeq_validation.cases.variants import Misdeclared, separator, variants
from refdeq_validation.cases.witness import FAST
from refdeq_validation.judge.judging import judge
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.transcript import Answer, Transcript
from refdeq_validation.provenance import judge_hash

RESULT = Path(__file__).resolve().parents[1] / "results" / "judge" / "separation.json"
CLAIMS = {"state": FAST, "outputs": replace(FAST, offers=())}
"""With the state shown, and with masks and outputs only."""


def name_of(variant: dict[str, Any]) -> str:
    """Short name of a rule."""
    return "-".join(str(variant[key]) for key in ("compare", "memory", "start", "bias", "granularity"))


def row(op: str, dtype: str, index: int) -> dict[str, list[bool]]:
    """Which rules pass the case of one declared rule."""
    case = separator(op, variants(op)[index], dtype)
    found: dict[str, list[bool]] = {shown: [] for shown in CLAIMS}
    for transcript in answers(op, dtype):
        found["state"].append(judge(case, transcript, FAST).passed)
        found["outputs"].append(judge(case, without_state(transcript), CLAIMS["outputs"]).passed)
    return found


@cache
def answers(op: str, dtype: str) -> list[Transcript]:
    """What each rule answers: the cases of all rules have the same inputs, so one execution of each rule serves them all."""
    cases = [separator(op, rule, dtype) for rule in variants(op)]
    first = [call.as_data() for call in cases[0].calls]
    assert all([call.as_data() for call in case.calls] == first for case in cases)
    return [execute(cases[0], Misdeclared(rule), FAST) for rule in variants(op)]


def without_state(transcript: Transcript) -> Transcript:
    """The same answers as far as masks and outputs go."""
    answers = [
        Answer(a.name, {k: v for k, v in a.results.items() if k not in ("r", "a")}, a.error, a.text) for a in transcript.answers
    ]
    return Transcript(transcript.case, answers, transcript.violations)


def matrix(op: str, dtype: str, processes: int) -> dict[str, Any]:
    """Separations of all pairs of rules of an operator."""
    rules = variants(op)
    tasks = [(op, dtype, index) for index in range(len(rules))]
    with ProcessPoolExecutor(processes) as pool:
        rows = list(pool.map(row, *zip(*tasks, strict=True), chunksize=4))
    found: dict[str, Any] = {"rules": len(rules), "pairs": len(rules) * (len(rules) - 1) // 2}
    for shown in CLAIMS:
        passed = [one[shown] for one in rows]
        counts = Counter(
            (not passed[p][q]) + (not passed[q][p])
            for p in range(len(rules))
            for q in range(p)
            if passed[p][p] and passed[q][q]
        )
        weak = [
            f"{name_of(rules[p])} / {name_of(rules[q])}"
            for p in range(len(rules))
            for q in range(p)
            if (not passed[p][q]) + (not passed[q][p]) < 2
        ]
        found[shown] = {
            "own rule passes": sum(passed[p][p] for p in range(len(rules))),
            "pairs by number of separating cases": {str(n): counts[n] for n in (0, 1, 2)},
            "pairs with fewer than two": len(weak),
            "examples": weak[:3],
        }
    return found


def ramps(dtype: str) -> dict[str, Any]:
    """First step at which a ramp rejects the other memory rule."""
    found: dict[str, Any] = {}
    for case in select(families=["ramp"]):
        rule = case.problem.rule
        if case.problem.dtype != dtype or rule is None or rule.memory == "feedback" or case.problem.storage:
            continue
        other = Misdeclared({"memory": "always" if rule.memory == "sent" else "sent"})
        for shown, claims in CLAIMS.items():
            findings = judge(case, execute(case, other, claims), claims)
            first = min((failure.evaluation for failure in findings.failures), default=None)
            found.setdefault(case.id, {})[shown] = first
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    began = time.perf_counter()
    rules = {f"{op} {dtype}": matrix(op, dtype, options.processes) for op in ("Gemm", "Conv") for dtype in DTYPES}
    data = {
        "command": "python benchmarks/judge/separation.py",
        "date": datetime.now(UTC).date().isoformat(),
        "source_hash": judge_hash(),
        "seconds": round(time.perf_counter() - began, 1),
        "rules": rules,
        "first step at which a ramp rejects the other memory": {dtype: ramps(dtype) for dtype in DTYPES},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(data, indent=1))


if __name__ == "__main__":
    main()
