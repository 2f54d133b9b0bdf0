"""Plain values shared by every part of the project, the judge included: statuses, rules, traces, counts.

Nothing here computes anything of the delta rule or of a solver; these are the words the parts talk to each other in.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

import numpy as np

from refdeq.checks import check_choice, check_integer, check_number
from refdeq.errors import ArgumentError

__all__ = ["PRESETS", "SEMANTICS_VERSION", "DeltaRule", "GateOverride", "OpCount", "Status", "StopRule", "Trace"]

SEMANTICS_VERSION = "1"
"""Version of ``docs/semantics.md`` that this code implements; carried by every solution, trace and report."""


class Status(IntEnum):
    """How one sample ended (S-1, S-3, S-5). Everything but ``RUNNING`` is final."""

    RUNNING = 0
    CONVERGED = 1
    MAX_EVAL = 2
    NONFINITE = 3
    DIVERGED = 4
    STAGNATED = 5
    BREAKDOWN = 6
    CANCELLED = 7

    @property
    def sentence(self) -> str:
        """One sentence for users (S-5).

        >>> Status.CONVERGED.sentence
        'converged: a requested tolerance holds'
        """
        return _SENTENCES[self]


_SENTENCES = {
    Status.RUNNING: "still running",
    Status.CONVERGED: "converged: a requested tolerance holds",
    Status.MAX_EVAL: "evaluation budget used up before a tolerance held: raise max_eval, loosen the tolerance or damp",
    Status.NONFINITE: "the residual or f(z) became NaN or infinite: the cell is not contractive here, or its input is bad",
    Status.DIVERGED: "the residual grew beyond the divergence factor: damp the solver or check the cell",
    Status.STAGNATED: "the residual stopped improving: the tolerance may be below what this dtype or threshold allows",
    Status.BREAKDOWN: "the solver met a zero denominator: restart it or use another solver",
    Status.CANCELLED: "cancelled by the caller's hook",
}


@dataclass(frozen=True, kw_only=True)
class StopRule:
    """When a sample stops (S-2, S-3).

    Parameters
    ----------
    rtol : float, optional
        Converged when ``||f(z) - z|| / (||f(z)|| + eps) <= rtol``.
    atol : float, optional
        Converged when ``||f(z) - z|| <= atol``. Any given tolerance suffices; with none a sample runs its whole budget.
    max_eval : int
        Budget of evaluations of f, counted identically for every solver; at least 1.
    norm : {"l2", "linf"}
    eps : float
        The guard in the relative residual, > 0.
    divergence : float, optional
        DIVERGED when the residual exceeds `divergence` times that of the sample's first evaluation. Off by default.
    stagnation : (int, float), optional
        ``(w, q)``: STAGNATED when the lowest residual of the last `w` evaluations is not below `q` times the lowest before
        them. Off by default.

    Examples
    --------
    >>> StopRule(rtol=1e-3, max_eval=60).max_eval
    60
    >>> StopRule(max_eval=0)
    Traceback (most recent call last):
    ...
    refdeq.errors.ArgumentError: max_eval: expected an integer >= 1, got 0
    """

    rtol: float | None = None
    atol: float | None = None
    max_eval: int = 100
    norm: Literal["l2", "linf"] = "l2"
    eps: float = 1e-9
    divergence: float | None = None
    stagnation: tuple[int, float] | None = None

    def __post_init__(self) -> None:
        for name in ("rtol", "atol"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), "None or a number >= 0", low=0.0)
        check_integer("max_eval", self.max_eval, low=1)
        check_choice("norm", self.norm, ("l2", "linf"))
        check_number("eps", self.eps, "a finite number > 0", low=0.0, open_low=True, high=sys.float_info.max)
        if self.divergence is not None:
            check_number("divergence", self.divergence, "None or a number > 0", low=0.0, open_low=True)
        if self.stagnation is not None:
            if not isinstance(self.stagnation, tuple) or len(self.stagnation) != 2:
                raise ArgumentError("stagnation", expected="(window, ratio)", got=self.stagnation)
            check_integer("stagnation window", self.stagnation[0], low=1)
            check_number("stagnation ratio", self.stagnation[1], "a number > 0", low=0.0, open_low=True)


def _checked_threshold(threshold: Any) -> float | tuple[float, ...]:
    """Threshold as a float or a tuple of floats (N-3)."""
    try:
        values = np.asarray(threshold)
    except ValueError:  # sequences of unequal length
        values = np.empty(0)
    if values.dtype.kind not in "iuf" or values.ndim > 1 or values.size == 0:
        raise ArgumentError("threshold", expected="a number or one number per channel", got=repr(threshold))
    if not bool(np.all(values >= 0.0)):
        raise ArgumentError("threshold", expected="a number >= 0 (not NaN)", got=threshold)
    return float(values) if values.ndim == 0 else tuple(float(value) for value in values)


def _checked_tile(granularity: str, tile: Any) -> tuple[int, int, int] | None:
    check_choice("granularity", granularity, ("element", "sample", "channel", "pixel", "tile"))
    if (granularity == "tile") != (tile is not None):
        raise ArgumentError("tile", expected="(height, width, channels) exactly when granularity is 'tile'", got=tile)
    if tile is None:
        return None
    if not isinstance(tile, tuple | list) or len(tile) != 3:
        raise ArgumentError("tile", expected="three integers >= 1", got=tile)
    for length in tile:
        check_integer("tile", length, low=1)
    return int(tile[0]), int(tile[1]), int(tile[2])


@dataclass(frozen=True, kw_only=True)
class GateOverride:
    """What one gate does differently from the rest of the rule (D-11).

    Parameters
    ----------
    threshold : float or sequence of float, optional
        Scalar or one per channel; None keeps the rule's.
    granularity : str, optional
        None keeps the rule's granularity (and tile).
    tile : (int, int, int), optional
        Height, width and channels of a tile, with ``granularity="tile"``.

    Examples
    --------
    >>> GateOverride(threshold=0.1).threshold
    0.1
    """

    threshold: float | tuple[float, ...] | None = None
    granularity: str | None = None
    tile: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None:
            object.__setattr__(self, "threshold", _checked_threshold(self.threshold))
        if self.granularity is not None:
            object.__setattr__(self, "tile", _checked_tile(self.granularity, self.tile))
        elif self.tile is not None:
            raise ArgumentError("tile", expected="granularity='tile' beside it", got=self.tile)


@dataclass(frozen=True, kw_only=True)
class DeltaRule:
    """A delta rule with every choice stated (D-1 to D-12).

    Parameters
    ----------
    threshold : float or sequence of float
        ``tau >= 0``, scalar or one per channel; rounded once to the dtype of the watched value.
    compare : {"gt", "ge"}
        D-2. ``gt`` sends differences above the threshold, ``ge`` also those equal to it; NaN is always sent.
    memory : {"sent", "always", "feedback"}
        D-4. What the reference becomes.
    start : {"dense", "zero"}
        D-5. What the first evaluation after a reset does.
    bias : {"separate", "folded"}
        D-6. Whether the accumulator carries the bias.
    granularity : {"element", "sample", "channel", "pixel", "tile"}
        D-10. Which elements share one decision.
    tile : (int, int, int), optional
        Height, width and channels of a tile (granularity ``tile`` only).
    feedback_format : {"float16", "bfloat16"}, optional
        D-4. Narrow format of the sent difference; required by, and only allowed with, ``memory="feedback"``.
    delta_dtype : {"float16", "float32"}, optional
        D-1. Narrower dtype in which the difference is formed.
    refresh : int
        D-12. Recompute the accumulators densely every `refresh` evaluations of a sample; 0 is never.
    gates : mapping of str to GateOverride
        D-11. Overrides by the name of the watched value.
    dense : sequence of str
        D-11. Linear nodes that stay ungated.

    Examples
    --------
    >>> DeltaRule(threshold=0.01) == DeltaRule.preset("refdeq", threshold=0.01)
    True
    >>> DeltaRule(threshold=-1.0)
    Traceback (most recent call last):
    ...
    refdeq.errors.ArgumentError: threshold: expected a number >= 0 (not NaN), got -1.0
    """

    threshold: float | tuple[float, ...]
    compare: Literal["gt", "ge"] = "gt"
    memory: Literal["sent", "always", "feedback"] = "sent"
    start: Literal["dense", "zero"] = "dense"
    bias: Literal["separate", "folded"] = "separate"
    granularity: str = "element"
    tile: tuple[int, int, int] | None = None
    feedback_format: Literal["float16", "bfloat16"] | None = None
    delta_dtype: Literal["float16", "float32"] | None = None
    refresh: int = 0
    gates: Mapping[str, GateOverride] = field(default_factory=dict)
    dense: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", _checked_threshold(self.threshold))
        object.__setattr__(self, "tile", _checked_tile(self.granularity, self.tile))
        choices = {
            "compare": ("gt", "ge"),
            "memory": ("sent", "always", "feedback"),
            "start": ("dense", "zero"),
            "bias": ("separate", "folded"),
            "feedback_format": (None, "float16", "bfloat16"),
            "delta_dtype": (None, "float16", "float32"),
        }
        for name, allowed in choices.items():
            check_choice(name, getattr(self, name), allowed)
        if (self.memory == "feedback") != (self.feedback_format is not None):
            raise ArgumentError(
                "feedback_format", expected="a format exactly when memory is 'feedback'", got=self.feedback_format
            )
        check_integer("refresh", self.refresh, low=0)
        if not isinstance(self.gates, Mapping) or not all(isinstance(gate, GateOverride) for gate in self.gates.values()):
            raise ArgumentError("gates", expected="a mapping of value name to GateOverride", got=self.gates)
        if isinstance(self.dense, str) or not isinstance(self.dense, Collection):
            raise ArgumentError("dense", expected="a sequence of node names", got=repr(self.dense))
        object.__setattr__(self, "gates", dict(self.gates))
        object.__setattr__(self, "dense", tuple(self.dense))

    @classmethod
    def preset(cls, name: str, *, threshold: float | tuple[float, ...], **changes: Any) -> DeltaRule:
        """Build one of the four named rules, optionally with single choices changed.

        Parameters
        ----------
        name : {"paper", "deltadeq-code", "delta-network", "refdeq"}
        threshold : float or sequence of float
        **changes
            Any other field of :class:`DeltaRule`.

        Examples
        --------
        >>> DeltaRule.preset("paper", threshold=0.1).compare
        'ge'
        """
        if name not in PRESETS:
            raise ArgumentError("preset", expected=f"one of {tuple(PRESETS)}", got=repr(name))
        return cls(threshold=threshold, **{**PRESETS[name], **changes})


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"compare": "ge", "memory": "always", "start": "dense", "bias": "separate"},
    "deltadeq-code": {"compare": "gt", "memory": "always", "start": "dense", "bias": "folded"},
    "delta-network": {"compare": "ge", "memory": "sent", "start": "zero", "bias": "separate"},
    "refdeq": {"compare": "gt", "memory": "sent", "start": "dense", "bias": "separate"},
}
"""The four named rules: compare, memory, start, bias."""


@dataclass(frozen=True)
class OpCount:
    """Operations of one node for one sample: multiply-accumulates, and beside them the overheads (C-2).

    >>> OpCount(macs=2) + OpCount(elementwise=3)
    OpCount(macs=2, elementwise=3, nonlinear=0)
    """

    macs: int = 0
    elementwise: int = 0
    nonlinear: int = 0

    def __add__(self, other: OpCount) -> OpCount:
        return OpCount(self.macs + other.macs, self.elementwise + other.elementwise, self.nonlinear + other.nonlinear)


@dataclass(eq=False)
class Trace:
    """Everything a solve did, evaluation by evaluation (S-10); axis 0 of every stacked array is the evaluation.

    A sample takes part in evaluation ``t`` iff ``active[t, b]``; entries of samples that do not are NaN (or False).

    Attributes
    ----------
    active : (T, B) bool
    z, f : dict of state name to (T, B, ...) arrays
        Argument and value of each evaluation.
    residual, scale : (T, B) float64
        ``||f - z||`` and ``||f||`` (S-2).
    r, mask : dict of gate (value name) to (T, B, ...) arrays
        Reference after the evaluation, and what was sent in it.
    a : dict of linear node to (T, B, ...) arrays
        Accumulator after the evaluation.
    values : dict of node name to (T, B, ...) arrays
        Outputs of ungated nodes whose bits depend on the order of summation (or on a native activation).
    hoisted : dict of node name to (B, ...) arrays
        Values of the nodes that depend on x only.
    """

    active: np.ndarray
    z: dict[str, np.ndarray]
    f: dict[str, np.ndarray]
    residual: np.ndarray
    scale: np.ndarray
    r: dict[str, np.ndarray] = field(default_factory=dict)
    mask: dict[str, np.ndarray] = field(default_factory=dict)
    a: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    hoisted: dict[str, np.ndarray] = field(default_factory=dict)
    semantics_version: str = SEMANTICS_VERSION

    def __len__(self) -> int:
        return len(self.active)
