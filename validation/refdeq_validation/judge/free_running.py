"""Level L4, free running: what must hold of a solve of which only the end is seen.

Trajectories are not compared: an ambiguous decision that falls the other way may end elsewhere. Compared are invariants of the
state, the residual of what is shown, and, where every decision of the run was certified, everything; a divergence from golden
is accepted only where an ambiguous decision explains it, and how far it goes is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refdeq.types import Status
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.judge import arithmetic
from refdeq_validation.judge.calls import Memory, answered, has_arrays
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.drift import accumulator_drift
from refdeq_validation.judge.enclosure import Enclosure, Evaluation, Known
from refdeq_validation.judge.golden import Golden, golden
from refdeq_validation.judge.returned import memory_after, shapes_returned
from refdeq_validation.judge.sessions import Sessions
from refdeq_validation.judge.verdicts import Failure, Findings, show
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.transcript import Transcript

__all__ = ["judge_end", "judge_free_running", "judge_statuses"]

Array = np.ndarray[Any, Any]
Results = Mapping[str, Array]


def judge_free_running(case: Case, transcript: Transcript, claims: Claims) -> Findings:
    """Judge the solves of a transcript by what they leave behind.

    Parameters
    ----------
    case : Case
    transcript : Transcript
    claims : Claims

    Returns
    -------
    Findings
        ``notes`` holds the distance to golden.
    """
    findings = Findings()
    compare = Comparer(findings)
    memories = Sessions()
    with np.errstate(all="ignore"):
        for t, call, answer in answered(case, transcript, compare):
            number = memories.begun(case, call)
            if call.name == "solve":
                batch = len(call.arrays["z0"])
                if not has_arrays(compare, t, answer.results, shapes_returned(case, batch, claims)):
                    break
                before = memories[number] if call.options.get("keep") else Memory.fresh(case, batch)
                judge_end(case, claims, before, call, t, answer.results, compare)
                memories[number] = memory_after(case, call, before if call.options.get("keep") else None, answer.results)
    return findings


def judge_end(case: Case, claims: Claims, before: Memory, call: Call, t: int, results: Results, compare: Comparer) -> None:
    """Judge one solve, from the state before it, by its end alone."""
    judge_statuses(case, t, results, compare)
    rule = case.problem.rule
    shown = rule is not None and "r" in results
    if shown and case.problem.returned == "last":
        _judge_memory(case, t, results, compare)
        _judge_residual(case, claims, call, t, results, compare)
    if shown:
        drift = accumulator_drift(case, claims, before, call, results)
        if drift is None:
            compare.findings.notes.append("drift: no bound, arguments of this solver may be of any size")
        else:
            distance, limit, expected = drift
            compare.within("value", t, "a against A r", expected, results["a"], distance, limit)
    if (rule is None or before.r is not None) and case.problem.solver["name"] in ("picard", "krasnoselskii-mann"):
        found = golden(case, claims, before, call)
        _judge_against_golden(case, t, results, found, compare)


def judge_statuses(case: Case, t: int, results: Results, compare: Comparer) -> None:
    """Counts and statuses against the residual that is reported with them (S-3, S-4)."""
    stop, returned = case.problem.stop, case.problem.returned
    status, n_eval = results["status"].astype(np.int64), results["n_eval"].astype(np.int64)
    residual, scale = results["residual"], results["scale"]
    rtol, atol = (np.nan if limit is None else float(limit) for limit in (stop.rtol, stop.atol))
    holds = (residual / (scale + stop.eps) <= rtol) | (residual <= atol)
    finite = np.isfinite(residual) & np.isfinite(scale)
    possible = {int(Status.CONVERGED), int(Status.MAX_EVAL), int(Status.NONFINITE)}
    possible |= {int(Status.DIVERGED)} if stop.divergence is not None else set()
    possible |= {int(Status.STAGNATED)} if stop.stagnation is not None else set()
    possible |= {int(Status.BREAKDOWN)} if case.problem.solver["name"] == "broyden" else set()
    good = np.isin(status, sorted(possible)) & (n_eval >= 1) & (n_eval <= stop.max_eval)
    good &= (status != Status.MAX_EVAL) | (n_eval == stop.max_eval)
    good &= holds | (status != Status.CONVERGED) | (returned == "lowest")
    good &= ~(holds & finite) | (status == Status.CONVERGED)
    if returned == "last":
        good &= finite | (status == Status.NONFINITE)
        good &= ~finite | (status != Status.NONFINITE)
    early = ~np.isin(status, [int(Status.BREAKDOWN), int(Status.NONFINITE)]) & (n_eval < stop.max_eval)
    good &= ~early | holds | np.isin(status, [int(Status.DIVERGED), int(Status.STAGNATED)]) | (returned == "lowest")
    if stop.stagnation is not None:
        good &= (status != Status.STAGNATED) | (n_eval > stop.stagnation[0])
    compare.bits("stop_rule", t, "status fits residual and count", np.ones(len(good), bool), good)


def _judge_memory(case: Case, t: int, results: Results, compare: Comparer) -> None:
    """References after the last argument: hysteresis ``|z - r| <= tau`` under "sent", the argument itself under "always"."""
    rule = case.problem.rule
    assert rule is not None
    z, r = results["z"], results["r"]
    if rule.memory == "always":
        compare.bits("invariant", t, "r", z, r)
        return
    if rule.memory != "sent":
        return
    tau = np.asarray(rule.threshold, dtype=np.float64).astype(z.dtype)
    tau = tau.reshape(-1, *(1,) * (z.ndim - 2)) if tau.ndim else tau
    _, fires = arithmetic.decide_all(z, r, tau, rule.compare, rule.delta_dtype)
    taken = arithmetic.same_bits(z, r)
    compare.bits("invariant", t, "hysteresis |z - r| <= tau", np.zeros(fires.shape, bool), fires & ~taken)


def _judge_residual(case: Case, claims: Claims, call: Call, t: int, results: Results, compare: Comparer) -> None:
    """Residual and scale from the argument and the accumulator that are shown (S-2)."""
    memory = Memory(results["r"], results["a"], results["n_eval"].astype(np.int64))
    enclosure = Enclosure(case, claims, memory, call.arrays["x"], results["z"])
    none = np.zeros(results["z"].shape, bool)
    done = Evaluation(enclosure.z, enclosure.value(), none, none, enclosure.z)
    for name, known in zip(("residual", "scale"), enclosure.residual(done), strict=True):
        if enclosure.exact:
            compare.bits("stop_rule", t, name, known.value, results[name])
        else:
            error = np.abs(results[name] - known.value)
            compare.within("stop_rule", t, name, known.value, results[name], error, known.error)


def _judge_against_golden(case: Case, t: int, results: Results, found: Golden, compare: Comparer) -> None:
    """Everything where nothing was ambiguous; elsewhere the distance is a note."""
    findings, rows = compare.findings, np.flatnonzero(found.certain)
    findings.ambiguous += found.ambiguous
    findings.decisions += found.decisions
    distance = float(np.nan_to_num(np.abs(results["z"].astype(np.float64) - found.z.value)).max(initial=0.0))
    findings.notes.append(f"distance to golden {distance:.3g}, {len(found.certain) - len(rows)} samples with open decisions")
    for name, expected in (("n_eval", found.n_eval), ("status", found.status)):
        got = results[name].astype(np.int64)
        wrong = found.certain & (got != expected)
        findings.values += len(rows)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            words = f"{show(got[at], name)}, no ambiguous decision explains it"
            findings.add(Failure("stop_rule", t, name, (at,), show(expected[at], name), words, failing=int(wrong.sum())))
            return
    parts = {"z": found.z} if case.problem.returned == "last" else {}
    if "r" in results and case.problem.rule is not None:
        parts |= {"r": found.r, "a": found.a}
    for name, known in parts.items():
        _within(compare, t, name, known.rows(rows), results[name][rows], found.exact)


def _within(compare: Comparer, t: int, name: str, known: Known, got: Array, exact: bool) -> None:
    kind = {"z": "state", "r": "memory", "a": "value"}[name]
    if exact:
        compare.bits(kind, t, f"{name} against golden", known.value, got)
        return
    error = np.abs(got.astype(np.longdouble) - known.value.astype(np.longdouble)).astype(np.float64)
    value = known.value.astype(np.float64)
    compare.within(kind, t, f"{name} against golden", value, got, error, known.error * (1.0 + 2.0**-40))
