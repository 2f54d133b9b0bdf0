"""How a run ends: statuses, who went on, what is returned, final memory and counts (S-1, S-3, S-4, D-8, C-1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refdeq_validation.judge import stops
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.run import Run

__all__ = ["Totals", "judge_ending"]

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


@dataclass
class Totals:
    """What a replay counts.

    Attributes
    ----------
    count : (B,) int64
        Evaluations since the reset.
    sent, macs : dict of gate, of linear node, to int
    zeros, elements : int
        Among what gated nodes multiplied, once per node (C-3).
    """

    count: Array
    sent: dict[str, int] = field(default_factory=dict)
    macs: dict[str, int] = field(default_factory=dict)
    zeros: int = 0
    elements: int = 0


def judge_ending(
    run: Run, compare: Comparer, expected: stops.Expected, may_break: Array, previous: dict[str, Arrays], totals: Totals
) -> None:
    """Compare what a solve returned with what its trace says it must return.

    Parameters
    ----------
    run : Run
    compare : Comparer
    expected : Expected
        The stop rule, replayed.
    may_break : (B,) bool
        Samples whose solver may have met a zero denominator after their last evaluation.
    previous : dict
        ``r`` and ``a`` after the last evaluation of each sample.
    totals : Totals
    """
    trace = run.trace
    compare.bits("stop_rule", -1, "status", expected.completed(run.status, may_break, run.cancelled), run.status)
    compare.bits("stop_rule", -1, "active", expected.active, trace.active)
    picked = stops.returned_evaluation(trace, run.stop, run.returned)
    samples = np.arange(len(run.status))
    for state in run.graph["states"]:
        compare.bits("state", -1, f"returned z[{state}]", trace.z[state][picked, samples], run.z[state])
    compare.bits("state", -1, "returned residual", trace.residual[picked, samples], run.residual)
    compare.bits("state", -1, "returned scale", trace.scale[picked, samples], run.scale)
    if run.rule is not None:
        _judge_memory(run, compare, previous, totals)


def _judge_memory(run: Run, compare: Comparer, previous: dict[str, Arrays], totals: Totals) -> None:
    trace, samples = run.trace, np.arange(len(run.status))
    for part, kept in previous.items():
        if part in run.shows:
            for name, array in kept.items():
                compare.bits("memory", -1, f"final {part}[{name}]", array, run.after[part][name])
    if "mask" in run.shows:
        for name, mask in trace.mask.items():
            compare.bits("memory", -1, f"final mask[{name}]", mask[run.n_eval - 1, samples], run.after["mask"][name])
    if "count" in run.shows:
        compare.bits("count", -1, "count", totals.count, run.after["count"])
    if "costs" not in run.shows:
        return
    for value, total in totals.sent.items():
        compare.equal("count", f"sent[{value}]", total, run.sent.get(value))
    for name, total in totals.macs.items():
        compare.equal("count", f"macs[{name}]", total, run.macs.get(name))
    if trace.a:
        compare.equal("count", "zeros and elements", (totals.zeros, totals.elements), run.zeros)
