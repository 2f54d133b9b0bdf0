"""A device simulated on the CPU: buffers are NumPy arrays, kernels are the CUDA C++ of this package behind ``shim``.

Fresh memory is poisoned (NaN), and every array lies directly before pages that nobody may touch, of seed 1 directly behind some
(:mod:`refdeq_cupy.guarded`): a kernel that reads what nobody wrote, or reads or writes outside, does not pass. The fences on
the other side are looked at after each launch for its arguments, for all arrays now and then.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.device import Size
from refdeq_gpu.launch_log import LaunchLog
from refdeq_gpu.table import Kernel

from refdeq.errors import ArgumentError, LaunchError, OutOfDeviceMemoryError, ShapeError
from refdeq_cupy import loader
from refdeq_cupy.cache import cache_folder
from refdeq_cupy.conversion import check_launch, converted, kernel_named, kind_dtype, three
from refdeq_cupy.guarded import Memory
from refdeq_cupy.names import REAL, symbol_of

__all__ = ["ShimDevice"]

_POISON = 0xFF
_LOCK = threading.Lock()
"""The scheduler runs one launch at a time."""
_LAUNCHES_PER_SWEEP = 256


class ShimDevice:
    """The device of the CuPy backend, simulated.

    Parameters
    ----------
    sources : Path, optional
        Folder with the kernels, by default those of this package.
    seed : int, optional
        Order of threads and blocks: 0 ascending, 1 descending, any other number a shuffle of its own; by default
        ``REFDEQ_SHIM_SEED``, else 0.
    multiprocessors : int
        How many it says it has; each holds as many cooperative blocks as an H100 would, but no more than 4.
    looks_for_races : bool, optional
        Whether a launch is an error in which two warps use the same bytes of shared memory, one of them writing, with no
        barrier between, in whatever order they did; by default whether ``REFDEQ_SHIM_RACES`` is set to other than 0.
    """

    language = "cupy"
    is_simulated = True
    max_shared = 232448

    def __init__(
        self,
        sources: Path | None = None,
        seed: int | None = None,
        multiprocessors: int = 2,
        looks_for_races: bool | None = None,
    ) -> None:
        self.multiprocessors = multiprocessors
        self.seed = _seed_asked_for() if seed is None else seed
        asked = os.environ.get("REFDEQ_SHIM_RACES", "0") not in ("", "0")
        self._looks_for_races = asked if looks_for_races is None else looks_for_races
        self._sources = loader.SOURCES if sources is None else Path(sources)
        self._modules: dict[tuple[str, str], loader.Library] = {}
        self._checked: set[tuple[str, str]] = set()
        self._fenced: dict[int, weakref.ref[np.ndarray]] = {}
        self._launches = 0
        self._log = LaunchLog()

    # Memory ------------------------------------------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Poisoned memory that ends where nobody may read or write; for seed 1 it begins there."""
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        try:
            inner = _memory().array(size, is_left=self.seed == 1)
        except MemoryError as error:
            raise OutOfDeviceMemoryError(f"no memory for {size} bytes; free arrays or solve fewer samples at a time") from error
        inner[:] = 1 if dtype == np.bool_ else _POISON
        pages: Any = inner.base
        self._fenced[id(pages)] = weakref.ref(pages, functools.partial(_forget, self._fenced, id(pages)))
        return DeviceArray(inner.view(dtype), shape, dtype)

    def upload(self, array: np.ndarray) -> DeviceArray:
        """A copy."""
        out = self.empty(array.shape, array.dtype)
        self.write(array, out)
        return out

    def write(self, array: np.ndarray, out: DeviceArray) -> None:
        """Copy a host array of equal dtype and size into memory that is there."""
        if array.size != out.size or array.dtype != out.dtype:
            raise ShapeError("array", expected=f"{out.size} elements of {out.dtype}", got=f"{array.size} of {array.dtype}")
        out.buffer[: out.size] = np.ascontiguousarray(array).reshape(-1)

    def download(self, array: DeviceArray) -> np.ndarray:
        """A copy."""
        return np.array(array.buffer[: array.size]).reshape(array.shape)

    def adopt(self, array: Any) -> DeviceArray:
        """An array in host memory of any library that speaks DLPack, without a copy; it must be C-contiguous."""
        if isinstance(array, DeviceArray):
            return array
        host = array if isinstance(array, np.ndarray) else np.from_dlpack(array)
        if not host.flags.c_contiguous:
            raise ShapeError(
                "array", expected="C-contiguous memory", got=f"strides {host.strides}", hint="make a contiguous copy"
            )
        return DeviceArray(host.reshape(-1), host.shape, host.dtype)

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
        """Run a kernel of the table to its end."""
        entry, blocks, threads = kernel_named(kernel, dtype), three(grid), three(block)
        self._log.note(kernel, dtype)
        check_launch(kernel, blocks, threads, shared, self.max_shared)
        if is_cooperative and math.prod(blocks) > (most := self.resident_blocks(kernel, block, dtype=dtype, shared=shared)):
            raise LaunchError(f"{kernel}: {math.prod(blocks)} cooperative blocks; {most} fit on the device at once")
        values = [_as_c(value) for value in converted(entry, arguments, dtype)]
        library = self._library(entry, dtype)
        with _LOCK:
            error = library.launch(symbol_of(kernel), blocks, threads, shared, values, is_cooperative, self.seed)
            address, line = loader.fault_address(), loader.race_line() if error is not None else ""
        if error is not None:
            raise LaunchError(error + (f", in {line}" if line else _place(entry, arguments, address) if address else ""))
        self._launches += 1
        if self._launches % _LAUNCHES_PER_SWEEP == 0:
            self._check_fences(
                kernel, [found for reference in list(self._fenced.values()) if (found := reference()) is not None]
            )
        else:
            buffers = (value.buffer.base for value in arguments if isinstance(value, DeviceArray))
            self._check_fences(kernel, [raw for raw in buffers if id(raw) in self._fenced])

    def resident_blocks(self, kernel: str, block: Size, *, dtype: Any = "float64", shared: int = 0) -> int:
        """Cooperative blocks at once: what threads and dynamic shared memory allow, at most 4 per multiprocessor."""
        kernel_named(kernel, dtype)
        by_threads = 2048 // math.prod(three(block))
        by_memory = self.max_shared // shared if shared else 4
        return self.multiprocessors * max(0, min(4, by_threads, by_memory))

    def synchronize(self) -> None:
        """Nothing is ever under way."""

    def describe(self) -> dict[str, str]:
        """What simulates the device."""
        path = loader.compiler()
        return {
            "device": "simulated: CUDA C++ compiled for the CPU",
            "compiler": loader.compiler_version(path) if path else "none",
            "compiled kernels": str(cache_folder()),
            "order of threads": f"seed {self.seed}",
        }

    def _library(self, kernel: Kernel, dtype: Any) -> loader.Library:
        real = REAL[np.dtype(dtype).name]
        module = kernel.module, real
        if module not in self._modules:
            self._modules[module] = loader.load(self._sources, *module, self._looks_for_races)
        library = self._modules[module]
        if (kernel.name, real) not in self._checked:
            _check_signature(kernel, library, dtype)
            self._checked.add((kernel.name, real))
        return library

    def _check_fences(self, kernel: str, whole: Sequence[np.ndarray]) -> None:
        """Look at the bytes before and behind arrays; `whole` are views of all pages of each."""
        for pages in whole:
            guarded: Any = pages.base
            if not guarded.is_whole(pages):
                raise LaunchError(f"{kernel}: a write outside of an array of {guarded.end - guarded.first} bytes")


