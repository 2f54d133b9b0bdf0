"""Running a selection of cases on one implementation: dispositions, counts that close, profiles, canaries."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from refdeq.errors import ArgumentError
from refdeq_validation.applicability import LADDER, untested_claims, why_not
from refdeq_validation.cases.draw import splitmix64
from refdeq_validation.cases.model import Case
from refdeq_validation.cases.profiles import PROFILES
from refdeq_validation.cases.published import digest_of
from refdeq_validation.cases.witness import VacuousCaseError, holds
from refdeq_validation.protocol.guards import PLACEMENTS
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.session import Implementation
from refdeq_validation.trials import DISPOSITIONS, Result, Trial
from refdeq_validation.waivers import Waivers

__all__ = ["ProfileOutcome", "SuiteRun", "check_cases", "conclude", "grant", "judge_cases", "narrower", "run_suite"]


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
    model : str
        Declared arithmetic that is narrower than the dtype of the profile, such as ``tf32``; empty for none.

    Examples
    --------
    >>> ProfileOutcome("core-f32", True, model="tf32").label
    'core-f32+tf32'
    """

    name: str
    granted: bool
    reason: str = ""
    ids: tuple[str, ...] = ()
    digest: str = ""
    model: str = ""

    @property
    def label(self) -> str:
        """Name as reports show it: what was granted to a narrower declaration says so."""
        return f"{self.name}+{self.model}" if self.model else self.name


@dataclass
class SuiteRun:
    """One implementation judged on a selection of cases.

    Attributes
    ----------
    spec : str
        What ``refdeq validate`` takes to judge it again.
    claims : Claims
    planned : tuple of str
        Ids of all cases that were to run.
    results : list of Result
    profiles : tuple of ProfileOutcome
        Those asked for; without any, those whose every case was selected.
    required : tuple of str
        Names of the profiles that were asked for.
    canaries : mapping of str to (str or None)
        Canaries that ran on the same cases, with the case that failed; None where one survived.
    vacuous : tuple of str
        Cases whose witness did not hold, with the reason.
    notes : tuple of str
        What is worth knowing and decides nothing.
    seconds : float
    """

    spec: str
    claims: Claims
    planned: tuple[str, ...]
    results: list[Result]
    profiles: tuple[ProfileOutcome, ...] = ()
    required: tuple[str, ...] = ()
    canaries: Mapping[str, str | None] = field(default_factory=dict)
    vacuous: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def counts(self) -> dict[str, int]:
        """Cases by disposition; what was planned and has no result is missing."""
        tally = Counter(result.disposition for result in self.results)
        found = {name: tally[name] for name in DISPOSITIONS}
        found["missing"] += len(self.planned) - len(self.results)
        return {"planned": len(self.planned), **found}

    @property
    def closes(self) -> bool:
        """Whether every planned case has one disposition, and nothing else has one."""
        ids = [result.case.id for result in self.results]
        known = all(result.disposition in DISPOSITIONS for result in self.results)
        distinct = len(set(ids)) == len(ids) and len(set(self.planned)) == len(self.planned)
        return known and distinct and set(ids) <= set(self.planned)

    @property
    def planned_sha256(self) -> str:
        """Digest of the planned ids."""
        return digest_of(self.planned)

    @property
    def power(self) -> float | None:
        """Canaries killed out of those that ran; None without any."""
        if not self.canaries:
            return None
        return sum(killer is not None for killer in self.canaries.values()) / len(self.canaries)

    def exit_code(self, allow_incomplete: bool = False) -> int:
        """0 granted, 1 nonconformant, 3 incomplete, 4 invalid, 5 broke; the first that holds of 4, 5, 1, 3, 0."""
        counts = self.counts
        survived = self.power is not None and self.power < 1.0
        if not self.planned or not self.closes or self.vacuous or survived:
            return 4
        if counts["error"]:
            return 5
        if counts["failed"] or counts["xpassed"]:
            return 1
        if not counts["passed"] or counts["missing"] or counts["skipped"] or self._lacks_profile():
            return 0 if allow_incomplete and counts["passed"] else 3
        return 0

    def _lacks_profile(self) -> bool:
        return any(not outcome.granted for outcome in self.profiles if outcome.name in self.required)


