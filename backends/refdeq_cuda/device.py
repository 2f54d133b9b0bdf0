"""The device behind Numba-CUDA: memory, copies and launches in order on one stream."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.device import Size
from refdeq_gpu.launch_log import LaunchLog

from refdeq.errors import ArgumentError, BackendUnavailableError, LaunchError, OutOfDeviceMemoryError, RefdeqError, ShapeError
from refdeq_cuda.arguments import check_count, element_type, kernel_function, kernel_record, native

if TYPE_CHECKING:
    from refdeq_gpu.device import Device

__all__ = ["CudaDevice", "is_simulation_asked_for", "open_device"]

_OUT_OF_MEMORY = 2
_HOST, _DEFAULT_STREAM = 1, 1
"""Kind of device, and name of the default stream, in DLPack."""
_PLAIN_SHARED = 48 * 1024  # dynamic shared memory that no kernel has to ask for


def is_simulation_asked_for() -> bool:
    """Whether the environment asks for the simulator, as Numba reads it.

    >>> is_simulation_asked_for() in (True, False)
    True
    """
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


def open_device() -> Device:
    """The simulated device where the environment asks for it, else the current CUDA device.

    Raises
    ------
    BackendUnavailableError
        There is no device, or its driver is too old.
    """
    if is_simulation_asked_for():
        from refdeq_cuda.simulated_device import SimulatedDevice

        return SimulatedDevice()
    return CudaDevice()


class CudaDevice:
    """The current CUDA device (:class:`refdeq_gpu.device.Device`).

    A kernel is compiled for the argument types of the table when it is first launched. Every launch goes to one stream, so
    nothing has to be waited for but a download.
    """

    language = "cuda"
    is_simulated = False

    _log = LaunchLog()

    def __init__(self) -> None:
        with _reported("opening the device"):
            from numba import cuda

            self._cuda: Any = cuda
            self._context = self._cuda.current_context()
            self._stream = self._cuda.stream()
            device = self._context.device
            self.multiprocessors = int(device.MULTIPROCESSOR_COUNT)
            self.max_shared = int(device.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
        self._kernels: dict[tuple[str, str, bool], Any] = {}
        self._shared: dict[tuple[str, str, bool], int] = {}
        self._configured: dict[Any, Any] = {}
        self._twins: dict[str, Any] = {}

    # Memory -----------------------------------------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Memory with undefined contents."""
        kind = np.dtype(dtype)
        size = max(1, math.prod(shape))
        with _reported(f"reserving {size * kind.itemsize} bytes on the device"):
            flat = self._cuda.device_array(size, np.uint8 if kind == np.bool_ else kind, stream=self._stream)
        return DeviceArray(flat, tuple(shape), kind, self._handle)

    @cached_property
    def _handle(self) -> int | None:
        handle = self._stream.handle
        return int(getattr(handle, "value", handle) or 0) or None

    def upload(self, array: np.ndarray) -> DeviceArray:
        """A copy on the device of a host array."""
        out = self.empty(np.shape(array), array.dtype)
        self.write(array, out)
        return out

    def write(self, array: np.ndarray, out: DeviceArray) -> None:
        """Copy a host array into memory that is there."""
        if array.size != out.size or array.dtype != out.dtype:
            expected = f"{out.size} elements of {out.dtype}"
            raise ShapeError("array", expected=expected, got=f"{array.size} of {array.dtype}")
        if array.size:
            flat = np.ascontiguousarray(array).reshape(-1).view(out.buffer.dtype)
            with _reported("copying to the device"):
                out.buffer[: out.size].copy_to_device(flat, stream=self._stream)

    def download(self, array: DeviceArray) -> np.ndarray:
        """A host copy; waits for everything launched before."""
        flat = np.empty(array.size, array.buffer.dtype)
        with _reported("copying from the device"):
            if array.size:
                array.buffer[: array.size].copy_to_host(flat, stream=self._stream)
            self._stream.synchronize()
        return flat.view(array.dtype).reshape(array.shape)

    def adopt(self, array: Any) -> DeviceArray:
        """An array of another library that lies on this device, without a copy: CUDA array interface, then DLPack."""
        if isinstance(array, DeviceArray):
            return array
        source = array
        if not hasattr(array, "__cuda_array_interface__"):
            source = _through_dlpack(array, self._handle or _DEFAULT_STREAM)
        with _reported("adopting an array"):
            own = self._cuda.as_cuda_array(source)
        if not own.is_c_contiguous():
            raise ShapeError("array", expected="a C-contiguous array", got=f"strides {own.strides}", hint="copy it first")
        flat = own.reshape(own.size)
        return DeviceArray(flat.view(np.uint8) if own.dtype == np.bool_ else flat, own.shape, own.dtype, self._handle)

    # Launches ---------------------------------------------------------------------------------------------------------------

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
        """Launch a kernel of the table; it is compiled by its first launch."""
        check_count(kernel, arguments)
        real = np.dtype(dtype)
        values = []
        self._log.note(kernel, dtype)
        for expected, value in zip(kernel_record(kernel).arguments, arguments, strict=True):
            kind = element_type(expected.kind, real)
            if expected.is_array:
                values.append(native(kernel, expected.name, value, kind))
            else:
                with np.errstate(over="ignore"):
                    values.append(kind.type(value))
        with _reported(f"launching {kernel}"):
            self._compiled(kernel, real, shared, is_cooperative)
            self._at(kernel, grid, block, shared, is_cooperative)(*values)

    def _compiled(self, name: str, real: np.dtype[Any], shared: int, is_cooperative: bool) -> Any:
        """The compiled kernel, which may use `shared` bytes of dynamic shared memory."""
        key = name, real.name, is_cooperative
        if key not in self._kernels:
            from refdeq_cuda.static import argument_types

            compiled = self._dispatcher(name, is_cooperative).compile(argument_types(name, real.name))
            compiled.cooperative = compiled.cooperative or is_cooperative
            self._kernels[key] = compiled
            self._shared[key] = _PLAIN_SHARED
        if shared > self._shared[key]:
            self._allow_shared(self._kernels[key], name, shared)
            self._shared[key] = shared
        return self._kernels[key]

    def _dispatcher(self, name: str, is_cooperative: bool) -> Any:
        """A kernel that is launched both ways is compiled twice, because the way is a property of the compiled kernel."""
        function = kernel_function(name)
        if not is_cooperative:
            return function
        if name not in self._twins:
            self._twins[name] = type(function)(function.py_func, dict(function.targetoptions))
        return self._twins[name]

    def _allow_shared(self, compiled: Any, name: str, shared: int) -> None:
        """More than 48 KB of dynamic shared memory has to be asked for, kernel by kernel."""
        if shared > self.max_shared:
            raise LaunchError(f"{name}: {shared} bytes of dynamic shared memory, the device has {self.max_shared} for a block")
        from cuda.bindings import driver

        function = compiled.library.get_cufunc()
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        (status,) = driver.cuKernelSetAttribute(attribute, shared, function.handle, self._context.device.id)
        if int(status) != 0:
            raise LaunchError(f"{name}: {shared} bytes of dynamic shared memory were refused: {status!r}")

    def _at(self, name: str, grid: Size, block: Size, shared: int, is_cooperative: bool) -> Any:
        key = name, grid, block, shared, is_cooperative
        found = self._configured.get(key)
        if found is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # small grids are meant
                found = self._dispatcher(name, is_cooperative)[grid, block, self._stream, shared]
            self._configured[key] = found
        return found

    def resident_blocks(self, kernel: str, block: Size, *, dtype: Any = "float64", shared: int = 0) -> int:
        """Blocks of a cooperative kernel that fit on the device at once."""
        with _reported(f"asking how many blocks of {kernel} fit"):
            compiled = self._compiled(kernel, np.dtype(dtype), shared, True)
            return int(compiled.max_cooperative_grid_blocks(block if isinstance(block, tuple) else (block,), shared))

    def synchronize(self) -> None:
        """Wait for everything launched before."""
        with _reported("waiting for the device"):
            self._stream.synchronize()

    def describe(self) -> dict[str, str]:
        """Device, driver and versions."""
        from importlib.metadata import version

        import numba
        from numba.cuda.cudadrv.driver import driver

        device = self._context.device
        name = device.name.decode() if isinstance(device.name, bytes) else str(device.name)
        return {
            "device": name,
            "compute capability": ".".join(str(part) for part in device.compute_capability),
            "multiprocessors": str(self.multiprocessors),
            "driver": ".".join(str(part) for part in driver.get_version()),
            "numba-cuda": version("numba-cuda"),
            "numba": numba.__version__,
        }


