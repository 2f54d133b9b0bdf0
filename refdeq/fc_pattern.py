"""Recognising ``z' = phi(A (z + p) + q) * m`` in a graph: the fully connected cells (RNN, SIREN, Fourier) of the models.

Fused plans of all backends ask here, so that a request that none of them serves is refused in the same words by each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from refdeq.graph import Graph, Node
from refdeq.kernels import GateSpec
from refdeq.ops import OPS
from refdeq.registry import PlanRequest, Refusal

__all__ = ["ACTIVATIONS", "LONGEST_WINDOW", "Pattern", "UnmatchedError", "gate_refusal", "match", "recognise"]

ACTIVATIONS = ("Identity", "Relu", "LeakyRelu", "Tanh", "Sigmoid", "Sin", "Cos")
"""ONNX operators that the pattern knows."""

LONGEST_WINDOW = 4096
"""Residuals of a sample that a fused plan keeps for the stagnation test: 32 KiB, reserved before the first evaluation."""


@dataclass(frozen=True)
class Pattern:
    """Where the parts of the pattern are in a graph; None for a part it lacks.

    Attributes
    ----------
    state, linear : str
        The state and the Gemm.
    n : int
        Width of the state.
    watched : str
        The value the Gemm reads.
    weight : str
        Parameter of the Gemm.
    bias : str or None
        Parameter C of the Gemm.
    is_transposed : bool
        ``transB`` of the Gemm.
    entry, phase, filter : str or None
        The operands p, q and m: values that depend on x only, or parameters.
    activation : str
        ONNX operator; ``Identity`` when there is none.
    activated : str
        Name of its node; empty when there is none.
    slope : float
        Of a LeakyRelu, else 0.
    """

    state: str
    linear: str
    n: int
    watched: str
    weight: str
    bias: str | None
    is_transposed: bool
    entry: str | None
    phase: str | None
    filter: str | None
    activation: str
    activated: str
    slope: float

    @property
    def operands(self) -> tuple[str | None, str | None, str | None]:
        """Entry, phase and filter."""
        return self.entry, self.phase, self.filter

    def constants(self, parameters: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Copies, of shape (1, n), of those operands that are parameters."""
        named = [name for name in self.operands if name is not None and name in parameters]
        return {name: np.array(parameters[name]).reshape(1, -1) for name in named}


class UnmatchedError(Exception):
    """The graph is not of the pattern; the message says where it departs from it. A plan turns it into a refusal."""


class _Chain:
    """Walks the loop nodes, each of which must read the value before it, once, and nothing else that depends on z."""

    def __init__(self, graph: Graph, state: str) -> None:
        self._graph, self.value = graph, state
        self._nodes: Iterator[Node] = iter(graph.loop_nodes)
        self.node = next(self._nodes, None)

    def take(self) -> Node:
        """Go past the current node and return it."""
        node = self.node
        assert node is not None
        dependent = [name for name in node.inputs if name in self._graph.state_dependent]
        if dependent != [self.value]:
            raise UnmatchedError(
                f"node {node.name!r} reads {', '.join(dependent)}; a chain from one node to the next is needed"
            )
        self.value, self.node = node.name, next(self._nodes, None)
        return node

    def take_operand(self, op: str) -> str | None:
        """Go past an optional two-operand node and return its other operand."""
        if self.node is None or self.node.op != op:
            return None
        before, node = self.value, self.take()
        operand = next((name for name in node.inputs if name != before), before)
        n, shape = self._graph.shapes[node.name][1], self._graph.shapes[operand]
        if shape not in ((-1, n), (n,), (1, n)):
            raise UnmatchedError(f"node {node.name!r} broadcasts {operand!r} of shape {shape}")
        return operand


