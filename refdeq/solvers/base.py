"""What a solver must offer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from refdeq.kernels import Array, Kernels

__all__ = ["Solver"]


class Solver(Protocol):
    """A frozen configuration; state goes in and comes out, nothing hides in the object between calls."""

    @property
    def name(self) -> str:
        """Short name for tables."""

    def init(self, kernels: Kernels, z: Mapping[str, Array]) -> Any:
        """Return the state before the first step; `z` gives shapes and dtypes."""

    def step(self, kernels: Kernels, z: Mapping[str, Array], f: Mapping[str, Array], state: Any, active: np.ndarray) -> Any:
        """Replace `z` of the active samples by the next argument, in place, and return the next state."""
