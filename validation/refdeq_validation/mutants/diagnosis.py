"""Which bug an implementation is likely to have: its failing cases, compared with those of every mutant."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import cache
from importlib import resources

from refdeq_validation.mutants.catalogue import MUTANTS
from refdeq_validation.mutants.matrix import KillMatrix

__all__ = ["rank", "rank_among", "stored_matrix"]


def rank(failed_case_ids: Collection[str], executed: Collection[str] | None = None) -> list[tuple[str, str, float]]:
    """Rank likely bugs by how well their failing cases match.

    Parameters
    ----------
    failed_case_ids : collection of str
    executed : collection of str, optional
        Cases that were run; failures of others are not expected. All by default.

    Returns
    -------
    list of (bug type, mutant, score)
        Best first; scores in (0, 1] are the share of cases that failed for both among those that failed for either. Empty when
        nothing failed that the stored matrix knows.

    Examples
    --------
    >>> rank([])
    []
    """
    return rank_among(stored_matrix(), failed_case_ids, executed)


def rank_among(
    matrix: KillMatrix, failed_case_ids: Collection[str], executed: Collection[str] | None = None, without: str = ""
) -> list[tuple[str, str, float]]:
    """As :func:`rank`, with a given matrix; `without` leaves one mutant out, to measure the method on that one."""
    known = set(matrix.cases) if executed is None else set(matrix.cases) & set(executed)
    failed = known & set(failed_case_ids)
    found: list[tuple[str, str, float]] = []
    for name in matrix.rows:
        expected = matrix.noticed_by(name) & known
        if name == without or name not in MUTANTS or not expected & failed:
            continue
        found.append((MUTANTS[name].bug_type, name, len(expected & failed) / len(expected | failed)))
    return sorted(found, key=lambda entry: -entry[2])


@cache
def stored_matrix() -> KillMatrix:
    """The matrix that is stored with the package; empty where there is none."""
    file = resources.files("refdeq_validation.mutants").joinpath("data", "signatures.json")
    if not file.is_file():
        return KillMatrix((), {})
    return KillMatrix.from_data(json.loads(file.read_text(encoding="utf-8")))
