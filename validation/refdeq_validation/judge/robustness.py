"""Level L8: what must be refused is refused and changes nothing, what may be refused is refused or right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from refdeq_validation.cases.model import Call, Case
from refdeq_validation.judge.verdicts import Failure, Findings
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.transcript import Answer, Transcript

__all__ = ["judge_robustness", "judge_without"]

Judge = Callable[[Case, Transcript, Claims], Findings]


def judge_robustness(case: Case, transcript: Transcript, claims: Claims, accepted: Judge) -> Findings:
    """Judge refusals, and that they left everything as it was.

    A refusal is a ``ValueError`` or ``TypeError``; any other exception is a crash. That nothing changed shows in the calls that
    follow: they are judged as if the refused ones had not been made (the strong guarantee).

    Parameters
    ----------
    case : Case
    transcript : Transcript
    claims : Claims
    accepted : callable
        The judge of the calls that were accepted.

    Returns
    -------
    Findings
    """
    findings = Findings()
    left_out: set[int] = set()
    for t, (call, answer) in enumerate(zip(case.calls, transcript.answers, strict=False)):
        if not (call.refused or call.options.get("may_refuse")):
            continue
        findings.values += 1
        wrong = _refusal(t, call, answer)
        if wrong is not None:
            findings.add(wrong)
        if call.refused or answer.error:
            left_out.add(t)
    findings.merge(judge_without(left_out, case, transcript, claims, accepted))
    return findings


def judge_without(left_out: set[int], case: Case, transcript: Transcript, claims: Claims, judge: Judge) -> Findings:
    """Judge a transcript as if some calls had not been made; failures keep the indices of the whole case."""
    kept = [t for t in range(len(case.calls)) if t not in left_out]
    shorter = replace(case, calls=tuple(case.calls[t] for t in kept))
    answers = [transcript.answers[t] for t in kept if t < len(transcript.answers)]
    answers += transcript.answers[len(case.calls) :]  # more answers than calls stay more
    findings = judge(shorter, Transcript(transcript.case, answers), claims)
    findings.failures = [replace(failure, evaluation=_place(failure.evaluation, kept)) for failure in findings.failures]
    return findings


def _place(at: int, kept: list[int]) -> int:
    return kept[at] if 0 <= at < len(kept) else at


def _refusal(t: int, call: Call, answer: Answer) -> Failure | None:
    """What is wrong with the answer to a call that must, or may, be refused."""
    if answer.error == "refused" or (not answer.error and not call.refused):
        return None
    expected = "a refusal (ValueError or TypeError)"
    if not answer.error:
        return Failure("no_exception", t, call.name, (), expected, "accepted")
    return Failure("exception", t, call.name, (), expected, f"{answer.error}: {answer.text}")