def run_suite(
    cases: Sequence[Case],
    implementation: Implementation,
    claims: Claims,
    *,
    spec: str = "",
    profiles: Collection[str] = (),
    waivers: Waivers | None = None,
    progress: Callable[[int], None] | None = None,
    canaries: bool = True,
) -> SuiteRun:
    """Run cases on an implementation and say what was proved.

    Every case runs in fresh sessions first; then all run again, in another order, in sessions that have been used, elsewhere in
    memory (:data:`refdeq_validation.protocol.guards.PLACEMENTS`).

    Parameters
    ----------
    cases : sequence of Case
    implementation : Implementation
    claims : Claims
    spec : str
        What the user named; the claimed name by default.
    profiles : collection of str
        Profiles that must be granted.
    waivers : Waivers, optional
        Checked by :func:`refdeq_validation.waivers.check_waivers`.
    progress : callable, optional
        Told how many steps are done; there are two per case.
    canaries : bool
        Whether broken implementations run on the same cases first: each must fail.

    Returns
    -------
    SuiteRun
    """
    began = time.perf_counter()
    waivers = Waivers() if waivers is None else waivers
    advance = progress or (lambda count: None)
    vacuous = check_cases(cases)
    killed: Mapping[str, str | None] = {}
    if canaries:
        from refdeq_validation.canary_run import run_canaries

        killed = run_canaries([case for case in cases if case.id not in waivers.skips and not why_not(case, claims)])
    results = judge_cases(cases, implementation, claims, waivers, advance)
    run = conclude(cases, results, claims, spec=spec, profiles=profiles, canaries=killed, vacuous=vacuous)
    run.seconds = time.perf_counter() - began
    return run


def judge_cases(
    cases: Sequence[Case], implementation: Implementation, claims: Claims, waivers: Waivers, advance: Callable[[int], None]
) -> list[Result]:
    """Run cases under every placement, and say what came of each; `advance` is told of two steps per case."""
    taken = [case for case in cases if case.id not in waivers.skips]
    advance(2 * (len(cases) - len(taken)))
    trials = _run_twice(taken, implementation, claims, advance)
    return [_result(case, trials, waivers) for case in cases]


def conclude(
    cases: Sequence[Case],
    results: Sequence[Result],
    claims: Claims,
    *,
    spec: str = "",
    profiles: Collection[str] = (),
    canaries: Mapping[str, str | None] | None = None,
    vacuous: Sequence[str] = (),
) -> SuiteRun:
    """Put results together: profiles are those asked for, or else all whose every case was planned.

    Parameters
    ----------
    cases : sequence of Case
        All that were planned.
    results : sequence of Result
        In any order.
    claims : Claims
    spec : str
    profiles : collection of str
    canaries : mapping of str to (str or None), optional
    vacuous : sequence of str

    Returns
    -------
    SuiteRun
    """
    killed = canaries or {}
    power = None if not killed else sum(killer is not None for killer in killed.values()) / len(killed)
    planned = tuple(case.id for case in cases)
    found = {result.case.id: result for result in results}
    ordered = [found[case] for case in planned if case in found]
    extra = [result for result in results if result.case.id not in set(planned)]
    names = tuple(profiles) or tuple(
        name for name, profile in PROFILES.items() if profile.ids and set(profile.ids) <= set(planned)
    )
    return SuiteRun(
        spec=spec or claims.name,
        claims=claims,
        planned=planned,
        results=ordered + extra,  # what nobody planned keeps the counts from closing
        profiles=tuple(grant(name, results, power, claims) for name in names),
        required=tuple(profiles),
        canaries=killed,
        vacuous=tuple(vacuous),
        notes=tuple(_notes(claims, results)),
        seconds=sum(result.seconds for result in results),
    )


def check_cases(cases: Iterable[Case]) -> list[str]:
    """Cases that could not fail: their witnesses are asserted again, whatever was asserted when they were made."""
    found = []
    for case in cases:
        try:
            holds(case)
        except VacuousCaseError as error:
            found.append(str(error))
    return found


