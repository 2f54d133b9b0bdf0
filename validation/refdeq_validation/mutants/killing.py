"""Running mutants against cases: until the first that notices, or all of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from refdeq_validation.applicability import why_not
from refdeq_validation.cases.model import Case
from refdeq_validation.lab.variants import VARIANTS
from refdeq_validation.mutants.catalogue import Mutant
from refdeq_validation.mutants.planting import planted
from refdeq_validation.running import run_case

__all__ = ["Kill", "Subject", "first_kill", "kills", "promising"]


@dataclass(frozen=True)
class Kill:
    """What became of a mutant.

    Attributes
    ----------
    mutant : str
    case : str or None
        Id of the first case that noticed; None for a survivor.
    executed : int
        Cases that were run.
    seconds : float
    """

    mutant: str
    case: str | None
    executed: int
    seconds: float


class Subject:
    """A mutant that cases are run on; planted anew for every case only where one case could leave something to the next."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant, self.claims = mutant, VARIANTS[mutant.variant].claims
        self._planted = planted(mutant)

    def fails(self, case: Case) -> bool:
        """Whether the case applies and fails on a fresh implementation."""
        if why_not(case, self.claims):
            return False
        if self.mutant.remembers:
            self._planted = planted(self.mutant)
        with _quiet(case):
            result = run_case(case, self._planted.implementation(), self.claims)
        return result.disposition in ("failed", "error")


def first_kill(mutant: Mutant, cases: Iterable[Case]) -> Kill:
    """Run cases until one notices the mutant."""
    began, executed, subject = time.perf_counter(), 0, Subject(mutant)
    for case in cases:
        executed += 1
        if subject.fails(case):
            return Kill(mutant.name, case.id, executed, time.perf_counter() - began)
    return Kill(mutant.name, None, executed, time.perf_counter() - began)


def kills(mutant: Mutant, cases: Sequence[Case]) -> list[bool]:
    """Which cases notice the mutant: one row of the matrix."""
    subject = Subject(mutant)
    return [subject.fails(case) for case in cases]


def promising(mutant: Mutant, cases: Sequence[Case], known: Collection[str] = ()) -> list[Case]:
    """Cases in the order in which they are likely to notice: known killers, then those about its kind of bug, then the rest."""

    def rank(case: Case) -> tuple[int, int, int]:
        return (
            case.id not in known,
            mutant.bug_type not in case.bug_types,
            sum(call.arrays[n].size for call in case.calls for n in call.arrays),
        )

    return sorted(cases, key=rank)


@contextlib.contextmanager
def _quiet(case: Case) -> Iterator[None]:
    """Warnings of broken code are no news; what it does to the arrays of a case is undone."""
    kept = {id(array): array.copy() for array in case.problem.arrays().values() if array.nbytes < 1 << 20}
    with np.errstate(all="ignore"):
        try:
            yield
        finally:
            for array in case.problem.arrays().values():
                before = kept.get(id(array))
                if before is not None and array.flags.writeable:
                    array[...] = before
