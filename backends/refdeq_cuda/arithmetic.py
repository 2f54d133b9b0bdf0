"""Products and sums that are rounded exactly where they are written (N-6), and the one fused operation (N-7).

The compiler contracts ``a * b + c`` to a fused multiply-add unless the product says how it rounds. So kernels write every
product whose value is added to something as ``times(a, b)``; sums next to products are written ``plus(a, b)``. Both operands
have one type, and literals are given it: ``T(0.5)``, never ``0.5``.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.cuda.extending import intrinsic

from refdeq_cuda.simulator_arithmetic import fused
from refdeq_cuda.simulator_linker import substitute

__all__ = ["fma", "plus", "times"]


def _rounded(name: str) -> Any:
    """Lowering of an operation of libdevice that states its rounding: to nearest, ties to even."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.return_type
        letter = "d" if kind == types.float64 else "f"
        real = ir.DoubleType() if kind == types.float64 else ir.FloatType()
        count = len(arguments)
        symbol = f"__nv_{letter}{name}_rn" if count == 2 else f"__nv_{name}{'' if letter == 'd' else 'f'}_rn"
        found = builder.module.globals.get(symbol)
        function = found or ir.Function(builder.module, ir.FunctionType(real, [real] * count), symbol)
        return builder.call(function, arguments)

    return lower


def _one_type(*kinds: Any) -> Any:
    """The common type of the operands; None refuses a mixture, which would be converted without being asked."""
    first = kinds[0]
    return first if first in (types.float32, types.float64) and all(kind == first for kind in kinds) else None


@intrinsic
def times(typing_context, a, b):
    """``fl(a * b)``, never contracted with a sum."""
    kind = _one_type(a, b)
    return None if kind is None else (kind(a, b), _rounded("mul"))


@intrinsic
def plus(typing_context, a, b):
    """``fl(a + b)``, never contracted with a product."""
    kind = _one_type(a, b)
    return None if kind is None else (kind(a, b), _rounded("add"))


@intrinsic
def fma(typing_context, a, b, c):
    """``fl(a * b + c)``, rounded once."""
    kind = _one_type(a, b, c)
    return None if kind is None else (kind(a, b, c), _rounded("fma"))


def _product(a: Any, b: Any) -> Any:
    if type(a) is not type(b):
        raise TypeError(f"operands of one type are needed, not {type(a).__name__} and {type(b).__name__}")
    return a * b


def _sum(a: Any, b: Any) -> Any:
    if type(a) is not type(b):
        raise TypeError(f"operands of one type are needed, not {type(a).__name__} and {type(b).__name__}")
    return a + b


substitute(times, _product)
substitute(plus, _sum)
substitute(fma, fused)