def grant(name: str, results: Sequence[Result], power: float | None, claims: Claims | None = None) -> ProfileOutcome:
    """Whether a profile is granted: every required case ran and passed, and no canary survived."""
    if name not in PROFILES:
        raise ArgumentError("profile", expected=f"one of {', '.join(PROFILES)}", got=repr(name))
    profile = PROFILES[name]
    found = {result.case.id: result.disposition for result in results}
    lacking = Counter(found.get(case, "missing") for case in profile.ids)
    lacking.pop("passed", None)
    reason = ", ".join(f"{count} {disposition.replace('_', ' ')}" for disposition, count in sorted(lacking.items()))
    if not profile.ids:
        reason = "the profile requires no case"
    elif not reason and power is not None and power < 1.0:
        reason = "a canary survived the selected cases"
    model = "" if claims is None else narrower(claims)
    return ProfileOutcome(name, not reason, reason, profile.ids, profile.digest, model)


def narrower(claims: Claims) -> str:
    """What a declaration takes less exactly than the dtype says: operands, sums, rounding; empty for none.

    >>> narrower(Claims(name="mine", order="fast", multiply="tf32"))
    'tf32'
    """
    operands = "" if claims.multiply == "same" else claims.multiply
    sums = "" if claims.accumulate == "same" else f"{claims.accumulate}-sums"
    return "+".join(filter(None, (operands, sums, "truncated" if claims.rounding == "truncate" else "")))


def _run_twice(
    cases: Sequence[Case], implementation: Implementation, claims: Claims, advance: Callable[[int], None]
) -> dict[str, Trial]:
    """Every case under the first placement in order, then under the others in another order."""
    in_process = getattr(implementation, "in_process", True)
    trials = {case.id: Trial(case, claims, in_process) for case in cases}
    first, *others = PLACEMENTS
    for case in cases:
        trial = trials[case.id]
        # large cases are judged at once, so that no transcript of theirs has to be kept
        for placement in PLACEMENTS if "full" in case.flags else (first,):
            if not trial.is_over:
                trial.execute(implementation, placement)
        advance(2 if "full" in case.flags else 1)
    for case in _shuffled([case for case in cases if "full" not in case.flags]):
        trial = trials[case.id]
        for placement in others:
            if not trial.is_over:
                trial.execute(implementation, placement)
        trial.find_aliases(implementation)
        trial.forget()
        advance(1)
    return trials


def _shuffled(cases: Sequence[Case]) -> list[Case]:
    """The cases in an order that is another one, and the same on every machine."""
    keys = splitmix64(len(cases), "order", len(cases))
    return [cases[i] for i in sorted(range(len(cases)), key=lambda i: int(keys[i]))]


def _result(case: Case, trials: Mapping[str, Trial], waivers: Waivers) -> Result:
    """Disposition of a case, waivers considered."""
    if case.id in waivers.skips:
        return Result(case, "skipped", reason=waivers.skips[case.id].reason)
    result = trials[case.id].result()
    waiver = waivers.xfails.get(case.id)
    if waiver is None or result.disposition == "not_applicable":
        return result
    if result.disposition == "passed":
        result.disposition, result.reason = "xpassed", f"expected to fail ({waiver.reason}), and passes: remove the entry"
    elif set(result.kinds) == {waiver.kind}:
        result.disposition, result.reason = "xfailed", waiver.reason
    else:
        result.reason = f"expected {waiver.kind}, failed by {', '.join(result.kinds)}"
    return result


def _notes(claims: Claims, results: Sequence[Result]) -> list[str]:
    ran = [result for result in results if result.disposition not in ("not_applicable", "skipped", "missing")]
    notes = [f"no selected case tests the claim {claim}" for claim in untested_claims(claims, [result.case for result in ran])]
    repeated = [result.repeated for result in ran if result.repeated is not None]
    if claims.determinism == LADDER[0] and repeated and all(repeated):
        notes.append(f"R0 is declared; all {len(repeated)} repeated cases gave the same bits, as R1 asks for")
    return notes
