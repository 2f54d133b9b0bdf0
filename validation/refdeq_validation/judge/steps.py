"""Levels L1 and L2 of unit steps: every transition of a session, from the implementation's own bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq_validation.cases.model import Case
from refdeq_validation.judge import arithmetic
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.nodes import linear_node
from refdeq_validation.judge.verdicts import Failure, Findings
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.transcript import Transcript

__all__ = ["judge_steps"]

Array = np.ndarray[Any, Any]


class _State:
    """Gate state of one session as the implementation last showed it."""

    def __init__(self, r: Array, a: Array, count: Array) -> None:
        self.r, self.a, self.count = r, a, count


def judge_steps(case: Case, transcript: Transcript, claims: Claims) -> Findings:
    """Judge the steps of a transcript.

    Parameters
    ----------
    case : Case
    transcript : Transcript
    claims : Claims

    Returns
    -------
    Findings
    """
    findings = Findings()
    compare = Comparer(findings)
    states: dict[int, _State] = {}
    with np.errstate(all="ignore"):
        for t, call in enumerate(case.calls):
            if t >= len(transcript.answers):
                findings.add(Failure("missing", t, call.name, (), "an answer", "nothing"))
                break
            answer, number = transcript.answers[t], int(call.options.get("session", 0))
            if call.refused:
                compare.equal("no_exception", f"{call.name}: error", "refused", answer.error or "accepted")
                continue
            if answer.error:
                findings.add(Failure("exception", t, call.name, (), "an answer", f"{answer.error}: {answer.text}"))
                break
            if call.name == "reset":
                states[number] = _fresh(case, int(call.options["batch"]))
            elif call.name == "set_state":
                states[number] = _State(call.arrays["r"], call.arrays["a"], call.arrays["count"])
            elif call.name == "step":
                _judge_step(case, t, states[number], call.arrays["u"], answer.results, claims, compare)
    return findings


def _fresh(case: Case, batch: int) -> _State:
    problem = case.problem
    a = np.zeros((batch, *problem.out_shape), problem.dtype)
    rule = problem.rule
    if rule is not None and rule.bias == "folded" and problem.bias is not None:
        a = a + problem.bias.reshape(-1, *(1,) * (a.ndim - 2))
    return _State(np.zeros((batch, *problem.shape), problem.dtype), a, np.zeros(batch, np.int64))


def _judge_step(case: Case, t: int, state: _State, u: Array, results: Any, claims: Claims, compare: Comparer) -> None:
    """One step: mask and reference bitwise (D-1 to D-5, D-10), accumulator by order (N-6, N-7), output bitwise from it."""
    problem, rule = case.problem, case.problem.rule
    graph = problem.graph()
    node = linear_node(graph["nodes"][0], {"W": problem.weight} | ({} if problem.bias is None else {"b": problem.bias}))
    missing = sorted({"mask", "y", "r", "a"} - set(results))
    if missing or rule is None:
        compare.equal("structure", f"step {t}: results", "mask, y, r, a", f"{', '.join(missing)} missing")
        return
    tau = np.asarray(rule.threshold, dtype=np.float64).astype(problem.dtype)
    tau = tau.reshape(-1, *(1,) * (u.ndim - 2)) if tau.ndim else tau
    start = (state.count == 0) if rule.start == "dense" else np.zeros(len(u), bool)
    refresh = (state.count > 0) & (state.count % rule.refresh == 0) if rule.refresh else np.zeros(len(u), bool)
    delta, fires = arithmetic.decide_all(u, state.r, tau, rule.compare, rule.delta_dtype)
    sent = arithmetic.or_over_groups(fires, rule.granularity, rule.tile)
    d, r = arithmetic.next_reference(u, state.r, delta, sent, rule.memory, rule.feedback_format)
    lift = start.reshape(-1, *(1,) * (u.ndim - 1))
    sent, r, d = sent | lift, np.where(lift, u, r), np.where(lift, u, d)
    compare.findings.decisions += sent.size
    compare.bits("mask", t, "mask", sent, results["mask"])
    compare.bits("memory", t, "r", r, results["r"])
    dense = (start | refresh).reshape(-1, *(1,) * (state.a.ndim - 1))
    again = refresh.reshape(-1, *(1,) * (u.ndim - 1))
    values = np.where(again, results["r"], d)
    everything = sent | (start | refresh).reshape(-1, *(1,) * (u.ndim - 1))
    base = np.where(dense, state.a.dtype.type(0), state.a)
    compare.accumulate(t, "a", node, values, everything, base, results["a"], claims.order)
    compare.bits("value", t, "y", node.output(results["a"]), results["y"])
    state.r, state.a, state.count = results["r"], results["a"], state.count + 1
