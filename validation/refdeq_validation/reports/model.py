"""What the reports need to know of a run: one :class:`SuiteReport` per judged implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.running import Result

__all__ = ["ProfileOutcome", "SuiteReport"]


@dataclass(frozen=True)
class ProfileOutcome:
    """Whether a profile was granted, and why not.

    Attributes
    ----------
    name : str
    granted : bool
    reason : str
        Why it was refused; empty when it was granted.
    ids : tuple of str
        Required cases.
    digest : str
        Of the list of ids.
    """

    name: str
    granted: bool
    reason: str = ""
    ids: tuple[str, ...] = ()
    digest: str = ""


@dataclass
class SuiteReport:
    """One implementation judged on a selection of cases.

    Attributes
    ----------
    spec : str
        What ``refdeq validate`` takes to judge it again.
    claims : Claims
    planned : tuple of str
        Ids of all cases that were to run.
    results : sequence of Result
    profiles : sequence of ProfileOutcome
    canaries : mapping of str to (str or None)
        Canary implementations that ran on the same cases, with the id of a case that failed; None where it survived.
    seconds : float
    """

    spec: str
    claims: Claims
    planned: tuple[str, ...]
    results: Sequence[Result]
    profiles: Sequence[ProfileOutcome] = ()
    canaries: Mapping[str, str | None] = field(default_factory=dict)
    seconds: float = 0.0
