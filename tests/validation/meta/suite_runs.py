"""Transcripts of the plain implementation on the suite, labelled without the judge.

A legal variant's transcript is true. A planted bug's, in strict order, is false wherever its bits differ from those of the
variant that it is a bug of: under strict order every bit is determined. Arrays are compared for that; nothing is judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from refdeq_validation.applicability import why_not
from refdeq_validation.cases.model import Case
from refdeq_validation.cases.suite import all_cases
from refdeq_validation.lab.variants import VARIANTS
from refdeq_validation.mutants.catalogue import MUTANTS
from refdeq_validation.mutants.planting import load
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.transcript import Transcript

from meta.verdicts import Verdict

LEGAL = ("strict", "fma", "pairwise", "wide")
STRIDE = 3
"""Of the cases, for legal variants: neighbours are alike."""


@cache
def cases() -> tuple[Case, ...]:
    """Cases that are quick, of both dtypes."""
    return tuple(case for case in all_cases() if "full" not in case.flags and case.family not in ("bound", "huge"))


def true_runs() -> Iterator[Verdict]:
    """Legal variants on a spread of the suite, levels and families all present."""
    for number, name in enumerate(LEGAL):
        variant = VARIANTS[name]
        for case in cases()[number % STRIDE :: STRIDE]:
            if not why_not(case, variant.claims):
                transcript = execute(case, variant.implementation(), variant.claims)
                yield Verdict(f"legal {name} {case.id}", case, transcript, variant.claims, {}, None)


def false_runs() -> Iterator[Verdict]:
    """Every planted bug of the strict variant, on the first case where its bits show."""
    variant = VARIANTS["strict"]
    right: dict[str, Transcript] = {}
    last = 0
    for mutant in MUTANTS.values():
        if mutant.variant != "strict" or mutant.equivalent:
            continue
        implementation, found = load(mutant), 0
        everything = [case for case in cases() if not why_not(case, variant.claims)]
        for position in range(len(everything)):
            case = everything[(last + position) % len(everything)]
            if case.id not in right:
                right[case.id] = execute(case, variant.implementation(), variant.claims)
            transcript = execute(case, implementation, variant.claims)
            if differs(right[case.id], transcript):
                yield Verdict(f"bug {mutant.name} {case.id}", case, transcript, variant.claims, ANY, None)
                found, last = found + 1, last + position + 7
                if found == 2:
                    break


ANY: dict[str, object] = {"failing": ...}
"""Something must fail; nothing is known of where."""


def differs(right: Transcript, other: Transcript) -> bool:
    """Whether an answer that is read differs in kind, shape or bits."""
    if other.violations or len(right.answers) != len(other.answers):
        return True
    for one, two in zip(right.answers, other.answers, strict=True):
        if one.error != two.error or set(one.results) != set(two.results):
            return True
        active = one.results.get("trace.active")
        for name, array in one.results.items():
            found = np.asarray(two.results[name])
            if array.shape != found.shape or array.dtype != found.dtype:
                return True
            same = (array == found) & (np.signbit(array) == np.signbit(found)) if array.dtype.kind == "f" else array == found
            if array.dtype.kind == "f":
                same |= np.isnan(array) & np.isnan(found)
            if name.startswith("trace.") and name != "trace.active" and active is not None:
                same |= ~active.reshape(*active.shape, *(1,) * (array.ndim - 2))
            if not same.all():
                return True
    return False
