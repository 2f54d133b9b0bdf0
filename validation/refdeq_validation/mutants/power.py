"""How much the suite sees: every mutant run until a case notices it, beside what conventional criteria would have noticed."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from refdeq_validation.cases.model import Case
from refdeq_validation.cases.suite import by_id, select
from refdeq_validation.mutants.catalogue import EQUIVALENT, FAMILIES, MUTANTS, Mutant
from refdeq_validation.mutants.conventional import CRITERIA, noticed
from refdeq_validation.mutants.killing import first_kill, promising
from refdeq_validation.mutants.planting import load

__all__ = ["Outcome", "PowerTable", "report_power", "run_power", "stored_killers"]


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant.

    Attributes
    ----------
    mutant, family : str
    case : str or None
        Id of the case that noticed; None for a survivor.
    executed : int
        Cases that were run.
    conventional : tuple of str
        Conventional criteria that would have noticed, on natural data.
    """

    mutant: str
    family: str
    case: str | None
    executed: int
    conventional: tuple[str, ...]


@dataclass(frozen=True)
class PowerTable:
    """Outcomes of all mutants, in the order of the catalogue."""

    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def survivors(self) -> tuple[str, ...]:
        """Mutants that no case noticed."""
        return tuple(outcome.mutant for outcome in self.outcomes if outcome.case is None)

    def rows(self) -> list[dict[str, Any]]:
        """One row per family, and one for all: mutants, killed, and killed by each conventional criterion."""
        families = [family for family in FAMILIES if any(outcome.family == family for outcome in self.outcomes)]
        groups = {family: [one for one in self.outcomes if one.family == family] for family in families}
        return [_row(name, group) for name, group in [*groups.items(), ("all", list(self.outcomes))]]

    def as_data(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "mutants": len(self.outcomes),
            "killed": len(self.outcomes) - len(self.survivors),
            "equivalent": sorted(EQUIVALENT),
            "survivors": list(self.survivors),
            "families": self.rows(),
            "seconds": round(self.seconds, 1),
        }

    def table(self) -> Table:
        """The kill table, for terminals."""
        table = Table(title="Mutants noticed", caption=f"{len(self.outcomes)} mutants in {self.seconds:.0f} s")
        for heading in ("family", "mutants", "this suite", *CRITERIA):
            table.add_column(heading, justify="left" if heading == "family" else "right")
        for row in self.rows():
            counts = [row["mutants"], row["killed"], *(row["conventional"][name] for name in CRITERIA)]
            table.add_row(row["family"], *map(str, counts), end_section=row["family"] == FAMILIES[-1])
        return table


def _row(name: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    counts = {criterion: sum(criterion in one.conventional for one in outcomes) for criterion in CRITERIA}
    killed = sum(outcome.case is not None for outcome in outcomes)
    return {"family": name, "mutants": len(outcomes), "killed": killed, "conventional": counts}


def run_power(
    processes: int = 2,
    progress: Callable[[int, int], None] | None = None,
    mutants: Sequence[str] | None = None,
) -> PowerTable:
    """Run mutants until a case notices them; those that noticed when the suite was last studied are tried first.

    Parameters
    ----------
    processes : int
    progress : callable, optional
        Called with the mutants done so far and their number.
    mutants : sequence of str, optional
        Names; all by default.

    Returns
    -------
    PowerTable
    """
    began = time.perf_counter()
    names = list(MUTANTS) if mutants is None else list(mutants)
    found: dict[str, Outcome] = {}
    for outcome in map(study, names) if processes <= 1 else _in_parallel(names, processes):
        found[outcome.mutant] = outcome
        if progress is not None:
            progress(len(found), len(names))
    return PowerTable(tuple(found[name] for name in names), time.perf_counter() - began)


def _in_parallel(names: Sequence[str], processes: int) -> Any:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for future in as_completed([pool.submit(study, name) for name in names]):
            yield future.result()


def study(name: str) -> Outcome:
    """One mutant: the first case that notices it, and the conventional criteria."""
    mutant, known = MUTANTS[name], stored_killers().get(name, ())
    cases = cases_of_power()
    large = [by_id()[one] for one in known if one in by_id() and by_id()[one] not in cases]
    kill = first_kill(mutant, promising(mutant, [*large, *cases], known))
    return Outcome(name, mutant.family, kill.case, kill.executed, noticed(load(mutant)))


@cache
def cases_of_power() -> tuple[Case, ...]:
    """Cases that every mutant is run on: all but those of the full tier, which only those are run on that need them."""
    return select(tier="core")


@cache
def stored_killers() -> Mapping[str, tuple[str, ...]]:
    """Cases that noticed each mutant first, as stored with the package; a hint about order, never a result."""
    file = resources.files("refdeq_validation.mutants").joinpath("data", "killers.json")
    if not file.is_file():
        return {}
    return {name: tuple(ids) for name, ids in json.loads(file.read_text(encoding="utf-8"))["killers"].items()}


def report_power(processes: int = 2, mutant: Mutant | None = None) -> int:
    """Run the study and print its table; for ``refdeq validate --power``.

    Parameters
    ----------
    processes : int
    mutant : Mutant, optional
        One alone.

    Returns
    -------
    int
        Exit code: 0 when every mutant was noticed, 1 otherwise.
    """
    console = Console(emoji=False)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("mutants", total=None)
        table = run_power(
            processes,
            lambda done, total: bar.update(task, completed=done, total=total),
            None if mutant is None else [mutant.name],
        )
    console.print(table.table())
    for name in table.survivors:
        console.print(f"survives: {name} ({MUTANTS[name].family}): {MUTANTS[name].summary}", soft_wrap=True, markup=False)
    return 1 if table.survivors else 0
