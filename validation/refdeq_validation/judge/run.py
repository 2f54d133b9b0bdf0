"""One traced solve as plain data: all that the judge gets to see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refdeq.types import DeltaRule, StopRule, Trace
from refdeq_validation.judge.accumulating import Linear
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.models import Arithmetic

__all__ = ["Run"]

Array = np.ndarray
Arrays = dict[str, np.ndarray]


@dataclass
class Run:
    """Everything the judge needs to know about one traced solve, as plain data.

    Attributes
    ----------
    graph : dict
        ``Graph.to_dict()``.
    parameters, x, z0 : dict of name to ndarray
    rule : DeltaRule or None
    stop : StopRule
    alpha : float
        Krasnoselskii-Mann step; 1 is Picard.
    order : {"strict", "fast"}
        What the backend declared for this run.
    memory : dict or None
        ``r``, ``a``, ``count`` before the solve; None after a reset.
    trace : Trace
    z, status, n_eval, residual, scale : what the solve returned
    after : dict
        ``r``, ``mask``, ``a``, ``count`` after the solve; empty without a rule.
    sent : dict of watched value to int, macs : dict of linear node to int
        Totals the solve reported.
    zeros : (int, int) or None
        Zero elements among those that gated nodes multiplied, and all of those, once per node, as reported (C-3).
    returned : {"last", "lowest"}
    solver : mapping or None
        ``name`` and options, as :attr:`refdeq_validation.protocol.problem.Problem.solver`; None is that of `alpha`.
    native_ulp : float or None
        Units in the last place that a native activation may be off (N-8); None for the strict formulas.
    hidden : frozenset of str
        Ungated sums that the trace does not show: recomputed under strict order, else judged with what they enter.
    shows : tuple of str
        Parts of `after`, and ``costs``, that the run reports.
    cancelled : int or None
        Evaluation after which the caller's hook returned false.
    linear : callable or None
        Makes, of a comparer, the judge of the one gated node under the declared model of arithmetic; without it sums are those
        of the dtype.
    model : Arithmetic or None
        That model, for nodes without a gate, and for all of them where `linear` is None.
    split : mapping or None
        Of a splitting (S-6b), whose rewritten cell `graph` is: ``argument`` and ``value`` name the graph values that stand for
        z and f of the original cell.
    """

    graph: dict[str, Any]
    parameters: Arrays
    x: Arrays
    z0: Arrays
    rule: DeltaRule | None
    stop: StopRule
    alpha: float
    order: str
    memory: dict[str, Any] | None
    trace: Trace
    z: Arrays
    status: Array
    n_eval: Array
    residual: Array
    scale: Array
    after: dict[str, Any] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    macs: dict[str, int] = field(default_factory=dict)
    zeros: tuple[int, int] | None = None
    returned: str = "last"
    solver: Mapping[str, Any] | None = None
    native_ulp: float | None = None
    hidden: frozenset[str] = frozenset()
    shows: tuple[str, ...] = ("r", "mask", "a", "count", "costs")
    cancelled: int | None = None
    linear: Callable[[Comparer], Linear] | None = None
    model: Arithmetic | None = None
    split: Mapping[str, Mapping[str, str]] | None = None
