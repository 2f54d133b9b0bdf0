"""Level L3, lockstep: kernels that cannot export what they do are given a state and asked for one or two evaluations.

The judge knows the state before, the arguments, and the state after. Decisions whose argument it saw are known exactly; those
between are judged by the margin rule (section 3.4): a certified one must fall as it must, an ambiguous one may fall either way,
and what it shows is adopted. How many are ambiguous follows from the case alone, before anything runs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refdeq_validation.cases.model import Call, Case
from refdeq_validation.judge import stops
from refdeq_validation.judge.arithmetic import same_bits
from refdeq_validation.judge.calls import Memory, answered, has_arrays
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.enclosure import Enclosure, Evaluation, Known
from refdeq_validation.judge.returned import memory_after, shapes_returned
from refdeq_validation.judge.sessions import Sessions
from refdeq_validation.judge.verdicts import Failure, Findings, show
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.transcript import Answer, Transcript

__all__ = ["ambiguous_before", "direction_warning", "judge_lockstep"]

Array = np.ndarray[Any, Any]

_UNLIKELY = 1e-9
"""Below this probability, ambiguous decisions that all fall one way are worth a warning (section 3.4)."""


def judge_lockstep(case: Case, transcript: Transcript, claims: Claims) -> Findings:
    """Judge solves of a fixed number of evaluations from given states.

    Parameters
    ----------
    case : Case
        Every solve keeps a state that a call before it set, runs its whole budget, and returns the last argument.
    transcript : Transcript
    claims : Claims

    Returns
    -------
    Findings
        ``ambiguous`` is what :func:`ambiguous_before` says, ``flipped`` how many of those fell the other way.
    """
    findings = Findings()
    compare = Comparer(findings)
    memories = Sessions()
    with np.errstate(all="ignore"):
        for t, call, answer in answered(case, transcript, compare):
            number = memories.begun(case, call)
            if call.name == "solve":
                memory = memories[number]
                if not has_arrays(compare, t, answer.results, shapes_returned(case, len(call.arrays["z0"]), claims)):
                    break
                _Lockstep(case, claims, memory, call, t, answer, compare).judge()
                memories[number] = memory_after(case, call, memory, answer.results)
    return findings


def ambiguous_before(case: Case, claims: Claims) -> tuple[int, int]:
    """Ambiguous decisions of a case, and all of them, from the case and the claims alone.

    Only the first solve after each given state counts: later states are the implementation's own.
    """
    total, every, memory = 0, 0, None
    with np.errstate(all="ignore"):
        for call in case.calls:
            if call.name == "set_state":
                memory = Memory(call.arrays["r"], call.arrays["a"], call.arrays["count"])
            elif call.name == "reset":
                memory = Memory.fresh(case, int(call.options["batch"]))
            elif call.name == "solve" and memory is not None:
                for done in _predict(case, claims, memory, call):
                    total, every = total + int(done.ambiguous.sum()), every + done.ambiguous.size
                memory = None
    return total, every


def _predict(case: Case, claims: Claims, memory: Memory, call: Call) -> list[Evaluation]:
    enclosure = Enclosure(case, claims, memory, call.arrays["x"], call.arrays["z0"])
    done, everyone = [], np.ones(len(call.arrays["z0"]), bool)
    for _ in range(case.problem.stop.max_eval):
        done.append(enclosure.evaluate())
        enclosure.step(done[-1], everyone)
    return done


class _Lockstep:
    """One solve."""

    def __init__(
        self, case: Case, claims: Claims, memory: Memory, call: Call, t: int, answer: Answer, compare: Comparer
    ) -> None:
        self.case, self.claims, self.memory, self.call, self.t = case, claims, memory, call, t
        self.results, self.compare = answer.results, compare

    def judge(self) -> None:
        case, call, results = self.case, self.call, self.results
        budget, compare = case.problem.stop.max_eval, self.compare
        predicted = _predict(case, self.claims, self.memory, call)
        enclosure = Enclosure(case, self.claims, self.memory, call.arrays["x"], call.arrays["z0"])
        everyone = np.ones(len(call.arrays["z0"]), bool)
        for _ in range(budget - 1):
            enclosure.step(enclosure.evaluate(), everyone)
        if enclosure.exact:
            compare.bits("state", self.t, "z", enclosure.z.value, results["z"])
        else:
            self._within("state", "z", enclosure.z, results["z"])
        enclosure.z = Known.exactly(results["z"].astype(enclosure.held))  # from here on its own bits
        r = enclosure.r
        done = enclosure.evaluate()
        if case.problem.rule is not None:
            self._judge_state(enclosure, done, r, predicted[-1])
        compare.findings.ambiguous += sum(int(each.ambiguous.sum()) for each in predicted)
        compare.findings.decisions += sum(each.ambiguous.size for each in predicted)
        self._judge_numbers(enclosure, done, budget)

    def _judge_state(self, enclosure: Enclosure, done: Evaluation, before: Known, predicted: Evaluation) -> None:
        results, rule = self.results, self.case.problem.rule
        assert rule is not None
        if "r" not in results:
            self.compare.equal("structure", f"call {self.t}: state after", "r and a", "not shown")
            return
        if rule.memory == "sent":
            self._judge_decisions(enclosure, done, before, predicted)
        if enclosure.exact or not enclosure.r.error.any():
            self.compare.bits("memory", self.t, "r", enclosure.r.value.astype(results["r"].dtype), results["r"])
        elif rule.memory != "sent":
            self._within("memory", "r", enclosure.r, results["r"])
        if enclosure.exact:
            self.compare.bits("value", self.t, "a", enclosure.a.value, results["a"])
        else:
            self._within("value", "a", enclosure.a, results["a"])

    def _judge_decisions(self, enclosure: Enclosure, done: Evaluation, before: Known, predicted: Evaluation) -> None:
        """References show decisions under memory "sent": the bits of the argument where it was sent, the old ones elsewhere."""
        shown, z = self.results["r"], self.results["z"]
        moved = same_bits(z, shown)
        kept = np.abs(shown.astype(np.float64) - before.value) <= before.error
        certain = ~done.ambiguous
        wrong = np.where(certain, np.where(done.sent, ~moved, ~kept), ~(moved | kept))
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            margin = abs(abs(float(z[at]) - float(before.value[at])) - float(np.max(self.case.problem.rule.threshold)))  # type: ignore[union-attr]
            words = "sent" if done.sent[at] else "kept" if certain[at] else "sent or kept"
            got = f"{show(shown[at])} from {show(before.value[at])} at {show(z[at])}, margin {margin:.3g}"
            self.compare.findings.add(Failure("mask", self.t, "r", at, words, got, failing=int(wrong.sum())))
        # What an implementation decided is told apart where argument and reference differ in bits.
        told = predicted.ambiguous & (moved != kept)
        centre = np.abs(predicted.delta.value) > np.asarray(self.case.problem.rule.threshold)  # type: ignore[union-attr]
        flips = told & (moved != centre)
        self.compare.findings.flipped += int(flips.sum())
        warning = direction_warning(int((flips & moved).sum()), int((flips & ~moved).sum()))
        if warning:
            self.compare.findings.notes.append(warning)
        self._adopt(enclosure, done, before, moved)

    def _adopt(self, enclosure: Enclosure, done: Evaluation, before: Known, moved: Array) -> None:
        """Take over open decisions: the accumulator is judged for what the implementation chose."""
        if not done.ambiguous.any():
            return
        chosen = done.ambiguous & moved
        difference = np.where(chosen, done.z.value - before.value, 0.0)
        zero = np.zeros(enclosure.a.value.shape)
        total = enclosure.node.exact(difference, chosen, zero, zero)[3]
        unsure = np.where(done.ambiguous, np.abs(done.delta.value) + done.delta.error, 0.0)
        sure = np.where(chosen, done.z.error + before.error, 0.0)
        error = enclosure.a.error - enclosure.reach(unsure) + enclosure.reach(sure)
        spare = enclosure.reach(np.where(chosen, np.abs(difference), 0.0))
        k = float(np.prod(self.case.problem.shape)) + 1.0
        unit = float(np.finfo(enclosure.dtype).eps)
        enclosure.a = Known(enclosure.a.value + total, np.maximum(error, 0.0) + k * unit * (spare + enclosure.a.error))
        enclosure.r = Known(np.where(chosen, done.z.value, enclosure.r.value), np.where(chosen, 0.0, enclosure.r.error))

    def _judge_numbers(self, enclosure: Enclosure, done: Evaluation, budget: int) -> None:
        """Residual, scale, count and status of the last evaluation, from the state as it was shown."""
        results, compare = self.results, self.compare
        if "a" in results and not enclosure.exact:
            enclosure.a = Known.exactly(results["a"].astype(np.float64))
            done = Evaluation(done.z, enclosure.value(), done.sent, done.ambiguous, done.delta)
        residual, scale = enclosure.residual(done)
        for name, known in (("residual", residual), ("scale", scale)):
            if enclosure.exact:
                compare.bits("stop_rule", self.t, name, known.value, results[name])
            else:
                self._within("stop_rule", name, known, results[name])
        expected = stops.final_status(results["residual"], results["scale"], self.case.problem.stop, budget)
        compare.bits("stop_rule", self.t, "status", expected, results["status"])
        compare.bits("count", self.t, "n_eval", np.full(len(expected), budget), results["n_eval"])

    def _within(self, kind: str, tensor: str, known: Known, got: Array) -> None:
        value = known.value.astype(np.float64)
        error = np.abs(got.astype(np.longdouble) - known.value.astype(np.longdouble)).astype(np.float64)
        self.compare.within(kind, self.t, tensor, value, got, error, known.error * (1.0 + 2.0**-40))


def direction_warning(up: int, down: int) -> str:
    """Words for ambiguous decisions that flip in one direction far more often than chance allows; empty otherwise.

    >>> direction_warning(40, 0)[:17]
    'biased comparator'
    >>> direction_warning(3, 1)
    ''
    """
    n, most = up + down, max(up, down)
    if n < 1000:
        tail = sum(math.comb(n, k) for k in range(most, n + 1)) / 2.0**n
    else:
        tail = math.erfc((most - n / 2) / math.sqrt(n / 2)) / 2
    if n == 0 or 2.0 * tail >= _UNLIKELY:
        return ""
    return f"biased comparator: {up} ambiguous decisions were sent against the centre, {down} kept"
