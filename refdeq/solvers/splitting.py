"""Cells of the form ``z <- relu(W z + beta)``: recognising them, their monotonicity constants, and rewriting them (S-6b).

``W`` is the weight of one Gemm, or the kernel of one circular convolution whose wrap-around is made of moves (Slice, Concat).
``beta`` is whatever does not depend on z. A 0/1 parameter may multiply the Relu: the border of a convolutional network that is
held at zero. Source: Winston and Kolter, "Monotone operator equilibrium networks", NeurIPS 2020.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq import circular
from refdeq.errors import ArgumentError, UnsupportedError
from refdeq.graph import Cell, Graph, GraphBuilder, Node
from refdeq.ops import BATCH, OPS
from refdeq.ops.linear import gemm_weight

__all__ = ["MonotoneForm", "Rewriter", "match_form", "monotone_constants", "resolvent"]

_MOVES = ("Slice", "Concat", "Reshape", "Transpose", "Identity")


@dataclass(frozen=True, eq=False)
class MonotoneForm:
    """The parts of a cell ``z <- mask * relu(W z + beta)``.

    Attributes
    ----------
    cell : Cell
    state : str
    linear : Node
        The Gemm or Conv that holds W.
    weight : (n, n) or (C, C, ...) float64 array
        W of a Gemm, acting on columns; or the kernel of a circular convolution.
    size, origin : tuple of int
        Spatial lengths and the tap that meets its own site; empty for a Gemm.
    total : str
        The value ``W z + beta``.
    shifts : tuple of str
        Values depending on x only whose sum, with `bias`, is beta.
    bias : array or None
        What parameters add to beta, float64, broadcastable against a sample.
    mask : str or None
        The 0/1 parameter behind the Relu.
    slope : str or None
        The 0/1 injection that stands in place of the Relu in an adjoint cell (:mod:`refdeq.gradients.splitting_adjoint`).
    """

    cell: Cell
    state: str
    linear: Node
    weight: np.ndarray
    size: tuple[int, ...]
    origin: tuple[int, ...]
    total: str
    shifts: tuple[str, ...]
    bias: np.ndarray | None
    mask: str | None
    slope: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the state of one sample."""
        return self.cell.graph.states[self.state]

    def blocks(self) -> np.ndarray:
        """W as a stack of square matrices that together have its spectrum: W itself, or its symbol per frequency."""
        return self.weight if not self.size else circular.symbol(self.weight, self.size, self.origin)


def _refuse(found: str) -> UnsupportedError:
    return UnsupportedError(
        f"a splitting needs a cell z <- relu(W z + beta) with one Gemm or circular Conv, as refdeq.models.monotone builds, "
        f"but {found}; use Picard, KrasnoselskiiMann, Anderson or Broyden instead"
    )


@functools.lru_cache(maxsize=8)
def match_form(cell: Cell) -> MonotoneForm:
    """Find the parts of a cell ``z <- mask * relu(W z + beta)``; raises ``UnsupportedError`` that names what it found.

    Examples
    --------
    >>> import refdeq
    >>> cell = refdeq.models.monotone(np.eye(2), np.zeros((2, 2)), np.ones((2, 1)), np.zeros(2))
    >>> match_form(cell).weight
    array([[-1.,  0.],
           [ 0., -1.]])
    """
    graph = cell.graph
    if len(graph.states) != 1:
        raise _refuse(f"this one has {len(graph.states)} states")
    ((state, shape),) = graph.states.items()
    nodes = {node.name: node for node in graph.loop_nodes}
    relu, mask = _outermost(cell, nodes, graph.outputs[state])
    linear, shifts, biases = _summands(cell, nodes, relu.inputs[0])
    if graph.shapes[linear.name] != (BATCH, *shape):
        raise _refuse(f"{linear.op} {linear.name!r} gives shape {graph.shapes[linear.name][1:]}, not that of the state")
    weight, size, origin = _weight(cell, state, linear)
    if len(linear.inputs) == 3:
        own = cell.parameters[linear.inputs[2]].astype(np.float64)
        biases.append(own.reshape(-1, *(1,) * len(size)) if size else own)
    bias = functools.reduce(np.add, biases) if biases else None
    return MonotoneForm(cell, state, linear, weight, size, origin, relu.inputs[0], tuple(shifts), bias, mask)


