"""Which judge reads a case."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from refdeq_validation.cases.model import Case
from refdeq_validation.judge.certificate import judge_certificates
from refdeq_validation.judge.determinism import judge_determinism
from refdeq_validation.judge.free_running import judge_free_running
from refdeq_validation.judge.gradients import judge_gradients
from refdeq_validation.judge.lockstep import judge_lockstep
from refdeq_validation.judge.robustness import judge_robustness
from refdeq_validation.judge.solves import judge_solves
from refdeq_validation.judge.steps import judge_steps
from refdeq_validation.judge.verdicts import Failure, Findings
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.transcript import Transcript

__all__ = ["JUDGES", "judge"]


def _sequences(case: Case, transcript: Transcript, claims: Claims) -> Findings:
    """Level L2: whole solves by trace replay, sequences of steps from their states."""
    has_solves = any(call.name == "solve" for call in case.calls)
    return (judge_solves if has_solves else judge_steps)(case, transcript, claims)


def _deterministic(case: Case, transcript: Transcript, claims: Claims) -> Findings:
    """Level L7: bits of calls that belong together; each call by itself as at level L2."""
    return judge_determinism(case, transcript, claims, _sequences)


def _robust(case: Case, transcript: Transcript, claims: Claims) -> Findings:
    """Level L8: refusals; calls that were accepted as at level L2."""
    return judge_robustness(case, transcript, claims, _sequences)


JUDGES: Mapping[str, Callable[[Case, Transcript, Claims], Findings]] = {
    "L1": judge_steps,
    "L2": _sequences,
    "L3": judge_lockstep,
    "L4": judge_free_running,
    "L5": judge_certificates,
    "L6": judge_gradients,
    "L7": _deterministic,
    "L8": _robust,
}
"""By level."""


def judge(case: Case, transcript: Transcript, claims: Claims) -> Findings:
    """Judge what an implementation answered to a case.

    Parameters
    ----------
    case : Case
    transcript : Transcript
    claims : Claims
        What the implementation declared: they choose the model of arithmetic.

    Returns
    -------
    Findings
        Violations of the transcript are failures too.
    """
    findings = JUDGES[case.level](case, transcript, claims)
    for violation in transcript.violations:
        name = case.calls[violation.call].name if violation.call < len(case.calls) else ""
        findings.add(Failure(violation.kind, violation.call, name, (), "the contract kept", violation.text))
    return findings
