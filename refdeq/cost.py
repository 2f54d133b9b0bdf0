"""What a solve cost: exact multiply-accumulates, overheads beside them, and the published code's own counting (C-1 to C-3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from refdeq.cost_official import OfficialCost, official_cost
from refdeq.graph import Cell, Node
from refdeq.ops import OPS
from refdeq.ops.base import size
from refdeq.types import OpCount

__all__ = ["Cost", "measure_cost"]


@dataclass(frozen=True)
class Cost:
    """Cost of a solve; the first evaluation is in every total (C-1).

    Attributes
    ----------
    macs : int
        Multiply-accumulates needed by the state-dependent linear nodes over the whole batch: sent elements times their
        fan-out for gated nodes, everything for dense ones.
    macs_dense : int
        The same with every element sent, over the same evaluations.
    macs_per_sample : (B,) int64
    by_node : dict of linear node to int
        Of the cell that a splitting iterates on where there is one; a polish adds the nodes of the cell itself.
    by_gate : dict of watched value to int
        Elements sent.
    macs_hoisted : int
        Nodes that depend on x only, evaluated once (beside the total).
    overhead : OpCount
        Gates, biases, elementwise and non-linear operations (C-2; beside the total).
    official : OfficialCost or None
        None without a delta rule.
    """

    macs: int
    macs_dense: int
    macs_per_sample: np.ndarray
    by_node: dict[str, int]
    by_gate: dict[str, int]
    macs_hoisted: int
    overhead: OpCount
    official: OfficialCost | None

    @property
    def saved(self) -> float:
        """Share of the dense multiply-accumulates that was not needed; 0 without a linear node."""
        return 1.0 - self.macs / self.macs_dense if self.macs_dense else 0.0

    def plus_dense_evaluation(self, cell: Cell) -> Cost:
        """Cost with one more dense evaluation of every sample (polish, S-4); the official figure, which has none, stays."""
        once = np.ones(len(self.macs_per_sample), dtype=np.int64)
        more = measure_cost(cell, once, {}, {}, {}, {})
        return replace(
            self,
            macs=self.macs + more.macs,
            macs_dense=self.macs_dense + more.macs_dense,
            macs_per_sample=self.macs_per_sample + more.macs_per_sample,
            by_node={name: self.by_node.get(name, 0) + more.by_node.get(name, 0) for name in self.by_node | more.by_node},
            overhead=self.overhead + more.overhead,
        )


def _node_cost(cell: Cell, node: Node) -> OpCount:
    shapes, op = cell.graph.shapes, OPS[node.op]
    return op.cost([shapes[name] for name in node.inputs], shapes[node.name], op.complete(node.attributes))


def measure_cost(
    cell: Cell,
    n_eval: np.ndarray,
    macs: Mapping[str, np.ndarray],
    sent: Mapping[str, np.ndarray],
    nonzero: Mapping[str, np.ndarray],
    dense_nonzero: Mapping[str, np.ndarray],
) -> Cost:
    """Total up the counters of a solve.

    Parameters
    ----------
    cell : Cell
    n_eval : (B,) int64
    macs : dict of gated linear node to (B,) int64
    sent, nonzero : dict of watched value to (B,) int64
    dense_nonzero : dict of linear node that a rule lists dense to (B,) int64
        Non-zeros of its inputs (C-3).

    Returns
    -------
    Cost
    """
    evaluations, batch = int(n_eval.sum()), len(n_eval)
    per_sample = np.zeros(batch, dtype=np.int64)
    by_node, dense_total, overhead, hoisted = {}, 0, OpCount(), 0
    for node in cell.graph.loop_nodes:
        cost = _node_cost(cell, node)
        overhead += OpCount(elementwise=cost.elementwise * evaluations, nonlinear=cost.nonlinear * evaluations)
        if cost.macs:
            spent = macs[node.name] if node.name in macs else cost.macs * n_eval
            per_sample += spent
            by_node[node.name] = int(spent.sum())
            dense_total += cost.macs * evaluations
    for node in cell.graph.hoisted:
        hoisted += _node_cost(cell, node).macs * batch
    for value in sent:
        overhead += OpCount(elementwise=2 * size(cell.graph.shapes[value]) * evaluations)
    multiplied = {
        node.name: int((nonzero[node.inputs[0]] if node.name in macs else dense_nonzero[node.name]).sum())
        for node in cell.graph.linear_nodes
        if sent
    }
    return Cost(
        macs=int(per_sample.sum()),
        macs_dense=dense_total,
        macs_per_sample=per_sample,
        by_node=by_node,
        by_gate={value: int(counts.sum()) for value, counts in sent.items()},
        macs_hoisted=hoisted,
        overhead=overhead,
        official=official_cost(cell.graph, evaluations, multiplied, macs) if sent else None,
    )
