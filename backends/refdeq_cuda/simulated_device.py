"""The device of the simulator: memory is NumPy's, a launch is over when it returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.device import Size
from refdeq_gpu.launch_log import LaunchLog

from refdeq.errors import ArgumentError, LaunchError, ShapeError
from refdeq_cuda.arguments import check_count, element_type, kernel_function, kernel_record, native
from refdeq_cuda.simulator import MAX_SHARED, launch, thread_seed
from refdeq_cuda.simulator_cuda import poisoned

__all__ = ["SimulatedDevice"]

_ONE_ELEMENT_PER_THREAD = {"matmul", "matmul_fma", "conv", "conv_fma"}
_FLAT_LAUNCH = 2, 4  # a grid-stride kernel gives the same with any grid: few threads, because each costs time


class SimulatedDevice:
    """Runs kernels by Python (:class:`refdeq_gpu.device.Device`). New memory is poisoned: NaN, or large numbers.

    Parameters
    ----------
    multiprocessors : int
        As many blocks of a cooperative kernel fit at once.
    seed : int, optional
        Order of threads (:func:`refdeq_cuda.simulator.thread_seed`).
    find : callable, optional
        Name of a kernel to its function; another one than the table's is run by handing over another `find`.

    Examples
    --------
    >>> device = SimulatedDevice()
    >>> device.download(device.upload(np.arange(3)))
    array([0, 1, 2])
    """

    language = "cuda"
    is_simulated = True
    max_shared = MAX_SHARED

    def __init__(self, multiprocessors: int = 4, seed: int | None = None, find: Callable[[str], Any] = kernel_function) -> None:
        self._log = LaunchLog()
        self.multiprocessors = multiprocessors
        self._seed, self._find = seed, find

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Memory with undefined contents."""
        kind = np.dtype(dtype)
        flat = poisoned(math.prod(shape), np.uint8 if kind == np.bool_ else kind)
        return DeviceArray(flat, tuple(shape), kind)

    def upload(self, array: np.ndarray) -> DeviceArray:
        """A copy of a host array."""
        out = self.empty(np.shape(array), array.dtype)
        self.write(array, out)
        return out

    def write(self, array: np.ndarray, out: DeviceArray) -> None:
        """Copy a host array into memory that is there."""
        if array.size != out.size or array.dtype != out.dtype:
            expected = f"{out.size} elements of {out.dtype}"
            raise ShapeError("array", expected=expected, got=f"{array.size} of {array.dtype}")
        out.buffer[: out.size] = np.ascontiguousarray(array).reshape(-1).view(out.buffer.dtype)

    def download(self, array: DeviceArray) -> np.ndarray:
        """A host copy."""
        return np.array(array.buffer[: array.size]).view(array.dtype).reshape(array.shape)

    def adopt(self, array: Any) -> DeviceArray:
        """An array of another library that lies in host memory, without a copy (DLPack)."""
        if isinstance(array, DeviceArray):
            return array
        if not hasattr(array, "__dlpack__"):
            hint = "the simulated device is host memory: hand over an array with __dlpack__ for the CPU"
            raise ArgumentError("array", expected="an array with __dlpack__", got=type(array).__name__, hint=hint)
        own = array if isinstance(array, np.ndarray) else np.from_dlpack(array)
        if not own.flags.c_contiguous:
            raise ShapeError("array", expected="a C-contiguous array", got=f"strides {own.strides}", hint="copy it first")
        flat = own.reshape(-1)
        return DeviceArray(flat.view(np.uint8) if own.dtype == np.bool_ else flat, own.shape, own.dtype)

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
        """Run a kernel of the table to its end."""
        record = kernel_record(kernel)
        self._log.note(kernel, dtype)
        check_count(kernel, arguments)
        if is_cooperative and np.prod(grid) > self.resident_blocks(kernel, block, dtype=dtype, shared=shared):
            raise LaunchError(f"{kernel}: {grid} blocks cannot be resident at once, {self.multiprocessors} can")
        if record.shape == "flat" or kernel in _ONE_ELEMENT_PER_THREAD:
            grid, block = _FLAT_LAUNCH
        real = np.dtype(dtype)
        values = []
        for expected, value in zip(record.arguments, arguments, strict=True):
            kind = element_type(expected.kind, real)
            if expected.is_array:
                whole = native(kernel, expected.name, value, kind)
                values.append(whole[: value.size] if isinstance(value, DeviceArray) else whole)  # not what lies behind it
            else:
                values.append(_scalar(value, kind))
        launch(self._find(kernel), grid, block, values, shared=shared, is_cooperative=is_cooperative, seed=self._seed)

    def resident_blocks(self, kernel: str, block: Size, *, dtype: Any = "float64", shared: int = 0) -> int:
        """One block for each multiprocessor."""
        return self.multiprocessors

    def synchronize(self) -> None:
        """Nothing is ever under way."""

    def describe(self) -> dict[str, str]:
        """What simulates the device."""
        return {"device": "simulated by Python on the CPU", "order of threads": f"seed {thread_seed()}"}


def _scalar(value: Any, kind: np.dtype[Any]) -> Any:
    if kind.kind == "f":
        with np.errstate(all="ignore"):
            return kind.type(value)
    whole = int(value)
    limits = np.iinfo(kind)
    if not limits.min <= whole <= limits.max:
        raise ArgumentError("scalar", expected=f"a number that fits in {kind}", got=whole)
    return whole
