"""The cell as data: a small graph of ONNX-named operators, and the arrays of its parameters.

A :class:`Graph` is names, shapes and nodes; a :class:`Cell` adds parameter arrays. One definition of ``f(z, x)`` gives dense
and delta evaluation, gradients, exact cost and a file any language can read. Shapes are static but for the batch axis (E-2);
shapes and dtypes are inferred and checked when the graph is built.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from refdeq.errors import DTypeError, GraphError, ShapeError
from refdeq.inference import DTYPES, check_graph, infer_shapes

__all__ = ["Cell", "Graph", "GraphBuilder", "Node"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """One operator application; its output value carries the node's name.

    >>> Node("y", "Relu", ("z",), {})
    Node(name='y', op='Relu', inputs=('z',), attributes={})
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    """Definition of ``f(z, x; theta)`` without the parameter values.

    Attributes
    ----------
    dtype : str
        The one dtype of z, x and theta (E-2).
    states, injections : dict of name to per-sample shape
    parameters : dict of name to shape
    nodes : tuple of Node
        In evaluation order (E-1).
    outputs : dict of state name to the value that becomes it
    """

    dtype: str
    states: dict[str, Shape]
    injections: dict[str, Shape]
    parameters: dict[str, Shape]
    nodes: tuple[Node, ...]
    outputs: dict[str, str]

    def __post_init__(self) -> None:
        check_graph(self)

    @functools.cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shape of every value; ``BATCH`` (-1) leads where a value depends on z or x."""
        return infer_shapes(self)

    @functools.cached_property
    def state_dependent(self) -> frozenset[str]:
        """Names of the values that depend on a state."""
        found = set(self.states)
        for node in self.nodes:
            if found.intersection(node.inputs):
                found.add(node.name)
        return frozenset(found)

    @functools.cached_property
    def hoisted(self) -> tuple[Node, ...]:
        """Nodes that depend on x only; evaluated once per solve, in order (E-1)."""
        return tuple(node for node in self.nodes if node.name not in self.state_dependent)

    @functools.cached_property
    def loop_nodes(self) -> tuple[Node, ...]:
        """Nodes evaluated at every evaluation, in order (E-1)."""
        return tuple(node for node in self.nodes if node.name in self.state_dependent)

    @functools.cached_property
    def linear_nodes(self) -> tuple[Node, ...]:
        """Gemm and Conv nodes with constant weights whose input depends on z: those a delta rule can gate (D-11)."""
        return tuple(
            node
            for node in self.loop_nodes
            if node.op in ("Gemm", "Conv") and node.inputs[0] in self.state_dependent and self._constant(node.inputs[1:])
        )

    def _constant(self, names: Sequence[str]) -> bool:
        return all(name in self.parameters for name in names)

    def to_dict(self) -> dict[str, Any]:
        """Return the graph as plain data (JSON types only); the inverse is :meth:`from_dict`."""
        return {
            "dtype": self.dtype,
            "states": {name: list(shape) for name, shape in self.states.items()},
            "injections": {name: list(shape) for name, shape in self.injections.items()},
            "parameters": {name: list(shape) for name, shape in self.parameters.items()},
            "nodes": [
                {
                    "name": node.name,
                    "op": node.op,
                    "inputs": list(node.inputs),
                    "attributes": {k: list(v) if isinstance(v, tuple) else v for k, v in sorted(node.attributes.items())},
                }
                for node in self.nodes
            ],
            "outputs": dict(self.outputs),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Graph:
        """Build a graph from :meth:`to_dict` data; raises ``GraphError`` when it is not one."""
        try:
            return cls(
                dtype=data["dtype"],
                states={name: tuple(shape) for name, shape in data["states"].items()},
                injections={name: tuple(shape) for name, shape in data["injections"].items()},
                parameters={name: tuple(shape) for name, shape in data["parameters"].items()},
                nodes=tuple(Node(n["name"], n["op"], tuple(n["inputs"]), _frozen(n["attributes"])) for n in data["nodes"]),
                outputs=dict(data["outputs"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise GraphError(f"graph data lacks or misnames a field: {error!r}") from error


def _frozen(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as plain numbers and tuples of them, whatever sequence or NumPy scalar they came as."""

    def plain(value: Any) -> Any:
        if isinstance(value, list | tuple | np.ndarray):
            return tuple(plain(v) for v in value)
        return value.item() if isinstance(value, np.generic) else value

    return {k: plain(v) for k, v in attributes.items()}


