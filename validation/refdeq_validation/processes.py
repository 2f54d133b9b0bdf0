"""Processes that judge beside this one, started early: what they import is there when the first task comes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from types import TracebackType
from typing import Any

__all__ = ["Workers", "prepare", "tell"]

PRELOADED = "refdeq_validation.preloaded"


def _context() -> Any:
    """Processes that begin without anything of this one: what is judged may hold threads or a device.

    Where there is a fork server, it imports the judge and makes the cases once, for all of them.
    """
    server = "forkserver" in multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if server else "spawn")


def prepare() -> None:
    """Start the server that processes are forked from, and do not wait for it."""
    context = _context()
    if context.get_start_method() != "forkserver":
        return
    context.set_forkserver_preload([PRELOADED])
    from multiprocessing import forkserver

    forkserver.ensure_running()


class Workers:
    """A pool of processes that say how many steps they have done (:func:`tell`).

    Parameters
    ----------
    count : int
        Processes.
    """

    def __init__(self, count: int) -> None:
        prepare()
        context = _context()
        self.count = count
        self._done = context.Value("q", 0)
        self._told = 0
        self._pool = ProcessPoolExecutor(count, context, _begin, (self._done, dict(os.environ)))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Have a function of a module called."""
        return self._pool.submit(function, *arguments)

    def follow(self, futures: Collection[Future[Any]], advance: Callable[[int], None]) -> None:
        """Wait for tasks, and hand on how many steps are done; an exception of a task ends the waiting."""
        pending = set(futures)
        while pending:
            finished, pending = wait(pending, timeout=0.25, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()  # a mistake of the harness ends the run here
            done = self._done.value
            advance(done - self._told)
            self._told = done


_done: Any = None


def _begin(done: Any, environment: dict[str, str]) -> None:
    global _done
    _done = done
    os.environ.update(environment)  # a server that was started before has the environment of then


def tell(count: int) -> None:
    """In a process of :class:`Workers`: so many more steps are done."""
    with _done.get_lock():
        _done.value += count