def _outermost(cell: Cell, nodes: dict[str, Node], output: str) -> tuple[Node, str | None]:
    """The Relu that a cell ends in, and the 0/1 parameter that multiplies it."""
    node, mask = nodes.get(output), None
    if node is not None and node.op == "Mul":
        masks = [name for name in node.inputs if name in cell.parameters and np.isin(cell.parameters[name], (0, 1)).all()]
        if masks:
            mask = masks[0]
            node = nodes.get(next(name for name in node.inputs if name != mask))
    if node is None or node.op != "Relu":
        raise _refuse(f"its state ends in {'itself' if node is None else f'{node.op} {node.name!r}'}")
    return node, mask


def _summands(cell: Cell, nodes: dict[str, Node], total: str) -> tuple[Node, list[str], list[np.ndarray]]:
    """The linear node under a chain of additions, and what is added to it: values of x, and parameters."""
    shifts, biases, value = [], [], total
    while value in nodes and nodes[value].op == "Add":
        dependent = [name for name in nodes[value].inputs if name in cell.graph.state_dependent]
        if len(dependent) == 2:
            raise _refuse(f"both summands of {value!r} depend on z")
        (other,) = (name for name in nodes[value].inputs if name != dependent[0])
        if other in cell.parameters:
            biases.append(cell.parameters[other].astype(np.float64))
        else:
            shifts.append(other)
        value = dependent[0]
    if value not in {node.name for node in cell.graph.linear_nodes}:
        raise _refuse(f"under its Relu is {f'{nodes[value].op} {value!r}' if value in nodes else 'the state itself'}")
    return nodes[value], shifts, biases


def _weight(cell: Cell, state: str, linear: Node) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]:
    """W of a linear node: a matrix, or a kernel with the lengths of the signal and its origin."""
    attributes = OPS[linear.op].complete(linear.attributes)
    raw = cell.parameters[linear.inputs[1]].astype(np.float64)
    if linear.op == "Gemm":
        if (attributes["alpha"], attributes["beta"]) != (1.0, 1.0):
            raise _refuse(f"Gemm {linear.name!r} has alpha or beta")
        if linear.inputs[0] != state:
            raise _refuse(f"Gemm {linear.name!r} reads {linear.inputs[0]!r}, not the state")
        return gemm_weight(raw, attributes).T, (), ()
    plain = all(set(attributes[name] or (1,)) == {1} for name in ("strides", "dilations")) and attributes["group"] == 1
    if not plain or any(attributes["pads"] or ()):
        raise _refuse(
            f"Conv {linear.name!r} has strides, dilations, groups or pads of zeros (wrap the state by Slice and Concat)"
        )
    origin = _circular_origin(cell.graph, state, linear.inputs[0], raw.shape[2:])
    if origin is None:
        raise _refuse(f"the input of Conv {linear.name!r} is not the state, wrapped around")
    return raw, cell.graph.states[state][1:], origin


def _circular_origin(graph: Graph, state: str, value: str, kernel: tuple[int, ...]) -> tuple[int, ...] | None:
    """How many sites `value` wraps around in front of the state, found by moving numbered sites; None if it does not wrap."""
    shape = graph.states[state]
    numbers = np.arange(np.prod(shape), dtype=np.float64).reshape(1, *shape)
    moved = {state: numbers}
    for node in graph.loop_nodes:
        if node.op in _MOVES and all(name in moved for name in node.inputs):
            op = OPS[node.op]
            moved[node.name] = op.forward([moved[name] for name in node.inputs], op.complete(node.attributes))
    wanted = (1, shape[0], *(n + k - 1 for n, k in zip(shape[1:], kernel, strict=True)))
    if value not in moved or moved[value].shape != wanted:
        return None
    first = np.unravel_index(int(moved[value].flat[0]), shape)[1:]
    origin = tuple(int(-p % n) for p, n in zip(first, shape[1:], strict=True))
    for axis, (n, k, o) in enumerate(zip(shape[1:], kernel, origin, strict=True)):
        numbers = np.take(numbers, (np.arange(n + k - 1) - o) % n, axis=2 + axis)
    return origin if np.array_equal(moved[value], numbers) else None


