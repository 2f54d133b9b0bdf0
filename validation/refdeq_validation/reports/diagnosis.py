"""Ranked likely bugs behind the failures of a run."""

from __future__ import annotations

import importlib
import importlib.util
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["NO_TABLE", "diagnose"]

NO_TABLE = "no signature table: the kill matrix of the catalogue is not stored with this installation"
_SIGNATURES = "refdeq_validation.mutants.diagnosis"
SHOWN = 8
"""Signatures named."""

KILLED = ("failed", "error")
"""Dispositions that a bug brings about."""


def diagnose(failed: Sequence[str], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the failing cases point to.

    Parameters
    ----------
    failed : sequence of str
        Ids of failing cases.
    results : sequence of mapping
        All results on cases, as data.

    Returns
    -------
    dict
        ``signatures``: mutants of the catalogue whose kills look most like these failures, best first; ``note``: why there are
        none; ``bug_types``: for each bug type cited by a failing case, how many of the cases that cite it failed, the most
        telling first.
    """
    signatures, note = _signatures(failed)
    return {"signatures": signatures, "note": note, "bug_types": _bug_types(results)}


def _signatures(failed: Sequence[str]) -> tuple[list[dict[str, Any]], str | None]:
    if importlib.util.find_spec(_SIGNATURES) is None:
        return [], NO_TABLE
    ranked = importlib.import_module(_SIGNATURES).rank(failed)
    return [{"name": str(name), "score": float(score)} for name, score in list(ranked)[:SHOWN]], None


def _bug_types(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Share of failing cases per bug type: a type whose every case fails explains more than one that fails now and then."""
    cited: Counter[str] = Counter()
    failing: Counter[str] = Counter()
    for result in results:
        if result["disposition"] in ("passed", *KILLED):
            cited.update(result["bug_types"])
        if result["disposition"] in KILLED:
            failing.update(result["bug_types"])
    ranked = sorted(failing, key=lambda name: (-failing[name] / cited[name], -failing[name], name))
    return [{"name": name, "failed": failing[name], "cases": cited[name]} for name in ranked]
