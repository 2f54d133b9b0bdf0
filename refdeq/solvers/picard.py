"""Picard iteration: ``z <- f(z)``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from refdeq.kernels import Array, Kernels

__all__ = ["Picard"]


@dataclass(frozen=True)
class Picard:
    """Plain fixed-point iteration (S-6).

    Converges for contractions; the one solver (beside its damped form) under which successive arguments change little in most
    coordinates, which is what a delta rule lives on.

    Examples
    --------
    >>> import refdeq
    >>> sol = refdeq.solve(lambda z, x: np.cos(z), None, z0=np.zeros((1, 1)), solver=Picard(), stop=refdeq.StopRule(atol=1e-9))
    >>> round(float(sol.z[0, 0]), 6)
    0.739085
    """

    @property
    def name(self) -> str:
        """Short name for tables."""
        return "picard"

    def init(self, kernels: Kernels, z: Mapping[str, Array]) -> None:
        """Picard has no state."""

    def step(
        self, kernels: Kernels, z: Mapping[str, Array], f: Mapping[str, Array], state: None, active: np.ndarray
    ) -> tuple[None, None]:
        """Take ``z <- f`` (S-6)."""
        for name, value in z.items():
            kernels.copy_active(f[name], active, value)
        return None, None
