"""Delta memory, and which gates a rule puts where (D-9, D-11). The gate itself is ``Kernels.gate``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError, MemoryMismatchError, ShapeError
from refdeq.graph import Cell, Graph, Node
from refdeq.kernels import GateSpec
from refdeq.types import DeltaRule, GateOverride

__all__ = ["DeltaMemory", "check_memory", "gated_nodes", "refresh_interval", "resolve_gates", "round_threshold"]


@dataclass(eq=False)
class DeltaMemory:
    """Gate and accumulator state after a solve, on the host (D-9): pass the solution as ``warm`` to go on from it.

    Attributes
    ----------
    r, mask : dict of watched value name to (B, ...) arrays
        Reference of each gate, and what its last evaluation sent.
    a : dict of linear node name to (B, ...) arrays
        Accumulators.
    count : (B,) int64
        Evaluations since the reset, per sample.
    digest : str
        Digest of the cell the memory belongs to.
    rule : DeltaRule or None
        The rule that made it.
    """

    r: dict[str, np.ndarray] = field(default_factory=dict)
    mask: dict[str, np.ndarray] = field(default_factory=dict)
    a: dict[str, np.ndarray] = field(default_factory=dict)
    count: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    digest: str = ""
    rule: DeltaRule | None = None


def round_threshold(threshold: Any, dtype: np.dtype[Any]) -> tuple[np.ndarray, list[str]]:
    """Threshold rounded once to the dtype of the watched value, and a warning sentence when it became 0 or Inf.

    >>> round_threshold(1e-50, np.dtype("float32"))[1]
    ['threshold 1e-50 rounds to 0 in float32']
    """
    wide = np.asarray(threshold, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore"):
        rounded = wide.astype(dtype)
    lost = (rounded == 0) & (wide > 0) | np.isinf(rounded) & np.isfinite(wide)
    sentences = [f"threshold {w:g} rounds to {r:g} in {dtype}" for w, r in zip(wide[lost], rounded[lost], strict=True)]
    return rounded, sentences


def refresh_interval(rule: DeltaRule | None) -> int:
    """Evaluations between two refreshes (D-12); 0 is never, and so is more than the counts of evaluations (int64) hold.

    >>> refresh_interval(DeltaRule(threshold=0.1, refresh=3)), refresh_interval(DeltaRule(threshold=0.1, refresh=2**63))
    (3, 0)
    """
    return 0 if rule is None or rule.refresh > np.iinfo(np.int64).max else int(rule.refresh)


def gated_nodes(graph: Graph, rule: DeltaRule | None) -> tuple[Node, ...]:
    """Linear nodes that a rule gates: all that depend on z, but those it lists as dense (D-11)."""
    if rule is None:
        return ()
    names = {node.name for node in graph.linear_nodes}
    unknown = sorted(set(rule.dense) - names)
    if unknown:
        raise ArgumentError("dense", expected=f"names of linear nodes ({', '.join(sorted(names))})", got=unknown[0])
    return tuple(node for node in graph.linear_nodes if node.name not in rule.dense)


def resolve_gates(graph: Graph, rule: DeltaRule | None) -> tuple[dict[str, GateSpec], list[str]]:
    """One gate per watched value, shared by every linear node that reads it (D-10, D-11), and warning sentences."""
    nodes = gated_nodes(graph, rule)
    if rule is None:
        return {}, []
    readers: dict[str, Node] = {}
    for node in nodes:
        if rule.bias == "folded" and (node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)) != (1.0, 1.0):
            raise ArgumentError("bias", hint=f"'folded' (D-6) needs alpha = beta = 1 at node {node.name!r}; list it in dense")
        readers.setdefault(node.inputs[0], node)
    unknown = sorted(set(rule.gates) - set(readers))
    if unknown:
        raise ArgumentError("gates", expected=f"names of watched values ({', '.join(readers)})", got=unknown[0])
    gates, sentences = {}, []
    for value, node in readers.items():
        gates[value], more = _resolve(graph, rule, value, node, rule.gates.get(value, GateOverride()))
        sentences += more
    return gates, sentences


def _resolve(graph: Graph, rule: DeltaRule, value: str, node: Node, override: GateOverride) -> tuple[GateSpec, list[str]]:
    shape = graph.shapes[value][1:]
    granularity = rule.granularity if override.granularity is None else override.granularity
    tile = rule.tile if override.granularity is None else override.tile
    if node.op == "Gemm" and granularity in ("pixel", "tile"):
        raise ArgumentError("granularity", expected="element, sample or channel for a Gemm input", got=repr(granularity))
    if rule.delta_dtype == graph.dtype:
        raise ArgumentError("delta_dtype", expected=f"a dtype narrower than {graph.dtype}", got=rule.delta_dtype)
    asked = rule.threshold if override.threshold is None else override.threshold
    threshold, sentences = round_threshold(asked, np.dtype(graph.dtype))
    if threshold.ndim == 1:
        if threshold.shape != (shape[0],):
            raise ShapeError(f"threshold of gate {value!r}", expected=f"scalar or ({shape[0]},)", got=threshold.shape)
        threshold = threshold.reshape(-1, *(1,) * (len(shape) - 1))
    spec = GateSpec(
        value=value,
        threshold=threshold,
        compare=rule.compare,
        memory=rule.memory,
        granularity=granularity,
        tile=tile,
        feedback_format=rule.feedback_format,
        delta_dtype=rule.delta_dtype,
    )
    return spec, sentences


def check_memory(memory: DeltaMemory, cell: Cell, rule: DeltaRule, batch: int) -> None:
    """Refuse memory of another cell, batch or rule (D-9); a changed threshold is allowed."""
    if memory.rule is None:
        raise MemoryMismatchError("warm", hint="that solve had no delta rule; use reuse='state'")
    if memory.digest != cell.digest:
        raise MemoryMismatchError("warm", hint="its delta memory belongs to other weights or dtype; use reuse='state'")
    if len(memory.count) != batch:
        raise MemoryMismatchError("warm", expected=f"delta memory of batch {batch}", got=f"batch {len(memory.count)}")
    if _without_thresholds(memory.rule) != _without_thresholds(rule):
        raise MemoryMismatchError("warm", hint="its delta memory was made by another rule; use reuse='state'")
    expected = {value: (batch, *cell.graph.shapes[value][1:]) for value in resolve_gates(cell.graph, rule)[0]}
    got = {value: array.shape for value, array in memory.r.items()}
    if got != expected:
        raise MemoryMismatchError("warm", expected=f"references {expected}", got=got)


def _without_thresholds(rule: DeltaRule) -> tuple[Any, ...]:
    fields: Mapping[str, Any] = {k: v for k, v in vars(rule).items() if k not in ("threshold", "gates")}
    grains = {value: (gate.granularity, gate.tile) for value, gate in rule.gates.items() if gate.granularity is not None}
    return tuple(sorted((k, repr(v)) for k, v in fields.items())), tuple(sorted(grains.items()))
