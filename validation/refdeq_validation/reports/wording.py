"""Failures in words, from the data alone: nobody has to run a case again to understand what was wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from refdeq_validation.reports.markup import LABELS

__all__ = ["ORDER", "clean", "explain", "explain_failure", "headline", "likely_line", "outcome", "reasons", "severity"]

SHOWN = 5
"""Failing checks told per case."""

ORDER = ("error", "failed", "xpassed", "missing", "xfailed", "skipped", "not_applicable", "passed")
"""Dispositions, the gravest first."""


def severity(result: Mapping[str, Any]) -> tuple[int, float, str]:
    """Sorting key: the gravest disposition first, then the largest error over bound, then the id."""
    return ORDER.index(result["disposition"]), -(result["worst_error_over_bound"] or 0.0), result["id"]


def clean(text: str, limit: int = 400) -> str:
    r"""One bounded line of printable text: what a judged implementation says may hold anything.

    >>> clean("a\tb\x07\nc")
    'a b c'
    """
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= limit else f"{plain[:limit]}... and {len(plain) - limit} more characters"


def headline(result: Mapping[str, Any]) -> str:
    """Implementation, case, and what came of it.

    >>> headline({"backend": "lab", "id": "gemm/tie/ge-1a2b3c4d", "disposition": "xpassed"})
    'lab, gemm/tie/ge-1a2b3c4d: passed unexpectedly'
    """
    name, word = result["disposition"], LABELS.get(result["disposition"], result["disposition"])
    where = ", ".join(part for part in (result.get("backend"), result["id"]) if part)
    return f"{where}: {word if name in LABELS else name}"


def explain(result: Mapping[str, Any], shown: int = SHOWN) -> list[str]:
    """Tell a result in lines of text: the first a headline, the last the command that repeats it.

    Parameters
    ----------
    result : mapping
        An entry of ``results``.
    shown : int
        Failing checks told.

    Returns
    -------
    list of str
        Failing checks with their bits, bounds and patterns; the first decision that differs, with its margin.
    """
    lines = [headline(result)]
    reasons = [result[key] for key in ("title", "reason", "error") if result.get(key)]
    lines += [f"  {clean(str(reason))}" for reason in reasons]
    everything: Sequence[Mapping[str, Any]] = result.get("failures") or ()
    failures = [failure for failure in everything if not _repeats(failure, result)]
    for failure in failures[:shown]:
        lines += [f"  {line}" for line in explain_failure(failure)]
    told = min(len(failures), shown) + len(everything) - len(failures)
    left = max(len(everything), result.get("failed_checks") or 0) - told
    if left > 0:
        lines.append(f"  and {left} more failing checks")
    flips = [failure for failure in failures if failure["kind"] == "mask"]
    if flips:
        lines.append(f"  first decision that differs: {_first_flip(min(flips, key=lambda flip: flip['evaluation']))}")
    if result.get("bug_types") and result["disposition"] != "error":  # a crash has no wrong number to diagnose
        lines.append(f"  the case is about: {', '.join(result['bug_types'])}")
    if result.get("repro"):
        lines.append(f"  repeat: {result['repro']}")
    return lines


def _repeats(failure: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    """Whether a failure says of a crash or a time-out only what the reason of the result has said."""
    reason = result.get("reason")
    return result["disposition"] == "error" and bool(reason) and str(failure["actual"]).endswith(str(reason))


def explain_failure(failure: Mapping[str, Any]) -> list[str]:
    """One failing check: where, expected and actual as hexadecimal floats and bits, error, bound with its parts, pattern."""
    index = list(failure["index"])
    where = f"{failure['tensor']}{index}" if index else failure["tensor"]
    call = f", call {failure['evaluation']}" if failure["evaluation"] >= 0 else ""
    count = f" ({failure['failing']} elements fail)" if failure["failing"] > 1 else ""
    lines = [f"{failure['kind'].replace('_', ' ')}: {clean(where, 120)}{call}{count}"]
    for title, key in (("expected", "expected"), ("got     ", "actual")):
        bits = f"  {failure[f'{key}_bits']}" if failure.get(f"{key}_bits") else ""
        lines.append(f"  {title} {clean(failure[key])}{bits}")
    if failure.get("bound") is not None:
        lines.append(f"  {_bound(failure)}")
    if failure.get("pattern"):
        lines.append(f"  failing elements: {failure['pattern']}")
    return lines


def _bound(failure: Mapping[str, Any]) -> str:
    error = "not finite" if failure["error"] is None else f"{failure['error']:.4g}"
    text = f"error {error}, bound {failure['bound']:.4g}"
    if failure.get("ratio") is not None:
        text += f", ratio {failure['ratio']:.4g}"
    if failure.get("k") is not None:
        text += f", k {failure['k']}"
    if failure.get("gauge") is not None:
        text += f", gauge {failure['gauge']:.4g}"
    parts = [f"{value:.3g} {name}" for name, value in (failure.get("terms") or {}).items() if value]
    return text + (f"; bound = {' + '.join(parts)}" if parts else "")


def _first_flip(flip: Mapping[str, Any]) -> str:
    margin = "" if flip.get("margin") is None else f", margin {flip['margin']:.4g}"
    call = f", call {flip['evaluation']}" if flip["evaluation"] >= 0 else ""
    return f"{flip['tensor']}{list(flip['index'])}{call}{margin}"


def reasons(data: Mapping[str, Any]) -> list[str]:
    """Why a run is invalid or incomplete: what no single result tells.

    Parameters
    ----------
    data : mapping
        As ``report_data`` builds it.

    Returns
    -------
    list of str
        Empty where nothing of the kind happened.
    """
    found = [] if data["counts"]["planned"] or data["unavailable"] else ["nothing was selected"]
    for backend in data["backends"]:
        survivors = [canary["name"] for canary in backend["power"]["by_canary"] if canary["killed_by"] is None]
        if survivors:
            found.append(f"the cases of {backend['spec']} let broken implementations pass: {', '.join(survivors)}")
        found += [f"vacuous: {text}" for text in backend["vacuous"]]
        if backend["counts"]["missing"] > 0:
            found.append(f"planned cases of {backend['spec']} without a result: {backend['counts']['missing']}")
        if backend["counts"]["missing"] < 0:
            found.append(f"{backend['spec']} has results that were not planned")
    found += [f"cannot run {entry['backend']}: {entry['reason']}" for entry in data["unavailable"]]
    return list(dict.fromkeys(clean(text) for text in found))


def outcome(data: Mapping[str, Any]) -> str:
    """The verdict in words: ``granted`` is said of profiles, where none was judged the cases only ``passed``.

    >>> outcome({"verdict": "granted", "profile": None}), outcome({"verdict": "granted", "profile": "core-f32"})
    ('passed', 'granted')
    """
    return "passed" if data["verdict"] == "granted" and not data["profile"] else str(data["verdict"])


def likely_line(diagnosis: Mapping[str, Any] | None) -> str:
    """The ranked likely bugs in one line; empty when nothing failed."""
    if diagnosis is None:
        return ""
    if diagnosis["signatures"]:
        named = ", ".join(f"{entry['name']} ({entry['score']:.2f})" for entry in diagnosis["signatures"][:3])
        return f"likely bug: failures match those of {named}"
    types = ", ".join(
        f"{entry['name']} ({entry['failed']} of {entry['cases']} cases fail)" for entry in diagnosis["bug_types"][:3]
    )
    if diagnosis["note"] and not types:
        return str(diagnosis["note"])
    note = f" ({diagnosis['note']})" if diagnosis["note"] else ""
    return f"likely bug type: {types or 'none is cited by the failing cases'}{note}"
