"""The normative scalar activations compiled as they stand, so that the judge applies the very text of the specification.

``refdeq.scalar`` is plain Python; Numba compiles its functions without fast-math, so every operation is the same correctly
rounded one. A test compares both on single numbers. Neither the reference's array code nor any backend's is involved.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numba
import numpy as np

from refdeq import scalar

__all__ = ["activation"]

_ORDER = ("exp", "tanh", "sigmoid", "_reduce", "_sin_kernel", "_cos_kernel", "sin", "cos")
_ONNX = {"Exp": "exp", "Tanh": "tanh", "Sigmoid": "sigmoid", "Sin": "sin", "Cos": "cos"}


@functools.cache
def _functions() -> dict[str, Any]:
    """Compile the scalar functions in order of dependence; each sees the compiled ones before it as its globals."""
    compiled: dict[str, Any] = {}
    for name in _ORDER:
        source = getattr(scalar, name)
        scope = {**source.__globals__, **compiled}
        compiled[name] = numba.njit(error_model="numpy")(FunctionType(source.__code__, scope, name))
    return compiled


@functools.cache
def _loop(name: str) -> Callable[[np.ndarray, np.ndarray], None]:
    one = _functions()[_ONNX[name]]

    @numba.njit(nogil=True)
    def every(x: np.ndarray, y: np.ndarray) -> None:
        for i in range(x.size):
            y[i] = one(x[i])

    loop: Callable[[np.ndarray, np.ndarray], None] = every
    return loop


def activation(name: str, x: np.ndarray) -> np.ndarray:
    """Strict activation of an array (N-8): the scalar formula in float64, rounded once to the dtype of `x`.

    Parameters
    ----------
    name : str
        ONNX operator name.
    x : float32 or float64 array

    Returns
    -------
    ndarray of the shape and dtype of `x`
    """
    wide = np.ascontiguousarray(x, dtype=np.float64).ravel()
    out = np.empty_like(wide)
    _loop(name)(wide, out)
    with np.errstate(over="ignore"):
        rounded: np.ndarray = out.reshape(x.shape).astype(x.dtype)
    return rounded