@functools.cache
def _memory() -> Memory:
    """Memory of all simulated devices."""
    return Memory()


def _place(kernel: Kernel, values: Sequence[Any], address: int) -> str:
    """Where an address lies, seen from the array argument that is nearest to it."""
    found = []
    for argument, value in zip(kernel.arguments, values, strict=True):
        if isinstance(value, DeviceArray):
            at, size = address - value.buffer.ctypes.data, value.buffer.nbytes
            found.append((max(-at, at - size), f": at byte {at} of {argument.name}, which has {size}"))
    return min(found)[1] if found else ""


def _seed_asked_for() -> int:
    text = os.environ.get("REFDEQ_SHIM_SEED", "0")
    if not text.isdecimal():
        raise ArgumentError("REFDEQ_SHIM_SEED", expected="a whole number", got=text)
    return int(text)


def _forget(fenced: dict[int, Any], key: int, _: Any) -> None:
    fenced.pop(key, None)


def _as_c(value: Any) -> Any:
    """A pointer to an array, or a scalar, as ctypes has it."""
    if isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise ArgumentError("buffer", expected="C-contiguous memory", got=f"strides {value.strides}")
        return ctypes.c_void_p(value.ctypes.data)
    return np.ctypeslib.as_ctypes_type(value.dtype)(value.item())


def _check_signature(kernel: Kernel, library: loader.Library, real: Any) -> None:
    """The kernel must take what the table says, or it would read its arguments wrongly on a real device."""
    if not library.has(symbol_of(kernel.name)):
        raise LaunchError(f"{kernel.name}: {kernel.module}.cu does not define {symbol_of(kernel.name)}")
    written = [f"{kind}{'*' * is_array}" for kind, is_array in library.kinds(symbol_of(kernel.name))]
    names = {"float32": "f32", "float64": "f64", "int32": "i32", "int64": "i64", "uint8": "u8", "uint16": "u16"}
    listed = [names[kind_dtype(one.kind, real).name] + "*" * one.is_array for one in kernel.arguments]
    if written != listed:
        raise LaunchError(f"{kernel.name}: the source takes ({', '.join(written)}), the table says ({', '.join(listed)})")
