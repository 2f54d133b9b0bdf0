"""Which case notices which mutant.

    python benchmarks/judge/kill_matrix.py [--part all|power|matrix] [--processes 2] [--per-group 0]

Part ``power`` runs every mutant until a case notices it, beside the conventional criteria; part ``matrix`` fills the matrix for
all cases, or with ``--per-group N`` for N cases of each family, operator, dtype and level. Writes the parts into
``benchmarks/results/judge/kill_matrix.json``, each with its command, date and hashes, and in the package
``mutants/data/killers.json`` and ``mutants/data/signatures.json``. Rows of the matrix are kept in a file beside the result
while the study runs: a run that was interrupted goes on where it ended, as long as the sources are the same.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from refdeq_validation.mutants.catalogue import EQUIVALENT, MUTANTS
from refdeq_validation.mutants.diagnosis import rank_among
from refdeq_validation.mutants.matrix import KillMatrix, build, chosen_cases
from refdeq_validation.mutants.power import run_power, stored_killers
from refdeq_validation.mutants.provenance import catalogue_hash
from refdeq_validation.provenance import judge_hash

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "judge" / "kill_matrix.json"
DATA = ROOT / "validation" / "refdeq_validation" / "mutants" / "data"


def filled(ids: tuple[str, ...], processes: int, stamp: str) -> KillMatrix:
    """The matrix; rows already made by an interrupted run of the same sources are read, not made again."""
    partial = RESULT.with_suffix(".partial.jsonl")
    rows: dict[str, str] = {}
    if partial.is_file():
        head, *lines = partial.read_text(encoding="utf-8").splitlines()
        if json.loads(head) == [stamp, list(ids)]:
            rows = dict(json.loads(line) for line in lines)
    if not rows:
        partial.write_text(json.dumps([stamp, list(ids)]) + "\n", encoding="utf-8")
    with partial.open("a", encoding="utf-8") as file:

        def keep(name: str, row: str) -> None:
            file.write(json.dumps([name, row]) + "\n")
            file.flush()
            print(f"\r{len(rows)} rows read, {name:60}", end="", file=sys.stderr)

        made = build(ids, processes, keep, [name for name in MUTANTS if name not in rows])
    partial.unlink()
    return KillMatrix(ids, {name: rows[name] if name in rows else made.rows[name] for name in MUTANTS})


def diagnosed(matrix: KillMatrix) -> dict[str, Any]:
    """How often the best match of a mutant, itself left out, is of its kind of bug."""
    first, third, counted = 0, 0, 0
    for name, mutant in MUTANTS.items():
        noticed = matrix.noticed_by(name)
        if noticed:
            kinds = [entry[0] for entry in rank_among(matrix, noticed, without=name)]
            counted += 1
            first += kinds[:1] == [mutant.bug_type]
            third += mutant.bug_type in kinds[:3]
    return {"mutants": counted, "first": first, "among the first three": third}


def study_power(processes: int) -> dict[str, Any]:
    """Kills and conventional criteria; stores the killers."""
    power = run_power(
        processes, lambda done, total: print(f"\r{done} of {total} mutants ", end="", file=sys.stderr, flush=True)
    )
    killers = {outcome.mutant: [outcome.case] for outcome in power.outcomes if outcome.case is not None}
    write(DATA / "killers.json", {"killers": {**stored_killers(), **killers}})
    conventional = {outcome.mutant: list(outcome.conventional) for outcome in power.outcomes}
    return {**power.as_data(), "noticed conventionally": conventional}


def study_matrix(processes: int, per_group: int, stamp: str) -> dict[str, Any]:
    """The matrix; stores it as signatures."""
    ids = tuple(case.id for case in chosen_cases(per_group))
    matrix = filled(ids, processes, stamp)
    write(DATA / "signatures.json", matrix.as_data())
    return {"only killer": matrix.unique_killers(), "diagnosis": diagnosed(matrix), **matrix.as_data()}


def main() -> None:
    """Run the parts and store them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("all", "power", "matrix"), default="all")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--per-group", type=int, default=0)
    options = parser.parse_args()
    judge, catalogue = judge_hash(), catalogue_hash()
    parts = ("power", "matrix") if options.part == "all" else (options.part,)
    DATA.mkdir(exist_ok=True)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    for part in parts:
        began = time.perf_counter()
        found = (
            study_power(options.processes)
            if part == "power"
            else study_matrix(options.processes, options.per_group, f"{judge} {catalogue}")
        )
        head = {
            "command": " ".join(["python benchmarks/judge/kill_matrix.py", *sys.argv[1:]]),
            "date": datetime.now(UTC).date().isoformat(),
            "judge": judge,
            "catalogue": catalogue,
            "wall seconds": round(time.perf_counter() - began),
        }
        stored = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
        stored |= {
            part: {**head, **found},
            "equivalent": {name: mutant.summary for name, mutant in EQUIVALENT.items()},
        }
        write(RESULT, stored)
        print(f"\n{part}: wrote {RESULT.relative_to(ROOT)}")


def write(path: Path, data: Any) -> None:
    """One entry per line, so that changes show."""
    path.write_text(json.dumps(data, indent=1, sort_keys=False, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
