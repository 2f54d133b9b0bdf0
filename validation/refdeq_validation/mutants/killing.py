"""Running mutants against cases: until the first that notices, or all of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from refdeq_validation.applicability import LADDER, why_not
from refdeq_validation.cases.model import Case
from refdeq_validation.judge.judging import judge
from refdeq_validation.lab.variants import VARIANTS
from refdeq_validation.mutants.catalogue import Mutant
from refdeq_validation.mutants.planting import planted
from refdeq_validation.mutants.reach import clean_run, reaches
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.guards import PLACEMENTS, Placement
from refdeq_validation.protocol.transcript import Transcript
from refdeq_validation.trials import first_difference

__all__ = ["Kill", "Subject", "first_kill", "kills", "placements_of", "promising"]


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
        self.executed = 0
        self._planted = planted(mutant)

    def fails(self, case: Case, placements: Sequence[Placement] = PLACEMENTS) -> bool:
        """Whether the case applies and fails on a fresh implementation: a wrong answer, or two answers where R1 is claimed.

        Nothing is run where no call enters a module that was patched; an answer that equals that of the legal variant
        in every bit need not be judged.
        """
        if why_not(case, self.claims) or not reaches(self.mutant, case):
            return False
        clean = clean_run(self.mutant.variant, case)
        self.executed += 1
        if self.mutant.remembers:
            self._planted = planted(self.mutant)
        with _restored(case):
            implementation = self._planted.implementation()
            for placement in placements:
                transcript = execute(case, implementation, self.claims, placement)
                difference = first_difference(clean, transcript)
                if transcript.violations or (difference is not None and self._shows(case, transcript)):
                    return True
        return False

    def _shows(self, case: Case, transcript: Transcript) -> bool:
        """Whether the judge refuses an answer that differs from the clean one; a repetition that differs is refused as well."""
        if not judge(case, transcript, self.claims).passed:
            return True
        if LADDER.index(self.claims.determinism) < LADDER.index("R1"):
            return False
        again = execute(case, self._planted.implementation(), self.claims)
        return first_difference(transcript, again) is not None


def first_kill(mutant: Mutant, cases: Sequence[Case]) -> Kill:
    """Run cases until one notices the mutant: all of them under the first placement, then under the others."""
    began, subject = time.perf_counter(), Subject(mutant)
    for placement in PLACEMENTS:
        for case in cases:
            if subject.fails(case, (placement,)):
                return Kill(mutant.name, case.id, subject.executed, time.perf_counter() - began)
    return Kill(mutant.name, None, subject.executed, time.perf_counter() - began)


THOROUGH = ("contracts", "ordering")
"""Families whose bugs show in reused sessions and between other canaries."""


def placements_of(mutant: Mutant) -> Sequence[Placement]:
    """Placements of a row of the matrix: all for bugs that need them, the first for the others."""
    return PLACEMENTS if mutant.family in THOROUGH else PLACEMENTS[:1]


def kills(mutant: Mutant, cases: Sequence[Case]) -> list[bool]:
    """Which cases notice the mutant: one row of the matrix."""
    subject = Subject(mutant)
    return [subject.fails(case, placements_of(mutant)) for case in cases]


def promising(mutant: Mutant, cases: Sequence[Case], known: Collection[str] = ()) -> list[Case]:
    """Cases in the order in which they are likely to notice: known killers, then those about its kind of bug, then the rest."""

    def rank(case: Case) -> tuple[bool, bool, int]:
        size = sum(array.size for call in case.calls for array in call.arrays.values())
        return case.id not in known, mutant.bug_type not in case.bug_types, size

    return sorted(cases, key=rank)


@contextlib.contextmanager
def _restored(case: Case) -> Iterator[None]:
    """What broken code does to the arrays of a case is undone."""
    arrays = [array for array in case.problem.arrays().values() if array.nbytes < 1 << 20 and array.flags.writeable]
    kept = [array.copy() for array in arrays]
    with np.errstate(all="ignore"):
        try:
            yield
        finally:
            for array, before in zip(arrays, kept, strict=True):
                array[...] = before
