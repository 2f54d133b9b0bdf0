"""Whether the selected cases still have teeth: broken implementations run on them, and each must fail."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence

from refdeq_validation.cases.model import Case
from refdeq_validation.protocol.guards import PLACEMENTS
from refdeq_validation.protocol.loading import claims_of
from refdeq_validation.trials import run_case

__all__ = ["run_canaries"]


def run_canaries(cases: Sequence[Case]) -> Mapping[str, str | None]:
    """Run every canary on the cases until one fails.

    Parameters
    ----------
    cases : sequence of Case

    Returns
    -------
    mapping of str to (str or None)
        By canary: the id of the case that failed, None where every case passed. Canaries to which no case applies are left out.
    """
    if importlib.util.find_spec("refdeq_validation.mutants.canaries") is None:
        return {}
    found: dict[str, str | None] = {}
    for name, make in importlib.import_module("refdeq_validation.mutants.canaries").CANARIES.items():
        canary = make()
        claims = claims_of(canary)
        for case in cases:
            if not canary.applies(case):
                continue
            result = run_case(case, canary, claims, placements=PLACEMENTS[:1])
            if result.disposition != "not_applicable":
                found.setdefault(name, None)
            if result.disposition in ("failed", "error"):
                found[name] = case.id
                break
    return found
