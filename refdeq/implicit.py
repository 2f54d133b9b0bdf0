"""Implicit differentiation: the adjoint fixed point by Picard, through the loop that solves everything (G-1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq.callable_map import CallableMap
from refdeq.evaluation import Evaluator
from refdeq.gradients.reverse import vjp
from refdeq.graph import Cell
from refdeq.loop import iterate
from refdeq.reference import ReferenceKernels
from refdeq.solution import Solution
from refdeq.solvers import Picard
from refdeq.types import StopRule

__all__ = ["Gradient", "callable_gradient", "gradient", "vjp"]

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Gradient:
    """Implicit gradient (G-1).

    Attributes
    ----------
    parameters : dict of parameter name to ndarray
        Summed over the batch.
    injections : dict of injection name to (B, ...) ndarray
    adjoint : dict of state name to (B, ...) ndarray
        ``v = (I - J^T)^-1 dL/dz*``.
    status, n_eval, residual : (B,) arrays
        Of the adjoint solve.
    """

    parameters: Arrays
    injections: Arrays
    adjoint: Arrays
    status: np.ndarray
    n_eval: np.ndarray
    residual: np.ndarray


def _values_at(cell: Cell, states: Arrays, x: Mapping[str, np.ndarray], batch: int) -> Arrays:
    """Every value of one dense evaluation at the given states."""
    evaluator = Evaluator(cell, ReferenceKernels(), x, batch)
    evaluator.evaluate({name: array.copy() for name, array in states.items()}, np.ones(batch, dtype=bool))
    return evaluator.values


class _AdjointMap:
    """The map ``v -> J^T v + g`` whose fixed point is the adjoint (G-1)."""

    def __init__(self, transpose: Callable[[Mapping[str, np.ndarray]], Arrays], g: Arrays) -> None:
        self._transpose, self._g = transpose, g

    def evaluate(self, z: Mapping[str, np.ndarray], active: np.ndarray) -> Arrays:
        back = self._transpose(z)
        return {name: back[name] + self._g[name] for name in z}


def gradient(
    cell: Cell, states: Arrays, x: Mapping[str, np.ndarray], cotangent: Arrays, stop: StopRule, frozen: Arrays
) -> Gradient:
    """Adjoint solve at the given states, then one VJP through f (G-1)."""
    batch = len(next(iter(states.values())))
    with np.errstate(all="ignore"):
        values = _values_at(cell, states, x, batch)

        def transpose(v: Mapping[str, np.ndarray]) -> Arrays:
            back = vjp(cell, values, v, frozen)
            return {name: back.get(name, np.zeros_like(states[name])) for name in states}

        kernels = ReferenceKernels()
        v = {name: array.copy() for name, array in cotangent.items()}
        result = iterate(_AdjointMap(transpose, cotangent), kernels, Picard(), stop, v)
        back = vjp(cell, values, result.z, frozen)
    return Gradient(
        parameters={name: back.get(name, np.zeros_like(array)) for name, array in cell.parameters.items()},
        injections={name: back.get(name, np.zeros_like(array)) for name, array in x.items()},
        adjoint=result.z,
        status=result.status,
        n_eval=result.n_eval,
        residual=result.residual,
    )


def callable_gradient(transpose: Callable[..., Any], solution: Solution, cotangent: Arrays, stop: StopRule) -> Gradient:
    """Adjoint solve for a plain callable with a given ``vjp(z, x, v)`` (S-11, G-1)."""
    z, x, g = solution.states["z"], solution.x["x"], cotangent["z"]
    product = CallableMap(lambda v, _: transpose(z, x, v), None, g)
    everyone = np.ones(len(z), dtype=bool)
    with np.errstate(all="ignore"):
        adjoint_map = _AdjointMap(lambda v: product.evaluate(v, everyone), cotangent)
        result = iterate(adjoint_map, ReferenceKernels(), Picard(), stop, {"z": g.copy()})
    return Gradient({}, {}, result.z, result.status, result.n_eval, result.residual)
