"""Whether the selected cases still have teeth: broken implementations run on them, and each must fail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from refdeq_validation.cases.model import Case
from refdeq_validation.protocol.guards import PLACEMENTS
from refdeq_validation.protocol.loading import claims_of
from refdeq_validation.trials import run_case

__all__ = ["run_canaries"]


def run_canaries(cases: Sequence[Case]) -> Mapping[str, str | None]:
    """Run every canary on the cases that contain what it is broken at, until one of them fails.

    Parameters
    ----------
    cases : sequence of Case
        Those that the judged implementation has to run.

    Returns
    -------
    mapping of str to (str or None)
        By canary: the id of the case that failed, None where every case passed. Canaries that no case is about are left out.
    """
    from refdeq_validation.mutants.canaries import CANARIES  # plants mutants: not needed by who judges without canaries

    found: dict[str, str | None] = {}
    for name, make in CANARIES.items():
        canary = make()
        claims = claims_of(canary)
        for case in _cheapest_first(case for case in cases if canary.applies(case)):
            result = run_case(case, canary, claims, placements=PLACEMENTS[:1])
            if result.disposition == "not_applicable":
                continue
            found.setdefault(name, None)
            if result.disposition in ("failed", "error"):
                found[name] = case.id
                break
    return found


def _cheapest_first(cases: Iterable[Case]) -> list[Case]:
    """Small cases before large ones, otherwise in their order: most canaries fail the first."""
    return sorted(cases, key=lambda case: case.problem.weight.size * sum(call.name != "reset" for call in case.calls))
