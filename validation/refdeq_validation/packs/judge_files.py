"""Judging answers from files: the same judge, dispositions and reports as a live run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from refdeq_validation.applicability import why_not
from refdeq_validation.canary_run import run_canaries
from refdeq_validation.cases.model import Case
from refdeq_validation.cases.negative import IN_PROCESS
from refdeq_validation.cases.profiles import PROFILES
from refdeq_validation.judge.judging import judge
from refdeq_validation.packs.reading import Pack, read_pack
from refdeq_validation.packs.responses import Responses, read_responses
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.running import Result, SuiteRun
from refdeq_validation.suites import check_cases, grant

__all__ = ["judge_pack", "judge_responses"]

IN_MEMORY = "the case is about arrays in memory, which files cannot show"

ONCE = "answers were read from files: each case was executed once, so repetition and what happens to arrays were not observed"


def judge_pack(
    prompt: Path,
    response: Path,
    claims: Claims,
    *,
    spec: str = "",
    self_proof: bool = True,
    begin: Callable[[int], None] = lambda total: None,
    advance: Callable[[], None] = lambda: None,
) -> SuiteRun:
    """Judge the answers to a pack.

    Parameters
    ----------
    prompt : Path
        Folder of the pack, blind or not: expected values are not read, everything is judged from the inputs.
    response : Path
        ``response.jsonl`` or its folder.
    claims : Claims
        What the answering implementation declares.
    spec : str
        Name in the report; the claimed one by default.
    self_proof : bool
        Whether the witnesses of all cases are asserted again and canaries run on them, as in a live run.
    begin, advance : callable
        Told the number of cases, and of each that is judged.

    Returns
    -------
    SuiteRun

    Raises
    ------
    FileFormatError
        When pack or response are broken; see :func:`read_pack` and :func:`read_responses`.
    """
    began = time.perf_counter()
    pack = read_pack(prompt)
    responses = read_responses(response, pack)
    begin(len(pack.cases))
    vacuous, killed = (check_cases(pack.cases), run_canaries(pack.cases)) if self_proof else ([], {})
    results = judge_responses(pack, responses, claims, advance)
    power = None if not killed else sum(killer is not None for killer in killed.values()) / len(killed)
    asked = pack.manifest["profile"]
    names = [name for name, profile in PROFILES.items() if profile.ids and set(profile.ids) <= set(pack.manifest["ids"])]
    required = (asked,) if asked in PROFILES else ()
    return SuiteRun(
        spec=spec or claims.name,
        claims=claims,
        planned=tuple(case.id for case in pack.cases),
        results=results,
        profiles=tuple(grant(name, results, power) for name in dict.fromkeys([*required, *names])),
        required=required,
        canaries=killed,
        vacuous=tuple(vacuous),
        notes=(ONCE, f"pack {pack.manifest['digest']}, {'blind' if pack.manifest['blind'] else 'with expected values'}"),
        seconds=time.perf_counter() - began,
    )


def judge_responses(
    pack: Pack, responses: Responses, claims: Claims, advance: Callable[[], None] = lambda: None
) -> list[Result]:
    """Judge transcripts that were read; a case with a call that was not answered is missing, or failed by what was.

    Returns
    -------
    list of Result
        One per case of the pack, in its order.
    """
    results = []
    for case in pack.cases:
        results.append(_result(case, responses, claims))
        advance()
    return results


def _result(case: Case, responses: Responses, claims: Claims) -> Result:
    reason = why_not(case, claims) or (IN_MEMORY if IN_PROCESS in case.flags else "")
    if reason:
        return Result(case, "not_applicable", reason=reason)
    gap, transcript = responses.missing.get(case.id, ""), responses.transcripts[case.id]
    if gap and not transcript.answers:
        return Result(case, "missing", reason=gap)
    began = time.perf_counter()
    findings = judge(case, transcript, claims)
    seconds = time.perf_counter() - began
    crash = next((answer.text or "it says that it crashed" for answer in transcript.answers if answer.error == "crash"), "")
    if crash:
        return Result(case, "error", findings, seconds, crash)
    if gap:
        otherwise = any(failure.kind != "missing" for failure in findings.failures)
        return Result(case, "failed" if otherwise else "missing", findings, seconds, gap)
    reason = "" if findings.passed or findings.failed else "nothing was compared"
    return Result(case, "passed" if findings.passed else "failed", findings, seconds, reason)
