"""What a pack must satisfy before it is published, and what it may not change about an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refdeq.errors import FileFormatError
from refdeq_validation.cases import witness
from refdeq_validation.cases.bug_types import BUG_TYPES
from refdeq_validation.packs.expected import expected_steps
from refdeq_validation.packs.export import stored_names
from refdeq_validation.packs.reading import Pack, read_json, read_manifest, read_pack
from refdeq_validation.packs.rows import array_of, digest_of
from refdeq_validation.packs.schemas import first_problem

__all__ = ["append_only", "lint", "retired_entries"]


def lint(folder: Path) -> list[str]:
    """Everything wrong with a pack, in sentences; empty when nothing is.

    Digests, ids and counts are checked by reading it; then schemas are, every witness is proved again, every expected value is
    computed again and compared bit by bit, and the bug types must be known. A blind pack must not hold an expected value.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of str
    """
    try:
        pack = read_pack(folder)
    except FileFormatError as error:
        return [str(error)]
    found = []
    for case in pack.cases:
        row = pack.rows[case.id]
        problem = first_problem(row, "refdeq-case/1")
        if problem:
            found.append(f"{case.id}: {problem}")
        unknown = sorted(set(case.bug_types) - set(BUG_TYPES))
        if unknown:
            found.append(f"{case.id}: bug type {unknown[0]} is not in the vocabulary")
        try:
            witness.holds(case)
        except witness.VacuousCaseError as error:
            found.append(f"{case.id}: its witness cannot be proved again: {error}")
        found += _expected_problems(pack, case.id, row)
    if pack.manifest["generator"]["clean"] is False:
        found.append("the sources had changes that were not committed when the pack was made")
    return found


def _expected_problems(pack: Pack, name: str, row: Mapping[str, Any]) -> list[str]:
    """Stored expected values against those computed now."""
    if pack.manifest["blind"] or "expected" not in row:
        wrong = pack.manifest["blind"] == ("expected" in row)
        return [f"{name}: {'holds' if 'expected' in row else 'lacks'} expected values"] if wrong else []
    case = next(case for case in pack.cases if case.id == name)
    tensors = pack.tensors.get(f"{case.problem.op.lower()}-{case.family}", {})
    if len(row["expected"]) != len(case.calls):
        return [f"{name}: {len(row['expected'])} expected values for {len(case.calls)} calls"]
    for t, (stored, now, call) in enumerate(zip(row["expected"], expected_steps(case), case.calls, strict=True)):
        if call.refused:
            same = stored == {"error": "refused"}
        elif now is None or stored is None:
            same = now is None and stored is None
        else:
            same = sorted(stored) == stored_names(case, now)
            same = same and all(_same(stored[key], now[key], tensors) for key in stored)
        if not same:
            return [f"{name}: the expected values of call {t} are not those computed now"]
    return []


def _same(stored: Any, right: np.ndarray[Any, Any], tensors: Mapping[str, Any]) -> bool:
    if isinstance(stored, dict) and set(stored) == {"dtype", "shape", "sha256"}:
        return bool(stored == digest_of(right))
    left = array_of(stored, tensors)
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def append_only(old: Path, new: Mapping[str, Any]) -> list[str]:
    """What a new manifest breaks of an older pack: no id may change or vanish, unless it was retired with a reason.

    Parameters
    ----------
    old : Path
        The older pack, or its ``manifest.json``.
    new : mapping
        The new manifest; with ``retired`` (the entries of ``retired.json``).

    Returns
    -------
    list of str
    """
    before = read_manifest(old.parent if old.is_file() else old)
    retired = {entry["id"] for entry in new.get("retired", ())}
    found = []
    for name, digest in before["ids"].items():
        now = new["ids"].get(name)
        if now is None and name not in retired:
            found.append(f"{name}: is gone, and not retired")
        elif now is not None and now != digest:
            found.append(f"{name}: its content changed under the same id")
        elif now is not None and name in retired:
            found.append(f"{name}: is retired, and there all the same")
    if before["semantics"] == new["semantics"] and before["profile"] != new["profile"]:
        found.append(f"profile {new['profile']} is compared with profile {before['profile']}")
    return found


def retired_entries(path: Path) -> list[dict[str, str]]:
    """Entries of a ``retired.json``: id and reason each.

    Raises
    ------
    FileFormatError
        When an entry has no reason, or an id stands twice.
    """
    data = read_json(path)
    entries: list[dict[str, str]] = data["retired"] if isinstance(data, dict) and isinstance(data.get("retired"), list) else []
    problem = first_problem(data, "refdeq-retired/1")
    if problem or len({entry["id"] for entry in entries}) != len(entries):
        raise FileFormatError(f"{path}: {problem or 'an id stands twice'}")
    return entries
