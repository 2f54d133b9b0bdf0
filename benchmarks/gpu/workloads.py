"""Cells and rules that are measured: one sample at a forced density, and the rows of a trained image network."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import refdeq as rd
from benchmarks.gpu.replay import RecordingDevice, Replay
from refdeq.evaluation import Evaluator
from refdeq.graph import Cell
from refdeq.models import load_trained
from refdeq.reference import ReferenceKernels
from refdeq.registry import Executor, FusedResult, Plan, PlanRequest, Refusal
from refdeq.types import StopRule

__all__ = ["Solve", "forced", "image", "recurrent", "small"]

GAIN = 1.5
"""Of the weights of the recurrent cell: above 1 its iterates never settle, so that what may be sent always is."""


@dataclass
class Solve:
    """A request with its inputs, on the host.

    Attributes
    ----------
    cell : Cell
    x : dict of str to array
    rule : DeltaRule or None
    stop : StopRule
    order : str
    """

    cell: Cell
    x: dict[str, np.ndarray]
    rule: rd.DeltaRule | None
    stop: StopRule
    order: str = "fast"
    _prepared: dict[str, Any] = field(default_factory=dict)  # of the cell and x alone, so that solves may share it

    @property
    def batch(self) -> int:
        """Samples."""
        return len(next(iter(self.x.values())))

    def request(self) -> PlanRequest:
        """What a backend is asked for."""
        evaluator, rule, graph = (
            self._evaluator({name: array[:1] for name, array in self.x.items()}),
            self.rule,
            self.cell.graph,
        )
        return PlanRequest(
            graph=graph,
            solver=rd.Picard(),
            gates={node.name: evaluator.gates[node.inputs[0]] for node in graph.linear_nodes if node.name in evaluator.gated},
            start="dense" if rule is None else rule.start,
            bias="separate" if rule is None else rule.bias,
            refresh=0 if rule is None else rule.refresh,
            returned="last",
            order=self.order,
        )

    def _evaluator(self, x: dict[str, np.ndarray]) -> Evaluator:
        with np.errstate(all="ignore"):
            return Evaluator(self.cell, ReferenceKernels(), x, len(next(iter(x.values()))), self.rule, None)

    def values(self) -> dict[str, np.ndarray]:
        """What depends on x only, and x."""
        if "values" not in self._prepared:
            evaluator, graph = self._evaluator(self.x), self.cell.graph
            names = [*(node.name for node in graph.hoisted), *graph.injections]
            self._prepared["values"] = {name: np.asarray(evaluator.values[name]) for name in names}
        found: dict[str, np.ndarray] = self._prepared["values"]
        return found

    def start(self) -> dict[str, np.ndarray]:
        """Zeros."""
        graph = self.cell.graph
        return {name: np.zeros((self.batch, *shape), dtype=graph.dtype) for name, shape in graph.states.items()}

    def run(self, plan: Plan) -> FusedResult:
        """Solve by a plan."""
        return self.bound(plan).run(self.start(), self.values(), None, self.stop, None)

    def bound(self, plan: Plan) -> Executor:
        """A plan with the parameters of the cell."""
        return plan.bind(self.cell.parameters, threads=1)

    def replay(
        self, offer: Any, device: Any, weights: dict[str, Any] | None = None, **changes: Any
    ) -> tuple[Replay, FusedResult] | str:
        """Run the plan that `offer` has for this solve on a recording device; the reason where there is none.

        Parameters
        ----------
        offer : callable of (request, device) to Plan or Refusal
        weights : dict, optional
            Executors by language of the device, each with the weights of this cell where they are: turning and copying those
            of the largest cell takes seconds. One that is missing is added.
        changes
            Fields of the plan to set to other values.
        """
        import copy
        from dataclasses import replace

        recorder = RecordingDevice(device)
        plan = offer(self.request(), recorder)
        if isinstance(plan, Refusal):
            return plan.reason
        plan = replace(plan, **changes) if changes else plan
        if weights is None:
            executor: Any = self.bound(plan)
        else:
            language = device.language
            if language not in weights:
                weights[language] = self.bound(plan)
            executor = copy.copy(weights[language])
            executor._plan = plan
        recorder.events.clear()
        recorder.uploaded.clear()
        with recorder.products():
            result = executor.run(self.start(), self.values(), None, self.stop, None)
        return Replay(recorder), result


def recurrent(n: int, seed: int = 0) -> Cell:
    """``z' = tanh(W z + (U x + b))`` in float32, whose iterates wander for ever."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((n, n), dtype=np.float32) * np.float32(GAIN / np.sqrt(n))
    return rd.models.rnn(weight, rng.standard_normal((n, 1), dtype=np.float32), np.zeros(n, dtype=np.float32))


def forced(cell: Cell, density: float, budget: int, seed: int = 1) -> Solve:
    """One sample, a fixed number of evaluations, and a given share of the columns sent at each.

    The threshold of a chosen column is 0 (every difference is sent), of the others infinite (none is).
    """
    [shape] = cell.graph.states.values()
    n = shape[0]
    rng = np.random.default_rng(seed)
    threshold: Any = np.full(n, np.inf, dtype=np.float32)  # one number for each column
    threshold[rng.permutation(n)[: round(density * n)]] = 0.0
    rule = rd.DeltaRule(threshold=threshold, compare="gt", memory="sent", start="zero")
    x = {name: rng.standard_normal((1, *size), dtype=np.float32) for name, size in cell.graph.injections.items()}
    return Solve(cell, x, rule, StopRule(atol=0.0, max_eval=budget))


def image(rows: int, budget: int, threshold: float | None, memory: str, name: str = "image_siren") -> Solve:
    """The trained image cell on a finer grid of as many rows as asked for, protocol (P) of C-4."""
    model = _trained(name)
    side = int(np.ceil(np.sqrt(rows)))
    low, high = float(model.x.min()), float(model.x.max())
    axis = np.linspace(low, high, side, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)[:rows]
    [injection] = model.cell.graph.injections
    stop = StopRule(atol=0.0, max_eval=budget)
    prepared = _PREPARED.setdefault((name, rows), {})
    return Solve(model.cell, {injection: np.ascontiguousarray(grid)}, _rule(threshold, memory), stop, _prepared=prepared)


_trained = functools.cache(load_trained)
_PREPARED: dict[tuple[str, int], dict[str, Any]] = {}
"""What depends on the grid alone: values of 65,536 rows take the host many seconds."""


def small(rows: int, budget: int, threshold: float | None, memory: str) -> Solve:
    """A cell of 32 numbers in the place of the image, for devices that are simulated."""
    cell = recurrent(32)
    x = np.random.default_rng(5).standard_normal((rows, 1), dtype=np.float32)
    return Solve(cell, {"x": x}, _rule(threshold, memory), StopRule(atol=0.0, max_eval=budget))


def _rule(threshold: float | None, memory: str) -> rd.DeltaRule | None:
    if threshold is None:
        return None
    choices: dict[str, Any] = {"memory": memory} | ({"feedback_format": "bfloat16"} if memory == "feedback" else {})
    return rd.DeltaRule(threshold=threshold, compare="gt", **choices)
