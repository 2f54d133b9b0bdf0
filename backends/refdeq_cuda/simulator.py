"""A simulator of Numba-CUDA kernels on the CPU: the same source, run by Python.

Numba has a simulator of its own. It knows no warp operations and no barrier of a grid, and starts a thread of the operating
system for each thread of a kernel. This one runs kernels without barriers as plain loops and all others as greenlets
(:mod:`refdeq_cuda.simulator_threads`), checks what the hardware leaves undefined (:mod:`refdeq_cuda.simulator_cuda`), and
touches nothing of Numba (:mod:`refdeq_cuda.simulator_linker`). It says nothing about speed, nor about the order in which
memory becomes visible to other threads.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError, LaunchError
from refdeq_cuda.simulator_cuda import CUDA, WAITING, Dim3
from refdeq_cuda.simulator_linker import link, names_used

__all__ = ["MAX_SHARED", "MAX_THREADS", "launch", "thread_seed"]

_ONE_LAUNCH = threading.Lock()  # the simulated namespace is one for all
MAX_THREADS = 1024
MAX_SHARED = 227 * 1024


def thread_seed() -> int:
    """Order of threads, from ``REFDEQ_SHIM_SEED``: 0 ascending, 1 descending, else shuffled by that seed.

    >>> isinstance(thread_seed(), int)
    True
    """
    seed = os.environ.get("REFDEQ_SHIM_SEED", "0")
    if not seed.isdigit():
        raise ArgumentError("REFDEQ_SHIM_SEED", expected="a whole number", got=repr(seed))
    return int(seed)


def launch(
    kernel: Any,
    grid: int | tuple[int, ...],
    block: int | tuple[int, ...],
    arguments: Sequence[Any],
    *,
    shared: int = 0,
    is_cooperative: bool = False,
    seed: int | None = None,
) -> None:
    """Run a kernel; arrays are NumPy arrays and are changed in place.

    Parameters
    ----------
    kernel : function, with or without ``@cuda.jit``
    grid, block : int or tuple of int
    arguments : sequence
        Arrays, and scalars as a compiled kernel would get them: ``np.float32`` for a float32, Python's int for integers.
    shared : int
        Bytes of dynamic shared memory.
    is_cooperative : bool
        All blocks are resident at once, so that they may wait for each other.
    seed : int, optional
        Order of threads; :func:`thread_seed` by default.

    Raises
    ------
    LaunchError
        The block or its shared memory is too large, threads wait for ever, or a thread failed.

    Examples
    --------
    >>> from numba import cuda
    >>> def double(x):
    ...     for i in range(cuda.grid(1), len(x), cuda.gridsize(1)):
    ...         x[i] = x[i] + x[i]
    >>> x = np.arange(3.0)
    >>> launch(double, 2, 1, (x,))
    >>> x
    array([0., 2., 4.])
    """
    grid_size, block_size = _size(grid, "blocks of the grid"), _size(block, "threads of the block")
    _check_limits(block_size, shared)
    seed = thread_seed() if seed is None else seed
    blocks = [index for _, index in _indices(grid_size, seed)]
    threads = _indices(block_size, seed)
    function = link(kernel)
    with _ONE_LAUNCH, np.errstate(all="ignore"):
        CUDA.gridDim, CUDA.blockDim, CUDA.shared.bytes = Dim3(*grid_size), Dim3(*block_size), shared
        if WAITING.isdisjoint(names_used(kernel)):
            _run_plainly(function, arguments, blocks, threads)
        else:
            from refdeq_cuda.simulator_threads import Scheduler

            Scheduler(function, arguments, blocks, threads, is_cooperative).run()
        _check_static(kernel, shared)


def _run_plainly(function: Any, arguments: Sequence[Any], blocks: list[Dim3], threads: list[tuple[int, Dim3]]) -> None:
    """Threads that never wait run one after the other."""
    for CUDA.blockIdx in blocks:
        CUDA.shared.start_block()
        for number, CUDA.threadIdx in threads:
            CUDA.laneid = number & 31
            try:
                function(*arguments)
            except Exception as error:
                place = f"block {CUDA.blockIdx}, thread {CUDA.threadIdx}"
                raise LaunchError(f"{place}: {type(error).__name__}: {error}") from error


def _size(size: int | tuple[int, ...], what: str) -> tuple[int, int, int]:
    x, y, z = (*((size,) if isinstance(size, int) else size), 1, 1)[:3]
    if min(x, y, z) < 1:
        raise LaunchError(f"{what}: expected positive numbers, got {size}")
    return x, y, z


def _check_limits(block: tuple[int, int, int], shared: int) -> None:
    if block[0] * block[1] * block[2] > MAX_THREADS:
        raise LaunchError(f"{block} threads in a block, and {MAX_THREADS} is the most")
    if shared > MAX_SHARED:
        raise LaunchError(f"{shared} bytes of dynamic shared memory, and {MAX_SHARED} is the most")


def _check_static(kernel: Any, shared: int) -> None:
    used = CUDA.shared.static_bytes
    if used > 48 * 1024 or used + shared > MAX_SHARED:
        raise LaunchError(
            f"{getattr(kernel, '__name__', kernel)}: {used} bytes of static shared memory besides {shared} dynamic"
        )


def _indices(size: tuple[int, int, int], seed: int) -> list[tuple[int, Dim3]]:
    """Numbers and indices of all blocks or threads, x fastest, in the order of the seed."""
    ordered = [Dim3(x, y, z) for z, y, x in itertools.product(*(range(n) for n in reversed(size)))]
    found = list(enumerate(ordered))
    if seed == 1:
        found.reverse()
    elif seed:
        random.Random(seed).shuffle(found)
    return found
