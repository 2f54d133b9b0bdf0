"""One evaluation of a cell on one backend: hoisted nodes once, then node by node, linear nodes through their gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refdeq.delta import DeltaMemory, gated_nodes, refresh_interval, resolve_gates
from refdeq.errors import UnsupportedError
from refdeq.graph import Cell, Node
from refdeq.kernels import Array, Kernels
from refdeq.ops import OPS
from refdeq.ops.conv import conv_fan_out
from refdeq.types import DeltaRule

__all__ = ["Evaluator"]


class Evaluator:
    """Evaluates ``f`` for a batch and advances the gates (E-1, D-5 to D-8, D-12).

    Parameters
    ----------
    cell : Cell
    kernels : Kernels
    x : dict of injection name to host array
        Already validated.
    batch : int
    rule : DeltaRule or None
        None evaluates densely.
    memory : DeltaMemory or None
        To go on from (D-9); None starts from a reset.

    Attributes
    ----------
    macs : dict of linear node to (B,) int64
        Multiply-accumulates spent by gated nodes so far (C-1).
    sent, nonzero : dict of gate to (B,) int64
        Elements sent so far, and those of them that were not zero (C-3).
    dense_nonzero : dict of linear node that the rule lists dense to (B,) int64
        Elements of its inputs so far that were not zero (C-3).
    """

    def __init__(
        self,
        cell: Cell,
        kernels: Kernels,
        x: Mapping[str, np.ndarray],
        batch: int,
        rule: DeltaRule | None = None,
        memory: DeltaMemory | None = None,
    ) -> None:
        self.cell, self.kernels, self.rule, self.batch = cell, kernels, rule, batch
        self.gates, self.warnings = resolve_gates(cell.graph, rule)
        self.gated = {node.name for node in gated_nodes(cell.graph, rule)}
        self._refuse_missing_operators()
        self.values: dict[str, Array] = {name: kernels.constant(p) for name, p in cell.parameters.items()}
        self.values |= {name: kernels.upload(array) for name, array in x.items()}
        self._attributes = {node.name: OPS[node.op].complete(node.attributes) for node in cell.graph.nodes}
        everyone = np.ones(batch, dtype=bool)
        for node in cell.graph.nodes:
            self.values[node.name] = self._empty(node.name)
        for node in cell.graph.hoisted:
            self._run_operator(node, everyone)
        # an output that is itself a state needs its own array: the solver overwrites the states one after the other
        self._delayed = {s: self._empty(value) for s, value in cell.graph.outputs.items() if value in cell.graph.states}
        self._allocate_memory(memory)

    def _refuse_missing_operators(self) -> None:
        for node in self.cell.graph.nodes:
            if node.op not in self.kernels.ops:
                raise UnsupportedError(f"node {node.name!r}: this backend has no operator {node.op}")

    def _empty(self, value: str, dtype: str | None = None) -> Array:
        return self.kernels.empty((self.batch, *self.cell.graph.shapes[value][1:]), dtype or self.cell.graph.dtype)

    def _allocate_memory(self, memory: DeltaMemory | None) -> None:
        """Reset (D-5) or go on from `memory` (D-9)."""
        graph, kernels, everyone = self.cell.graph, self.kernels, np.ones(self.batch, dtype=bool)
        self.count = np.zeros(self.batch, dtype=np.int64) if memory is None else memory.count.copy()
        self.macs = {name: np.zeros(self.batch, dtype=np.int64) for name in self.gated}
        self.sent = {value: np.zeros(self.batch, dtype=np.int64) for value in self.gates}
        self.nonzero = {value: np.zeros(self.batch, dtype=np.int64) for value in self.gates}
        ungated = [node.name for node in graph.linear_nodes if self.rule is not None and node.name not in self.gated]
        self.dense_nonzero = {name: np.zeros(self.batch, dtype=np.int64) for name in ungated}
        self.r = {value: self._empty(value) for value in self.gates}
        self.d = {value: self._empty(value) for value in self.gates}
        self.mask = {value: self._empty(value, "bool") for value in self.gates}
        self.a = {name: self._empty(name) for name in self.gated}
        self._sum = {name: self._empty(name) for name in self.gated if self._folded(name)}
        self._fan_out = {node.name: _fan_out(self.cell, node) for node in graph.linear_nodes}
        if memory is not None:
            self.r = {value: kernels.upload(memory.r[value]) for value in self.gates}
            self.mask = {value: kernels.upload(memory.mask[value]) for value in self.gates}
            self.a = {name: kernels.upload(memory.a[name]) for name in self.gated}
            return
        for value in self.gates:
            kernels.fill(0.0, everyone, self.r[value])
            kernels.fill(0.0, everyone, self.mask[value])
        for node in graph.linear_nodes:
            if node.name in self.gated:
                kernels.fill(0.0, everyone, self.a[node.name])
                if self._folded(node.name):
                    kernels.add_bias(self.a[node.name], self._bias(node), 1.0, 1.0, everyone, self.a[node.name])

    def _folded(self, name: str) -> bool:
        """Whether a node's accumulator carries its bias (D-6): folded rule, and there is a bias."""
        node = next(node for node in self.cell.graph.linear_nodes if node.name == name)
        return self.rule is not None and self.rule.bias == "folded" and len(node.inputs) == 3

    def evaluate(self, z: Mapping[str, Array], active: np.ndarray) -> dict[str, Array]:
        """Return ``f(z)`` per state for the active samples, and advance their gates and counts (D-8).

        Parameters
        ----------
        z : dict of state name to backend array
        active : (B,) bool

        Returns
        -------
        dict of state name to backend array; the arrays are reused by the next call
        """
        self.values.update(z)
        started: set[str] = set()
        for node in self.cell.graph.loop_nodes:
            if node.name in self.gated:
                if node.inputs[0] not in started:
                    self._advance_gate(node.inputs[0], active)
                    started.add(node.inputs[0])
                self._run_gated(node, active)
            else:
                if node.name in self.dense_nonzero:
                    self.kernels.count_nonzero(self.values[node.inputs[0]], active, self.dense_nonzero[node.name])
                self._run_operator(node, active)
        self.count[active] += 1
        outputs = self.cell.graph.outputs
        for state, copy in self._delayed.items():
            self.kernels.copy_active(self.values[outputs[state]], active, copy)
        return {state: self._delayed.get(state, self.values[value]) for state, value in outputs.items()}

    def _starting(self, active: np.ndarray) -> np.ndarray:
        """Samples whose evaluation is the dense start of D-5."""
        if self.rule is None or self.rule.start == "zero":
            return np.zeros_like(active)
        fresh: np.ndarray = active & (self.count == 0)
        return fresh

    def _refreshing(self, active: np.ndarray) -> np.ndarray:
        """Samples whose accumulators are recomputed densely after the gate (D-12)."""
        every = refresh_interval(self.rule)
        if every == 0:
            return np.zeros_like(active)
        due: np.ndarray = active & (self.count > 0) & (self.count % every == 0)
        return due

    def _advance_gate(self, value: str, active: np.ndarray) -> None:
        """Start (D-5) or gate (D-1 to D-4) one watched value."""
        kernels, u = self.kernels, self.values[value]
        start = self._starting(active)
        kernels.copy_active(u, start, self.r[value])
        kernels.copy_active(u, start, self.d[value])
        kernels.fill(1.0, start, self.mask[value])
        kernels.gate(u, self.gates[value], active & ~start, self.r[value], self.mask[value], self.d[value])
        kernels.count_sent(self.mask[value], np.int64(1), active, self.sent[value])
        kernels.count_nonzero(self.d[value], active, self.nonzero[value])

    def _run_gated(self, node: Node, active: np.ndarray) -> None:
        """Accumulate one gated linear node and form its output (D-6, D-7, D-12)."""
        kernels, name, value = self.kernels, node.name, node.inputs[0]
        attributes = self._attributes[name]
        start, refresh = self._starting(active), self._refreshing(active)
        dense, sparse = start | refresh, active & ~start & ~refresh
        a, bias = self.a[name], self._bias(node)
        kernels.fill(0.0, dense, a)
        self._accumulate(node, self.r[value], None, dense, a)
        if self._folded(name):
            kernels.add_bias(a, bias, 1.0, 1.0, dense, a)
            kernels.fill(0.0, sparse, self._sum[name])
            self._accumulate(node, self.d[value], self.mask[value], sparse, self._sum[name])
            kernels.fold_bias(self._sum[name], bias, sparse, a)
            kernels.copy_active(a, active, self.values[name])
        else:
            self._accumulate(node, self.d[value], self.mask[value], sparse, a)
            alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
            kernels.add_bias(a, bias, alpha, beta, active, self.values[name])
        fan_out = self._fan_out[name]
        kernels.count_sent(self.mask[value], fan_out, sparse, self.macs[name])
        self.macs[name][dense] += dense_macs(self.cell, node)

    def _accumulate(self, node: Node, d: Array, mask: Array | None, active: np.ndarray, a: Array) -> None:
        weight, attributes = self.values[node.inputs[1]], self._attributes[node.name]
        if node.op == "Gemm":
            self.kernels.accumulate_gemm(d, mask, weight, attributes, active, a)
        else:
            self.kernels.accumulate_conv(d, mask, weight, attributes, active, a)

    def _bias(self, node: Node) -> Array | None:
        """Bias of a linear node, shaped to broadcast against its output."""
        if len(node.inputs) < 3:
            return None
        bias = self.values[node.inputs[2]]
        return bias.reshape(-1, *(1,) * (len(self.cell.graph.shapes[node.name]) - 2)) if node.op == "Conv" else bias

    def _run_operator(self, node: Node, active: np.ndarray) -> None:
        """Evaluate a node that no gate concerns."""
        inputs = [self.values[name] for name in node.inputs]
        batched = [name not in self.cell.parameters for name in node.inputs]
        run = self.kernels.ops[node.op]
        run(inputs, batched, self._attributes[node.name], active, self.values[node.name])

    def memory(self) -> DeltaMemory:
        """Host copy of the gate and accumulator state (D-9)."""
        down = self.kernels.download
        return DeltaMemory(
            r={value: down(array) for value, array in self.r.items()},
            mask={value: down(array) for value, array in self.mask.items()},
            a={name: down(array) for name, array in self.a.items()},
            count=self.count.copy(),
            digest=self.cell.digest,
            rule=self.rule,
        )


def dense_macs(cell: Cell, node: Node) -> int:
    """Multiply-accumulates of one dense evaluation of a node for one sample (C-1)."""
    shapes = cell.graph.shapes
    op = OPS[node.op]
    return op.cost([shapes[name] for name in node.inputs], shapes[node.name], op.complete(node.attributes)).macs


def _fan_out(cell: Cell, node: Node) -> Any:
    """Multiply-accumulates per sent element, broadcastable against a sample (C-1)."""
    shapes = cell.graph.shapes
    data, weight, out = shapes[node.inputs[0]], shapes[node.inputs[1]], shapes[node.name]
    if node.op == "Gemm":
        return np.int64(out[1])
    return conv_fan_out(data, out, weight, OPS[node.op].complete(node.attributes))
