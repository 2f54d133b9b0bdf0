"""A process that watches the one which judges: foreign code may end it at any time, and exit code 0 says *granted*."""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["announce", "supervise"]

ENDED = 5
"""Exit code when the judging process ended before its verdict."""

_DONE = b"verdict"

_BY_USER = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that a person or a time limit sends."""

_writer: int | None = None


def supervise() -> None:
    """Go on in a child process; the parent waits, and ends as the child does.

    A child that ends with exit code 0 without :func:`announce` has not judged, and one that a signal ended (a segmentation
    fault, say) has crashed: the parent then says so and ends with 5. Signals by which a user ends a program stay what they
    are. Nothing happens where there is no ``fork``, or where output is captured in this process.
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
    said = _accident(code, announced == _DONE)
    if said:
        sys.stderr.write(f"error: {said}\n")
        sys.stderr.flush()
        code = ENDED
    os._exit(code if code >= 0 else 128 - code)


def _accident(code: int, announced: bool) -> str:
    """What went wrong in a child that ended with this code (negative: by a signal); empty where its code says it all."""
    if code < 0 and -code not in _BY_USER:
        what = signal.strsignal(-code) or "unknown"
        when = "after its verdict" if announced else "before there was a verdict"
        return (
            f"the judged implementation crashed: signal {-code} ({what}) ended the process {when} "
            "(PYTHONFAULTHANDLER=1 shows where)"
        )
    if code == 0 and not announced:
        return "the judged implementation ended the process before there was a verdict"
    return ""


def announce() -> None:
    """Tell the watching process that what follows is the verdict."""
    global _writer
    if _writer is not None:
        os.write(_writer, _DONE)
        os.close(_writer)
        _writer = None
