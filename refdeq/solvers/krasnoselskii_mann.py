"""Krasnoselskii-Mann iteration: damped Picard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from refdeq.checks import check_number
from refdeq.kernels import Array, Kernels

__all__ = ["KrasnoselskiiMann"]


@dataclass(frozen=True, kw_only=True)
class KrasnoselskiiMann:
    """Damped iteration ``z <- (1 - alpha) z + alpha f(z)`` (S-6).

    Converges for nonexpansive maps with ``0 < alpha < 1``, and for contractions up to ``alpha = 1``, which is Picard exactly.
    The residual is that of f, not of the damped step.

    Parameters
    ----------
    alpha : float
        Step length in (0, 2]; rounded once to the dtype of z, as is ``1 - alpha``.

    Examples
    --------
    >>> KrasnoselskiiMann(alpha=0.0)
    Traceback (most recent call last):
    ...
    refdeq.errors.ArgumentError: alpha: expected a number in (0, 2], got 0.0
    """

    alpha: float = 0.9

    def __post_init__(self) -> None:
        check_number("alpha", self.alpha, "a number in (0, 2]", low=0.0, open_low=True, high=2.0)
        object.__setattr__(self, "alpha", float(self.alpha))

    @property
    def name(self) -> str:
        """Short name for tables."""
        return f"km({self.alpha:g})"

    def init(self, kernels: Kernels, z: Mapping[str, Array]) -> None:
        """Krasnoselskii-Mann has no state."""

    def step(
        self, kernels: Kernels, z: Mapping[str, Array], f: Mapping[str, Array], state: None, active: np.ndarray
    ) -> tuple[None, None]:
        """Take ``z <- fl(fl(beta z) + fl(alpha f))`` (S-6)."""
        for name, value in z.items():
            kernels.relax(value, f[name], self.alpha, active, value)
        return None, None
