"""The report as data: everything a run found, in the form of ``schema/report-1.json``."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import refdeq
from refdeq.types import SEMANTICS_VERSION
from refdeq_validation.judge.verdicts import Failure
from refdeq_validation.reports.bits import bits_text
from refdeq_validation.reports.diagnosis import diagnose
from refdeq_validation.reports.environment import environment
from refdeq_validation.reports.histograms import histograms
from refdeq_validation.reports.localise import pattern
from refdeq_validation.reports.writing import SCHEMA
from refdeq_validation.suites import SuiteRun
from refdeq_validation.trials import DISPOSITIONS, Result

__all__ = ["SCHEMA", "VERDICTS", "backend_data", "finite", "report_data", "result_data"]

VERDICTS: Mapping[int, str] = {0: "granted", 1: "nonconformant", 3: "incomplete", 4: "invalid", 5: "backend error"}
"""By exit code; a usage error (2) writes no report."""

NOTES = 10
"""Notes of a judge kept per case."""


def report_data(
    suites: Sequence[SuiteRun],
    code: int,
    *,
    seconds: float,
    threads: int | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
    planned_rows: Sequence[str] = (),
    unavailable: Sequence[tuple[str, str]] = (),
    protocol: Mapping[str, Any] | None = None,
    allow_incomplete: bool = False,
) -> dict[str, Any]:
    """Everything a run found, as JSON-able data.

    Parameters
    ----------
    suites : sequence of SuiteRun
        One per judged implementation.
    code : int
        Exit code that the run earned, one of ``VERDICTS``.
    seconds : float
        Of the whole run.
    threads : int, optional
    rows : sequence of mapping
        Results on trained cells, as ``refdeq_validation.report`` writes them.
    planned_rows : sequence of str
        Their planned ids.
    unavailable : sequence of (str, str)
        Backends that could not run, with reasons.
    protocol : mapping, optional
        Stop rule of the trained cells.
    allow_incomplete : bool
        Turn 3 into 0 where something passed, and say so: the verdict stays ``incomplete``.

    Returns
    -------
    dict
        Conforms to ``schema/report-1.json``; numbers that are not finite are null.
    """
    results = [result_data(result, suite) for suite in suites for result in suite.results]
    planned = [f"{suite.spec} {case}" for suite in suites for case in suite.planned] + list(planned_rows)
    cases = sorted({case for suite in suites for case in suite.planned})
    everything = [*results, *({**row, "suite": "cells"} for row in rows)]
    found = counts(everything, len(planned))
    data = {
        "schema": SCHEMA,
        "verdict": VERDICTS[code],
        "exit_code": 0 if code == 3 and allow_incomplete and found["passed"] else code,
        "incomplete_allowed": allow_incomplete,
        "profile": ", ".join(dict.fromkeys(profile.label for suite in suites for profile in suite.profiles)) or None,
        "suite": {"refdeq": refdeq.__version__, "semantics": SEMANTICS_VERSION},
        "pack": {"digest": f"sha256:{_digest(cases)}", "cases": len(cases)},
        "backends": [backend_data(suite) for suite in suites],
        "environment": environment(seconds, threads),
        "protocol": protocol,
        "counts": found,
        "planned_ids_sha256": _digest(planned),
        "histograms": histograms([result.findings for suite in suites for result in suite.results]),
        "unavailable": [{"backend": name, "reason": reason} for name, reason in unavailable],
        "results": everything,
    }
    checked: dict[str, Any] = finite(data)
    return checked


def counts(results: Sequence[Mapping[str, Any]], planned: int) -> dict[str, int]:
    """Results by disposition; what was planned but has no result is missing, so that the counts close."""
    tally = Counter(result["disposition"] for result in results)
    found = {name: tally[name] for name in DISPOSITIONS}
    found["missing"] += planned - len(results)
    return {"planned": planned, **found}


def backend_data(suite: SuiteRun) -> dict[str, Any]:
    """What one implementation claims, what it was granted, and how much teeth the selected cases have."""
    manifest = suite.claims.manifest()
    valid = suite.exit_code() != 4
    by_case = {result.case.id: result.disposition for result in suite.results}
    return {
        "spec": suite.spec,
        "name": suite.claims.name,
        "version": suite.claims.version,
        "manifest_sha256": hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest(),
        "declared": manifest["claims"],
        "counts": suite.counts,
        "diagnosis": diagnose(suite.results),
        "impossible_levels": _impossible(suite.results),
        "vacuous": list(suite.vacuous),
        "notes": list(suite.notes),
        "seconds": round(suite.seconds, 3),
        "profiles": [
            {
                "name": profile.label,
                "granted": profile.granted and valid,
                "reason": profile.reason or (None if valid else "the run is invalid"),
                "required": len(profile.ids),
                "passed": sum(by_case.get(case) == "passed" for case in profile.ids),
                "digest": profile.digest or None,
            }
            for profile in suite.profiles
        ],
        "power": {
            "canaries": len(suite.canaries),
            "killed": sum(killer is not None for killer in suite.canaries.values()),
            "by_canary": [{"name": name, "killed_by": killer} for name, killer in suite.canaries.items()],
        },
    }


def _impossible(results: Sequence[Result]) -> list[str]:
    """Levels of which no case applies: what the implementation does not offer cannot be judged."""
    applies = {result.case.level for result in results if result.disposition != "not_applicable"}
    return sorted({result.case.level for result in results} - applies)


def result_data(result: Result, suite: SuiteRun) -> dict[str, Any]:
    """What came of one case."""
    case, findings = result.case, result.findings
    data: dict[str, Any] = {
        "suite": "cases",
        "id": case.id,
        "backend": suite.spec,
        "disposition": result.disposition,
        "level": case.level,
        "family": case.family,
        "dtype": case.problem.dtype,
        "title": case.title or None,
        "bug_types": list(case.bug_types),
        "decisions": findings.decisions,
        "values": findings.values,
        "worst_error_over_bound": findings.worst,
        "failed_checks": findings.failed,
        "ambiguous": findings.ambiguous,
        "flipped": findings.flipped,
        "unclaimed": findings.unclaimed,
        "notes": findings.notes[:NOTES],
        "seconds": round(result.seconds, 6),
        "reason": result.reason or None,
    }
    if result.disposition not in ("passed", "not_applicable", "skipped"):
        data["failures"] = [failure_data(failure, case.problem.dtype) for failure in findings.failures]
        data["repro"] = f"refdeq validate {suite.spec} --case {case.id}"
    return data


def failure_data(failure: Failure, dtype: str) -> dict[str, Any]:
    """One failing place: numbers as hexadecimal floats and as bits, the bound with its summands, where else it fails."""
    data = failure.as_data()
    data["expected_bits"] = bits_text(failure.expected, failure.tensor, dtype)
    data["actual_bits"] = bits_text(failure.actual, failure.tensor, dtype)
    data["ratio"] = failure.ratio
    data["k"] = None if failure.k < 0 else failure.k
    data["pattern"] = pattern(failure.places, failure.shape)
    return data


def finite(data: Any) -> Any:
    """The same data with plain Python numbers, and null for numbers that are not finite.

    >>> finite({"a": (1, float("nan")), "b": np.float32(0.5)})
    {'a': [1, None], 'b': 0.5}
    """
    if isinstance(data, Mapping):
        return {str(name): finite(value) for name, value in data.items()}
    if isinstance(data, list | tuple | np.ndarray):
        return [finite(value) for value in data]
    if isinstance(data, np.generic):
        return finite(data.item())
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _digest(ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