def _through_dlpack(array: Any, stream: int) -> Any:
    """An array that offers DLPack only, as one with a CUDA array interface; the stream waits for what its owner launched."""
    if not hasattr(array, "__dlpack__"):
        expected = "an array with __cuda_array_interface__ or __dlpack__"
        raise ArgumentError("array", expected=expected, got=type(array).__name__)
    try:
        from cuda.core.utils import StridedMemoryView
    except ImportError:
        hint = "pip install cuda-core, or hand over an array with __cuda_array_interface__"
        raise ArgumentError("array", expected="__cuda_array_interface__", got="__dlpack__ only", hint=hint) from None
    if array.__dlpack_device__()[0] == _HOST:
        raise ArgumentError("array", expected="an array on the device", got="one in host memory", hint="upload it")
    view = StridedMemoryView.from_dlpack(array, stream_ptr=stream)
    strides = view.strides and tuple(step * view.dtype.itemsize for step in view.strides)
    return _Described(view, {"shape": tuple(view.shape), "strides": strides, "typestr": view.dtype.str, "version": 3})


class _Described:
    """Memory of a DLPack view with a CUDA array interface; keeps the view alive."""

    def __init__(self, view: Any, interface: dict[str, Any]) -> None:
        self.view = view
        self.__cuda_array_interface__ = {**interface, "data": (int(view.ptr), bool(view.readonly)), "stream": None}


@contextlib.contextmanager
def _reported(what: str) -> Iterator[None]:
    """Errors of the driver as errors of the project."""
    try:
        yield
    except RefdeqError:
        raise
    except Exception as error:
        raise translated(error, what) from error


def translated(error: Exception, what: str) -> Exception:
    """What an error of Numba-CUDA, cuda-core or the driver means to a caller.

    >>> type(translated(ValueError("bad"), "launching gate")).__name__
    'LaunchError'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    code = getattr(error, "code", None)
    if isinstance(error, ImportError):
        hint = "install a driver for CUDA 13 and numba-cuda[cu13]; NUMBA_ENABLE_CUDASIM=1 simulates a device"
        return BackendUnavailableError("cuda", text, hint)
    if (code is not None and str(code).isdigit() and int(code) == _OUT_OF_MEMORY) or "OUT_OF_MEMORY" in text:
        return OutOfDeviceMemoryError(f"{what}: the device has no memory left; solve fewer samples at once ({text})")
    return LaunchError(f"{what}: {type(error).__name__}: {text}")
