"""A limit on the time of one call, where the platform and the thread allow one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["CallTimeoutError", "limited"]


class CallTimeoutError(BaseException):
    """A call took longer than its manifest allows. No ``Exception``: an implementation that catches those does not catch it."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise :class:`CallTimeoutError` in the block after so many seconds.

    It needs the main thread of a process with interval timers (not Windows), and an implementation that comes back to the
    interpreter now and then; elsewhere callers measure afterwards. Implementations in processes of their own are killed.

    >>> with limited(60.0):
    ...     pass
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(number: int, frame: FrameType | None) -> None:
        raise CallTimeoutError(f"it was stopped after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
