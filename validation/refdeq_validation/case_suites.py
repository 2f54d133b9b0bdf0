"""Running the cases on several implementations, in processes of their own where that is faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from refdeq_validation.applicability import why_not
from refdeq_validation.canary_run import run_canaries
from refdeq_validation.cases.model import Case
from refdeq_validation.cases.suite import by_id
from refdeq_validation.processes import Workers, tell
from refdeq_validation.protocol.loading import claims_of, load_implementation
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.suites import SuiteRun, check_cases, conclude, judge_cases
from refdeq_validation.targets import Target
from refdeq_validation.trials import Result
from refdeq_validation.waivers import Waivers

__all__ = ["Request", "is_worth_processes", "run_targets", "steps"]

WORTH_A_PROCESS = 200
"""Cases, over all implementations, from which a second process pays for its start."""

CHUNK = 120
"""Cases that a process takes at a time, at most."""


@dataclass(frozen=True)
class Request:
    """What to run on every implementation.

    Attributes
    ----------
    cases : tuple of Case
    profiles : tuple of str
        Profiles that must be granted.
    waivers : Waivers
    canaries : bool
    """

    cases: tuple[Case, ...]
    profiles: tuple[str, ...] = ()
    waivers: Waivers = field(default_factory=Waivers)
    canaries: bool = True


def steps(targets: Collection[Target], request: Request) -> int:
    """Steps that :func:`run_targets` tells of: two per case and implementation, one per case for proofs of teeth."""
    return len(request.cases) * (2 * len(targets) + 1)


def is_worth_processes(targets: Collection[Target], request: Request) -> bool:
    """Whether there is so much to run that other processes pay for their start."""
    return len(request.cases) * len(targets) >= WORTH_A_PROCESS


def run_targets(
    targets: Sequence[Target], request: Request, advance: Callable[[int], None], workers: Workers | None = None
) -> list[SuiteRun]:
    """Run the cases on every implementation.

    Parameters
    ----------
    targets : sequence of Target
    request : Request
    advance : callable
        Told how many of :func:`steps` are done.
    workers : Workers, optional
        Processes to run them in; this one without.

    Returns
    -------
    list of SuiteRun
        One per implementation, in order.
    """
    if not request.cases:
        return []
    if workers is None:
        return _run_here(targets, request, advance)
    return _run_in_processes(targets, request, workers, advance)


def _run_here(targets: Sequence[Target], request: Request, advance: Callable[[int], None]) -> list[SuiteRun]:
    vacuous = check_cases(request.cases)
    advance(len(request.cases))
    runs = []
    for target in targets:
        began = time.perf_counter()
        implementation = target.load()
        claims = claims_of(implementation, target.spec)
        results = judge_cases(request.cases, implementation, claims, request.waivers, advance)
        canaries = run_canaries(_executed(request, claims)) if request.canaries else {}
        runs.append(_concluded(target, claims, request, results, canaries, vacuous, time.perf_counter() - began))
    return runs


def _executed(request: Request, claims: Claims) -> list[Case]:
    """Cases that the implementation had to run."""
    return [case for case in request.cases if case.id not in request.waivers.skips and not why_not(case, claims)]


def _concluded(
    target: Target,
    claims: Claims,
    request: Request,
    results: Sequence[Result],
    canaries: Mapping[str, str | None],
    vacuous: Sequence[str],
    seconds: float,
) -> SuiteRun:
    options: dict[str, Any] = {"profiles": request.profiles, "canaries": canaries, "vacuous": vacuous}
    run = conclude(request.cases, results, claims, spec=target.spec, **options)
    run.seconds = seconds
    return run


# ------------------------------------------------------------------------------------------------------------- other processes


def _run_in_processes(
    targets: Sequence[Target], request: Request, workers: Workers, advance: Callable[[int], None]
) -> list[SuiteRun]:
    """Chunks of cases in fresh processes: teeth first, then the implementations, slow ones first."""
    ids = [case.id for case in request.cases]
    count = max(-(-len(ids) // CHUNK), min(workers.count, len(ids)))
    chunks = [ids[i::count] for i in range(count)]  # dealt out, so that every chunk has something of every family
    claims = {target.spec: claims_of(target.load(), target.spec) for target in targets}
    bitten: dict[tuple[str, ...], Future[Mapping[str, str | None]]] = {}
    proofs = [workers.submit(_prove, chunk) for chunk in chunks]
    judged = {
        target.spec: [workers.submit(_judge, target.spec, chunk, request.waivers) for chunk in chunks] for target in targets
    }
    executed = {spec: tuple(case.id for case in _executed(request, claims[spec])) for spec in claims}
    for selection in executed.values() if request.canaries else ():
        if selection not in bitten:
            bitten[selection] = workers.submit(_bite, selection)
    workers.follow([*proofs, *bitten.values(), *(future for futures in judged.values() for future in futures)], advance)
    vacuous = [text for proof in proofs for text in proof.result()]
    runs = []
    for target in targets:
        parts = [future.result() for future in judged[target.spec]]
        results = [replace(result, case=by_id()[result.case]) for part, _ in parts for result in part]
        canaries = bitten[executed[target.spec]].result() if request.canaries else {}
        seconds = sum(spent for _, spent in parts)
        runs.append(_concluded(target, claims[target.spec], request, results, canaries, vacuous, seconds))
    return runs


def _prove(ids: Sequence[str]) -> list[str]:
    found = check_cases([by_id()[name] for name in ids])
    tell(len(ids))
    return found


def _judge(spec: str, ids: Sequence[str], waivers: Waivers) -> tuple[list[Any], float]:
    """Results with ids in place of cases, which the caller has, and the time they took."""
    began = time.perf_counter()
    implementation = load_implementation(spec)
    claims = claims_of(implementation, spec)
    results = judge_cases([by_id()[name] for name in ids], implementation, claims, waivers, tell)
    return [replace(result, case=result.case.id) for result in results], time.perf_counter() - began  # type: ignore[arg-type]


def _bite(ids: Sequence[str]) -> Mapping[str, str | None]:
    return run_canaries([by_id()[name] for name in ids])
