"""Streams whose work is done late: what is queued runs when somebody waits for it, and not before."""

from __future__ import annotations

import time
from collections import deque


class CUDARuntimeError(RuntimeError):
    """Made from the name of the error and its meaning, as CuPy words it."""

    def __init__(self, name, meaning):
        super().__init__(f"{name}: {meaning}")


_STATE = {"number": 0, "streams": 0, "broken": None}


def _next(what):
    _STATE[what] += 1
    return _STATE[what]


class Stream:
    """A queue; the legacy default stream waits for all blocking streams, and they wait for it."""

    null = None
    ptds = None
    alive: list[Stream] = []  # noqa: RUF012

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        if null or ptds:
            raise NotImplementedError("not needed so far")
        self.ptr = 0x1000 + _next("streams")
        self.device_id = 0
        self.is_non_blocking = bool(non_blocking)
        self._queue = deque()
        Stream.alive.append(self)

    def __eq__(self, other):
        return isinstance(other, Stream) and self.ptr == other.ptr

    def __hash__(self):
        return self.ptr

    def __enter__(self):
        _CURRENT.append(self)
        return self

    def __exit__(self, *arguments):
        _CURRENT.pop()

    def use(self):
        _CURRENT[-1] = self
        return self

    @property
    def done(self):
        return not self._queue

    def synchronize(self):
        _run(self, _STATE["number"])

    def record(self, event=None):
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event):
        mark = event._mark
        if mark is not None:
            enqueue(self, lambda: _run(mark.stream, mark.number))


def _default():
    stream = object.__new__(Stream)
    stream.ptr, stream.device_id, stream.is_non_blocking, stream._queue = 0, -1, False, deque()
    Stream.alive.append(stream)
    return stream


Stream.null = _default()
_CURRENT = [Stream.null]


def get_current_stream(device_id=-1):
    return _CURRENT[-1]


def stream_of(pointer):
    """A stream by its handle, where 1 is the default one as the CUDA array interface and DLPack name it."""
    return next(stream for stream in Stream.alive if stream.ptr == (0 if pointer == 1 else pointer))


def enqueue(stream, work):
    """Queue work; its number."""
    check()
    number = _next("number")
    stream._queue.append((number, work))
    return number


def check():
    """Raise the error of work that failed earlier: it stays, as on a device."""
    if _STATE["broken"] is not None:
        raise CUDARuntimeError("cudaErrorIllegalAddress", _STATE["broken"])


def _run(stream, last):
    """Do what is queued on a stream up to a number, and before each piece what its stream waits for."""
    check()
    while stream._queue and stream._queue[0][0] <= last:
        number = stream._queue[0][0]
        if stream.ptr == 0:
            for other in Stream.alive:
                if other.ptr and not other.is_non_blocking:
                    _run(other, number)
        elif not stream.is_non_blocking:
            _run(Stream.null, number)
        _, work = stream._queue.popleft()
        problem = work()
        if problem:
            _STATE["broken"] = problem
            check()


class _Mark:
    def __init__(self, stream):
        self.stream, self.number, self.time = stream, 0, None

    def reach(self):
        self.time = time.perf_counter()


class Event:
    """A place in a stream."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.ptr = id(self)
        self._mark = None
        self._times = not disable_timing

    @property
    def done(self):
        return self._mark is None or self._mark.time is not None

    def record(self, stream=None):
        stream = get_current_stream() if stream is None else stream
        self._mark = mark = _Mark(stream)
        mark.number = enqueue(stream, mark.reach)

    def synchronize(self):
        if self._mark is not None:
            _run(self._mark.stream, self._mark.number)


def get_elapsed_time(start_event, end_event):
    for event in (start_event, end_event):
        if event._mark is None or not event._times:
            raise CUDARuntimeError("cudaErrorInvalidResourceHandle", "invalid resource handle")
        if event._mark.time is None:
            raise CUDARuntimeError("cudaErrorNotReady", "device not ready")
    return (end_event._mark.time - start_event._mark.time) * 1e3


def synchronize_device():
    for stream in Stream.alive:
        stream.synchronize()
