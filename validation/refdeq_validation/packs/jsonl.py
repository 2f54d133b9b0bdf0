"""Implementations in processes of their own: the live protocol over stdin and stdout, one JSON object per line."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError, DTypeError, FileFormatError, ShapeError
from refdeq_validation.packs.live_values import INLINE, LIVE, FileStore, from_message, to_message
from refdeq_validation.packs.pipes import LinePipe, PipeEndedError, PipeTimeoutError
from refdeq_validation.packs.rows import canonical
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.protocol.timeout import CallTimeoutError

__all__ = ["JsonlImplementation", "JsonlSession", "LiveProcessError"]

Array = np.ndarray[Any, Any]


class LiveProcessError(RuntimeError):
    """The process ended, or answered with something that is no answer."""


class JsonlImplementation:
    """A program that speaks the live protocol, as an implementation (``docs/protocol.md``).

    Parameters
    ----------
    command : sequence of str
        Program and arguments. It is started when a problem is opened, serves all sessions, and is started again when it was
        killed or ended; a call that takes longer than the manifest's ``timeout`` kills it.
    manifest : mapping, optional
        Contents of its ``backend.toml``; what it says at ``hello`` when None.
    inline : int
        Bytes of an array that are still written into a line.
    folder : Path, optional
        Working directory of the program.

    Raises
    ------
    ArgumentError
        When the manifest is wrong, or neither given nor told at ``hello``.
    LiveProcessError
        When it cannot be started.
    """

    in_process = False
    """Arrays travel: where they lie in memory is nobody's concern."""

    def __init__(
        self,
        command: Sequence[str],
        manifest: Mapping[str, Any] | None = None,
        *,
        inline: int = INLINE,
        folder: Path | None = None,
    ) -> None:
        self.command, self.inline, self.folder = list(command), inline, folder
        self.process: _Process | None = None
        self.sessions = count(1)
        self.timeout = Claims(name="unknown").timeout
        self._manifest = dict(self._told() if manifest is None else manifest)
        self.timeout = Claims.from_manifest(self._manifest).timeout
        if self.process is not None:
            self.process.timeout = self.timeout

    def manifest(self) -> Mapping[str, Any]:
        """What it claims."""
        return dict(self._manifest)

    def _told(self) -> Mapping[str, Any]:
        """The manifest that the program tells at ``hello``."""
        told = self._started().hello.get("manifest")
        if not isinstance(told, dict):
            self.close()
            raise ArgumentError("manifest", expected="a backend.toml, or the manifest in the answer to hello", got="neither")
        return told

    def open(self, problem: Problem) -> JsonlSession:
        """Open a problem in the program, which is started if it does not run."""
        session = JsonlSession(self._started(), next(self.sessions), problem)
        session.request("open", problem.arrays(), problem=problem.as_data())
        return session

    def close(self) -> None:
        """End the program."""
        if self.process is not None:
            self.process.end()
            self.process = None

    def _started(self) -> _Process:
        if self.process is None or not self.process.alive:
            self.close()
            self.process = _Process(self.command, self.folder, self.inline, self.timeout)
        return self.process


class JsonlSession:
    """One problem opened in a program."""

    def __init__(self, process: _Process, number: int, problem: Problem) -> None:
        self.process, self.number, self.problem = process, number, problem

    def request(self, call: str, arrays: Mapping[str, Array], **fields: Any) -> dict[str, Array]:
        """Make one call, and return the arrays of its answer."""
        return self.process.request(call, arrays, session=self.number, **fields)

    def reset(self, batch: int) -> None:
        """Forget the gate state."""
        self.request("reset", {}, batch=batch)

    def step(self, u: Array, mask: Array, y: Array) -> None:
        """One evaluation, copied into `mask` and `y`, which are checked here: the program never sees them."""
        batch = (len(u) if u.ndim else 0,)
        for name, array, shape, dtype in (("mask", mask, self.problem.shape, "bool"), ("y", y, self.problem.out_shape, "")):
            wanted = np.dtype(dtype or self.problem.dtype)
            if array.shape != batch + shape:
                raise ShapeError(name, expected=f"shape {batch + shape}", got=array.shape)
            if array.dtype != wanted or not array.flags.writeable:
                raise DTypeError(name, expected=f"{wanted}, writeable", got=str(array.dtype))
        _fill(self.request("step", {"u": u}), {"mask": mask, "y": y})

    def set_state(self, r: Array, a: Array, count: Array) -> None:
        """Continue from a given state."""
        self.request("set_state", {"r": r, "a": a, "count": count})

    def get_state(self, r: Array, a: Array) -> None:
        """Copy the state into `r` and `a`."""
        _fill(self.request("get_state", {}), {"r": r, "a": a})

    def solve(self, x: Array, z0: Array, *, keep: bool, trace: bool) -> Mapping[str, Array]:
        """Solve the fixed-point problem."""
        return self.request("solve", {"x": x, "z0": z0}, keep=keep, trace=trace)

    def gradient(self, x: Array, z: Array, cotangent: Array, *, jacobian: str) -> Mapping[str, Array]:
        """Implicit gradient."""
        return self.request("gradient", {"x": x, "z": z, "cotangent": cotangent}, jacobian=jacobian)

    def threads(self, count: int) -> None:
        """Use so many threads; a program may not know the message."""
        with suppress(NotImplementedError):
            self.request("threads", {}, count=count)

    def close(self) -> None:
        """Close the session, if its program still runs."""
        if self.process.alive:
            self.request("close", {})


