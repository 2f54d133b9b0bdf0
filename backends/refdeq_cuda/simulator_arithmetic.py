"""Fused multiply-add in the simulator: the C library's, correctly rounded in both formats.

Going through float64 would round float32 twice; the fused function of the C library rounds once, on every processor.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache
from typing import Any

import numpy as np

__all__ = ["fused"]


@cache
def _functions() -> tuple[Any, Any]:
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    single, double = library.fmaf, library.fma
    single.argtypes, single.restype = [ctypes.c_float] * 3, ctypes.c_float
    double.argtypes, double.restype = [ctypes.c_double] * 3, ctypes.c_double
    return single, double


def fused(a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, rounded once to the type of `c`.

    >>> float(fused(np.float32(1 + 2**-12), np.float32(1 + 2**-12), np.float32(-1)))
    0.0004883408546447754
    """
    single, double = _functions()
    kind = type(a)
    if not (kind is type(b) is type(c) and kind in (np.float32, np.float64)):
        names = ", ".join(type(operand).__name__ for operand in (a, b, c))
        raise TypeError(f"operands of one real type are needed, not {names}")
    return kind(single(a, b, c)) if kind is np.float32 else kind(double(a, b, c))
