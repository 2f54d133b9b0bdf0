"""Level L7: calls that must give the same bits, however often, with how many threads, in whatever company (R1 to R5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refdeq_validation.cases.model import Call, Case
from refdeq_validation.judge.arithmetic import same_bits
from refdeq_validation.judge.robustness import judge_without
from refdeq_validation.judge.verdicts import Failure, Findings, show
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.transcript import Transcript

__all__ = ["judge_determinism"]

Array = np.ndarray[Any, Any]
Judge = Callable[[Case, Transcript, Claims], Findings]

_SUMMED = ("weight", "bias")
"""Results that belong to the whole batch."""


def judge_determinism(case: Case, transcript: Transcript, claims: Claims, transitions: Judge) -> Findings:
    """Judge calls that belong together by their bits, and every call by the judge of its own level.

    Calls name the group they belong to in ``options["same"]``, and in ``options["rows"]`` which samples of theirs the group is
    about; the first call of a group is what the others are compared with. Every NaN equals every NaN, +0 differs from -0.

    Parameters
    ----------
    case : Case
    transcript : Transcript
    claims : Claims
        From R4 on the bits are those of the strict order (N-6), which must be claimed too.
    transitions : callable
        The judge of the calls one by one.

    Returns
    -------
    Findings
    """
    threads = {t for t, call in enumerate(case.calls) if call.name == "threads"}
    findings = judge_without(threads, case, transcript, claims, transitions)
    if claims.determinism in ("R4", "R5") and claims.order != "strict":
        text = f"determinism {claims.determinism} is claimed with order {claims.order!r}"
        findings.add(Failure("declaration", -1, "determinism", (), "the bits of a declared order", text))
    first: dict[str, tuple[int, Mapping[str, Array]]] = {}
    for t, (call, answer) in enumerate(zip(case.calls, transcript.answers, strict=False)):
        if "same" not in call.options or answer.error:
            continue
        results = _rows(call, answer.results)
        group = str(call.options["same"])
        if group not in first:
            first[group] = t, results
            continue
        for name, expected in first[group][1].items():
            _compare(findings, t, name, expected, results.get(name), first[group][0])
    return findings


def _rows(call: Call, results: Mapping[str, Array]) -> dict[str, Array]:
    """Results of the samples that a group is about; of traces, the evaluations in which they took part."""
    found: dict[str, Array] = {}
    active = results.get("trace.active")
    for name, array in results.items():
        if name in _SUMMED and "rows" in call.options:
            continue
        on_batch = np.moveaxis(np.asarray(array), 1, 0) if name.startswith("trace.") else np.asarray(array)
        rows = call.options.get("rows", range(len(on_batch)))
        parts = [on_batch[row] for row in rows]
        if name.startswith("trace.") and active is not None:
            parts = [part[np.asarray(active)[:, row].astype(bool)] for part, row in zip(parts, rows, strict=True)]
        found[name] = np.concatenate([part.reshape(1, -1) for part in parts], axis=1) if parts else on_batch[:0]
    return found


def _compare(findings: Findings, t: int, name: str, expected: Array, actual: Array | None, against: int) -> None:
    findings.values += expected.size
    if actual is None or actual.shape != expected.shape or actual.dtype != expected.dtype:
        got = "nothing" if actual is None else f"{actual.dtype}, {actual.size} numbers"
        findings.add(Failure("nondeterminism", t, name, (), f"{expected.dtype}, {expected.size} numbers", got))
        return
    good = same_bits(expected, actual)
    if not good.all():
        at = tuple(int(i) for i in np.argwhere(~good)[0])
        told = f"{show(expected[at], name)} as in call {against}"
        findings.add(Failure("nondeterminism", t, name, at, told, show(actual[at], name), failing=int((~good).sum())))
