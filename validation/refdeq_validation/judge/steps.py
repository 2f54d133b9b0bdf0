"""Levels L1 and L2 of unit steps: every transition of a session, from the implementation's own bits.

Masks and references are compared bit for bit: they follow from known bits by single roundings. Accumulators are compared bit
for bit under strict order, and in any order where a case is exact by construction; otherwise with the bound of N-7 for the
declared model of arithmetic. An implementation that does not show its state is judged in lockstep: masks and references are
still known exactly, because `u` is given, and only the error of the accumulator is carried along (docs/bounds.md, section 7).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refdeq_validation.cases.model import Case
from refdeq_validation.judge import exactness
from refdeq_validation.judge.accumulating import Linear
from refdeq_validation.judge.calls import answered, has_arrays
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.gating import Gate
from refdeq_validation.judge.models import declared, outcomes
from refdeq_validation.judge.statistic import FLAG, Statistic
from refdeq_validation.judge.verdicts import Failure, Findings
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.transcript import Transcript

__all__ = ["judge_steps"]

Array = np.ndarray[Any, Any]
Results = Mapping[str, Array]


def judge_steps(case: Case, transcript: Transcript, claims: Claims) -> Findings:
    """Judge the steps of a transcript (D-1 to D-12, N-1 to N-7).

    Parameters
    ----------
    case : Case
    transcript : Transcript
    claims : Claims
        With ``subnormals = "ftz"`` the whole transcript must fit one outcome, subnormals kept or flushed (N-5).

    Returns
    -------
    Findings
        Of the outcome with the fewest failures. Results that are missing, too many or of another shape or dtype are failures.
    """
    best = None
    with np.errstate(all="ignore"):
        for subnormals in outcomes(claims):
            findings = _Steps(case, claims, subnormals).judge(transcript)
            if best is None or findings.failed < best.failed:
                best = findings
            if not best.failed:
                break
    assert best is not None
    return best


class _State:
    """What is known of one session.

    Attributes
    ----------
    r, a : arrays
        As the implementation last showed them, or as they follow where it shows nothing.
    count : (B,) int64
    error : float64 array
        Largest error of `a` where it is not shown; zeros otherwise.
    """

    def __init__(self, r: Array, a: Array, count: Array) -> None:
        self.r, self.a, self.count, self.error = r, a, count, np.zeros(a.shape)


class _Steps:
    def __init__(self, case: Case, claims: Claims, subnormals: str) -> None:
        self.case, self.findings = case, Findings()
        self.compare = Comparer(self.findings)
        problem = case.problem
        self.model = declared(claims, problem.dtype, subnormals)
        rule = problem.rule
        self.rule = None if rule is None or "linear" in rule.dense else rule
        self.gate = None if self.rule is None else Gate(problem, self.rule, subnormals)
        self.offers_state = rule is not None and "state" in claims.offers
        self.shown = self.offers_state and self.rule is not None
        exact = case.expect == "exact" and (self.model.is_plain or exactness.covers(case, self.model))
        drawn = case.family == "bound" or FLAG in case.flags
        statistic = Statistic(self.model) if drawn and not (exact or self.model.strict) else None
        self.linear = Linear(problem, self.rule, self.model, exact, self.compare, statistic)
        self.statistic = statistic

    def judge(self, transcript: Transcript) -> Findings:
        states: dict[int, _State] = {}
        for t, call, answer in answered(self.case, transcript, self.compare):
            number = int(call.options.get("session", 0))
            if call.name == "reset":
                states[number] = self._fresh(int(call.options["batch"]))
            elif call.name == "set_state":
                states[number] = _State(call.arrays["r"], call.arrays["a"], call.arrays["count"])
            elif call.name == "step" and number in states:
                if not self._judge_step(t, states[number], call.arrays["u"], answer.results):
                    break
                continue
            else:
                self.findings.add(Failure("declaration", t, call.name, (), "steps of an open session", call.name))
                break
            if answer.results:
                self._unexpected(t, call.name, answer.results)
        extra = len(transcript.answers) - len(self.case.calls)
        if extra > 0:
            self.findings.add(Failure("declaration", -1, "answers", (), str(len(self.case.calls)), f"{extra} more"))
        if self.statistic is not None:
            self.statistic.conclude(self.findings)
        return self.findings

    def _fresh(self, batch: int) -> _State:
        """After a reset (D-5, D-9)."""
        problem = self.case.problem
        a = np.zeros((batch, *problem.out_shape), problem.dtype)
        if self.linear.folded:
            a = a + self.linear.bias
        return _State(np.zeros((batch, *problem.shape), problem.dtype), a, np.zeros(batch, np.int64))

    def _unexpected(self, t: int, what: str, names: Any) -> None:
        self.findings.add(Failure("declaration", t, what, (), "nothing beyond what is offered", ", ".join(sorted(names))))

    def _judge_step(self, t: int, state: _State, u: Array, results: Results) -> bool:
        """One step; False where its results cannot be read, and nothing can be said of what follows."""
        problem, batch = self.case.problem, len(u)
        wanted: dict[str, tuple[tuple[int, ...], Any]] = {
            "mask": ((batch, *problem.shape), "bool"),
            "y": ((batch, *problem.out_shape), problem.dtype),
        }
        if self.offers_state:
            wanted |= {"r": ((batch, *problem.shape), problem.dtype), "a": ((batch, *problem.out_shape), problem.dtype)}
        if set(results) - set(wanted):
            self._unexpected(t, "step", set(results) - set(wanted))
        if not has_arrays(self.compare, t, results, wanted):
            return False
        if self.gate is None or self.rule is None:
            self.linear.judge_dense(t, u, results["y"])
            return True
        none = np.zeros(batch, bool)
        start = state.count == 0 if self.rule.start == "dense" else none
        refresh = (state.count > 0) & (state.count % self.rule.refresh == 0) if self.rule.refresh else none
        done = self.gate.advance(u, state.r, start)
        self.findings.decisions += done.sent.size
        self.findings.margins(done.relative)
        self.compare.bits("mask", t, "mask", done.sent, results["mask"], margin=done.margin)
        following = done.r
        if self.shown:
            self.compare.bits("memory", t, "r", done.r, results["r"])
            following = results["r"]
        values, sent, dense = done.d, done.sent, start
        if refresh.any():
            values = np.where(_lift(refresh, values), following, values)
            dense = start | refresh
        if dense.any():
            sent = sent | _lift(dense, sent)
        if self.shown:
            self.linear.judge_shown(t, values, sent, dense, state.a, results["a"], results["y"])
            state.a = results["a"]
        else:
            state.a, state.error = self.linear.judge_hidden(t, values, sent, dense, state.a, state.error, results["y"])
        state.r, state.count = following, state.count + 1
        return True


def _lift(rows: Array, like: Array) -> Array:
    """A per-sample flag, shaped to broadcast against a batched array."""
    return rows.reshape(-1, *(1,) * (like.ndim - 1))
