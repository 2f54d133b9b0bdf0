"""Implementations in processes of their own: the live protocol over stdin and stdout, one JSON object per line."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import IO, Any

import numpy as np

from refdeq.errors import ArgumentError, FileFormatError
from refdeq_validation.packs.live_values import INLINE, LIVE, FileStore, from_message, to_message
from refdeq_validation.packs.rows import canonical
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.protocol.timeout import CallTimeoutError

__all__ = ["JsonlImplementation", "JsonlSession", "LiveProcessError"]

Array = np.ndarray[Any, Any]

LONGEST_LINE = 1 << 28
KEPT = 2000
"""Characters of stderr that are quoted when a process ends."""


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
        told = None if manifest is not None else self._started().hello.get("manifest")
        if manifest is None and not isinstance(told, dict):
            raise ArgumentError("manifest", expected="a backend.toml, or the manifest in the answer to hello", got="neither")
        self._manifest = manifest if manifest is not None else told
        self.timeout = Claims.from_manifest(self._manifest or {}).timeout

    def manifest(self) -> Mapping[str, Any]:
        """What it claims."""
        return dict(self._manifest or {})

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
        """One evaluation; what comes back is copied into `mask` and `y`."""
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
        self.errors = ""
        try:
            pipe = subprocess.PIPE
            self.popen = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=folder, bufsize=0)
        except OSError as error:
            shutil.rmtree(self.shared, ignore_errors=True)
            raise LiveProcessError(f"{command[0]}: cannot be started ({error.strerror})") from error
        self.lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self._read_lines, self._read_errors)]
        for thread in self.threads:
            thread.start()
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
        return self.popen.poll() is None

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
        number = next(self.numbers)
        try:
            answer = self._received(canonical({**message, "id": number}).encode() + b"\n", str(message["call"]))
            if answer.get("id") != number:
                raise LiveProcessError(f"{message['call']}: expected the answer to message {number}, got {answer.get('id')!r}")
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
        raise LiveProcessError(f"{message['call']}: {answer['error']}: {text}")

    def _received(self, line: bytes, call: str) -> dict[str, Any]:
        try:
            _send(self.popen.stdin, line)
            raw = self.lines.get(timeout=self.timeout)
        except queue.Empty:
            raise CallTimeoutError(f"{call}: no answer within {self.timeout:g} s; the process was killed") from None
        except OSError:
            raw = b""
        if not raw.endswith(b"\n"):
            self.popen.wait(timeout=self.timeout)
            self.threads[1].join(timeout=1.0)
            raise LiveProcessError(f"{call}: the process ended with code {self.popen.returncode}: {self.errors.strip()}")
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise LiveProcessError(f"{call}: expected one JSON object, got {raw[:80]!r}")
        return answer

    def _read_lines(self) -> None:
        assert self.popen.stdout is not None
        stream = open(self.popen.stdout.fileno(), "rb", closefd=False)  # noqa: SIM115 - lives as long as the thread
        while True:
            line = stream.readline(LONGEST_LINE)
            self.lines.put(line)
            if not line.endswith(b"\n"):
                return

    def _read_errors(self) -> None:
        assert self.popen.stderr is not None
        while chunk := self.popen.stderr.read(4096):
            self.errors = (self.errors + chunk.decode(errors="replace"))[-KEPT:]

    def end(self) -> None:
        """Kill the process and delete its files."""
        self.popen.kill()
        self.popen.wait()
        for thread in self.threads:
            thread.join(timeout=5.0)
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream is not None and not stream.closed:
                stream.close()
        shutil.rmtree(self.shared, ignore_errors=True)


def _send(stream: IO[bytes] | None, line: bytes) -> None:
    assert stream is not None
    view = memoryview(line)
    while view:
        view = view[stream.write(view) :]
