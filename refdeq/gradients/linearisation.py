"""A map at a point: its value there, products with the transposed Jacobian, and the VJP through it.

Two kinds of map have one face here, so that every gradient method is written once: a cell, whose reverse walk gives everything,
and a plain callable with a given ``vjp``, which gives products only (S-11).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from refdeq.callable_map import CallableMap
from refdeq.delta import check_memory, gated_nodes
from refdeq.errors import ArgumentError, MemoryMismatchError
from refdeq.evaluation import Evaluator
from refdeq.gradients.reverse import vjp
from refdeq.graph import Cell
from refdeq.reference import ReferenceKernels
from refdeq.solution import Solution

__all__ = ["CallablePoint", "CellMap", "CellPoint", "Differentiable", "Point", "Pulled", "UserMap", "frozen_masks"]

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Pulled:
    """One VJP through f: what it gives to the states, the parameters (summed over the batch) and the injections."""

    states: Arrays
    parameters: Arrays
    injections: Arrays


class Point(Protocol):
    """A map, linearised at a state."""

    @property
    def value(self) -> Arrays:
        """The map's value, per state."""

    def transpose(self, v: Mapping[str, np.ndarray]) -> Arrays:
        """Return ``J^T v`` per state."""

    def pull(self, v: Mapping[str, np.ndarray]) -> Pulled:
        """Return the VJP through f."""

    def sample(self, row: int) -> Point:
        """Return the same for one sample alone, as a batch of one."""


class Differentiable(Protocol):
    """A map that can be linearised anywhere."""

    def linearise(self, z: Mapping[str, np.ndarray]) -> Point:
        """Evaluate the map at `z` and keep what its derivatives need."""


class CellMap:
    """The f of a cell for one batch; parameters and hoisted values are shared by all its points.

    Parameters
    ----------
    cell : Cell
    x : dict of injection name to ndarray
    batch : int
    frozen : dict of linear node name to (B, ...) bool
        Frozen masks (G-1); empty for the dense Jacobian.
    """

    def __init__(self, cell: Cell, x: Mapping[str, np.ndarray], batch: int, frozen: Arrays) -> None:
        self.cell, self.frozen, self.batch = cell, frozen, batch
        self._evaluator = Evaluator(cell, ReferenceKernels(), x, batch)
        fixed = [*cell.parameters, *cell.graph.injections, *(node.name for node in cell.graph.hoisted)]
        self._fixed = {name: self._evaluator.values[name] for name in fixed}

    def linearise(self, z: Mapping[str, np.ndarray]) -> CellPoint:
        """Evaluate f densely at `z` and keep a copy of every value that depends on it."""
        graph = self.cell.graph
        self._evaluator.evaluate({s: array.copy() for s, array in z.items()}, np.ones(self.batch, dtype=bool))
        values = self._fixed | {name: self._evaluator.values[name].copy() for name in graph.state_dependent}
        return CellPoint(self.cell, values, self.frozen, {s: values[graph.outputs[s]] for s in graph.states})


def frozen_masks(cell: Cell, solution: Solution) -> Arrays:
    """Last mask in front of every gated linear node (G-1)."""
    memory = solution.memory
    if memory is None or memory.rule is None:
        raise ArgumentError("jacobian", hint="'frozen-mask' needs a solution made with a delta rule")
    if memory.digest != cell.digest:
        raise MemoryMismatchError(
            "solution",
            hint="its masks belong to another cell: to other weights, or to the one that a splitting has rewritten; "
            "use jacobian='dense'",
        )
    check_memory(memory, cell, memory.rule, len(solution.status))
    return {node.name: memory.mask[node.inputs[0]] for node in gated_nodes(cell.graph, memory.rule)}


@dataclass(frozen=True, eq=False)
class CellPoint:
    """A cell at a state: every value of one dense evaluation, however many the solve made (G-3)."""

    cell: Cell
    values: Arrays
    frozen: Arrays
    value: Arrays

    def transpose(self, v: Mapping[str, np.ndarray]) -> Arrays:
        """Return ``J^T v`` by one reverse walk."""
        back = vjp(self.cell, self.values, v, self.frozen, states_only=True)
        return self._of(self.cell.graph.states, back)

    def pull(self, v: Mapping[str, np.ndarray]) -> Pulled:
        """Return the VJP through f; what has no influence gets zeros."""
        back, graph = vjp(self.cell, self.values, v, self.frozen), self.cell.graph
        return Pulled(*(self._of(names, back) for names in (graph.states, graph.parameters, graph.injections)))

    def _of(self, names: Mapping[str, Any], back: Mapping[str, np.ndarray]) -> Arrays:
        return {name: back[name] if name in back else np.zeros_like(self.values[name]) for name in names}

    def sample(self, row: int) -> CellPoint:
        """Return one sample alone."""
        rows = slice(row, row + 1)
        values = {name: array if name in self.cell.parameters else array[rows] for name, array in self.values.items()}
        frozen = {name: mask[rows] for name, mask in self.frozen.items()}
        return CellPoint(self.cell, values, frozen, {name: array[rows] for name, array in self.value.items()})


class UserMap:
    """A plain callable ``f(z, x)`` with a given ``vjp(z, x, v)`` (S-11)."""

    def __init__(self, f: Callable[..., Any], transpose: Callable[..., Any], x: Any, like: np.ndarray) -> None:
        self._f, self._transpose, self._x, self._like = f, transpose, x, like

    def linearise(self, z: Mapping[str, np.ndarray]) -> CallablePoint:
        """Keep the state; f itself is evaluated when its value is asked for."""
        at = z["z"].copy()
        f = CallableMap(self._f, self._x, self._like)
        product = CallableMap(lambda v, x: self._transpose(at.copy(), x, v), self._x, self._like)
        return CallablePoint(at, f, product)


@dataclass(frozen=True, eq=False)
class CallablePoint:
    """A plain callable at a state; `row` restricts it to one sample."""

    z: np.ndarray
    f: CallableMap
    product: CallableMap
    row: int | None = None

    @property
    def value(self) -> Arrays:
        """Value of f at the state, evaluated now."""
        return {"z": self.f.evaluate({"z": self.z}, np.ones(len(self.z), dtype=bool))["z"].copy()}

    def transpose(self, v: Mapping[str, np.ndarray]) -> Arrays:
        """Return ``J^T v`` by the caller's function, which sees the whole batch."""
        everyone = np.ones(len(self.z), dtype=bool)
        if self.row is None:
            return {"z": self.product.evaluate(v, everyone)["z"].copy()}
        whole = np.zeros_like(self.z)
        whole[self.row] = v["z"][0]
        return {"z": self.product.evaluate({"z": whole}, everyone)["z"][self.row : self.row + 1].copy()}

    def pull(self, v: Mapping[str, np.ndarray]) -> Pulled:
        """Return the product; a callable says nothing about parameters and injections."""
        return Pulled(self.transpose(v), {}, {})

    def sample(self, row: int) -> CallablePoint:
        """Return one sample alone; its products still cost one call on the whole batch."""
        return CallablePoint(self.z, self.f, self.product, row)
