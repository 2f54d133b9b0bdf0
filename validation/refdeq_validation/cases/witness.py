"""The witness of a case: proof that it can fail. A case that would accept an implementation of nothing is refused.

:func:`prove` is what generators are held to (in the tests, and whenever the published lists are written); :func:`holds` asserts
the core of it again whenever a case is run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError
from refdeq_validation.cases.model import Case
from refdeq_validation.cases.nulls import FORMS, NULLS, null_transcript
from refdeq_validation.judge import exactness
from refdeq_validation.judge.judging import judge
from refdeq_validation.judge.verdicts import Failure, Findings
from refdeq_validation.lab.session import CLAIMS, Lab
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.transcript import Transcript

__all__ = ["CLEARLY", "VacuousCaseError", "golden_transcript", "holds", "prove"]

Array = np.ndarray[Any, Any]

CLEARLY = 8.0
"""Bounds by which a null implementation must miss, where bits alone do not reject it."""

FAST = replace(CLAIMS, order="fast", determinism="R1")
"""The weakest claims: only the bound judges accumulators."""

MEASURED = ("value", "gradient", "certificate", "declaration")
"""Kinds of failures that are errors beyond a bound; all others no model of arithmetic excuses."""


FIRST = 3
"""Calls of a case that are judged before all of it is."""


class VacuousCaseError(ArgumentError):
    """A case cannot fail where it should: it proves nothing and is refused."""


def is_unit_step(case: Case) -> bool:
    """Whether a case consists of unit steps alone, all of which are answered."""
    return case.level in ("L1", "L2") and {call.name for call in case.calls} <= {"reset", "set_state", "step"}


def golden_transcript(case: Case) -> Transcript:
    """What the clean lab answers, in strict order and with its state."""
    return execute(case, Lab(), CLAIMS)


def prove(case: Case) -> Case:
    """Prove that a case can fail, and return it with the facts.

    Parameters
    ----------
    case : Case

    Returns
    -------
    Case
        With the witness ``sent`` (elements sent, of how many), ``margin`` (least distance of a difference from its
        threshold, hexadecimal), for exact cases ``exact`` (unit and largest sum of magnitudes, from
        :mod:`refdeq_validation.judge.exactness`) and ``nulls`` (what rejects each null implementation). The id is kept.

    Raises
    ------
    VacuousCaseError
        When the golden answers do not pass, an exact case is not exact, nothing or everything is sent (cases flagged
        ``uniform-mask`` may), or a null implementation is not rejected in mask or memory, by ``CLEARLY`` bounds, or in
        bits where the case is exact.
    """
    golden = golden_transcript(case)
    for claims in (CLAIMS, FAST):
        findings = judge(case, golden, claims)
        if not findings.passed:
            told = findings.failures[0].sentence() if findings.failures else "nothing was compared"
            raise VacuousCaseError(f"case {case.id}", expected=f"golden answers that pass ({claims.order} order)", got=told)
    facts: dict[str, Any] = dict(case.witness)
    if is_unit_step(case):
        facts |= _masks(case, golden)
    if case.expect == "exact":
        facts["exact"] = _exact(case)
    facts["nulls"] = {f"{null} ({form})": _rejected(case, golden, null, form) for null in NULLS for form in FORMS}
    return replace(case, witness=facts)


def holds(case: Case) -> None:
    """Assert again that a case rejects every null implementation in its harder form.

    Raises
    ------
    VacuousCaseError
    """
    golden = golden_transcript(case)
    for null in NULLS:
        _rejected(case, golden, null, "values")


def _exact(case: Case) -> dict[str, Any]:
    try:
        proof = exactness.prove(case)
    except ArgumentError as error:
        raise VacuousCaseError(f"case {case.id}", expected="sums that are exact in every order", got=str(error)) from error
    return {"q": proof.q, "gauge": proof.gauge.hex()}


def _masks(case: Case, golden: Transcript) -> dict[str, Any]:
    masks = [answer.results["mask"] for answer in golden.answers if "mask" in answer.results]
    sent, size = sum(int(mask.sum()) for mask in masks), sum(mask.size for mask in masks)
    if not 0 < sent < size and "uniform-mask" not in case.flags:
        raise VacuousCaseError(f"case {case.id}", expected="some elements sent and some not", got=f"{sent} of {size} sent")
    return {"sent": [sent, size], "margin": _margin(case, golden).hex()}


def _margin(case: Case, golden: Transcript) -> float:
    """Least finite ``||delta| - tau|`` over the decisions made from a known reference."""
    problem, rule = case.problem, case.problem.gate_rule
    if rule is None:
        return float("inf")
    with np.errstate(over="ignore", under="ignore"):
        tau = np.asarray(rule.threshold).astype(problem.dtype).astype(np.float64)
    tau = tau.reshape(-1, *(1,) * (len(problem.shape) - 1)) if tau.ndim else tau
    references: dict[int, Array] = {}
    least = float("inf")
    for call, answer in zip(case.calls, golden.answers, strict=True):
        session = int(call.options.get("session", 0))
        if answer.error:
            continue
        if call.name == "set_state":
            references[session] = call.arrays["r"]
        elif call.name == "reset":
            references.pop(session, None)
        elif call.name == "step":
            if session in references:
                with np.errstate(all="ignore"):
                    margin = np.abs(np.abs((call.arrays["u"] - references[session]).astype(np.float64)) - tau)
                least = min(least, float(np.min(margin, where=np.isfinite(margin), initial=np.inf)))
            references[session] = answer.results["r"]
    return least


def _rejected(case: Case, golden: Transcript, null: str, form: str) -> str:
    """What rejects a null implementation, under the weakest claims; ``right`` where its answer is no null."""
    transcript = null_transcript(case, golden, null, form)
    if transcript is None:
        return "right"
    findings, reason = Findings(), ""
    for calls in (FIRST, len(case.calls)):  # what the first calls show need not be looked for in the rest
        if calls > len(case.calls):
            continue
        beginning = replace(case, calls=case.calls[:calls])
        findings = judge(beginning, Transcript(case.id, transcript.answers[:calls]), FAST)
        reason = _reason(case, findings)
        if reason:
            break
    if not reason:
        got = f"at most {findings.worst:.3g} bounds" if findings.failed else "accepted"
        raise VacuousCaseError(
            f"case {case.id}, null implementation {null!r} ({form})",
            expected=f"rejection in bits or by {CLEARLY:g} bounds",
            got=got,
            hint="give it more rows, steps or inputs",
        )
    return reason


def _reason(case: Case, findings: Findings) -> str:
    if not findings.failed:
        return ""
    for failure in findings.failures:
        if failure.kind not in MEASURED:
            return failure.kind
    if case.expect in ("exact", "bitwise"):
        return "bits"
    clear = findings.worst >= CLEARLY or any(_unbounded(failure) for failure in findings.failures)
    return "value" if clear else ""


def _unbounded(failure: Failure) -> bool:
    """Whether a failing number is NaN or infinite, or differs where no error is allowed."""
    return not np.isfinite(failure.error) or failure.bound == 0.0
