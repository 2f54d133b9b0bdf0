"""The other end of the live protocol: any implementation, answered for over stdin and stdout.

from refdeq_validation.packs.serving import serve
serve(MyImplementation())
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from refdeq_validation.packs.live_values import INLINE, LIVE, FileStore, from_message, to_message
from refdeq_validation.packs.rows import canonical
from refdeq_validation.protocol.execute import kind_of_error
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.protocol.session import Implementation, Session

__all__ = ["serve"]

Array = np.ndarray[Any, Any]


def serve(implementation: Implementation, questions: TextIO | None = None, answers: TextIO | None = None) -> None:
    r"""Answer the messages of the live protocol until the input ends.

    Parameters
    ----------
    implementation : Implementation
    questions, answers : text streams, optional
        stdin and stdout by default; while stdout is used, ``print`` goes to stderr.

    Examples
    --------
    >>> import io
    >>> from refdeq_validation.lab.session import Lab
    >>> out = io.StringIO()
    >>> serve(Lab(), io.StringIO('{"id":1,"call":"hello","protocol":"refdeq-live/1"}\n'), out)
    >>> json.loads(out.getvalue())["protocol"]
    'refdeq-live/1'
    """
    server = _Server(implementation)
    source, target, stdout = questions or sys.stdin, answers or sys.stdout, sys.stdout
    if answers is None:
        sys.stdout = sys.stderr  # a stray print must not look like an answer
    try:
        for line in source:
            target.write(canonical(server.answer(json.loads(line))) + "\n")
            target.flush()
    finally:
        sys.stdout = stdout


class _Opened:
    """One opened problem, and the batch its state has."""

    def __init__(self, session: Session, problem: Problem) -> None:
        self.session, self.problem, self.batch = session, problem, 0

    def perform(self, call: str, arrays: Mapping[str, Array], message: Mapping[str, Any]) -> Mapping[str, Array]:
        """Make one call."""
        session = self.session
        if call == "reset":
            session.reset(message["batch"])
            self.batch = message["batch"]
        elif call == "set_state":
            session.set_state(arrays["r"], arrays["a"], arrays["count"])
            self.batch = len(arrays["count"])
        elif call == "step":
            u = arrays["u"]
            batch, dtype = len(u) if u.ndim else 0, self.problem.dtype
            mask, y = np.zeros((batch, *self.problem.shape), bool), np.full((batch, *self.problem.out_shape), np.nan, dtype)
            session.step(u, mask, y)
            return {"mask": mask, "y": y}
        elif call == "get_state":
            shapes = {"r": self.problem.shape, "a": self.problem.out_shape}
            state = {name: np.full((self.batch, *shape), np.nan, self.problem.dtype) for name, shape in shapes.items()}
            session.get_state(state["r"], state["a"])
            return state
        elif call == "solve":
            return session.solve(arrays["x"], arrays["z0"], keep=message["keep"], trace=message["trace"])
        elif call == "gradient":
            return session.gradient(arrays["x"], arrays["z"], arrays["cotangent"], jacobian=message["jacobian"])
        elif call == "threads":
            change = getattr(session, "threads", None)
            if change is not None:
                change(message["count"])
        elif call == "close":
            close = getattr(session, "close", None)
            if close is not None:
                close()
        else:
            raise ValueError(f"unknown call {call!r}")
        return {}


class _Server:
    def __init__(self, implementation: Implementation) -> None:
        self.implementation = implementation
        self.opened: dict[int, _Opened] = {}
        self.store: FileStore | None = None
        self.inline = sys.maxsize

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one message; whatever goes wrong is an answer too."""
        try:
            with np.errstate(all="ignore"):
                return {"id": message["id"], **self._perform(message)}
        except Exception as error:  # the protocol reports errors of the implementation, it does not die of them
            return {"id": message.get("id"), "error": kind_of_error(error), "text": f"{type(error).__name__}: {error}"}

    def _perform(self, message: Mapping[str, Any]) -> dict[str, Any]:
        call = message["call"]
        if call == "hello":
            if "folder" in message:
                self.store, self.inline = FileStore(Path(message["folder"]), "answer-"), int(message.get("inline", INLINE))
            return {"protocol": LIVE, "manifest": dict(self.implementation.manifest())}
        arrays = from_message(message.get("arrays", {}))
        if call == "open":
            problem = Problem.from_data(message["problem"], arrays)
            self.opened[message["session"]] = _Opened(self.implementation.open(problem), problem)
            return {}
        results = self.opened[message["session"]].perform(call, arrays, message)
        if call == "close":
            del self.opened[message["session"]]
        return {"results": to_message(results, self.store, self.inline)} if results else {}
