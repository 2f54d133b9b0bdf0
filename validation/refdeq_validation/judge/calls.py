"""Walking through a transcript: the calls of a case with their answers, as far as there are any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from refdeq_validation.cases.model import Call, Case
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.verdicts import Failure
from refdeq_validation.protocol.transcript import Answer, Transcript

__all__ = ["Memory", "answered", "has_arrays"]

Array = np.ndarray[Any, Any]


class Memory:
    """Gate state of one session, as far as it is known: None where nothing has shown it.

    Attributes
    ----------
    r, a : arrays or None
    count : (B,) int64
        Evaluations since the reset.
    mask : array or None
        What the last evaluation of each sample sent.
    """

    def __init__(self, r: Array | None, a: Array | None, count: Array, mask: Array | None = None) -> None:
        self.r, self.a, self.count, self.mask = r, a, count, mask

    @classmethod
    def fresh(cls, case: Case, batch: int) -> Memory:
        """After a reset (D-5, D-9)."""
        problem = case.problem
        a = np.zeros((batch, *problem.out_shape), problem.dtype)
        rule = problem.rule
        if rule is not None and rule.bias == "folded" and problem.bias is not None:
            a = a + problem.bias.reshape(-1, *(1,) * (a.ndim - 2))
        return cls(np.zeros((batch, *problem.shape), problem.dtype), a, np.zeros(batch, np.int64))


def answered(case: Case, transcript: Transcript, compare: Comparer) -> Iterator[tuple[int, Call, Answer]]:
    """Calls that were answered; refusals are judged here, and what is missing or broke ends the walk with a failure.

    Parameters
    ----------
    case : Case
    transcript : Transcript
    compare : Comparer

    Yields
    ------
    int, Call, Answer
    """
    for t, call in enumerate(case.calls):
        if t >= len(transcript.answers):
            compare.findings.add(Failure("missing", t, call.name, (), "an answer", "nothing"))
            return
        answer = transcript.answers[t]
        if call.refused:
            compare.equal("no_exception", f"{call.name}: error", "refused", answer.error or "accepted")
        elif answer.error:
            compare.findings.add(Failure("exception", t, call.name, (), "an answer", f"{answer.error}: {answer.text}"))
            return
        else:
            yield t, call, answer


def has_arrays(
    compare: Comparer, t: int, results: Mapping[str, Array], wanted: Mapping[str, tuple[tuple[int, ...], Any]]
) -> bool:
    """Whether results hold these arrays; what is missing or of another shape or dtype is a failure.

    Parameters
    ----------
    compare : Comparer
    t : int
        Call, for messages.
    results : mapping of str to ndarray
    wanted : mapping of str to (shape, dtype)
        dtype ``"integer"`` stands for any integer.
    """
    ok = True
    for name, (shape, dtype) in wanted.items():
        got = results.get(name)
        if not isinstance(got, np.ndarray):
            ok = compare.equal("structure", f"call {t}: {name}", "an array", type(got).__name__) and ok
            continue
        kind = "integer" if dtype == "integer" and got.dtype.kind in "iu" else got.dtype.name
        ok = compare.equal("structure", f"call {t}: {name}", (shape, str(dtype)), (got.shape, kind)) and ok
    return ok
