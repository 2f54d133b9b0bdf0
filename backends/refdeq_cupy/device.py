"""The real device, through CuPy: memory of its pool, binaries as ``cupy.RawModule``, everything on CuPy's current stream."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.device import Size
from refdeq_gpu.launch_log import LaunchLog

from refdeq.errors import BackendUnavailableError, LaunchError, OutOfDeviceMemoryError, ShapeError
from refdeq_cupy.compilation import binary, nvrtc_version
from refdeq_cupy.conversion import check_launch, converted, kernel_named, three
from refdeq_cupy.loader import SOURCES
from refdeq_cupy.names import REAL, symbol_of

__all__ = ["CupyDevice", "problem"]

_LEAST_CAPABILITY = 80
_CUDA, _CUDA_MANAGED = 2, 13
"""Kinds of device in DLPack."""
_SIMULATE = "or set REFDEQ_CUPY_SHIM=1 to simulate a device on the CPU"
_PROBLEMS = {
    "cudaErrorInsufficientDriver": (
        "there is no driver, or it is older than the CUDA runtime of CuPy",
        f"install a newer driver, {_SIMULATE}",
    ),
    "cudaErrorNoDevice": ("there is no CUDA device", f"run on a machine with an NVIDIA GPU, {_SIMULATE}"),
}


def problem() -> tuple[str, str] | None:
    """Why no device can be used here, with the way out; None when one can."""
    import cupy

    try:
        count = cupy.cuda.runtime.getDeviceCount()
        capability = int(cupy.cuda.Device().compute_capability) if count else 0
        driver, compiler = cupy.cuda.runtime.driverGetVersion() // 1000, int(nvrtc_version().partition(".")[0])
    except BackendUnavailableError as error:
        return error.reason, error.hint
    except (ImportError, RuntimeError, OSError) as error:  # by what is missing
        return _explained(str(error))
    if count == 0:
        return _PROBLEMS["cudaErrorNoDevice"]
    if capability < _LEAST_CAPABILITY:
        return f"the device has compute capability {capability / 10}, 8.0 is needed", f"use a newer GPU, {_SIMULATE}"
    if driver < compiler:
        return f"the driver is for CUDA {driver}, NVRTC makes code for CUDA {compiler}", f"install a newer driver, {_SIMULATE}"
    return None


def _explained(message: str) -> tuple[str, str]:
    name = message.partition(":")[0].strip()
    return _PROBLEMS.get(name, (f"CUDA does not start: {message}", f"check the installation of CUDA, {_SIMULATE}"))


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Errors of CuPy as errors of this project, naming what was done."""
    try:
        yield
    except MemoryError as error:
        raise OutOfDeviceMemoryError(f"{what}: {error}; free arrays or solve fewer samples at a time") from error
    except RuntimeError as error:
        if type(error).__name__ not in ("CUDARuntimeError", "CUDADriverError"):
            raise
        if "OUT_OF_MEMORY" in str(error) or "cudaErrorMemoryAllocation" in str(error):
            raise OutOfDeviceMemoryError(f"{what}: {error}; free arrays or solve fewer samples at a time") from error
        raise LaunchError(f"{what}: {error}") from error


