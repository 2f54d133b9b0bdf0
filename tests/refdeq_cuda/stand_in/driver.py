"""A stand-in for the driver below Numba-CUDA, whose own layers stay as they are: memory, streams and copies of the host.

What is queued on a stream is done when somebody waits for it. Kernels are not compiled; the simulator runs them, with the
arguments that Numba's dispatcher was called with.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import types
from collections import deque

import numpy as np
from numba.cuda import dispatcher
from numba.cuda.cudadrv import devices, driver
from refdeq_cuda import simulator
from refdeq_cuda.arguments import kernel_function, kernel_record
from refdeq_cuda.static import argument_types
from refdeq_gpu.table import kernel_names

__all__ = ["install"]

MEMORY: dict[int, np.ndarray] = {}
QUEUES: dict[int, deque] = {}
BUSY: list = []
FREED: list[np.ndarray] = []
LIMIT = 1 << 28
SHARED: list[int] = []
"""Bytes of dynamic shared memory that were asked for."""


def _bytes(address, size):
    return np.frombuffer((ctypes.c_byte * size).from_address(int(address)), dtype=np.uint8) if size else np.empty(0, np.uint8)


def _queue(stream, work):
    QUEUES[int(stream)].append(work)


def _synchronize(stream):
    if BUSY:
        raise AssertionError("nobody waits for a stream in the middle of its work")
    BUSY.append(stream)
    try:
        queue = QUEUES[int(stream)]
        while queue:
            queue.popleft()()
    finally:
        BUSY.clear()
    while FREED:
        FREED.pop()[:] = 0xDB


def _allocate(size):
    if size > LIMIT:
        raise driver.CudaAPIError(driver.binding.CUresult.CUDA_ERROR_OUT_OF_MEMORY, "Call to cuMemAlloc results in "
                                  "CUDA_ERROR_OUT_OF_MEMORY")  # fmt: skip
    block = np.full(size, 0xFF, dtype=np.uint8)
    MEMORY[block.ctypes.data] = block
    return driver.binding.CUdeviceptr(block.ctypes.data)


def _free(pointer):
    """The driver waits for the device; what the collector frees in the middle of a kernel lasts until its end."""
    FREED.append(MEMORY.pop(int(pointer)))
    if not BUSY:
        for stream in QUEUES:
            _synchronize(stream)


def _create(flags):
    stream = 0x1000 * (len(QUEUES) + 1)
    QUEUES[stream] = deque()
    return driver.binding.CUstream(stream)


def _to_device(target, source, size, stream):
    """Pageable memory is staged before the call returns."""
    staged = _bytes(source, size).copy()
    _queue(stream, lambda: np.copyto(_bytes(target, size), staged))


def _to_host(target, source, size, stream):
    """To pageable memory: the call returns when it is done."""
    _queue(stream, lambda: np.copyto(_bytes(target, size), _bytes(source, size)))
    _synchronize(stream)


def _on_device(target, source, size, stream):
    _queue(stream, lambda: np.copyto(_bytes(target, size), _bytes(source, size)))


def _no_stream(*arguments):
    raise AssertionError("a copy on no stream is not in order with the launches")


class Kernel:
    """A compiled kernel: what of it the backend touches."""

    def __init__(self, argtypes):
        self.argtypes, self.cooperative = argtypes, False
        self.library = types.SimpleNamespace(get_cufunc=lambda: types.SimpleNamespace(handle="a kernel"))

    def max_cooperative_grid_blocks(self, blockdim, dynsmemsize=0):
        assert isinstance(blockdim, tuple)
        return 4


@functools.cache
def _names():
    return {kernel_function(name).py_func: name for name in kernel_names("cuda")}


def _compile(self, sig):
    return self.overloads.setdefault(sig, Kernel(sig))


def _call(self, args, launch_config):
    """Numba would compile for other types than those it was compiled for; a scalar of the wrong type would be read wrongly."""
    argtypes = tuple(self.typeof_pyval(value) for value in args)
    compiled = self.overloads[argtypes]
    name = _names()[self.py_func]
    assert argtypes in {argument_types(name, dtype) for dtype in kernel_record(name).dtypes}
    grid, block = launch_config.griddim, launch_config.blockdim
    if kernel_record(name).shape == "flat":
        grid, block = (2, 1, 1), (4, 1, 1)  # the same with any grid; threads of Python cost time
    assert not compiled.cooperative or np.prod(grid) <= 4
    values = []
    for value in args:
        if hasattr(value, "device_ctypes_pointer"):
            values.append(_bytes(value.device_ctypes_pointer.value or 0, value.nbytes).view(value.dtype))
        else:
            values.append(value if value.dtype.kind == "f" else int(value))

    def run():
        simulator.launch(self, grid, block, values, shared=launch_config.sharedmem, is_cooperative=compiled.cooperative)

    _queue(int(launch_config.stream.handle), run)


def install():
    """Put the stand-in below Numba-CUDA, in this process."""
    own = driver.driver
    own.is_initialized, own.initialization_error = True, None
    driver._logger = types.SimpleNamespace(debug=lambda *_: None, info=lambda *_: None)
    for name, function in {
        "cuMemAlloc": _allocate,
        "cuMemFree": _free,
        "cuMemGetInfo": lambda: (LIMIT, LIMIT),
        "cuStreamCreate": _create,
        "cuStreamDestroy": lambda handle: None,
        "cuStreamSynchronize": _synchronize,
        "cuMemcpyHtoDAsync": _to_device,
        "cuMemcpyDtoHAsync": _to_host,
        "cuMemcpyDtoDAsync": _on_device,
        "cuMemcpyHtoD": _no_stream,
        "cuMemcpyDtoH": _no_stream,
        "cuMemcpyDtoD": _no_stream,
        "cuDriverGetVersion": lambda: 13000,
    }.items():
        setattr(own, name, function)
    capability = types.SimpleNamespace
    device = capability(id=0, name="stand-in", MULTIPROCESSOR_COUNT=4, MAX_SHARED_MEMORY_PER_BLOCK_OPTIN=232448,
                        compute_capability=(9, 0))  # fmt: skip
    context = driver.Context(device, 1)
    devices._runtime.get_or_create_context = lambda devnum: context
    devices._runtime.ensure_context = contextlib.nullcontext
    dispatcher.CUDADispatcher.compile = _compile
    dispatcher.CUDADispatcher.call = _call
