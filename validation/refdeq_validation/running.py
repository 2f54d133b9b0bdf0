"""Running one case on one implementation, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from refdeq_validation.cases.model import Case
from refdeq_validation.judge.judging import judge
from refdeq_validation.judge.verdicts import Findings
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.session import Implementation

__all__ = ["DISPOSITIONS", "Result", "run_case"]

DISPOSITIONS = ("passed", "failed", "xfailed", "xpassed", "skipped", "not_applicable", "missing", "error")


@dataclass
class Result:
    """What came of one case.

    Attributes
    ----------
    case : Case
    disposition : str
        One of ``DISPOSITIONS``.
    findings : Findings
    seconds : float
    reason : str
        Why it was skipped, does not apply, or broke.
    """

    case: Case
    disposition: str
    findings: Findings = field(default_factory=Findings)
    seconds: float = 0.0
    reason: str = ""


def run_case(case: Case, implementation: Implementation, claims: Claims) -> Result:
    """Execute a case and judge the answers."""
    transcript = execute(case, implementation, claims)
    findings = judge(case, transcript, claims)
    return Result(case, "passed" if findings.passed else "failed", findings, transcript.seconds)
