"""What a judgement says: failures with their bits, and counts that show how much was looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refdeq.types import Status

__all__ = ["EDGES", "KINDS", "PLACES", "Failure", "Findings", "binned"]

Array = np.ndarray[Any, Any]

KEPT = 20
"""Failures kept per judgement; the rest are counted."""

PLACES = 4096
"""Failing elements of one tensor whose places are kept."""

KINDS = (
    "value",
    "mask",
    "memory",
    "state",
    "invariant",
    "certificate",
    "stop_rule",
    "gradient",
    "nondeterminism",
    "alias",
    "guard",
    "input_mutated",
    "exception",
    "no_exception",
    "timeout",
    "declaration",
    "count",
    "structure",
    "missing",
)
"""What can be wrong: ``structure`` is a result that is absent or of another form, ``missing`` a call without an answer."""

EDGES = tuple(range(-40, 25))
"""Binary logarithms that separate the bins of histograms: bin 0 holds what is below ``2**EDGES[0]``, zeros included, bin i what
is in ``[2**EDGES[i - 1], 2**EDGES[i])``, and the last bin everything from ``2**EDGES[-1]`` on, infinities and NaN included."""


def binned(values: Array) -> Array:
    """Counts of non-negative numbers in the bins of ``EDGES``, as an int64 array of ``len(EDGES) + 1``.

    >>> counts = binned(np.array([0.0, 0.5, 0.75, np.inf]))
    >>> int(counts[0]), int(counts[EDGES.index(-1) + 1]), int(counts[-1])
    (1, 2, 1)
    """
    mantissa, exponent = np.frexp(np.ravel(values))
    # 2^(e-1) <= value < 2^e: frexp's exponent is one above the binary logarithm's floor
    at = np.clip(exponent.astype(np.int64) - EDGES[0], 0, len(EDGES))
    at = np.where(mantissa == 0, 0, np.where(np.isfinite(mantissa), at, len(EDGES)))
    return np.bincount(at, minlength=len(EDGES) + 1).astype(np.int64)


@dataclass(frozen=True)
class Failure:
    """One place where a run is not a valid execution.

    Attributes
    ----------
    kind : str
        One of ``KINDS``.
    evaluation : int
        Index of the call of a case, or per-chunk evaluation index of a whole solve; -1 for what precedes or follows the loop.
    tensor : str
    index : tuple of int
        First failing element.
    expected, actual : str
        As hexadecimal floats where they are numbers.
    error, bound : float
        NaN where the comparison is of bits.
    failing : int
        Elements of this tensor that fail.
    gauge : float
        ``|a| + P`` of the bound (N-7); NaN where there is none.
    k : int
        Terms of the sum; -1 where there is none.
    terms : mapping of str to float
        The summands of the bound, by name.
    margin : float
        Of a decision: ``||delta| - tau|``; NaN otherwise.
    places : tuple of int
        Flat indices of all failing elements, where there are at most ``PLACES``: reports look for a pattern.
    shape : tuple of int
        Of the tensor.
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
    gauge: float = float("nan")
    k: int = -1
    terms: Mapping[str, float] = field(default_factory=dict, hash=False)
    margin: float = float("nan")
    places: tuple[int, ...] = field(default=(), repr=False)
    shape: tuple[int, ...] = ()

    @property
    def ratio(self) -> float:
        """Error over bound; NaN where the comparison is of bits, infinite where the bound is zero.

        >>> Failure("value", 0, "a", (0,), "1", "2", error=1.0, bound=0.25).ratio
        4.0
        """
        if self.bound == 0.0:
            return float("inf") if self.error != 0.0 else 0.0
        return self.error / self.bound

    def as_data(self) -> dict[str, Any]:
        """JSON-able fields, without all the places; what is not finite becomes null."""
        fields = {**vars(self), "index": list(self.index), "terms": {name: _plain(v) for name, v in self.terms.items()}}
        return {name: _plain(value) for name, value in fields.items() if name not in ("places", "shape")}

    def sentence(self) -> str:
        """One line for a person."""
        where = f"{self.tensor}{list(self.index)}" if self.index else self.tensor
        when = f", evaluation {self.evaluation}" if self.evaluation >= 0 else ""
        text = f"{self.kind}: {where}{when}: expected {self.expected}, got {self.actual}"
        if not np.isnan(self.bound):
            text += f" (error {self.error:.3g}, bound {self.bound:.3g})"
        if not np.isnan(self.margin):
            text += f" (decision margin {self.margin:.3g})"
        return text + (f"; {self.failing} elements fail" if self.failing > 1 else "")


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def show(value: Any, tensor: str = "") -> str:
    """Exact text of one number; by its name where it is a status.

    >>> show(np.int64(4), "status"), show(np.int64(9), "status"), show(np.float32(-0.5))
    ('DIVERGED', '9 (no status)', '-0x1.0000000000000p-1 (-0.5)')
    """
    if tensor == "status" and np.asarray(value).dtype.kind in "iu":
        number = int(value)
        return Status(number).name if number in set(Status) else f"{number} (no status)"
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
    unclaimed : int
        Numbers of which the bound says nothing (``bound_vacuous``): neither passed nor failed.
    ratio_histogram : (len(EDGES) + 1,) int64
        Error over bound of everything compared against a bound, in the bins of ``EDGES``.
    margin_histogram : (len(EDGES) + 1,) int64
        ``||delta| - tau| / max(|delta|, tau)`` of every decision; ties are in bin 0.
    """

    decisions: int = 0
    values: int = 0
    worst: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    failed: int = 0
    ambiguous: int = 0
    flipped: int = 0
    notes: list[str] = field(default_factory=list)
    unclaimed: int = 0
    ratio_histogram: Array = field(default_factory=lambda: np.zeros(len(EDGES) + 1, np.int64), compare=False)
    margin_histogram: Array = field(default_factory=lambda: np.zeros(len(EDGES) + 1, np.int64), compare=False)

    @property
    def passed(self) -> bool:
        """True when something was compared, nothing failed, and nothing was left out: an empty judgement proves nothing."""
        return self.failed == 0 and self.values > 0 and self.unclaimed == 0

    @property
    def vacuous(self) -> bool:
        """True when nothing failed, but what was declared is too weak for a verdict: such a case proves nothing either way."""
        return self.failed == 0 and self.unclaimed > 0

    def ratios(self, ratio: Array) -> None:
        """Record errors over bounds."""
        if ratio.size:
            self.worst = max(self.worst, float(ratio.max()))
            self.ratio_histogram += binned(ratio)

    def margins(self, relative: Array) -> None:
        """Record decision margins, relative to the larger of ``|delta|`` and tau."""
        self.margin_histogram += binned(relative)

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
        self.unclaimed += other.unclaimed
        self.ratio_histogram = self.ratio_histogram + other.ratio_histogram
        self.margin_histogram = self.margin_histogram + other.margin_histogram
        self.failed += other.failed
        self.failures += other.failures[: KEPT - len(self.failures)]
