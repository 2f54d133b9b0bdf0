"""Ranked likely bugs behind the failures of one implementation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from refdeq_validation.mutants.diagnosis import rank, stored_matrix
from refdeq_validation.trials import Result

__all__ = ["MOST", "NO_MATCH", "NO_TABLE", "diagnose"]

NO_TABLE = "no signature table: the kill matrix of the catalogue is not stored with this installation"
NO_MATCH = "no catalogued bug fails any of these cases"

SHOWN = 8
"""Signatures named."""

MOST = "most cases fail ({failed} of {executed}): the first failure is the best clue"
"""Said instead of a ranking where nearly everything fails, and every bug would look alike."""

SHARE, FEWEST = 0.6, 5
"""Share of failing cases above which that is said, and cases below which a share says nothing."""


def diagnose(results: Sequence[Result]) -> dict[str, Any] | None:
    """What the failing cases point to.

    Parameters
    ----------
    results : sequence of Result
        Of one implementation: those of several would be a mixture of bugs.

    Returns
    -------
    dict or None
        ``signatures``: mutants of the catalogue whose failing cases look most like these, best first, with the share that both
        have in common; ``note``: why there are none; ``bug_types``: for each bug type cited by a failing case, how many of the
        cases that cite it failed, the most telling first; both empty where most cases fail, and the note says so. None when no
        case failed by its results: a crash or a time-out has no wrong number to go by.
    """
    failed = [result.case.id for result in results if result.disposition == "failed"]
    if not failed:
        return None
    executed = [result.case.id for result in results if result.disposition in ("passed", "failed")]
    if len(executed) >= FEWEST and len(failed) > SHARE * len(executed):
        return {"signatures": [], "note": MOST.format(failed=len(failed), executed=len(executed)), "bug_types": []}
    ranked = rank(failed, executed)[:SHOWN]
    note = None if ranked else NO_MATCH if stored_matrix().cases else NO_TABLE
    signatures = [{"bug_type": bug_type, "name": name, "score": score} for bug_type, name, score in ranked]
    return {"signatures": signatures, "note": note, "bug_types": _bug_types(results)}


def _bug_types(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Share of failing cases per bug type: a type whose every case fails explains more than one that fails now and then."""
    cited: Counter[str] = Counter()
    failing: Counter[str] = Counter()
    for result in results:
        if result.disposition in ("passed", "failed"):
            cited.update(result.case.bug_types)
        if result.disposition == "failed":
            failing.update(result.case.bug_types)
    ranked = sorted(failing, key=lambda name: (-failing[name] / cited[name], -failing[name], name))
    return [{"name": name, "failed": failing[name], "cases": cited[name]} for name in ranked]