@dataclass(frozen=True, eq=False)
class Cell:
    """A graph with its parameter arrays: everything that defines ``f``.

    Parameters
    ----------
    graph : Graph
    parameters : dict of name to ndarray
        Shapes and dtype as the graph says; stored as read-only contiguous copies, in a mapping that cannot be changed.

    Examples
    --------
    >>> import refdeq
    >>> cell = refdeq.models.rnn(np.zeros((2, 2)), np.ones((2, 1)), np.zeros(2))
    >>> cell
    Cell(float64, states: z (2,), injections: x (1,), 4 nodes, 8 parameters)
    """

    graph: Graph
    parameters: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        if set(self.parameters) != set(self.graph.parameters):
            differing = sorted(set(self.parameters) ^ set(self.graph.parameters))
            raise ShapeError("parameters", expected=sorted(self.graph.parameters), got=sorted(differing))
        kept = {}
        for name, shape in self.graph.parameters.items():
            array = np.array(self.parameters[name], order="C")
            if array.dtype != self.graph.dtype:
                raise DTypeError(f"parameter {name!r}", expected=self.graph.dtype, got=array.dtype)
            if array.shape != shape:
                raise ShapeError(f"parameter {name!r}", expected=shape, got=array.shape)
            array.setflags(write=False)
            kept[name] = array
        # what is derived from the parameters (digest, resolvents) is derived once
        object.__setattr__(self, "parameters", MappingProxyType(kept))

    def __reduce__(self) -> tuple[Any, ...]:
        return Cell, (self.graph, dict(self.parameters))

    def __repr__(self) -> str:
        graph = self.graph
        parts = [graph.dtype]
        for title, shapes in (("states", graph.states), ("injections", graph.injections)):
            if shapes:
                parts.append(f"{title}: " + " ".join(f"{name} {shape}" for name, shape in shapes.items()))
        count = sum(array.size for array in self.parameters.values())
        return f"Cell({', '.join([*parts, f'{len(graph.nodes)} nodes', f'{count} parameters'])})"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The cell's dtype."""
        return np.dtype(self.graph.dtype)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of graph and parameter bits; delta memory remembers it (D-9)."""
        sha = hashlib.sha256(json.dumps(self.graph.to_dict()).encode())
        for name in sorted(self.parameters):
            sha.update(name.encode() + b"\0" + self.parameters[name].tobytes())
        return sha.hexdigest()

    def astype(self, dtype: str) -> Cell:
        """Return the same cell with every parameter rounded to another dtype (the only place where dtypes change).

        >>> import refdeq
        >>> refdeq.models.rnn(np.zeros((2, 2)), np.ones((2, 1)), np.zeros(2)).astype("float32").dtype
        dtype('float32')
        """
        data = {**self.graph.to_dict(), "dtype": _dtype_name(dtype)}
        return Cell(Graph.from_dict(data), {name: array.astype(dtype) for name, array in self.parameters.items()})


def _dtype_name(dtype: Any) -> str:
    try:
        return str(np.dtype(dtype).name)
    except TypeError as error:
        raise GraphError(f"dtype must be one of {DTYPES}, got {dtype!r}") from error


class GraphBuilder:
    """Builds a :class:`Cell` node by node; every value is referred to by its name.

    Parameters
    ----------
    dtype : {"float64", "float32"}

    Examples
    --------
    >>> b = GraphBuilder("float64")
    >>> z, x = b.state("z", (2,)), b.injection("x", (2,))
    >>> w = b.parameter("W", 0.5 * np.eye(2))
    >>> b.output(z, b.node("Add", b.node("Gemm", z, w, transB=1), x))
    >>> b.build().graph.linear_nodes[0].name
    'gemm'
    """

    def __init__(self, dtype: str = "float64") -> None:
        self._dtype = _dtype_name(dtype)
        self._states: dict[str, Shape] = {}
        self._injections: dict[str, Shape] = {}
        self._parameters: dict[str, np.ndarray] = {}
        self._nodes: list[Node] = []
        self._outputs: dict[str, str] = {}

    def state(self, name: str, shape: Sequence[int]) -> str:
        """Declare a state of per-sample `shape`."""
        self._declare(name)
        self._states[name] = _frozen({"shape": tuple(shape)})["shape"]
        return name

    def injection(self, name: str, shape: Sequence[int]) -> str:
        """Declare an injection of per-sample `shape`."""
        self._declare(name)
        self._injections[name] = _frozen({"shape": tuple(shape)})["shape"]
        return name

    def parameter(self, name: str, array: np.ndarray) -> str:
        """Declare a parameter with its value, which must already have the builder's dtype."""
        self._declare(name)
        self._parameters[name] = np.asarray(array)
        return name

    def _declare(self, name: str) -> None:
        if name in self._names():
            raise GraphError(f"the name {name!r} is used twice")

    def _names(self) -> set[str]:
        return {*self._states, *self._injections, *self._parameters, *(node.name for node in self._nodes)}

    def node(self, op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Append a node and return its name (the operator's in lower case, numbered, when none is given)."""
        if name is None:
            used = self._names()
            stems = [op.lower(), *(f"{op.lower()}_{i}" for i in range(2, len(used) + 3))]
            name = next(stem for stem in stems if stem not in used)
        self._declare(name)
        self._nodes.append(Node(name, op, tuple(inputs), _frozen(attributes)))
        return name

    def output(self, state: str, value: str) -> None:
        """Say which value becomes `state`."""
        if state in self._outputs:
            raise GraphError(f"state {state!r} already has an output")
        self._outputs[state] = value

    def build(self) -> Cell:
        """Check everything and return the cell."""
        graph = Graph(
            dtype=self._dtype,
            states=dict(self._states),
            injections=dict(self._injections),
            parameters={name: array.shape for name, array in self._parameters.items()},
            nodes=tuple(self._nodes),
            outputs=dict(self._outputs),
        )
        return Cell(graph, self._parameters)
