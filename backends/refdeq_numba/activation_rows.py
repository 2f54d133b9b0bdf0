"""Activations of whole rows in place: plain loops around the functions, compiled one by one and called by address.

The fused solve and the operators call the same machine code, so that they agree in bits by construction, and a solve compiles
the one activation of its cell, not all of them in both orders.

A row function gets the address of the first of n numbers. Whether an argument of sine or cosine lies beyond what its dtype can
reduce is asked once per row; where one does, the elements beyond, and no others, are computed in float64. So the result of an
element does not depend on its row.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]  # exported, though not in a way that mypy sees

from refdeq_numba import activations as strict
from refdeq_numba import fast_activations as fast
from refdeq_numba.compilation import callback, inlined
from refdeq_numba.machine import has_fused_multiply_add

__all__ = ["FAST", "STRICT", "row_function"]


# strict: evaluated in float64, rounded once by the store ------------------------------------------------------------------


def _strict_tanh(at, n):
    x = carray(at, (n,))
    for j in range(n):
        x[j] = strict.tanh(np.float64(x[j]))


def _strict_sigmoid(at, n):
    x = carray(at, (n,))
    for j in range(n):
        x[j] = strict.sigmoid(np.float64(x[j]))


def _strict_sin(at, n):
    x = carray(at, (n,))
    for j in range(n):
        x[j] = strict.sin(np.float64(x[j]))


def _strict_cos(at, n):
    x = carray(at, (n,))
    for j in range(n):
        x[j] = strict.cos(np.float64(x[j]))


def _strict_exp(at, n):
    x = carray(at, (n,))
    for j in range(n):
        x[j] = strict.exp(np.float64(x[j]))


# fast: in the dtype of the row --------------------------------------------------------------------------------------------


def _fast_tanh(at, n):
    x = carray(at, (n,))
    for j in range(n):
        x[j] = fast.tanh(x[j])


def _fast_sigmoid(at, n):
    x = carray(at, (n,))
    for j in range(n):
        x[j] = fast.sigmoid(x[j])


def _fast_exp(at, n):
    x = carray(at, (n,))
    for j in range(n):
        x[j] = fast.exp(x[j])


@inlined
def _count_beyond(x):
    """How many elements lie beyond what the fast sine reduces in their dtype; NaN does not."""
    count = np.int64(0)
    for j in range(x.size):
        count += abs(x[j]) > fast.trig_limit(x[j])
    return count


@inlined
def _sin_anywhere(x):
    """Sine of one number: in float64 beyond what its dtype reduces, NaN beyond what float64 does."""
    wide = np.float64(x)
    far = fast.sin(wide) if abs(wide) <= fast.trig_limit(wide) else np.nan
    return far if abs(x) > fast.trig_limit(x) else np.float64(fast.sin(x))


@inlined
def _cos_anywhere(x):
    """Cosine of one number, as :func:`_sin_anywhere`."""
    wide = np.float64(x)
    far = fast.cos(wide) if abs(wide) <= fast.trig_limit(wide) else np.nan
    return far if abs(x) > fast.trig_limit(x) else np.float64(fast.cos(x))


def _fast_sin(at, n):
    x = carray(at, (n,))
    if _count_beyond(x) == 0:
        for j in range(n):
            x[j] = fast.sin(x[j])
    else:
        for j in range(n):
            x[j] = _sin_anywhere(x[j])


def _fast_cos(at, n):
    x = carray(at, (n,))
    if _count_beyond(x) == 0:
        for j in range(n):
            x[j] = fast.cos(x[j])
    else:
        for j in range(n):
            x[j] = _cos_anywhere(x[j])


STRICT = {"Tanh": _strict_tanh, "Sigmoid": _strict_sigmoid, "Sin": _strict_sin, "Cos": _strict_cos, "Exp": _strict_exp}
FAST = {"Tanh": _fast_tanh, "Sigmoid": _fast_sigmoid, "Sin": _fast_sin, "Cos": _fast_cos, "Exp": _fast_exp}
"""ONNX operator to the loop over a row."""


def row_function(order: str, name: str, dtype: str) -> Any:
    """Compiled loop of one activation for one dtype; what it returns has the ``address``, and is kept for ever.

    Without fused multiply-adds in the processor fast order has the strict formulas.

    Parameters
    ----------
    order : {"strict", "fast"}
    name : str
        ONNX operator, a key of ``STRICT``.
    dtype : {"float32", "float64"}
    """
    is_fast = order == "fast" and has_fused_multiply_add()
    return _compiled(FAST[name] if is_fast else STRICT[name], dtype)


@functools.cache
def _compiled(loop: Callable[[Any, int], None], dtype: str) -> Any:
    return callback(loop, types.void(types.CPointer(getattr(types, dtype)), types.int64))