@functools.lru_cache(maxsize=8)
def monotone_constants(cell: Cell) -> tuple[float, float]:
    """Strong monotonicity and Lipschitz constant of ``I - W``: least eigenvalue of its symmetric part, and its norm.

    Parameters
    ----------
    cell : Cell
        Of the form ``z <- relu(W z + beta)``; anything else raises ``UnsupportedError``.

    Returns
    -------
    m, lipschitz : float
        The fixed point exists and is unique when m > 0, whatever the norm of W.

    Examples
    --------
    >>> import refdeq
    >>> skew = np.array([[0.0, 3.0], [0.0, 0.0]])
    >>> cell = refdeq.models.monotone(np.zeros((2, 2)), skew, np.ones((2, 1)), np.zeros(2), m=1.0)
    >>> m, lipschitz = monotone_constants(cell)
    >>> m, round(lipschitz**2, 12)
    (1.0, 10.0)
    """
    blocks = match_form(cell).blocks()
    s = np.eye(blocks.shape[-1]) - blocks
    symmetric = (s + np.conj(np.swapaxes(s, -1, -2))) / 2
    return float(np.linalg.eigvalsh(symmetric).min()), float(np.linalg.norm(s, 2, axis=(-2, -1)).max())


@functools.lru_cache(maxsize=8)
def resolvent(cell: Cell, alpha: float, dense: bool = False) -> np.ndarray:
    """``V = ((1 + alpha) I - alpha W)^-1`` in float64: a matrix, or for a convolution its symbol per frequency unless `dense`.

    Remembered for the cell, so that the adjoint iteration finds the inverse that the forward solve made.
    """
    form = match_form(cell)
    blocks = circular.dense_matrix(form.weight, form.size, form.origin) if dense and form.size else form.blocks()
    try:
        inverse = circular.inverse_symbol(blocks, alpha)
    except np.linalg.LinAlgError:
        inverse = np.full(blocks.shape, np.nan)
    if not np.isfinite(inverse).all():
        raise ArgumentError("alpha", got=alpha, hint="(1 + alpha) I - alpha W is singular: I - W is not monotone")
    inverse.setflags(write=False)
    return inverse


class Rewriter:
    """Builds a new cell out of parts of an old one; names that are taken get a number.

    Parameters
    ----------
    cell : Cell
    nodes : tuple of Node
        Nodes to keep, in order, with the parameters they read.
    """

    def __init__(self, cell: Cell, nodes: tuple[Node, ...]) -> None:
        graph = cell.graph
        self.cell, self._builder = cell, GraphBuilder(graph.dtype)
        self._taken = {*graph.states, *graph.injections, *graph.parameters, *(node.name for node in graph.nodes)}
        self._copied: set[str] = set()
        for name, shape in graph.states.items():
            self._builder.state(name, shape)
        for name, shape in graph.injections.items():
            self._builder.injection(name, shape)
        for node in nodes:
            for name in node.inputs:
                self.keep(name)
            self._builder.node(node.op, *node.inputs, name=node.name, **node.attributes)

    def keep(self, name: str) -> str:
        """Copy a parameter of the old cell, once; other names pass."""
        if name in self.cell.parameters and name not in self._copied:
            self._builder.parameter(name, self.cell.parameters[name])
            self._copied.add(name)
        return name

    def _fresh(self, name: str) -> str:
        number, found = 2, name
        while found in self._taken:
            number, found = number + 1, f"{name}_{number}"
        self._taken.add(found)
        return found

    def parameter(self, name: str, value: Any) -> str:
        """Add a parameter, rounded once to the dtype of the cell."""
        wide = np.asarray(value, dtype=np.float64)
        with np.errstate(over="ignore"):
            rounded = wide.astype(self.cell.dtype)
        if not np.isfinite(rounded).all():
            raise ArgumentError("alpha", hint=f"a factor of the splitting is not finite in {self.cell.dtype}: {name}")
        return self._builder.parameter(self._fresh(name), rounded)

    def node(self, op: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Add a node."""
        return self._builder.node(op, *inputs, name=self._fresh(name), **attributes)

    def project(self, value: str, form: MonotoneForm, name: str) -> str:
        """What the old cell does to ``W z + beta``: Relu and its mask, or the slope of an adjoint cell."""
        if form.slope is not None:
            return self.node("Mul", value, form.slope, name=name)
        if form.mask is None:
            return self.node("Relu", value, name=name)
        return self.node("Mul", self.node("Relu", value, name=f"{name}_relu"), self.keep(form.mask), name=name)

    def build(self, state: str, output: str) -> Cell:
        """Finish."""
        self._builder.output(state, output)
        return self._builder.build()