def match(graph: Graph) -> Pattern:
    """Return the parts of the pattern in `graph`, or raise :class:`UnmatchedError`.

    Examples
    --------
    >>> import numpy as np, refdeq
    >>> match(refdeq.models.rnn(np.eye(2), np.ones((2, 1)), np.zeros(2)).graph).activation
    'Tanh'
    """
    if len(graph.states) != 1:
        raise UnmatchedError(f"it has {len(graph.states)} states, the fused solve handles one")
    [(state, shape)] = graph.states.items()
    if len(shape) != 1 or shape[0] == 0:
        raise UnmatchedError(f"its state has shape {shape}, the fused solve handles (n,)")
    chain = _Chain(graph, state)
    entry = chain.take_operand("Add")
    watched = chain.value
    gemm = _gemm(graph, chain, shape[0])
    phase = chain.take_operand("Add")
    activation, activated, slope = "Identity", "", 0.0
    if chain.node is not None and chain.node.op in ACTIVATIONS:
        node = chain.take()
        activation, activated = node.op, node.name
        slope = float(OPS[node.op].complete(node.attributes).get("alpha", 0.0))
    multiplied = chain.take_operand("Mul")
    if chain.node is not None:
        raise UnmatchedError(f"node {chain.node.name!r} ({chain.node.op}) does not fit z' = phi(A (z + p) + q) * m")
    if graph.outputs[state] != chain.value:
        raise UnmatchedError(f"the next state is {graph.outputs[state]!r}, not the last node {chain.value!r}")
    return Pattern(
        state=state,
        linear=gemm.name,
        n=shape[0],
        watched=watched,
        weight=gemm.inputs[1],
        bias=gemm.inputs[2] if len(gemm.inputs) == 3 else None,
        is_transposed=bool(OPS["Gemm"].complete(gemm.attributes)["transB"]),
        entry=entry,
        phase=phase,
        filter=multiplied,
        activation=activation,
        activated=activated,
        slope=slope,
    )


def _gemm(graph: Graph, chain: _Chain, n: int) -> Node:
    node = chain.node
    if node is None or node.op != "Gemm" or node not in graph.linear_nodes:
        what = "there is none" if node is None else f"node {node.name!r} is {node.op}"
        raise UnmatchedError(f"a Gemm with constant weights must read z or z + p, but {what}")
    attributes = OPS["Gemm"].complete(node.attributes)
    if attributes["alpha"] != 1.0 or (attributes["beta"] != 1.0 and len(node.inputs) == 3):
        raise UnmatchedError(f"node {node.name!r} has alpha {attributes['alpha']} and beta {attributes['beta']}, not 1")
    if graph.shapes[node.name][1] != n:
        raise UnmatchedError(f"node {node.name!r} has {graph.shapes[node.name][1]} outputs, the state {n}")
    return chain.take()


def recognise(request: PlanRequest, solvers: Mapping[str, type]) -> Pattern | Refusal:
    """The pattern of a request that a fused plan may serve, or what keeps all of them from it but for their gates.

    Parameters
    ----------
    request : PlanRequest
    solvers : dict of name to class
        Those that the plan steps by.

    Examples
    --------
    >>> import numpy as np, refdeq
    >>> cell = refdeq.models.rnn(np.eye(2), np.ones((2, 1)), np.zeros(2))
    >>> ask = dict(graph=cell.graph, gates={}, start="dense", bias="separate", refresh=0, returned="last", order="strict")
    >>> recognise(PlanRequest(solver=refdeq.Broyden(), **ask), {"Picard": refdeq.Picard, "Anderson": refdeq.Anderson}).reason
    'the fused solve steps by Picard or Anderson, not by Broyden'
    """
    if type(request.solver) not in solvers.values():
        *names, last = solvers
        return Refusal(f"the fused solve steps by {', '.join(names)} or {last}, not by {type(request.solver).__name__}")
    if request.returned != "last":
        return Refusal(f"the fused solve returns the last argument, not the {request.returned}")
    window = 0 if request.stop.stagnation is None else request.stop.stagnation[0]
    if window > LONGEST_WINDOW:
        return Refusal(f"the fused solve keeps {LONGEST_WINDOW} residuals of a sample, the stagnation test asks for {window}")
    try:
        return match(request.graph)
    except UnmatchedError as reason:
        return Refusal(f"the graph is not a fully connected cell: {reason}")


def gate_refusal(gates: Iterable[GateSpec]) -> Refusal | None:
    """What keeps a plan from these gates that knows no feedback and forms differences in the dtype of the state (D-1, D-4)."""
    for gate in gates:
        if gate.memory not in ("always", "sent"):
            return Refusal(f"the fused solve keeps memory 'always' or 'sent', not {gate.memory!r}")
        if gate.granularity not in ("element", "channel", "sample"):
            return Refusal(f"the fused solve gates elements or whole samples, not granularity {gate.granularity!r}")
        if gate.delta_dtype is not None:
            return Refusal(f"the fused solve forms differences in the dtype of the state, not in {gate.delta_dtype}")
    return None
