"""Layouts of the parameters of one bind, made when first needed and kept as long as the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Layouts"]


class Layouts:
    """Remembers, per constant array, what was made of it.

    Only arrays that were registered as constants are remembered: nobody writes to them (see
    :meth:`refdeq.kernels.Kernels.constant`), so a layout stays true. For others a layout is made anew each time.

    Examples
    --------
    >>> layouts = Layouts()
    >>> w = layouts.register(np.eye(2))
    >>> layouts.get(w, "sum", np.sum) == layouts.get(w, "sum", None) == 2.0
    True
    """

    def __init__(self) -> None:
        self._constants: dict[int, tuple[np.ndarray, dict[Any, Any]]] = {}

    def register(self, array: np.ndarray) -> np.ndarray:
        """Declare an array constant, and return it."""
        self._constants[id(array)] = (array, {})
        return array

    def get(self, array: np.ndarray, key: Any, make: Callable[[np.ndarray], Any]) -> Any:
        """Return ``make(array)``, remembered under `key` when the array is a constant."""
        _, known = self._constants.get(id(array), (array, {}))
        if key not in known:
            known[key] = make(array)
        return known[key]

    def is_constant(self, array: np.ndarray) -> bool:
        """Whether layouts of it are remembered."""
        return id(array) in self._constants
