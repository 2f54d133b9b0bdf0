"""What a solve returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refdeq.cost import Cost
from refdeq.delta import DeltaMemory
from refdeq.errors import SolveError
from refdeq.solvers.peer_report import DialectReport
from refdeq.stopping import relative
from refdeq.types import SEMANTICS_VERSION, Status, StopRule, Trace

__all__ = ["Solution"]


@dataclass(repr=False, eq=False)
class Solution:
    """Result of :func:`refdeq.solve`; everything is per sample and on the host.

    Attributes
    ----------
    z : (B, ...) ndarray, or dict of state name to ndarray when the cell has several states
        The returned point (S-4).
    status : (B,) int64 of :class:`refdeq.types.Status`
    n_eval : (B,) int64
        Evaluations of f.
    residual, scale : (B,) float64
        ``||f(z) - z||`` and ``||f(z)||`` at the returned point, of the delta-evaluated f under a rule (S-2b).
    residual_dense : (B,) float64 or None
        Residual of the dense f at the returned point, with ``verify=True`` (S-2b).
    cost : Cost or None
        None for plain callables.
    memory : DeltaMemory or None
        Gate and accumulator state after the last evaluation (D-9).
    trace : Trace or None
    executor : str
        Which path ran, why a fused plan was refused, and the ways that a backend chose, where it says so.
    warnings : tuple of str
        Sentences for users.
    polished : bool
        Whether `z` is one more dense evaluation of the returned point (S-4).
    backend, order : str
    solver : str
        Name of the solver.
    dialect : DialectReport or None
        What the peer would have returned, for a solve in a dialect (S-9); `residual` and `scale` stay those of S-2.
    iterate : dict of state name to (B, ...) ndarray
        What the solver iterated on, after its last step: a splitting's own variable, else the next argument. Empty after a
        fused plan or a polish, and unless the last argument is what is returned.
    solver_state
        The solver's state after its last step, in arrays of the backend; None where there is none.
    states : dict of state name to (B, ...) ndarray
        The same as `z`, always by name.
    """

    states: dict[str, np.ndarray]
    status: np.ndarray
    n_eval: np.ndarray
    residual: np.ndarray
    scale: np.ndarray
    stop: StopRule
    cost: Cost | None
    memory: DeltaMemory | None
    trace: Trace | None
    executor: str
    backend: str
    order: str
    x: Mapping[str, np.ndarray] = field(default_factory=dict)
    residual_dense: np.ndarray | None = None
    warnings: tuple[str, ...] = ()
    polished: bool = False
    solver: str = ""
    dialect: DialectReport | None = None
    iterate: Mapping[str, np.ndarray] = field(default_factory=dict)
    solver_state: Any = None
    semantics_version: str = SEMANTICS_VERSION

    @property
    def z(self) -> Any:
        """The returned point: the one array when there is one state, else a dict by state name."""
        return next(iter(self.states.values())) if len(self.states) == 1 else self.states

    @property
    def residual_rel(self) -> np.ndarray:
        """Relative residual per sample (S-2)."""
        return relative(self.residual, self.scale, self.stop.eps)

    @property
    def converged(self) -> bool:
        """Whether every sample converged; True for an empty batch."""
        return bool(np.all(self.status == Status.CONVERGED))

    def counts(self) -> dict[Status, int]:
        """Count the samples per status that occurs."""
        values, counts = np.unique(self.status, return_counts=True)
        return {Status(int(v)): int(c) for v, c in zip(values, counts, strict=True)}

    def raise_for_status(self) -> None:
        """Raise :class:`refdeq.errors.SolveError`, with this solution attached, unless every sample converged (S-5)."""
        if self.converged:
            return
        worst = next(i for i, s in enumerate(self.status) if s != Status.CONVERGED)
        sentences = "; ".join(f"{n} of {len(self.status)} {s.sentence}" for s, n in self.counts().items())
        raise SolveError(f"{sentences} (first: sample {worst}, residual {self.residual[worst]:.3g})", self)

    def __repr__(self) -> str:
        ends = ", ".join(f"{status.name} {n}" for status, n in self.counts().items())
        parts = [f"{len(self.status)} samples: {ends or 'none'}"]
        if len(self.n_eval):
            parts.append(f"evaluations {int(self.n_eval.min())} to {int(self.n_eval.max())}")
        if self.cost is not None and self.memory is not None:
            parts.append(f"{100 * self.cost.saved:.1f} % of MACs saved")
        return f"Solution({'; '.join([*parts, self.executor])})"
