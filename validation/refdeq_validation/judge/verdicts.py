"""What a judgement says: failures with their bits, and counts that show how much was looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Failure", "Findings"]

KEPT = 20
"""Failures kept per judgement; the rest are counted."""


@dataclass(frozen=True)
class Failure:
    """One place where a run is not a valid execution.

    Attributes
    ----------
    kind : str
        ``mask``, ``memory``, ``value``, ``state``, ``stop_rule``, ``count`` or ``structure``.
    evaluation : int
        Per-chunk evaluation index; -1 for what precedes or follows the loop.
    tensor : str
    index : tuple of int
        First failing element.
    expected, actual : str
        As hexadecimal floats where they are numbers.
    error, bound : float
        NaN where the comparison is of bits.
    failing : int
        Elements of this tensor that fail.
    """

    kind: str
    evaluation: int
    tensor: str
    index: tuple[int, ...]
    expected: str
    actual: str
    error: float = float("nan")
    bound: float = float("nan")
    failing: int = 1

    def as_data(self) -> dict[str, Any]:
        """JSON-able fields; NaN becomes null."""
        fields = {**vars(self), "index": list(self.index)}
        return {name: None if isinstance(v, float) and not np.isfinite(v) else v for name, v in fields.items()}

    def sentence(self) -> str:
        """One line for a person."""
        where = f"{self.tensor}{list(self.index)}" if self.index else self.tensor
        text = f"{self.kind}: {where}, evaluation {self.evaluation}: expected {self.expected}, got {self.actual}"
        if not np.isnan(self.bound):
            text += f" (error {self.error:.3g}, bound {self.bound:.3g})"
        return text + (f"; {self.failing} elements fail" if self.failing > 1 else "")


def show(value: Any) -> str:
    """Exact text of one number."""
    if isinstance(value, float | np.floating):
        return f"{float(value).hex()} ({float(value):.9g})"
    return str(value)


@dataclass
class Findings:
    """What was checked, and what failed.

    Attributes
    ----------
    decisions : int
        Mask bits compared.
    values : int
        Numbers compared, bitwise or against a bound.
    worst : float
        Largest error/bound over everything compared against a bound.
    failures : list of Failure
        The first ``KEPT``.
    failed : int
        All of them.
    ambiguous, flipped : int
        Decisions that the margin rule leaves open, and those of them that fell the other way.
    notes : list of str
        What is reported and never decides: distances to golden, warnings.
    """

    decisions: int = 0
    values: int = 0
    worst: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    failed: int = 0
    ambiguous: int = 0
    flipped: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """True when something was compared and nothing failed: an empty judgement proves nothing."""
        return self.failed == 0 and self.values > 0

    def add(self, failure: Failure) -> None:
        """Record a failure."""
        self.failed += 1
        if len(self.failures) < KEPT:
            self.failures.append(failure)

    def merge(self, other: Findings) -> None:
        """Take over what another judgement found."""
        self.decisions += other.decisions
        self.values += other.values
        self.worst = max(self.worst, other.worst)
        self.ambiguous += other.ambiguous
        self.flipped += other.flipped
        self.notes += other.notes
        self.failed += other.failed
        self.failures += other.failures[: KEPT - len(self.failures)]
