"""From the table to functions: which function a kernel is, and what its arguments must be."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np
from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.table import Kernel, all_kernels

from refdeq.errors import ArgumentError

__all__ = ["check_count", "element_type", "kernel_function", "kernel_record", "native"]

_ELEMENTS: dict[str, np.dtype[Any]] = {
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "u8": np.dtype(np.uint8),
    "f64": np.dtype(np.float64),
}


@cache
def kernel_record(name: str) -> Kernel:
    """The kernel's line of the table.

    >>> kernel_record("gate").module
    'gates'
    """
    found = all_kernels().get(name)
    if found is None or "cuda" not in found.languages:
        raise ArgumentError("kernel", expected="a name of the table, of language cuda", got=repr(name))
    return found


@cache
def kernel_function(name: str) -> Any:
    """The kernel, decorated but not compiled."""
    module = importlib.import_module(f"refdeq_cuda.{kernel_record(name).module}")
    return getattr(module, name)


def element_type(kind: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What one element of a kind is, where T is `dtype`.

    >>> element_type("T", np.dtype("float32")), element_type("u8", np.dtype("float32"))
    (dtype('float32'), dtype('uint8'))
    """
    return dtype if kind == "T" else _ELEMENTS[kind]


def check_count(name: str, arguments: Any) -> None:
    """Raise ArgumentError where a launch has too many arguments, or too few."""
    expected = kernel_record(name).arguments
    if len(arguments) != len(expected):
        raise ArgumentError(f"{name}: arguments", expected=" ".join(part.name for part in expected), got=len(arguments))


def native(name: str, label: str, array: Any, expected: np.dtype[Any]) -> Any:
    """Flat buffer of an array; ArgumentError where its elements are not what the table says (flags are bytes)."""
    if not isinstance(array, DeviceArray):
        raise ArgumentError(f"{name}: {label}", expected="an array on the device", got=type(array).__name__)
    own = np.dtype(np.uint8) if array.dtype == np.bool_ else array.dtype
    if own != expected:
        raise ArgumentError(f"{name}: {label}", expected=f"elements of {expected}", got=array.dtype)
    return array.buffer
