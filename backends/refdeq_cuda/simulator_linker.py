"""Functions of the simulator: copies of kernels whose names mean Python instead of the compiler.

A kernel is an ordinary function once its decorator is taken off. A copy of it is *linked*: its code is the same, but ``cuda``
is the simulated namespace, ``float32`` is NumPy's, device functions are their own linked copies, and functions that only a
compiler knows (:func:`substitute`) are what stands for them. Nothing is patched: neither Numba nor the modules of the kernels
change.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

from refdeq.errors import UnsupportedError

__all__ = ["link", "names_used", "substitute"]

_SUBSTITUTES: dict[int, tuple[Any, Any]] = {}  # by identity, because types of Numba compare equal to their names
_FOREIGN = ("builtins", "math", "numba", "numpy")


def substitute(compiled: Any, simulated: Any) -> None:
    """Let `simulated` stand for `compiled` (an intrinsic, a type) in every kernel that is linked from now on.

    >>> def twice(x): ...
    >>> substitute(twice, lambda x: x + x)
    """
    _SUBSTITUTES[id(compiled)] = compiled, simulated


def link(kernel: Any) -> Callable[..., Any]:
    """Return the Python function that a simulated thread runs; made once for each kernel or device function.

    Parameters
    ----------
    kernel : a function with or without its decorator

    Examples
    --------
    >>> def half(x): return math.floor(x) / 2
    >>> float(link(half)(3.5))
    1.5
    """
    return _link(getattr(kernel, "py_func", kernel))


@cache
def _link(function: types.FunctionType) -> types.FunctionType:
    scope: dict[str, Any] = {"__builtins__": __builtins__, "__name__": function.__module__}
    linked = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, _cells(function))
    linked.__kwdefaults__ = function.__kwdefaults__
    linked.__module__ = function.__module__
    for name in _names(function.__code__):
        if name in function.__globals__:
            scope[name] = _meaning(function.__globals__[name])
    return linked


def _cells(function: types.FunctionType) -> tuple[types.CellType, ...] | None:
    if function.__closure__ is None:
        return None
    return tuple(types.CellType(_meaning(cell.cell_contents)) for cell in function.__closure__)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def names_used(kernel: Any) -> frozenset[str]:
    """Every global name and attribute that a kernel and its device functions mention.

    >>> def floor_of(x): return math.floor(x)
    >>> sorted(names_used(floor_of))
    ['floor', 'math']
    """
    return _names_used(getattr(kernel, "py_func", kernel))


@cache
def _names_used(function: types.FunctionType) -> frozenset[str]:
    found: set[str] = set()
    todo, seen = [function], {function}
    while todo:
        inner = todo.pop()
        names = set(_names(inner.__code__))
        found |= names
        cells = [cell.cell_contents for cell in inner.__closure__ or ()]
        values = [inner.__globals__.get(name) for name in names] + cells
        for value in values + [member for module in values for member in _members(module, names)]:
            plain = getattr(value, "py_func", value)
            if isinstance(plain, types.FunctionType) and _is_own(plain) and plain not in seen:
                seen.add(plain)
                todo.append(plain)
    return frozenset(found)


def _members(module: Any, names: set[str]) -> list[Any]:
    if isinstance(module, types.ModuleType) and module.__name__.startswith("refdeq"):
        return [vars(module)[name] for name in names if name in vars(module)]
    return []


def _is_own(function: types.FunctionType) -> bool:
    return (function.__module__ or "").partition(".")[0] not in _FOREIGN


def _meaning(value: Any) -> Any:
    """What a global of a kernel is in the simulator."""
    if id(value) in _SUBSTITUTES:
        return _SUBSTITUTES[id(value)][1]
    if isinstance(value, types.ModuleType):
        return _meaning_of_module(value)
    plain = getattr(value, "py_func", value)
    if isinstance(plain, types.FunctionType) and _is_own(plain):
        return _link(plain)
    known = getattr(value, "name", None) if type(value).__module__.startswith("numba.") else None
    return _TYPES.get(known, value) if isinstance(known, str) else value


def _meaning_of_module(module: types.ModuleType) -> Any:
    if module is math:
        return _MATH
    if module.__name__ == "numba.cuda":
        from refdeq_cuda.simulator_cuda import CUDA

        return CUDA
    if module.__name__.startswith("refdeq"):
        return _LinkedModule(module)
    if module.__name__ in ("numba.cuda.libdevice", "numba.cuda.simulator.libdevice"):
        raise UnsupportedError("libdevice is not simulated: call an intrinsic that has a substitute (refdeq_cuda.arithmetic)")
    return module


class _LinkedModule:
    """A module of the project as a kernel sees it: its functions are linked."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        value = _meaning(getattr(self._module, name))
        setattr(self, name, value)
        return value


class _Math:
    """The functions of ``math`` with the types and special values that they have when compiled."""

    pi, e, inf, nan = np.float64(math.pi), np.float64(math.e), np.float64(math.inf), np.float64(math.nan)
    floor, ceil, sqrt, fabs, frexp = np.floor, np.ceil, np.sqrt, np.abs, np.frexp
    isnan, isinf, isfinite, copysign = np.isnan, np.isinf, np.isfinite, np.copysign

    @staticmethod
    def ldexp(x: Any, exponent: Any) -> Any:
        return type(x)(math.ldexp(float(x), int(exponent)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UnsupportedError(f"math.{name} differs between libraries and is not simulated")


_MATH = _Math()


def _unsigned(bits: int) -> Callable[[Any], int]:
    def convert(x: Any) -> int:
        return int(x) & ((1 << bits) - 1)

    convert.numpy_name = f"uint{bits}"  # type: ignore[attr-defined]  # what memory of it is
    return convert


def _signed(bits: int) -> Callable[[Any], int]:
    limit = 1 << (bits - 1)

    def convert(x: Any) -> int:
        whole = int(x)
        if not -limit <= whole < limit:
            raise OverflowError(f"{whole} does not fit in int{bits}")
        return whole

    convert.numpy_name = f"int{bits}"  # type: ignore[attr-defined]
    return convert


# Integers are Python's: the compiler widens every sum and product of theirs to 64 bits, and NumPy's would not be widened.
_TYPES: dict[str, Any] = {
    "float32": np.float32,
    "float64": np.float64,
    "int64": int,
    "int32": _signed(32),
    "uint8": _unsigned(8),
    "uint32": _unsigned(32),
    "uint64": _unsigned(64),
    "bool": bool,
}