class CupyDevice:
    """CuPy's current device.

    Parameters
    ----------
    sources : Path, optional
        Folder with the kernels, by default those of this package.
    """

    language = "cupy"
    is_simulated = False

    def __init__(self, sources: Path | None = None) -> None:
        import cupy

        found = problem()
        if found is not None:
            raise BackendUnavailableError("cupy", *found)
        self._cupy = cupy
        self._sources = SOURCES if sources is None else Path(sources)
        self._device = cupy.cuda.Device()
        runtime = cupy.cuda.runtime
        limit, count = runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin, runtime.cudaDevAttrMultiProcessorCount
        self.max_shared = int(runtime.deviceGetAttribute(limit, self._device.id))
        self.multiprocessors = int(runtime.deviceGetAttribute(count, self._device.id))
        self._modules: dict[tuple[str, str, bool], Any] = {}
        self._log = LaunchLog()
        self._functions: dict[tuple[str, str, bool], Any] = {}
        self._allowed: dict[tuple[str, str, bool], int] = {}
        self._under_way: list[tuple[Any, Any]] = []

    # Memory ------------------------------------------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Memory of CuPy's pool with undefined contents."""
        size = math.prod(shape)
        with translated(f"memory for {size} elements of {np.dtype(dtype).name}"):
            return DeviceArray(self._cupy.empty(size, dtype=dtype), shape, dtype, self._stream_handle())

    def upload(self, array: np.ndarray) -> DeviceArray:
        """A copy on the device."""
        out = self.empty(array.shape, array.dtype)
        self.write(array, out)
        return out

    def write(self, array: np.ndarray, out: DeviceArray) -> None:
        """Copy a host array into memory that is there, by way of pinned memory; does not wait."""
        if array.size != out.size or array.dtype != out.dtype:
            raise ShapeError("array", expected=f"{out.size} elements of {out.dtype}", got=f"{array.size} of {array.dtype}")
        if array.size == 0:
            return
        with translated(f"copying {array.nbytes} bytes to the device"):
            self._under_way = [pair for pair in self._under_way if not pair[0].done]
            stream = self._cupy.cuda.get_current_stream()
            pinned = np.frombuffer(self._cupy.cuda.alloc_pinned_memory(array.nbytes), array.dtype, array.size)
            pinned[:] = np.ascontiguousarray(array).reshape(-1)
            out.buffer[: array.size].set(pinned, stream=stream)
            self._under_way.append((stream.record(), pinned))  # pinned memory must stay until the copy is done

    def download(self, array: DeviceArray) -> np.ndarray:
        """A host copy; waits for everything launched before."""
        with translated("waiting for the device"):
            host: np.ndarray = array.buffer[: array.size].get()
        return host.reshape(array.shape)

    def adopt(self, array: Any) -> DeviceArray:
        """An array of another library, without a copy where it lies on this device; it must be C-contiguous."""
        if isinstance(array, DeviceArray):
            return array
        if isinstance(array, np.ndarray):  # DLPack knows no read-only memory
            return self.upload(array)
        if hasattr(array, "__cuda_array_interface__"):
            own = self._cupy.asarray(array)
        elif array.__dlpack_device__()[0] in (_CUDA, _CUDA_MANAGED):
            own = self._cupy.from_dlpack(array)
        else:
            return self.upload(np.from_dlpack(array))
        if not own.flags.c_contiguous:
            raise ShapeError("array", expected="C-contiguous memory", got=f"strides {own.strides}", hint="copy it first")
        if own.device.id != self._device.id:
            raise ShapeError("array", expected=f"memory of device {self._device.id}", got=f"device {own.device.id}")
        return DeviceArray(own.reshape(-1), own.shape, own.dtype, self._stream_handle())

    def _stream_handle(self) -> int:
        """Handle of the current stream as the CUDA array interface wants it, where the default stream is 1."""
        return int(self._cupy.cuda.get_current_stream().ptr) or 1

    # Launches ----------------------------------------------------------------------------------------------------------------

    def launch(
        self,
        kernel: str,
        grid: Size,
        block: Size,
        arguments: Sequence[DeviceArray | int | float],
        *,
        dtype: Any = "float64",
        shared: int = 0,
        is_cooperative: bool = False,
    ) -> None:
        """Launch a kernel of the table on the current stream; does not wait."""
        entry, blocks, threads = kernel_named(kernel, dtype), three(grid), three(block)
        self._log.note(kernel, dtype)
        check_launch(kernel, blocks, threads, shared, self.max_shared)
        if is_cooperative and math.prod(blocks) > (most := self.resident_blocks(kernel, block, dtype=dtype, shared=shared)):
            raise LaunchError(f"{kernel}: {math.prod(blocks)} cooperative blocks; {most} fit on the device at once")
        values = converted(entry, arguments, dtype)
        with translated(kernel):
            function = self._function(kernel, dtype, shared, is_cooperative)
            function(blocks, threads, tuple(values), shared_mem=shared)

    def resident_blocks(self, kernel: str, block: Size, *, dtype: Any = "float64", shared: int = 0) -> int:
        """Blocks of a cooperative kernel that fit on the device at once."""
        with translated(kernel):
            function = self._function(kernel, dtype, shared, is_cooperative=True)
            count = self._cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor
            return self.multiprocessors * int(count(function.kernel.ptr, math.prod(three(block)), shared))

    def synchronize(self) -> None:
        """Wait for everything launched before on the current stream."""
        with translated("waiting for the device"):
            self._cupy.cuda.get_current_stream().synchronize()

    def describe(self) -> dict[str, str]:
        """Device, driver and versions."""
        runtime = self._cupy.cuda.runtime
        name = runtime.getDeviceProperties(self._device.id)["name"]
        return {
            "device": name.decode() if isinstance(name, bytes) else str(name),
            "compute capability": f"{int(self._device.compute_capability) / 10}",
            "multiprocessors": str(self.multiprocessors),
            "CUDA driver": str(runtime.driverGetVersion()),
            "CUDA runtime": str(runtime.runtimeGetVersion()),
            "NVRTC": nvrtc_version(),
            "cupy": self._cupy.__version__,
        }

    def _function(self, kernel: str, dtype: Any, shared: int, is_cooperative: bool) -> Any:
        """Kernel of CuPy, allowed as much dynamic shared memory as was ever asked of it."""
        entry = kernel_named(kernel, dtype)
        key = kernel, np.dtype(dtype).name, is_cooperative
        if key not in self._functions:
            module = self._module(entry.module, REAL[key[1]], is_cooperative)
            self._functions[key] = module.get_function(symbol_of(kernel))
            self._allowed[key] = int(self._functions[key].max_dynamic_shared_size_bytes)
        function = self._functions[key]
        if shared > self._allowed[key]:
            function.max_dynamic_shared_size_bytes = self._allowed[key] = shared
        return function

    def _module(self, module: str, real: str, is_cooperative: bool) -> Any:
        key = module, real, is_cooperative
        if key not in self._modules:
            path = binary(self._sources, module, real, self._arch)
            self._modules[key] = self._cupy.RawModule(path=str(path), enable_cooperative_groups=is_cooperative)
        return self._modules[key]

    @functools.cached_property
    def _arch(self) -> str:
        return f"sm_{self._device.compute_capability}"
