"""Running a case on an implementation: calls in, a transcript out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from refdeq_validation.cases.model import Call, Case
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.session import Implementation, Session
from refdeq_validation.protocol.transcript import Answer, Transcript

__all__ = ["execute", "kind_of_error"]

Array = np.ndarray[Any, Any]


def execute(case: Case, implementation: Implementation, claims: Claims) -> Transcript:
    """Make the calls of a case and record the answers; what an implementation raises is an answer too.

    Parameters
    ----------
    case : Case
    implementation : Implementation
    claims : Claims
        Whether the state is offered.

    Returns
    -------
    Transcript
        After a call that failed without being expected to, the rest of the case is not run.
    """
    transcript, began = Transcript(case.id), time.perf_counter()
    sessions: dict[int, Session] = {}
    with np.errstate(all="ignore"):
        for call in case.calls:
            answer = _answer(case, call, sessions, implementation, claims)
            transcript.answers.append(answer)
            if answer.error and not call.refused:
                break
        for session in sessions.values():
            _close(session)
    transcript.seconds = time.perf_counter() - began
    return transcript


def _answer(case: Case, call: Call, sessions: dict[int, Session], implementation: Implementation, claims: Claims) -> Answer:
    number = int(call.options.get("session", 0))
    try:
        if number not in sessions:
            sessions[number] = implementation.open(case.problem)
        return Answer(call.name, _perform(case, call, sessions[number], claims))
    except Exception as error:  # an implementation may break in any way; the transcript says how
        return Answer(call.name, {}, kind_of_error(error), f"{type(error).__name__}: {error}")


def kind_of_error(error: BaseException) -> str:
    """Class of an exception, as transcripts name it.

    >>> kind_of_error(ValueError("bad shape"))
    'refused'
    """
    if isinstance(error, NotImplementedError):
        return "unsupported"
    return "refused" if isinstance(error, ValueError | TypeError) else "crash"


def _perform(case: Case, call: Call, session: Session, claims: Claims) -> Mapping[str, Array]:
    problem, arrays = case.problem, {name: array.copy() for name, array in call.arrays.items()}
    if call.name == "reset":
        session.reset(int(call.options["batch"]))
        return {}
    if call.name == "set_state":
        session.set_state(arrays["r"], arrays["a"], arrays["count"])
        return {}
    if call.name == "step":
        u = arrays["u"]
        batch = len(u) if u.ndim else 0
        mask, y = np.zeros((batch, *problem.shape), bool), np.full((batch, *problem.out_shape), np.nan, problem.dtype)
        session.step(u, mask, y)
        results = {"mask": mask, "y": y}
        if "state" in claims.offers and problem.rule is not None:
            r = np.full((batch, *problem.shape), np.nan, problem.dtype)
            a = np.full((batch, *problem.out_shape), np.nan, problem.dtype)
            session.get_state(r, a)
            results |= {"r": r, "a": a}
        return results
    if call.name == "solve":
        keep, trace = bool(call.options.get("keep", False)), bool(call.options.get("trace", False))
        results = dict(session.solve(arrays["x"], arrays["z0"], keep=keep, trace=trace))
        if "state" in claims.offers and problem.rule is not None:
            batch = len(arrays["z0"])
            r, a = (np.full((batch, *n), np.nan, problem.dtype) for n in (problem.shape, problem.out_shape))
            session.get_state(r, a)
            results |= {"r": r, "a": a}
        return results
    jacobian = str(call.options.get("jacobian", "dense"))
    return dict(session.gradient(arrays["x"], arrays["z"], arrays["cotangent"], jacobian=jacobian))


def _close(session: Session) -> None:
    close = getattr(session, "close", None)
    if close is not None:
        close()
