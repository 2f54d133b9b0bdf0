"""What a processor can do and Python has no word for: bit patterns, fused multiply-add, rounding to narrow formats."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numpy as np
from numba import types
from numba.extending import intrinsic as numba_intrinsic

from refdeq_numba.compilation import inlined

__all__ = [
    "bits",
    "call_row",
    "call_step",
    "from_bits",
    "fused_multiply_add",
    "has_fused_multiply_add",
    "intrinsic",
    "pointer_at",
    "round_to_bfloat16",
    "round_to_float16",
]


def intrinsic(function: Callable[..., Any]) -> Any:
    """Make a function of compiled code out of one that emits its instructions (whose arguments are types)."""
    return numba_intrinsic(function)


@intrinsic
def bits(_typing, x):
    """The 64 bits of a float64 as int64."""

    def generate(_context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic
def from_bits(_typing, b):
    """The float64 with the given 64 bits."""

    def generate(_context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic
def pointer_at(_typing, address, like):
    """An address as a pointer to numbers of the type of `like`."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(types.int64, like), generate


@intrinsic
def call_step(_typing, address, z, f, is_live, table, rows, k):
    """Call the compiled step of a solver (see :mod:`refdeq_numba.fused_anderson`): four arrays as pointers, two numbers."""

    def generate(context, builder, signature, arguments):
        arrays = zip(signature.args[1:5], arguments[1:5], strict=True)
        pointers = [context.make_array(kind)(context, builder, value).data for kind, value in arrays]
        values = [*pointers, *arguments[5:]]
        kind = ir.FunctionType(context.get_value_type(types.void), [value.type for value in values])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(types.int64, z, f, is_live, table, types.int64, types.int64), generate


@intrinsic
def call_row(_typing, address, rows, at, n):
    """Call a compiled routine with the address of element `at` of a contiguous array, and a number (N-8: activations)."""

    def generate(context, builder, signature, arguments):
        address, rows, at, n = arguments
        first = builder.gep(context.make_array(signature.args[1])(context, builder, rows).data, [at])
        kind = ir.FunctionType(context.get_value_type(types.void), [first.type, n.type])
        builder.call(builder.inttoptr(address, kind.as_pointer()), [first, n])
        return context.get_dummy_value()

    return types.void(types.int64, rows, types.int64, types.int64), generate


@intrinsic
def fused_multiply_add(_typing, x, y, z):
    """``fl(x y + z)`` with one rounding, for three numbers of one floating-point type."""
    if not (isinstance(x, types.Float) and x == y == z):
        return None

    def generate(_context, builder, _signature, arguments):
        return builder.fma(*arguments)

    return x(x, y, z), generate


@functools.cache
def has_fused_multiply_add() -> bool:
    """Return whether the host computes it in one instruction; elsewhere it would be a slow library call."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return True
    return bool(llvm.get_host_cpu_features().get("fma", False))


_MAGNITUDE = np.int64(0x7FFFFFFFFFFFFFFF)


@inlined
def _round_to_grid(x, digits, least, limit):
    """Round a float64 to `digits` significant bits, ties to even, on a grid never finer than ``2**least``.

    Adding ``1.5 * 2**(52 + g)`` leaves no room for bits below ``2**g``: the processor does the rounding. The sign is put back
    because a sum that cancels is +0. From `limit` on, given or reached by rounding, the result is infinite.
    """
    size = abs(x)
    exponent = (bits(size) >> 52) - 1023
    grid = max(exponent - (digits - 1), least)
    shifter = 1.5 * from_bits((grid + (52 + 1023)) << 52)
    rounded = (size + shifter) - shifter
    rounded = np.inf if rounded >= limit or size >= limit else rounded
    rounded = from_bits(bits(rounded) | (bits(x) & ~_MAGNITUDE))
    return x if x != x else rounded


@inlined
def round_to_float16(x):
    """Nearest float16 of a float64, widened again (D-1, D-4)."""
    return _round_to_grid(x, 11, -24, 65536.0)


@inlined
def round_to_bfloat16(x):
    """Nearest bfloat16 of a float64, widened again (D-4)."""
    return _round_to_grid(x, 8, -133, 2.0**128)
