"""FLOPs as the published DeltaDEQ code counts them (C-3), for comparison with published figures only.

The convention differs from a count of needed operations (C-1) in ways that belong to that code, not to the method:

* the kernel area is missing: a dense convolution costs ``output elements * (input channels per group + 1 for a bias)``, so that
  1x1 and 7x7 kernels weigh the same; zero padding is not taken off;
* the ratio ``nnz / numel`` of what was multiplied scales the whole of it, the bias included;
* in the first, dense evaluation the zeros of the input itself (behind a ReLU, say) count as skipped;
* the subtraction is charged once per element and *reader*: two convolutions that share a gate pay twice, the first evaluation
  pays although nothing is subtracted, and so does a convolution that has no gate at all;
* a convolution listed dense is scaled by the non-zeros of its plain input (C-1 charges it fully), while the counts of zero
  elements leave it out;
* products and differences outside a blend (the reset gate's ``r h``, ``1 - z``), Concat, and every other operator are free;
* the dense total has no subtractions, so that a delta run without any zero costs more than a dense one.

The published code forms ``nnz / numel`` and its product in float32; here both are float64, which agrees within ``3 * 2**-24``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from refdeq.graph import Graph, Node
from refdeq.ops.base import size

__all__ = ["OFFICIAL_NOTE", "OfficialCost", "official_cost", "official_dense"]

OFFICIAL_NOTE = (
    "official accounting: dense convolution cost without the kernel area, times nnz/numel of what is multiplied (zeros of the "
    "first dense input count as skipped), plus numel per convolution, 1 per relu, 3 per sigmoid, 10 per tanh and 2 per blended "
    "element"
)
"""The sentence that goes with every official figure (C-3)."""

_NONLINEAR = {"Relu": 1, "Sigmoid": 3, "Tanh": 10}
_BLEND = 2


@dataclass(frozen=True)
class OfficialCost:
    """FLOPs and zero counts in the published code's accounting (C-3); see ``OFFICIAL_NOTE``.

    Attributes
    ----------
    flops, flops_dense : float
        Its "theoretical minimum" and its "total".
    zeros, elements : int
        Zero elements among those that gated nodes multiplied, and all of those, once per node.
    """

    flops: float
    flops_dense: float
    zeros: int
    elements: int


def official_dense(graph: Graph, node: Node) -> int:
    """Dense cost of a linear node in the published accounting: no kernel area, bias included (C-3).

    Parameters
    ----------
    graph : Graph
    node : Node
        A Gemm or Conv with constant weights.

    Returns
    -------
    int
        FLOPs of one evaluation of one sample.

    Examples
    --------
    >>> import numpy as np, refdeq
    >>> graph = refdeq.models.rnn(np.zeros((4, 4)), np.zeros((4, 1)), np.zeros(4)).graph
    >>> official_dense(graph, graph.linear_nodes[0])
    16
    """
    channels = graph.parameters[node.inputs[1]][1] if node.op == "Conv" else graph.shapes[node.inputs[0]][1]
    return size(graph.shapes[node.name]) * (channels + (len(node.inputs) == 3))


def official_cost(
    graph: Graph,
    evaluations: int,
    nonzero: Mapping[str, int],
    gated: Collection[str],
    nodes: Collection[str] | None = None,
) -> OfficialCost:
    """Cost of some evaluations in the published accounting (C-3).

    A blend, charged 2 per element, is what ``(1 - z) h + z q`` is made of: the Add of two products that depend on the state.

    Parameters
    ----------
    graph : Graph
    evaluations : int
        Evaluations of f, summed over the samples.
    nonzero : mapping of linear node to int
        Non-zeros of what each node multiplied over all of them: the gated difference, the whole input in a dense start, the
        input at every evaluation for a node without a gate.
    gated : collection of str
        Linear nodes that have a gate.
    nodes : collection of str, optional
        Restrict to these nodes (a module of the network); all by default.

    Returns
    -------
    OfficialCost

    Examples
    --------
    >>> import numpy as np, refdeq
    >>> graph = refdeq.models.rnn(np.zeros((4, 4)), np.zeros((4, 1)), np.zeros(4)).graph
    >>> official_cost(graph, 2, {"recurrent": 4}, {"recurrent"})  # 16 * 4/4 + 2 * 4 subtractions + 2 * 40 for tanh
    OfficialCost(flops=104.0, flops_dense=112.0, zeros=4, elements=8)
    """
    linear = {node.name for node in graph.linear_nodes}
    by_name = {node.name: node for node in graph.loop_nodes}
    flops, dense, zeros, elements = 0.0, 0.0, 0, 0
    for node in graph.loop_nodes:
        if nodes is not None and node.name not in nodes:
            continue
        if node.name in linear:
            full, numel = official_dense(graph, node), size(graph.shapes[node.inputs[0]])
            dense += full * evaluations
            flops += full * nonzero[node.name] / numel + numel * evaluations
            if node.name in gated:
                zeros += numel * evaluations - nonzero[node.name]
                elements += numel * evaluations
        else:
            charged = _elementwise(node, by_name) * size(graph.shapes[node.name]) * evaluations
            flops, dense = flops + charged, dense + charged
    return OfficialCost(flops, dense, zeros, elements)


def _elementwise(node: Node, by_name: Mapping[str, Node]) -> int:
    """Charge per element of a node that is not linear."""
    if node.op == "Add" and all(name in by_name and by_name[name].op == "Mul" for name in node.inputs):
        return _BLEND
    return _NONLINEAR.get(node.op, 0)
