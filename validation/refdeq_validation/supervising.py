"""A process that watches the one which judges: foreign code may end it at any time, and exit code 0 says *granted*."""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["announce", "supervise"]

ENDED = 5
"""Exit code when the judging process ended before its verdict."""

_DONE = b"verdict"

_writer: int | None = None


def supervise() -> None:
    """Go on in a child process; the parent waits, and ends as the child does.

    A child that ends with exit code 0 without :func:`announce` has not judged: the parent then ends with 5. Nothing happens
    where there is no ``fork``, or where output is captured in this process.
    """
    global _writer
    output = sys.__stdout__
    if not hasattr(os, "fork") or output is None or sys.stdout is not output:
        return
    reader, writer = os.pipe()
    output.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _writer = writer
        return
    os.close(writer)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child is interrupted too, and says so
    announced = b""
    while part := os.read(reader, len(_DONE)):
        announced += part
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 0 and announced != _DONE:
        sys.stderr.write("error: the judged implementation ended the process before there was a verdict\n")
        sys.stderr.flush()
        code = ENDED
    os._exit(code if code >= 0 else 128 - code)


def announce() -> None:
    """Tell the watching process that what follows is the verdict."""
    global _writer
    if _writer is not None:
        os.write(_writer, _DONE)
        os.close(_writer)
        _writer = None
