"""Implementations that compute nothing, as transcripts: what every case must reject.

Each is derived from the golden transcript in two forms. ``whole``: all that it answers is null. ``values``: masks and
references are the true ones, and accumulator and output alone are null, consistently with each other; this is the
harder form, since only the accumulate itself can show it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from refdeq_validation.cases.model import Call, Case
from refdeq_validation.cases.null_points import null_point
from refdeq_validation.judge.gating import stored
from refdeq_validation.lab.session import Lab
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.protocol.transcript import Answer, Transcript

__all__ = ["FORMS", "NULLS", "null_transcript"]

Array = np.ndarray[Any, Any]
Results = Mapping[str, Array]

FORMS = ("values", "whole")


class _Context:
    """What a null may look at: the golden answer to a step, the one before it in the same session, and the call."""

    def __init__(self, case: Case, call: Call, golden: Results, before: Results) -> None:
        self.problem, self.u, self.golden, self.before = case.problem, call.arrays["u"], golden, before

    @property
    def batch(self) -> int:
        """Samples."""
        return len(self.u)


def _zeros(at: _Context) -> Array:
    return np.zeros((at.batch, *at.problem.out_shape), at.problem.dtype)


def _copy(at: _Context) -> Array:
    return _fitted(at.u, at)


def _identity(at: _Context) -> Array:
    return _fitted(at.golden["r"], at)


def _stale(at: _Context) -> Array:
    return at.before["a"] if "a" in at.before and at.before["a"].shape == at.golden["a"].shape else _zeros(at)


def _dense(at: _Context) -> Array:
    rule = at.problem.rule
    assert rule is not None
    ungated = replace(at.problem, rule=replace(rule, threshold=0.0, start="dense", refresh=0, gates={}))
    session = Lab().open(ungated)
    session.reset(at.batch)
    a, r = _zeros(at), np.zeros_like(at.u)
    with np.errstate(all="ignore"):
        session.step(at.u.copy(), np.zeros(at.u.shape, bool), np.zeros_like(a))
        session.get_state(r, a)
    return a


def _nan(at: _Context) -> Array:
    return np.full((at.batch, *at.problem.out_shape), np.nan, at.problem.dtype)


NULLS: Mapping[str, Callable[[_Context], Array]] = {
    "zeros": _zeros,
    "copy": _copy,
    "identity": _identity,
    "stale": _stale,
    "dense": _dense,
    "nan": _nan,
}
"""Accumulator that each answers: zeros, the input, the reference it keeps, what was there before, the dense result, NaN."""


def null_transcript(case: Case, golden: Transcript, null: str, form: str) -> Transcript | None:
    """The transcript of a null implementation.

    Parameters
    ----------
    case : Case
    golden : Transcript
        Of the clean strict lab, with the state.
    null : str
        Key of ``NULLS``.
    form : {"values", "whole"}
        An implementation of nothing refuses nothing either; in the form ``values`` it does, where other calls can show it.

    Returns
    -------
    Transcript or None
        None where what would be null is right: the dense answer to a question without a gate.
    """
    before: dict[int, Results] = {}
    results: Results | None
    ungated = case.problem.gate_rule is None
    answers, changed = [], False
    shown = any(_is_answered(answer) for answer in golden.answers)
    for call, answer in zip(case.calls, golden.answers, strict=True):
        session = int(call.options.get("session", 0))
        if answer.error:
            keeps = form == "values" and shown
            answers.append(answer if keeps else Answer(call.name))
            changed = changed or not keeps
            continue
        if not _is_answered(answer):
            answers.append(answer)
            before[session] = call.arrays if call.name == "set_state" else {}
            continue
        past = before.get(session, {})
        if call.name == "step":
            results = None if null == "dense" and ungated else _results(_Context(case, call, answer.results, past), null, form)
        else:
            results = null_point(case, call, answer.results, past, null, form)
        changed = changed or results is not None
        answers.append(Answer(call.name, answer.results if results is None else results))
        before[session] = answer.results
    return Transcript(case.id, answers) if changed else None


def _is_answered(answer: Answer) -> bool:
    return answer.name in ("step", "solve", "gradient") and not answer.error


def _results(at: _Context, null: str, form: str) -> Results:
    a = NULLS[null](at)
    y = _output(at.problem, a)
    if form == "values":
        return {**at.golden, "a": a, "y": y}
    if null == "zeros":
        return {name: np.zeros_like(array) for name, array in at.golden.items()}
    if null == "stale":
        return {name: at.before.get(name, np.zeros_like(array)) for name, array in at.golden.items()}
    r = np.full_like(at.u, np.nan) if null == "nan" else at.u
    return {"mask": np.ones_like(at.golden["mask"]), "r": r, "a": a, "y": y}


def _fitted(values: Array, at: _Context) -> Array:
    """Values of a sample of the input, repeated or cut to a sample of the output."""
    fitted = np.zeros((len(values), *at.problem.out_shape), at.problem.dtype)
    for b, sample in enumerate(values):
        fitted[b] = np.resize(sample, at.problem.out_shape)
    return fitted


def _output(problem: Problem, a: Array) -> Array:
    rule = problem.rule
    with np.errstate(all="ignore"):
        if problem.bias is None or (rule is not None and rule.bias == "folded"):
            return stored(a, problem.storage)
        return stored(np.asarray(a + problem.bias.reshape(-1, *(1,) * (a.ndim - 2))), problem.storage)
