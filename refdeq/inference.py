"""What a graph must satisfy, checked once when it is built: names, shapes, operators, outputs (E-2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refdeq.errors import GraphError
from refdeq.ops import BATCH, OPS

if TYPE_CHECKING:
    from refdeq.graph import Graph

__all__ = ["DTYPES", "check_graph", "infer_shapes"]

DTYPES = ("float32", "float64")
"""State dtypes of semantics version 1 (N-1)."""

Shape = tuple[int, ...]


def check_graph(graph: Graph) -> None:
    """Check dtype, names, shapes and outputs of a graph; raises ``GraphError`` (E-2)."""
    if graph.dtype not in DTYPES:
        raise GraphError(f"dtype must be one of {DTYPES}, got {graph.dtype!r}")
    if not graph.states:
        raise GraphError("a graph needs at least one state")
    names = [*graph.states, *graph.injections, *graph.parameters, *(node.name for node in graph.nodes)]
    if not all(isinstance(name, str) and name for name in names):
        raise GraphError(f"names must be non-empty strings, got {names}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise GraphError(f"the name {twice[0]!r} is used twice")
    for name, shape in (graph.states | graph.injections | graph.parameters).items():
        if not all(type(n) is int and n >= 1 for n in shape):
            raise GraphError(f"shape of {name!r} must consist of integers >= 1, got {shape}")
    for state, shape in graph.states.items():
        value = graph.outputs.get(state)
        if value is None or value not in graph.shapes:
            raise GraphError(f"state {state!r} has no output: call output({state!r}, value)")
        if graph.shapes[value] != (BATCH, *shape):
            raise GraphError(f"output of state {state!r} has shape {graph.shapes[value][1:]}, expected {shape}")
    extra = sorted(set(graph.outputs) - set(graph.states))
    if extra:
        raise GraphError(f"output {extra[0]!r} is not a state")


def infer_shapes(graph: Graph) -> dict[str, Shape]:
    """Shape of every value of a graph, node by node; raises ``GraphError`` at the first node that does not fit."""
    shapes: dict[str, Shape] = {name: (BATCH, *s) for name, s in (graph.states | graph.injections).items()}
    shapes.update(graph.parameters)
    for node in graph.nodes:
        op = OPS.get(node.op)
        if op is None:
            raise GraphError(f"node {node.name!r}: unknown operator {node.op!r}; known are {', '.join(sorted(OPS))}")
        missing = [name for name in node.inputs if name not in shapes]
        if missing:
            raise GraphError(f"node {node.name!r} reads {missing[0]!r}, which is not defined before it")
        fewest, most = op.arity
        if len(node.inputs) < fewest or 0 <= most < len(node.inputs):
            takes = f"{fewest} or more" if most < 0 else " or ".join(map(str, sorted({fewest, most})))
            raise GraphError(f"node {node.name!r}: {node.op} takes {takes} inputs, got {len(node.inputs)}")
        try:
            shape = op.infer([shapes[name] for name in node.inputs], op.complete(node.attributes))
        except GraphError as error:
            raise GraphError(f"node {node.name!r}: {error}") from None
        if not shape or shape[0] != BATCH:
            raise GraphError(f"node {node.name!r} depends on parameters only: compute it once and pass the result")
        shapes[node.name] = shape
    return shapes
