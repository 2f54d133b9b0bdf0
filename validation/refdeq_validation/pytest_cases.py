"""Conformance cases as tests of pytest: one per case id, one more for the self-proof, and what they add up to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from refdeq.errors import RefdeqError
from refdeq_validation.canary_run import run_canaries
from refdeq_validation.cases.model import Case
from refdeq_validation.cases.profiles import PROFILES
from refdeq_validation.cases.suite import select
from refdeq_validation.protocol.loading import claims_of, load_implementation
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.session import Implementation
from refdeq_validation.reports.data import finite, result_data
from refdeq_validation.reports.wording import explain
from refdeq_validation.running import Result, SuiteRun, run_case
from refdeq_validation.suites import check_cases

__all__ = ["CaseItem", "Tally", "case_items", "selected"]

SELF_PROOF = "self-proof"


class _JudgedError(Exception):
    """The judge's words about a case."""


class _Cases(pytest.Collector):
    """Node above all cases: their ids read ``refdeq::gemm/tie/...``."""

    def collect(self) -> Iterator[pytest.Item]:
        """Nothing to find: :func:`case_items` makes the items."""
        return iter(())


class _JudgedItem(pytest.Item):
    """A test whose failure is told in the judge's words."""

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Words of the judge, without a traceback."""
        if isinstance(excinfo.value, _JudgedError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, None, str]:
        """Where, for the reports of pytest."""
        return "refdeq", None, self.name


class CaseItem(_JudgedItem):
    """One case.

    Parameters
    ----------
    case : Case
    implementation : Implementation
    claims : Claims
    spec : str
        What the user named.
    required_by : str or None
        Profile that asks for the case: not to apply is then a failure.
    """

    def __init__(
        self,
        *,
        case: Case,
        implementation: Implementation,
        claims: Claims,
        spec: str,
        required_by: str | None,
        **other: Any,
    ) -> None:
        super().__init__(**other)
        self.case, self.implementation, self.claims, self.spec = case, implementation, claims, spec
        self.required_by = required_by

    def runtest(self) -> None:
        """Execute and judge the case."""
        result = run_case(self.case, self.implementation, self.claims)
        if result.disposition == "not_applicable" and self.required_by is None:
            pytest.skip(f"does not apply: {result.reason}")
        if result.disposition == "not_applicable":
            raise _JudgedError(f"{self.case.id}: profile {self.required_by} requires it; {result.reason}")
        if result.disposition != "passed":
            raise _JudgedError(_told(result, self.spec, self.claims))


class _SelfProofItem(_JudgedItem):
    """Whether the selected cases have teeth: witnesses hold, and broken implementations fail."""

    def __init__(self, *, cases: Sequence[Case], **other: Any) -> None:
        super().__init__(**other)
        self.cases = cases

    def runtest(self) -> None:
        """Prove it."""
        survived = [name for name, killer in run_canaries(self.cases).items() if killer is None]
        found = [*check_cases(self.cases), *(f"canary {name}: passes every selected case" for name in survived)]
        if found:
            raise _JudgedError("\n".join(["the selected cases prove nothing:", *found]))


def _told(result: Result, spec: str, claims: Claims) -> str:
    suite = SuiteRun(spec, claims, (result.case.id,), [result])
    return "\n".join(explain(finite(result_data(result, suite))))


def selected(config: pytest.Config) -> tuple[Case, ...]:
    """Cases that the options choose: those of the profile, or the core tier."""
    profile = config.getoption("refdeq_profile")
    cases = select(tier="core") if profile is None else select(profile=profile)
    if not cases:
        raise pytest.UsageError(f"refdeq: no case is selected by the profile {profile!r}")
    return cases


def case_items(session: pytest.Session) -> list[pytest.Item]:
    """Items of all selected cases, in the order of the suite, after the self-proof.

    Raises
    ------
    pytest.UsageError
        The implementation or the profile cannot be found, or no case is selected.
    """
    spec, profile = session.config.getoption("refdeq_backend"), session.config.getoption("refdeq_profile")
    try:
        cases = selected(session.config)
        implementation = load_implementation(spec)
        claims = claims_of(implementation, spec)
    except RefdeqError as error:
        raise pytest.UsageError(f"refdeq: {error}") from error
    parent = _Cases.from_parent(session, name="refdeq", nodeid="refdeq")
    given = {"implementation": implementation, "claims": claims, "spec": spec, "required_by": profile}
    proof: pytest.Item = _SelfProofItem.from_parent(parent, name=SELF_PROOF, cases=cases)
    return [proof, *(CaseItem.from_parent(parent, name=case.id, case=case, **given) for case in cases)]


class Tally:
    """What the tests of a session add up to; registered in the process that reports."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.passed: set[str] = set()
        self.verdict = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember which cases passed."""
        if report.when == "call" and report.passed and report.nodeid.startswith("refdeq::"):
            self.passed.add(report.nodeid.removeprefix("refdeq::"))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """A green session in which nothing, or not all of a profile, passed is no green session."""
        if hasattr(session.config, "workerinput") or session.config.getoption("collectonly"):
            return
        self.verdict, good = self._verdict()
        if exitstatus == pytest.ExitCode.OK and not good:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _verdict(self) -> tuple[str, bool]:
        """What to say, and whether a green session may stay green."""
        profile, cases = self.config.getoption("refdeq_profile"), self.passed - {SELF_PROOF}
        if not cases:
            return "refdeq: no case passed, nothing is proved", False
        if profile is None:
            return f"refdeq: {len(cases)} cases passed; no profile was asked for", True
        required = set(PROFILES[profile].ids)
        if required - cases:
            text = f"{len(required - cases)} of {len(required)} required cases did not pass"
        elif SELF_PROOF not in self.passed:
            text = "the self-proof did not pass"
        else:
            return f"refdeq: {len(cases)} cases passed; profile {profile} is granted", True
        return f"refdeq: profile {profile} is not granted: {text}", False

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The verdict, last."""
        if self.verdict:
            terminalreporter.write_line(self.verdict)
