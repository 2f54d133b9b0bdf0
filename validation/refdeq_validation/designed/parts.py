"""What a designed case is, and the parts all families are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refdeq.delta import DeltaMemory
from refdeq.graph import Cell
from refdeq.solution import Solution
from refdeq.solvers import Picard
from refdeq.types import DeltaRule, StopRule
from refdeq_validation.designed.graphs import linear_cell

__all__ = ["ONE", "PRESET_NAMES", "Case", "rules", "unit_step"]

PRESET_NAMES = ("paper", "deltadeq-code", "delta-network", "refdeq")
ONE = StopRule(max_eval=1)


@dataclass(frozen=True)
class Case:
    """One designed solve.

    Attributes
    ----------
    name, family : str
    cell : Cell
    x, z0 : arrays or dict of arrays
    rule : DeltaRule or None
    stop : StopRule
    solver : solver
        Any that :func:`refdeq_validation.runner.judge_solve` knows; Picard by default.
    memory : dict of value or node name to array, optional
        References and accumulators to start from; the sample has then made one evaluation already.
    then : ndarray, optional
        Injection of a second solve that reuses state and memory of the first (D-9).
    returned : {"last", "lowest"}
        S-4.
    """

    name: str
    family: str
    cell: Cell
    x: Any
    z0: Any
    rule: DeltaRule | None
    stop: StopRule
    solver: Any = field(default_factory=Picard)
    memory: dict[str, np.ndarray] | None = None
    then: np.ndarray | None = None
    returned: str = "last"

    def warm(self) -> Solution | None:
        """A solution that carries the case's memory, to start from."""
        if self.memory is None or self.rule is None:
            return None
        batch = len(self.z0)
        values = {node.inputs[0] for node in self.cell.graph.linear_nodes}
        memory = DeltaMemory(
            r={value: self.memory[value] for value in values},
            mask={value: np.zeros(self.memory[value].shape, dtype=bool) for value in values},
            a={node.name: self.memory[node.name] for node in self.cell.graph.linear_nodes},
            count=np.ones(batch, dtype=np.int64),
            digest=self.cell.digest,
            rule=self.rule,
        )
        nothing = np.zeros(batch)
        return Solution(
            states={"z": self.z0},
            status=np.ones(batch, dtype=np.int64),
            n_eval=np.ones(batch, dtype=np.int64),
            residual=nothing,
            scale=nothing,
            stop=self.stop,
            cost=None,
            memory=memory,
            trace=None,
            executor="designed",
            backend="",
            order="",
        )


def unit_step(name: str, family: str, rule: DeltaRule, u: np.ndarray, r: np.ndarray, cell: Cell | None = None) -> Case:
    """One evaluation at state `u` with reference `r` and a full-mantissa accumulator."""
    batch, n = u.shape
    rng = np.random.default_rng(7)
    cell = cell or linear_cell(n, str(u.dtype), bias=rule.bias == "folded")
    a, x = (rng.standard_normal((batch, n)).astype(u.dtype) for _ in range(2))
    return Case(name, family, cell, x, u, rule, ONE, memory={"z": r, "linear": a})


def rules(threshold: float) -> Iterator[tuple[str, DeltaRule]]:
    """Name and rule of every preset, with one threshold."""
    for preset in PRESET_NAMES:
        yield preset, DeltaRule.preset(preset, threshold=threshold)
