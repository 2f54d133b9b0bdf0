"""The reverse walk of :mod:`refdeq.gradients.adjoint_cell` in progress: the adjoint graph so far, and its names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from refdeq.errors import UnsupportedError
from refdeq.graph import Cell, GraphBuilder, Node

__all__ = ["Source", "Transposer"]

Source = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""Makes an injection of the adjoint cell from the forward values."""


class Transposer:
    """A reverse walk over a cell that writes nodes.

    Attributes
    ----------
    builder : GraphBuilder
        The adjoint graph so far. Linear nodes and states have the names of their counterparts.
    found : dict of forward value name to adjoint value name
        Where the cotangent of a forward value is.
    sources : dict of injection name to callable
        Makes an injection of the adjoint cell from the forward values.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell, self.graph = cell, cell.graph
        self.builder = GraphBuilder(cell.graph.dtype)
        self.found: dict[str, str] = {}
        self.sources: dict[str, Source] = {}
        self._taken = {*self.graph.shapes}
        self._parameters: dict[str, str] = {}
        self._injections: dict[str, str] = {}

    def unsupported(self, node: Node, why: str) -> UnsupportedError:
        """Error that names the node."""
        return UnsupportedError(f"node {node.name!r}: {why}; use Ift without delta and backend, whose products need no graph")

    def fresh(self, stem: str) -> str:
        """Name that neither graph has."""
        name = stem
        while name in self._taken:
            name += "'"
        self._taken.add(name)
        return name

    def shape(self, value: str) -> tuple[int, ...]:
        """Shape of a forward value for one sample (of a parameter: whole)."""
        return self.graph.shapes[value] if value in self.graph.parameters else self.graph.shapes[value][1:]

    def node(self, op: str, *inputs: str, stem: str, **attributes: object) -> str:
        """Append a node under a fresh name."""
        return self.builder.node(op, *inputs, name=self.fresh(stem), **attributes)

    def linear(self, node: Node, *inputs: str, **attributes: object) -> str:
        """Append the counterpart of a linear node, under its name."""
        return self.builder.node(node.op, *inputs, name=node.name, **attributes)

    def parameter(self, stem: str, array: np.ndarray) -> str:
        """Parameter of the adjoint cell, declared once per stem."""
        if stem not in self._parameters:
            self._parameters[stem] = self.builder.parameter(self.fresh(stem), np.ascontiguousarray(array))
        return self._parameters[stem]

    def injection(self, stem: str, shape: Sequence[int], make: Source) -> str:
        """Injection of the adjoint cell, declared once per stem."""
        if stem not in self._injections:
            name = self.builder.injection(self.fresh(stem), shape)
            self._injections[stem], self.sources[name] = name, make
        return self._injections[stem]

    def value(self, name: str) -> str:
        """A forward value as an operand: the parameter itself, else an injection."""
        if name in self.cell.parameters:
            return self.parameter(f"value of {name}", self.cell.parameters[name])
        return self.injection(f"value of {name}", self.shape(name), lambda values: values[name])

    def add(self, name: str, y: str) -> None:
        """Add to the cotangent of a forward value."""
        self.found[name] = self.node("Add", self.found[name], y, stem=f"sum at {name}") if name in self.found else y
