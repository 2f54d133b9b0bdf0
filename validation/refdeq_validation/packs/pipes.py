"""One program at the other end of two pipes: a line out, a line back, within a time."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["LinePipe", "PipeEndedError", "PipeTimeoutError"]

CHUNK = 1 << 16
LONGEST_LINE = 1 << 28
KEPT = 2000
"""Bytes of stderr that are quoted when a program ends."""


class PipeEndedError(RuntimeError):
    """The program ended, or its line is too long; the text says which."""


class PipeTimeoutError(RuntimeError):
    """No whole line came back in time."""


class LinePipe:
    """A running program that answers every line with one line. Needs a system whose pipes can be polled (not Windows).

    Parameters
    ----------
    command : sequence of str
    folder : Path, optional
        Its working directory.

    Raises
    ------
    OSError
        When the program cannot be started.

    Examples
    --------
    >>> pipe = LinePipe(["cat"])
    >>> pipe.exchange(b"question", 10.0)
    b'question'
    >>> pipe.end()
    """

    def __init__(self, command: Sequence[str], folder: Path | None = None) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the program
        try:
            pipe = subprocess.PIPE
            self.popen = subprocess.Popen(list(command), stdin=pipe, stdout=pipe, stderr=self.errors, cwd=folder, bufsize=0)
        except BaseException:
            self.errors.close()
            raise
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.target, self.source = self.popen.stdin.fileno(), self.popen.stdout.fileno()
        os.set_blocking(self.target, False)
        os.set_blocking(self.source, False)
        self.rest = bytearray()

    @property
    def alive(self) -> bool:
        """Whether the program runs."""
        return self.popen.poll() is None

    def exchange(self, line: bytes, seconds: float) -> bytes:
        """Send a line and wait for one, both without their ends.

        Raises
        ------
        PipeTimeoutError
            When it takes longer than `seconds`.
        PipeEndedError
            When the program ends instead.
        """
        deadline, left = time.monotonic() + seconds, memoryview(line + b"\n")
        while True:
            end = self.rest.find(b"\n") if not left else -1
            if end >= 0:
                answer = bytes(self.rest[:end])
                del self.rest[: end + 1]
                return answer
            if len(self.rest) > LONGEST_LINE:
                raise PipeEndedError(f"its answer has more than {LONGEST_LINE} bytes")
            wanted = [self.target] if left else []
            readable, writable, _ = select.select([self.source], wanted, [], max(deadline - time.monotonic(), 0.0))
            if not readable and not writable:
                raise PipeTimeoutError(f"no answer within {seconds:g} s")
            if readable:
                self._read()
            if writable:
                left = self._write(left)

    def _read(self) -> None:
        chunk = os.read(self.source, CHUNK)
        if not chunk:
            raise PipeEndedError(self._last_words())
        self.rest += chunk

    def _write(self, left: memoryview) -> memoryview:
        try:
            return left[os.write(self.target, left[: 4 * CHUNK]) :]
        except BrokenPipeError:
            raise PipeEndedError(self._last_words()) from None

    def _last_words(self) -> str:
        """How the program ended, and the end of what it said on stderr."""
        try:
            code = str(self.popen.wait(timeout=1.0))
        except subprocess.TimeoutExpired:
            code = "none: it closed its output and goes on"
        size = self.errors.seek(0, os.SEEK_END)
        self.errors.seek(max(size - KEPT, 0))
        said = self.errors.read().decode(errors="replace").strip()
        return f"the program ended with code {code}" + (f": {said}" if said else "")

    def end(self) -> None:
        """Kill the program."""
        self.popen.kill()
        self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout, self.errors):
            if stream is not None and not stream.closed:
                stream.close()
