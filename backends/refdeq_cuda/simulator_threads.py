"""Threads of a simulated launch that may wait for each other: greenlets, and a schedule that a seed decides.

One thread runs until it waits; then the next that is ready runs. So whoever forgot a barrier reads what has not been written
yet, in ascending order of threads, in descending order (seed 1), or in a shuffled one. Threads that can never go on are
reported with the place they wait at. Rules are stricter than the hardware's: a block's barrier must be reached at one place by
all of its threads, and lanes named in a mask must all come.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from refdeq.errors import BackendUnavailableError, LaunchError
from refdeq_cuda.simulator_cuda import CUDA, FULL, Dim3

__all__ = ["Scheduler"]

_SPIN_LIMIT = 5000  # rounds of polling without anybody getting on


_POOL = threading.local()  # a greenlet is costly to start and cheap to use again


def _greenlet() -> Any:
    try:
        import greenlet
    except ImportError:
        raise BackendUnavailableError("cuda", "the simulator needs greenlet", "pip install greenlet") from None
    return greenlet


class _Thread:
    __slots__ = ("block", "greenlet", "index", "is_done", "lane", "number", "result", "state", "value", "warp", "where")

    def __init__(self, block: _Block, number: int, index: Dim3) -> None:
        self.block, self.number, self.index = block, number, index
        self.lane, self.warp = number & 31, number >> 5
        self.state, self.where, self.value, self.result = "", None, None, None
        self.greenlet: Any = None
        self.is_done = False


class _Block:
    def __init__(self, index: Dim3) -> None:
        self.index = index
        self.memory: Any = None
        self.threads: list[_Thread] = []
        self.order: list[_Thread] = []
        self.arrived = self.left = 0
        self.meetings: dict[tuple[int, int], dict[int, _Thread]] = {}
        self.gone: dict[int, int] = {}  # warp to bits of the lanes that left the kernel


class Scheduler:
    """Runs all threads of one launch.

    Parameters
    ----------
    function : linked kernel
    arguments : sequence
    blocks, threads : list of Dim3
        Indices, in the order in which they run.
    is_cooperative : bool
        Blocks are resident together, and polling gives others their turn.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        blocks: list[Dim3],
        threads: list[tuple[int, Dim3]],
        is_cooperative: bool,
    ) -> None:
        self.library = _greenlet()
        self.function, self.arguments, self.threads, self.is_cooperative = function, arguments, threads, is_cooperative
        self.to_start = deque(blocks)
        self.ready: deque[_Thread] = deque()
        self.resident: list[_Block] = []
        self.in_grid_barrier: list[_Thread] = []
        self.spins = 0
        self.current: Any = None
        self.error: Exception | None = None

    # Running ----------------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run the launch to its end; LaunchError names the block, the thread and the place."""
        self.main = self.library.getcurrent()
        self.pool = _POOL.__dict__.setdefault("greenlets", [])
        CUDA.scheduler = self
        try:
            while self._has_work():
                thread = self.ready.popleft()
                self._enter(thread)
                thread.greenlet.switch(self)
                if self.error is not None:
                    raise self.error
                if self.current.is_done:
                    self._after_leaving(self.current)
        except Exception as error:
            raise self._failure(error) from error
        finally:
            CUDA.scheduler = None
            self._end_threads()

    def _has_work(self) -> bool:
        if self.is_cooperative:
            while self.to_start:
                self._start_block()
        if not self.ready and self.to_start and not any(self.resident):
            self._start_block()
        if self.ready:
            return True
        if any(block.left < len(block.threads) for block in self.resident):
            raise LaunchError(self._report("deadlock: threads wait for others that do not come"))
        return False

    def _start_block(self) -> None:
        block = _Block(self.to_start.popleft())
        CUDA.shared.start_block()
        block.memory = CUDA.shared.save()
        for number, index in self.threads:
            thread = _Thread(block, number, index)
            thread.greenlet = self.pool.pop() if self.pool else self._new_greenlet()
            block.order.append(thread)
        block.threads = sorted(block.order, key=lambda thread: thread.number)
        self.resident.append(block)
        self.ready.extend(block.order)

    def _new_greenlet(self) -> Any:
        """Begun from here: one that began inside another would count that one's frames as its own."""
        new = self.library.greenlet(_serve, self.main)
        new.switch(self.main)
        return new

    def _enter(self, thread: _Thread) -> None:
        last, self.current = self.current, thread
        CUDA.threadIdx, CUDA.laneid = thread.index, thread.lane
        if last is None or last.block is not thread.block:
            CUDA.blockIdx = thread.block.index
            CUDA.shared.restore(thread.block.memory)

    def _after_leaving(self, thread: _Thread) -> None:
        block = thread.block
        self.pool.append(thread.greenlet)
        self.spins, thread.state = 0, "left"
        block.left += 1
        block.gone[thread.warp] = block.gone.get(thread.warp, 0) | 1 << thread.lane
        if block.left == len(block.threads):
            self.resident.remove(block)

    def _suspend(self) -> None:
        """Let the next thread run; come back when somebody makes this one ready."""
        if not self.ready:
            self.main.switch()
            return
        thread = self.ready.popleft()
        if thread is self.current:
            return
        self._enter(thread)
        thread.greenlet.switch(self)

    def _end_threads(self) -> None:
        for block in self.resident:
            for thread in block.threads:
                if not thread.is_done:
                    thread.greenlet.throw(self.library.GreenletExit)

    # Waiting ----------------------------------------------------------------------------------------------------------------

    def barrier(self, value: bool) -> int:
        """Wait for the whole block; returns how many threads brought True."""
        thread = self.current
        block, frame = thread.block, sys._getframe(2)
        thread.where, thread.state, thread.value = (frame.f_code, frame.f_lasti), "syncthreads", value
        block.arrived += 1
        if block.arrived == len(block.threads):
            block.arrived = self.spins = 0
            if len({other.where for other in block.threads}) > 1:
                raise LaunchError(self._report("divergent barrier: threads of one block wait at different places", block))
            count = sum(other.value for other in block.threads)
            for other in block.order:
                other.state, other.result = "", count
            self.ready.extend(block.order)
        self._suspend()
        return int(thread.result)

    def grid_barrier(self) -> None:
        """Wait for the whole grid."""
        thread, frame = self.current, sys._getframe(2)
        if not self.is_cooperative:
            raise LaunchError("grid barrier: the kernel was not launched cooperatively")
        thread.where, thread.state = (frame.f_code, frame.f_lasti), "grid.sync"
        self.in_grid_barrier.append(thread)
        if len(self.in_grid_barrier) == sum(len(block.threads) for block in self.resident):
            for block in self.resident:
                self.ready.extend(block.order)
            for other in self.in_grid_barrier:
                other.state = ""
            self.in_grid_barrier.clear()
        self._suspend()

    def poll(self) -> None:
        """Give other threads their turn, where blocks run together."""
        self.spins += 1
        thread, frame = self.current, sys._getframe(2)
        if self.spins > _SPIN_LIMIT * (1 + len(self.ready)):
            thread.where, thread.state = (frame.f_code, frame.f_lasti), "polling"
            hint = "" if self.is_cooperative else " (the launch is not cooperative: blocks run one after the other)"
            raise LaunchError(self._report(f"livelock: threads poll for what nobody writes{hint}"))
        if not self.is_cooperative:
            return
        thread.where, thread.state = (frame.f_code, frame.f_lasti), "polling"
        self.ready.append(thread)
        self._suspend()
        thread.state = ""

    def meet(self, name: str, mask: Any, value: Any) -> dict[int, Any]:
        """Wait for the lanes of `mask`; returns what each of them brought."""
        thread = self.current
        frame = sys._getframe(2 if not name.startswith("shfl") else 3)
        mask = int(mask) & FULL
        block, warp = thread.block, thread.warp
        wanted = mask & ((1 << min(32, len(block.threads) - 32 * warp)) - 1)
        thread.where, thread.state, thread.value = (frame.f_code, frame.f_lasti), f"{name}(mask {mask:#010x})", (name, value)
        if not mask >> thread.lane & 1:
            raise LaunchError(f"{name}: lane {thread.lane} calls it and is not in the mask {mask:#010x}")
        if wanted & block.gone.get(warp, 0):
            raise LaunchError(self._report(f"{name}: the mask {mask:#010x} names lanes that have left the kernel", block))
        lanes = block.meetings.setdefault((warp, mask), {})
        lanes[thread.lane] = thread
        if len(lanes) < wanted.bit_count():
            self._suspend()
            return dict(thread.result)
        del block.meetings[warp, mask]
        if len({other.value[0] for other in lanes.values()}) > 1:
            raise LaunchError(self._report("lanes of one warp meet in different operations", block))
        self.spins, result = 0, {lane: other.value[1] for lane, other in lanes.items()}
        for other in lanes.values():
            other.state, other.result = "", result
            if other is not thread:
                self.ready.append(other)
        return result

    # Reports ----------------------------------------------------------------------------------------------------------------

    def _failure(self, error: Exception) -> Exception:
        if isinstance(error, LaunchError) and "\n" in str(error):
            return error
        thread = self.current
        if thread is None:
            return error
        place = f"block {thread.block.index}, thread {thread.index}"
        return LaunchError(f"{place}: {type(error).__name__}: {error}")

    def _report(self, what: str, only: _Block | None = None) -> str:
        lines = [what]
        for block in [only] if only is not None else self.resident:
            groups: dict[tuple[str, str], list[int]] = {}
            for thread in block.threads:
                if thread.state:
                    groups.setdefault((thread.state, _place(thread.where)), []).append(thread.number)
            lines += [
                f"  block {block.index}, threads {_ranges(numbers)}: {state}{place}"
                for (state, place), numbers in groups.items()
            ]
        return "\n".join(lines[:40])


def _serve(main: Any) -> None:
    """Life of a greenlet: one thread after another, of whichever launch comes next."""
    np.seterr(all="ignore")  # a greenlet has a context of its own
    while True:
        scheduler = main.switch()
        thread = scheduler.current
        try:
            scheduler.function(*scheduler.arguments)
        except Exception as error:
            scheduler.error = error
        thread.is_done = True
        main = scheduler.main
        del scheduler, thread  # what a launch used must not live as long as this greenlet


def _place(where: Any) -> str:
    if where is None:
        return ""
    code, at = where
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= at < end:
            line = number
    return f" at {code.co_name}, {code.co_filename}:{line}"


def _ranges(numbers: list[int]) -> str:
    """Ascending numbers in a few words.

    >>> _ranges([0, 1, 2, 7])
    '0-2, 7'
    """
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(f"{first}-{last}" if first < last else f"{first}" for first, last in parts)
