"""The matrix of mutants and cases: who notices what, which families are indispensable, and how it is stored."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from typing import Any

from refdeq_validation.cases.model import Case
from refdeq_validation.cases.suite import by_id, select
from refdeq_validation.mutants.catalogue import MUTANTS
from refdeq_validation.mutants.killing import kills

__all__ = ["KillMatrix", "build", "chosen_cases", "decode", "encode"]


def encode(row: Sequence[bool]) -> str:
    """A row as hexadecimal digits, the first case in the lowest bit.

    >>> encode([True, False, False, True, True])
    '19'
    """
    return f"{sum(1 << i for i, bit in enumerate(row) if bit):x}"


def decode(text: str, size: int) -> list[bool]:
    """Undo :func:`encode`.

    >>> decode("19", 5)
    [True, False, False, True, True]
    """
    bits = int(text, 16)
    return [bool(bits >> i & 1) for i in range(size)]


@dataclass(frozen=True)
class KillMatrix:
    """Who noticed what.

    Attributes
    ----------
    cases : tuple of str
        Ids, in the order of the bits.
    rows : mapping of str to str
        By mutant, its row as :func:`encode` gives it.
    """

    cases: tuple[str, ...]
    rows: Mapping[str, str]

    def noticed_by(self, mutant: str) -> frozenset[str]:
        """Ids of the cases that noticed a mutant."""
        bits = decode(self.rows[mutant], len(self.cases))
        return frozenset(case for case, bit in zip(self.cases, bits, strict=True) if bit)

    def families(self, mutant: str) -> frozenset[str]:
        """Families of the cases that noticed a mutant."""
        return frozenset(case.split("/")[1] for case in self.noticed_by(mutant))

    def unique_killers(self) -> dict[str, list[str]]:
        """By family, the mutants that no other family noticed."""
        found: dict[str, list[str]] = {case.split("/")[1]: [] for case in self.cases}
        for mutant in self.rows:
            families = self.families(mutant)
            if len(families) == 1:
                found[next(iter(families))].append(mutant)
        return found

    def as_data(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"cases": list(self.cases), "rows": dict(self.rows)}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> KillMatrix:
        """Rebuild from :meth:`as_data`."""
        return cls(tuple(data["cases"]), dict(data["rows"]))


def chosen_cases(per_group: int = 0) -> tuple[Case, ...]:
    """Cases of a matrix: all of the core tier, or a spread of them.

    Parameters
    ----------
    per_group : int
        Cases of each (family, operator, dtype, level), the smallest among as many even spans of the suite; 0 for all.
    """
    groups: dict[tuple[str, ...], list[Case]] = {}
    for case in select(tier="core"):
        key = (case.family, case.problem.op, case.problem.dtype, case.level)
        groups.setdefault(key, []).append(case)
    found: list[Case] = []
    for group in groups.values():
        count = min(per_group or len(group), len(group))
        spans = [group[i * len(group) // count : (i + 1) * len(group) // count] for i in range(count)]
        found += [min(span, key=_size) for span in spans]
    return tuple(found)


def _size(case: Case) -> int:
    """Elements of the arrays of all calls."""
    return sum(array.size for call in case.calls for array in call.arrays.values())


def build(
    cases: Sequence[str],
    processes: int = 2,
    progress: Callable[[str, str], None] | None = None,
    mutants: Sequence[str] | None = None,
) -> KillMatrix:
    """Run mutants on cases; the rows do not depend on the number of processes.

    Parameters
    ----------
    cases : sequence of str
        Ids.
    processes : int
    progress : callable, optional
        Told each row (mutant, hexadecimal digits) as it is done.
    mutants : sequence of str, optional
        Names; all by default.
    """
    names = list(MUTANTS) if mutants is None else list(mutants)
    rows: dict[str, str] = {}
    for name, row in _rows(names, tuple(cases), processes):
        rows[name] = row
        if progress is not None:
            progress(name, row)
    return KillMatrix(tuple(cases), {name: rows[name] for name in names})


def _rows(names: Sequence[str], cases: tuple[str, ...], processes: int) -> Iterator[tuple[str, str]]:
    if processes <= 1:
        yield from (row_of(name, cases) for name in names)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(row_of, name, cases) for name in names]):
            yield future.result()


def row_of(name: str, cases: tuple[str, ...]) -> tuple[str, str]:
    """One row."""
    return name, encode(kills(MUTANTS[name], _by_ids(cases)))


@cache
def _by_ids(ids: tuple[str, ...]) -> tuple[Case, ...]:
    known = by_id()
    return tuple(known[one] for one in ids)
