"""A plain callable as something the loop can evaluate (S-11)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refdeq.errors import DTypeError, ShapeError

__all__ = ["CallableMap"]


class CallableMap:
    """Evaluates ``f(z, x)`` of a user on the whole batch; only the results of active samples are used (S-1).

    Raises
    ------
    ShapeError, DTypeError
        When f returns something that is not shaped like z, in the dtype of z.
    """

    def __init__(self, f: Callable[..., Any], x: Any, z0: np.ndarray) -> None:
        self._f, self._x, self._out = f, x, np.zeros_like(z0)

    def evaluate(self, z: Mapping[str, np.ndarray], active: np.ndarray) -> dict[str, np.ndarray]:
        """Return f(z) for the active samples; `f` sees a copy, so that it cannot change the solver's state."""
        value = np.asarray(self._f(z["z"].copy(), self._x))
        if value.shape != self._out.shape:
            raise ShapeError("f(z, x)", expected=self._out.shape, got=value.shape)
        if value.dtype != self._out.dtype:
            raise DTypeError("f(z, x)", expected=self._out.dtype, got=value.dtype)
        self._out[active] = value[active]
        return {"z": self._out}
