"""Arguments of a launch, judged by the table of kernels; the same for the real device and the simulated one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.device import Size
from refdeq_gpu.table import Argument, Kernel, all_kernels

from refdeq.errors import ArgumentError, DTypeError, LaunchError

__all__ = ["MOST_THREADS", "check_launch", "converted", "kernel_named", "kind_dtype", "three"]

MOST_THREADS = 1024
_MOST_BLOCKS = (2**31 - 1, 65535, 65535)
_DTYPES = {"i32": "int32", "i64": "int64", "f64": "float64", "u8": "uint8", "u16": "uint16"}


def kernel_named(name: str, dtype: Any) -> Kernel:
    """Kernel of the table, for CUDA C++ and this real type.

    >>> kernel_named("gate", "float32").module
    'gates'
    """
    kernel = all_kernels().get(name)
    if kernel is None or "cupy" not in kernel.languages:
        raise ArgumentError("kernel", expected="a kernel of the table in CUDA C++", got=name)
    if np.dtype(dtype).name not in kernel.dtypes:
        raise ArgumentError(f"{name}: dtype", expected=" or ".join(kernel.dtypes), got=np.dtype(dtype).name)
    return kernel


def kind_dtype(kind: str, real: Any) -> np.dtype[Any]:
    """Dtype of a kind of the table.

    >>> kind_dtype("T", "float32"), kind_dtype("i64", "float32")
    (dtype('float32'), dtype('int64'))
    """
    return np.dtype(real if kind == "T" else _DTYPES[kind])


def three(size: Size) -> tuple[int, int, int]:
    """Blocks or threads in three directions.

    >>> three(5), three((2, 3))
    ((5, 1, 1), (2, 3, 1))
    """
    x, y, z = (*((size,) if isinstance(size, int) else size), 1, 1)[:3]
    return int(x), int(y), int(z)


def check_launch(kernel: str, grid: tuple[int, ...], block: tuple[int, ...], shared: int, most_shared: int) -> None:
    """Refuse what no device of compute capability 8 or 9 can launch.

    >>> check_launch("gate", (1, 1, 1), (2048, 1, 1), 0, 232448)
    Traceback (most recent call last):
    refdeq.errors.LaunchError: gate: a block of 2048 x 1 x 1 threads; a block has 1 to 1024
    """
    threads = block[0] * block[1] * block[2]
    if min(block) < 1 or threads > MOST_THREADS:
        raise LaunchError(f"{kernel}: a block of {' x '.join(map(str, block))} threads; a block has 1 to {MOST_THREADS}")
    if min(grid) < 1 or any(have > most for have, most in zip(grid, _MOST_BLOCKS, strict=True)):
        raise LaunchError(f"{kernel}: a grid of {' x '.join(map(str, grid))} blocks; at least 1 each, at most {_MOST_BLOCKS}")
    if not 0 <= shared <= most_shared:
        raise LaunchError(f"{kernel}: {shared} bytes of dynamic shared memory; a block has at most {most_shared}")


def converted(kernel: Kernel, arguments: Sequence[DeviceArray | int | float], real: Any) -> list[Any]:
    """Arguments as the table says: arrays as their buffers, scalars as NumPy scalars of their kind.

    >>> fill = kernel_named("clear_words", "float64")
    >>> converted(fill, [3, DeviceArray(np.zeros(3, dtype=np.int32), (3,), "int32")], "float64")[1]
    array([0, 0, 0], dtype=int32)
    """
    if len(arguments) != len(kernel.arguments):
        raise ArgumentError(f"{kernel.name}: arguments", expected=len(kernel.arguments), got=len(arguments))
    return [_one(kernel.name, named, value, real) for named, value in zip(kernel.arguments, arguments, strict=True)]


def _one(kernel: str, argument: Argument, value: Any, real: Any) -> Any:
    dtype = kind_dtype(argument.kind, real)
    name = f"{kernel}: {argument.name}"
    if argument.is_array:
        if not isinstance(value, DeviceArray):
            raise ArgumentError(name, expected="an array on the device", got=type(value).__name__)
        fits = value.dtype == dtype or (argument.kind == "u8" and value.dtype == np.bool_)
        if not fits:
            raise DTypeError(name, expected=dtype.name, got=value.dtype.name)
        return value.buffer
    if isinstance(value, DeviceArray):
        raise ArgumentError(name, expected="a number", got="an array")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if int(value) != value or not limits.min <= int(value) <= limits.max:
            raise ArgumentError(name, expected=f"a whole number of {dtype.name}", got=value)
        return dtype.type(int(value))
    return dtype.type(value)
