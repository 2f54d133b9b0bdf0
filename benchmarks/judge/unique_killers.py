"""Which family of cases is indispensable: mutants of the catalogue that one family alone notices.

    python benchmarks/judge/unique_killers.py [--families tie,ramp] [--processes 2]

Every mutant has a case that noticed it first (``kill_matrix.json``). Here every other family's cases of the core tier run on it
until one notices it too; where none does, the family of the first case is its only killer. Writes
``benchmarks/results/judge/unique_killers.json``.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from refdeq_validation.cases.suite import by_id, select
from refdeq_validation.mutants.catalogue import MUTANTS
from refdeq_validation.mutants.killing import Subject, placements_of, promising
from refdeq_validation.mutants.power import stored_killers
from refdeq_validation.provenance import judge_hash
from rich.progress import Progress

RESULT = Path(__file__).resolve().parents[1] / "results" / "judge" / "unique_killers.json"
FAMILIES = ("tie", "bound_k1", "ramp", "special", "reset")


def first_outside(name: str, family: str) -> str | None:
    """Id of a case of another family that notices a mutant, or None."""
    mutant = MUTANTS[name]
    subject = Subject(mutant)
    others = [case for case in select(tier="core") if case.family != family]
    for case in promising(mutant, others):
        if subject.fails(case, placements_of(mutant)):
            return case.id
    return None


def candidates(families: tuple[str, ...]) -> list[tuple[str, str]]:
    """Mutants whose first killer belongs to one of the families, with that family."""
    found = []
    for name, killers in stored_killers().items():
        if name in MUTANTS and killers and killers[0] in by_id() and by_id()[killers[0]].family in families:
            found.append((name, by_id()[killers[0]].family))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--mutant", action="append", help="only these; their rows replace those of the stored run")
    options = parser.parse_args()
    families = tuple(options.families.split(","))
    pairs = [pair for pair in candidates(families) if options.mutant is None or pair[0] in options.mutant]
    kept = json.loads(RESULT.read_text())["mutants"] if options.mutant else []
    rows = [row for row in kept if row["mutant"] not in options.mutant]
    with ProcessPoolExecutor(options.processes) as pool, Progress() as progress:
        task = progress.add_task("judging mutants outside of one family", total=len(pairs))
        for (name, family), killer in zip(pairs, pool.map(first_outside, *zip(*pairs, strict=True)), strict=True):
            rows.append({"mutant": name, "family": family, "also killed by": killer, "source_hash": judge_hash()})
            progress.advance(task)
    unique = {
        family: [row["mutant"] for row in rows if row["family"] == family and not row["also killed by"]] for family in families
    }
    data = {
        "command": f"python benchmarks/judge/unique_killers.py --families {options.families}",
        "date": datetime.now(UTC).date().isoformat(),
        "cases": len(select(tier="core")),
        "unique": unique,
        "mutants": rows,
    }
    RESULT.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    for family, names in unique.items():
        tried = sum(row["family"] == family for row in rows)
        print(f"{family:12} only killer of {len(names)} of {tried}: {', '.join(names)}")


if __name__ == "__main__":
    main()
