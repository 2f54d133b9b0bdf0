"""What a solver must offer, and what one that rewrites the cell offers beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from refdeq.graph import Cell
from refdeq.kernels import Array, Kernels

__all__ = ["Solver", "Split", "SplittingSolver"]


class Solver(Protocol):
    """A frozen configuration; state goes in and comes out, nothing hides in the object between calls."""

    @property
    def name(self) -> str:
        """Short name for tables."""

    def init(self, kernels: Kernels, z: Mapping[str, Array]) -> Any:
        """Return the state before the first step; `z` gives shapes and dtypes."""

    def step(
        self, kernels: Kernels, z: Mapping[str, Array], f: Mapping[str, Array], state: Any, active: np.ndarray
    ) -> tuple[Any, np.ndarray | None]:
        """Replace `z` of the active samples by the next argument, in place.

        Returns
        -------
        state
            The next state.
        broken : (B,) bool or None
            Active samples that met a zero denominator: their `z` is left alone and they end with BREAKDOWN (S-3).
        """


@dataclass(frozen=True)
class Split:
    """A cell rewritten so that its Picard iteration is a splitting of the original cell's equation (S-6b).

    Attributes
    ----------
    cell : Cell
        The rewritten cell; its states are the splitting's variables, one per state of the original and under its name.
    argument, value : dict of state name to value name
        Graph values of the rewritten cell that hold a point and the original f of that point: what the residual is formed
        from (S-2), so that it is the original cell's whatever the splitting iterates on.
    """

    cell: Cell
    argument: Mapping[str, str]
    value: Mapping[str, str]


@runtime_checkable
class SplittingSolver(Protocol):
    """A solver that iterates on a rewritten cell."""

    def split(self, cell: Cell) -> Split:
        """Rewrite a cell; raises ``UnsupportedError`` for a cell that has not the form the splitting needs."""
