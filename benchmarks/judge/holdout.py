"""The hold-out: automatic mutants of the reference, judged by every case, up to the first kill.

    python benchmarks/judge/holdout.py [--processes 2] [--every 1]

writes ``benchmarks/results/judge/holdout.json``: what killed each mutant, and the survivors with their written arguments.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from refdeq_validation.holdout.runner import all_mutants, judge_mutants, source_hash, survivor_arguments
from rich.progress import Progress

RESULT = Path(__file__).resolve().parents[1] / "results" / "judge" / "holdout.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="judge every n-th mutant only; the stored run says so")
    options = parser.parse_args()
    mutants = list(all_mutants())[:: options.every]
    with Progress() as progress:
        task = progress.add_task("judging mutants", total=len(mutants))
        outcomes = judge_mutants(mutants, options.processes, lambda outcome: progress.advance(task))
    arguments = survivor_arguments()
    survivors = [outcome.mutant for outcome in outcomes if not outcome.killer]
    argued = [mutant for mutant in survivors if mutant.key in arguments]
    killed = len(outcomes) - len(survivors)
    rate = killed / (len(outcomes) - len(argued))
    print(f"{len(outcomes)} mutants, {killed} killed, {len(argued)} equivalent by argument; {100 * rate:.2f} % of the others")
    for mutant in survivors:
        if mutant.key not in arguments:
            print(f"survives: {mutant.key} {mutant.operator}\n  {mutant.before}\n  {mutant.after}")
    data = {
        "command": f"python benchmarks/judge/holdout.py --every {options.every}",
        "date": datetime.now(UTC).date().isoformat(),
        "source_hash": source_hash(),
        "mutants": len(outcomes),
        "killed": killed,
        "equivalent": len(argued),
        "rate": rate,
        "kinds": dict(Counter(outcome.how for outcome in outcomes if outcome.killer).most_common()),
        "survivors": [
            {"key": m.key, "operator": m.operator, "before": m.before, "after": m.after, "argument": arguments.get(m.key)}
            for m in survivors
        ],
        "killers": {outcome.mutant.key: outcome.killer for outcome in outcomes if outcome.killer},
    }
    RESULT.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    print(f"stored in {RESULT.name}")


if __name__ == "__main__":
    main()
