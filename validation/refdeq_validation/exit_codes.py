"""Exit codes of a validation, and which one wins."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["EXIT_CODES", "PRECEDENCE", "worst"]

EXIT_CODES = {
    0: "granted: everything required ran and passed",
    1: "nonconformant: at least one case or row failed, or passed although it is expected to fail",
    2: "usage or manifest error",
    3: "incomplete: nothing failed, but something required was skipped, is missing or does not apply",
    4: "invalid run: nothing was selected, counts do not close, a case is vacuous, or a canary survived",
    5: "a judged implementation crashed, ran out of time or cannot be loaded",
}

PRECEDENCE = (4, 2, 5, 1, 3, 0)


def worst(codes: Iterable[int]) -> int:
    """The code of a run from those of its parts: 4 before 2, 5, 1, 3, 0.

    >>> worst([0, 3, 1])
    1
    """
    return min(codes, key=PRECEDENCE.index)
