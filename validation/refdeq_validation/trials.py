"""Running one case on an implementation, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refdeq_validation.applicability import LADDER, why_not
from refdeq_validation.cases.model import Case
from refdeq_validation.judge.arithmetic import same_bits
from refdeq_validation.judge.judging import judge
from refdeq_validation.judge.verdicts import Failure, Findings
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.guards import PLACEMENTS, UNDISTURBED, Placement
from refdeq_validation.protocol.integrity import broken_seal
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.session import Implementation
from refdeq_validation.protocol.transcript import Transcript

__all__ = ["DISPOSITIONS", "Result", "Trial", "first_difference", "run_case"]

Array = np.ndarray[Any, Any]

DISPOSITIONS = ("passed", "failed", "xfailed", "xpassed", "skipped", "not_applicable", "missing", "error")


@dataclass
class Result:
    """What came of one case.

    Attributes
    ----------
    case : Case
    disposition : str
        One of ``DISPOSITIONS``; ``error`` when a call crashed or ran out of time.
    findings : Findings
        Of all executions of the case.
    seconds : float
    reason : str
        Why it was skipped, does not apply, or broke.
    repeated : bool or None
        Whether all executions gave the same bits; None where there was only one.
    """

    case: Case
    disposition: str
    findings: Findings = field(default_factory=Findings)
    seconds: float = 0.0
    reason: str = ""
    repeated: bool | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of the failures, each once."""
        return tuple(dict.fromkeys(failure.kind for failure in self.findings.failures))


def run_case(
    case: Case, implementation: Implementation, claims: Claims, *, placements: Sequence[Placement] = PLACEMENTS
) -> Result:
    """Execute a case under every placement and judge each execution.

    Parameters
    ----------
    case : Case
    implementation : Implementation
    claims : Claims
        They decide whether the case applies, and what is asked for.
    placements : sequence of Placement
        No further one is tried after a failure.

    Returns
    -------
    Result
    """
    trial = Trial(case, claims, in_process=getattr(implementation, "in_process", True))
    for placement in placements:
        if not trial.is_over:
            trial.execute(implementation, placement)
    return trial.result()


class Trial:
    """A case on its way: executed once or more, judged each time.

    Parameters
    ----------
    case : Case
    claims : Claims
    in_process : bool
        Whether arrays are handed over in memory: some cases are about where they lie.
    """

    def __init__(self, case: Case, claims: Claims, in_process: bool = True) -> None:
        self.case, self.claims = case, claims
        self.reason = why_not(case, claims, in_process)
        self.findings = Findings()
        self.seconds = 0.0
        self.executions = 0
        self.broke = ""
        self.repeated: bool | None = None
        self._first: Transcript | None = None

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to learn: the case does not apply, or has failed."""
        return bool(self.reason) or self.findings.failed > 0

    def execute(self, implementation: Implementation, placement: Placement) -> None:
        """Execute and judge once more; from the second time on the bits must be those of the first where R1 is claimed."""
        transcript = execute(self.case, implementation, self.claims, placement)
        self.executions += 1
        self.seconds += transcript.seconds
        altered = broken_seal(implementation)
        if altered:
            self.findings.add(Failure("guard", -1, altered, (), "the function of the judge", "another one"))
            return
        self.findings.merge(judge(self.case, transcript, self.claims))
        crash = next((answer.text for answer in transcript.answers if answer.error == "crash"), "")
        late = next((broken.text for broken in transcript.violations if broken.kind == "timeout"), "")
        self.broke = self.broke or late or crash
        if self._first is None:
            self._first = transcript
            return
        difference = first_difference(self._first, transcript)
        self.repeated = (self.repeated is not False) and difference is None
        if difference is not None and LADDER.index(self.claims.determinism) >= LADDER.index("R1"):
            self.findings.add(difference)

    def find_aliases(self, implementation: Implementation) -> None:
        """Of a failed case: whether it passes when nobody overwrites what was passed in and returned."""
        if self.reason or not self.findings.failed:
            return
        transcript = execute(self.case, implementation, self.claims, UNDISTURBED)
        if judge(self.case, transcript, self.claims).passed:
            text = "the case passes when arrays passed in and returned are left alone: some are kept or handed out"
            self.findings.add(Failure("alias", -1, "arrays", (), "no array kept", text))

    def forget(self) -> None:
        """Let the kept transcript go."""
        self._first = None

    def result(self) -> Result:
        """What came of it."""
        if self.reason:
            return Result(self.case, "not_applicable", reason=self.reason)
        if not self.executions:
            return Result(self.case, "missing", reason="it was not executed")
        disposition = "error" if self.broke else "passed" if self.findings.passed else "failed"
        reason = self.broke
        if disposition == "failed" and self.findings.vacuous:
            # Neither passed nor failed: what was declared is too coarse for a claim, and other cases have to speak.
            disposition = "not_applicable"
            reason = f"bound_vacuous: nothing can be claimed of {self.findings.unclaimed} numbers under what is declared"
        elif disposition == "failed" and not self.findings.failed:
            reason = "nothing was compared"
        return Result(self.case, disposition, self.findings, self.seconds, reason, self.repeated)


def first_difference(one: Transcript, other: Transcript) -> Failure | None:
    """Where two executions of a case differ in bits; every NaN equals every NaN, rows that took no part are not read."""
    for t, (left, right) in enumerate(zip(one.answers, other.answers, strict=False)):
        if left.error != right.error:
            return Failure("nondeterminism", t, left.name, (), left.error or "an answer", right.error or "an answer")
        for name in left.results:
            if name not in right.results:
                return Failure("nondeterminism", t, name, (), "in every execution", "missing in one")
            failure = _differs(t, name, left.results, right.results)
            if failure is not None:
                return failure
    if len(one.answers) != len(other.answers):
        return Failure("nondeterminism", -1, "answers", (), str(len(one.answers)), str(len(other.answers)))
    return None


def _differs(t: int, name: str, left: Any, right: Any) -> Failure | None:
    a, b = np.asarray(left[name]), np.asarray(right[name])
    if a.shape != b.shape or a.dtype != b.dtype:
        return Failure("nondeterminism", t, name, (), f"{a.dtype} {a.shape}", f"{b.dtype} {b.shape}")
    if a.dtype.kind not in "fbiu":
        return None if bool(np.all(a == b)) else Failure("nondeterminism", t, name, (), str(a), str(b))
    good = same_bits(a, b) if a.dtype.kind != "f" or a.dtype in (np.float32, np.float64) else np.asarray(a == b)
    if name.startswith("trace.") and name != "trace.active" and "trace.active" in left:
        active = np.asarray(left["trace.active"], dtype=bool)
        if a.shape[:2] == active.shape:
            good = good | ~active.reshape(*active.shape, *(1,) * (a.ndim - 2))
    if good.all():
        return None
    at = tuple(int(i) for i in np.argwhere(~good)[0])
    return Failure("nondeterminism", t, name, at, _shown(a[at]), _shown(b[at]), failing=int((~good).sum()))


def _shown(value: Any) -> str:
    return float(value).hex() if np.asarray(value).dtype.kind == "f" else str(value)
