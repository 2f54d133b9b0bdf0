"""Backends of refdeq whose fresh arrays are filled with a value of ours: reading one before writing it shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq.kernels import Kernels
from refdeq.registry import Backend

__all__ = ["Poisoning"]


class Poisoning:
    """A backend whose kernels hand out arrays full of :attr:`value`; everything else is the backend's own.

    Parameters
    ----------
    backend : Backend

    Attributes
    ----------
    value : float or None
        None hands arrays out as they come.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend, self.info = backend, backend.info
        self.value: float | None = None

    def unavailable(self) -> tuple[str, str] | None:
        """As the backend says."""
        return self.backend.unavailable()

    def kernels(self, *, order: str, threads: int) -> Kernels:
        """The backend's kernels, those that allocate filling what they allocate."""
        kernels = self.backend.kernels(order=order, threads=threads)
        return kernels if self.value is None else _Filled(kernels, self.value)

    def plan(self, request: Any) -> Any:
        """The backend's own plan."""
        return self.backend.plan(request)

    def describe(self) -> dict[str, str]:
        """As the backend says."""
        return self.backend.describe()


class _Filled:
    """Kernels with another ``empty``."""

    def __init__(self, kernels: Kernels, value: float) -> None:
        self._kernels, self._value = kernels, value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernels, name)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """An array full of the value; of ones where it holds no such number."""
        array = self._kernels.empty(shape, dtype)
        value = self._value if dtype in ("float32", "float64") else 1.0
        self._kernels.fill(value, np.ones(shape[:1], dtype=bool), array)
        return array