def _fill(results: Mapping[str, Array], targets: Mapping[str, Array]) -> None:
    for name, target in targets.items():
        result = results.get(name)
        if result is None or result.shape != target.shape or result.dtype != target.dtype:
            got = "nothing" if result is None else f"{result.dtype} {result.shape}"
            raise LiveProcessError(f"{name}: expected {target.dtype} {target.shape}, got {got}")
        target[...] = result


class _Process:
    """A running program: one request at a time, answered within the time allowed or killed."""

    def __init__(self, command: list[str], folder: Path | None, inline: int, timeout: float) -> None:
        self.inline, self.timeout, self.numbers = inline, timeout, count(1)
        self.shared = Path(tempfile.mkdtemp(prefix="refdeq-live-"))
        self.store = FileStore(self.shared, "question-")
        try:
            self.pipe = LinePipe(command, folder)
        except OSError as error:
            shutil.rmtree(self.shared, ignore_errors=True)
            raise LiveProcessError(f"{command[0]}: cannot be started ({error.strerror})") from error
        try:
            self.hello = self._exchange({"call": "hello", "protocol": LIVE, "folder": str(self.shared), "inline": inline})
            if self.hello.get("protocol") != LIVE:
                raise LiveProcessError(f"hello: expected protocol {LIVE}, got {self.hello.get('protocol')!r}")
        except BaseException:
            self.end()
            raise

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return self.pipe.alive

    def request(self, call: str, arrays: Mapping[str, Array], **fields: Any) -> dict[str, Array]:
        """Ask, wait, and turn errors of the answer into exceptions."""
        try:
            answer = self._exchange({"call": call, "arrays": to_message(arrays, self.store, self.inline), **fields})
            return from_message(answer.get("results", {}), self.shared)
        except FileFormatError as error:
            self.end()
            raise LiveProcessError(f"{call}: {error}") from error
        finally:
            self.store.empty()

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        call, number = str(message["call"]), next(self.numbers)
        try:
            answer = _object(self.pipe.exchange(canonical({**message, "id": number}).encode(), self.timeout), call)
            if answer.get("id") != number:
                raise LiveProcessError(f"{call}: expected the answer to message {number}, got {answer.get('id')!r}")
        except PipeTimeoutError as error:
            self.end()
            raise CallTimeoutError(f"{call}: {error}; the program was killed") from None
        except PipeEndedError as error:
            self.end()
            raise LiveProcessError(f"{call}: {error}") from None
        except BaseException:  # also when the caller's own time limit strikes: what comes later would answer another question
            self.end()
            raise
        text = str(answer.get("text", ""))
        if "error" not in answer:
            return answer
        if answer["error"] == "refused":
            raise ValueError(text)
        if answer["error"] == "unsupported":
            raise NotImplementedError(text)
        raise LiveProcessError(f"{call}: {answer['error']}: {text}")

    def end(self) -> None:
        """Kill the program and delete its files."""
        self.pipe.end()
        shutil.rmtree(self.shared, ignore_errors=True)


def _object(line: bytes, call: str) -> dict[str, Any]:
    """The JSON object of a line."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise LiveProcessError(f"{call}: expected one JSON object, got {line[:80]!r}")
    return answer
