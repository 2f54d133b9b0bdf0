"""Recording a trace (S-10): copies of what an evaluation saw and made, never a different code path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refdeq.evaluation import Evaluator
from refdeq.graph import Graph
from refdeq.kernels import Array, Kernels
from refdeq.ops import OPS
from refdeq.types import Trace

__all__ = ["Recorder", "empty_trace", "recorded_values"]


def recorded_values(graph: Graph, gated: set[str], native: bool) -> list[str]:
    """Loop nodes whose bits are not fixed by E-1: ungated sums, and native activations (see ``Trace.values``)."""
    return [
        node.name
        for node in graph.loop_nodes
        if node.name not in gated and (not OPS[node.op].exact or (native and OPS[node.op].activation))
    ]


class Recorder:
    """Collects a trace evaluation by evaluation.

    Parameters
    ----------
    evaluator : Evaluator or None
        None for plain callables, which have no gates.
    kernels : Kernels
    native : bool
        Whether the backend's activations are native, and hence recorded.
    """

    def __init__(self, evaluator: Evaluator | None, kernels: Kernels, native: bool = False) -> None:
        self._evaluator, self._kernels, self._native = evaluator, kernels, native
        self._frames: list[dict[str, dict[str, np.ndarray]]] = []
        self._scalars: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._values: list[str] = []
        if evaluator is not None:
            self._values = recorded_values(evaluator.cell.graph, evaluator.gated, native)

    def record(
        self, z: Mapping[str, Array], f: Mapping[str, Array], residual: np.ndarray, scale: np.ndarray, active: np.ndarray
    ) -> None:
        """Copy one evaluation; entries of samples that did not take part become NaN or False."""
        evaluator = self._evaluator
        frame: dict[str, Mapping[str, Array]] = {"z": z, "f": f}
        if evaluator is not None:
            frame |= {"r": evaluator.r, "mask": evaluator.mask, "a": evaluator.a}
            frame["values"] = {name: evaluator.values[name] for name in self._values}
        self._frames.append({k: {name: self._keep(v, active) for name, v in part.items()} for k, part in frame.items()})
        blank = np.where(active, 0.0, np.nan)
        self._scalars.append((residual + blank, scale + blank, active.copy()))

    def _keep(self, array: Array, active: np.ndarray) -> np.ndarray:
        host = self._kernels.download(array)
        host[~active] = False if host.dtype == bool else np.nan
        return host

    def trace(self) -> Trace:
        """Stack everything recorded; a batch of no samples makes no evaluation."""
        evaluator = self._evaluator
        hoisted = {}
        if evaluator is not None:
            graph = evaluator.cell.graph
            hoisted = {node.name: self._kernels.download(evaluator.values[node.name]) for node in graph.hoisted}
            if not self._frames:
                return empty_trace(graph, evaluator.batch, 0, evaluator.gates, evaluator.gated, hoisted, self._native)
        if not self._frames:
            return Trace(np.zeros((0, 0), dtype=bool), {}, {}, np.zeros((0, 0)), np.zeros((0, 0)))
        parts: dict[str, Any] = {
            part: {name: np.stack([frame[part][name] for frame in self._frames]) for name in self._frames[0][part]}
            for part in self._frames[0]
        }
        return Trace(
            active=np.stack([active for _, _, active in self._scalars]),
            residual=np.stack([residual for residual, _, _ in self._scalars]),
            scale=np.stack([scale for _, scale, _ in self._scalars]),
            hoisted=hoisted,
            **parts,
        )


def empty_trace(
    graph: Graph,
    batch: int,
    length: int,
    gates: Mapping[str, object],
    gated: set[str],
    hoisted: Mapping[str, np.ndarray],
    native: bool,
) -> Trace:
    """Buffers for a fused run of at most `length` evaluations: NaN and False until written."""

    def nans(value: str) -> np.ndarray:
        return np.full((length, batch, *graph.shapes[value][1:]), np.nan, dtype=graph.dtype)

    return Trace(
        active=np.zeros((length, batch), dtype=bool),
        z={state: nans(state) for state in graph.states},
        f={state: nans(state) for state in graph.states},
        residual=np.full((length, batch), np.nan),
        scale=np.full((length, batch), np.nan),
        r={value: nans(value) for value in gates},
        mask={value: np.zeros((length, batch, *graph.shapes[value][1:]), dtype=bool) for value in gates},
        a={name: nans(name) for name in gated},
        values={name: nans(name) for name in recorded_values(graph, gated, native)},
        hoisted=dict(hoisted),
    )
