"""How far an accumulator may be from ``A r``: the running error of a solve of which only the end is seen (section 3.3 f)."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq.types import Status
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.judge import bounds
from refdeq_validation.judge.calls import Memory
from refdeq_validation.judge.enclosure import Enclosure
from refdeq_validation.protocol.manifest import Claims

__all__ = ["accumulator_drift", "drift_bound", "largest_argument"]

Array = np.ndarray[Any, Any]

BOUNDED = ("Tanh", "Sigmoid", "Sin", "Cos")
"""Activations whose values lie in [-1, 1]."""


def largest_argument(case: Case, call: Call, n_eval: Array, gain: float) -> Array | None:
    """A bound on the elements of every argument of each sample, or None.

    Values of a bounded activation lie in [-1, 1], and so do convex combinations; a relaxation by alpha > 1 at most multiplies
    by ``2 alpha - 1`` in every evaluation. Identity, Relu and LeakyRelu at most multiply by the largest row sum `gain` of A.
    Solvers with a window may go anywhere.

    Parameters
    ----------
    case : Case
    call : Call
    n_eval : (B,) int
    gain : float
    """
    problem, name = case.problem, case.problem.solver["name"]
    if name not in ("picard", "krasnoselskii-mann"):
        return None
    alpha = float(problem.solver.get("alpha", 1.0))
    first = np.abs(call.arrays["z0"].astype(np.float64)).reshape(len(n_eval), -1).max(axis=1, initial=0.0)
    spread = abs(1.0 - alpha)
    if problem.activation in BOUNDED and alpha <= 1.0:
        return np.asarray(np.maximum(first, 1.0) * 1.001)
    shift = np.abs(call.arrays["x"].astype(np.float64)).reshape(len(n_eval), -1).max(axis=1, initial=0.0)
    shift = shift + (0.0 if problem.bias is None else float(np.abs(problem.bias.astype(np.float64)).max()))
    largest, now = first, first
    for _ in range(int(n_eval.max(initial=0))):
        value = 1.0 if problem.activation in BOUNDED else gain * largest + shift
        if problem.activation not in (*BOUNDED, "Identity", "Relu"):
            return None
        now = (alpha * value + spread * now) * 1.001
        largest = np.maximum(largest, now)
    return np.asarray(largest)


def drift_bound(case: Case, claims: Claims, before: Memory, call: Call, results: Any) -> tuple[Array, Array] | None:
    """The most that an accumulator may be from ``A r``, and ``|A| 1``; None where arguments may be of any size.

    Each evaluation adds the bound of one accumulate over all columns, with the gauge ``|a| + |A| |d|`` bounded by row sums
    times the largest argument, and the rounding of the difference, ``u |A| |d|``. Under "always" every evaluation may drop up
    to tau of each element (section 3.3 f: ``D_t + |A| q_t``). A state that was given may be off already: that distance is
    where the drift starts. Frozen samples stop drifting.

    Parameters
    ----------
    case : Case
    claims : Claims
    before : Memory
    call : Call
    results : mapping of str to ndarray
    """
    problem, rule = case.problem, case.problem.rule
    enclosure = Enclosure(case, claims, before, call.arrays["x"], call.arrays["z0"])
    node, zero = enclosure.node, np.zeros((len(before.count), *problem.out_shape))
    ones = np.ones((len(before.count), *problem.shape))
    _, _, k, reach = enclosure.sizes.exact(ones, ones > 0, zero, zero)
    n_eval = results["n_eval"].astype(np.int64)
    if rule is None:  # one dense sum, at the argument that was returned
        products = enclosure.reach(np.abs(results["z"].astype(np.float64)))
        return bounds.accumulate(enclosure.model, k, zero, products, reach + np.abs(results["z"]).sum()).limit, reach
    largest = largest_argument(case, call, n_eval, float(reach.max(initial=0.0)))
    if largest is None:
        return None
    lift = (-1, *(1,) * (reach.ndim - 1))
    assert before.r is not None
    assert before.a is not None
    shift = node.bias_array.astype(np.float64) if enclosure.folded else 0.0
    dense = (before.count == 0) & (rule.start == "dense")
    began = np.abs(before.a.astype(np.float64) - node.exact(before.r, ones > 0, zero, zero)[3] - shift)
    drift = np.where(dense.reshape(lift), 0.0, began)
    old = np.abs(before.r.astype(np.float64)).reshape(len(n_eval), -1).max(axis=1, initial=0.0)
    size = np.maximum(largest, np.where(dense, 0.0, old)).reshape(lift) * reach
    unit = bounds.unit_roundoff(np.dtype(problem.dtype))
    if rule.delta_dtype is not None:
        unit = float(np.finfo(rule.delta_dtype).eps) / 2.0
    dropped = float(np.max(rule.threshold)) * reach if rule.memory == "always" else 0.0
    for t in range(int(n_eval.max(initial=0))):
        sizes = reach + ones.size * size
        if enclosure.folded:
            shifts = np.broadcast_to(shift, zero.shape)
            own = bounds.folded(enclosure.model, k, 2.0 * size, size + drift, shifts, zero > 0, sizes)
        else:
            own = bounds.accumulate(enclosure.model, k, size + drift, 2.0 * size, sizes)
        step = own.limit + 8.0 * unit * size + dropped
        drift = np.where((t < n_eval).reshape(lift), drift + step, drift)
    return drift * (1.0 + 2.0**-40), reach


def accumulator_drift(
    case: Case, claims: Claims, before: Memory, call: Call, results: Any
) -> tuple[Array, Array, Array] | None:
    """Distance of the accumulator that is shown from ``A r``, the most it may be, and ``A r``; None without a bound.

    Parameters
    ----------
    case : Case
    claims : Claims
    before : Memory
    call : Call
    results : mapping of str to ndarray
    """
    if case.problem.rule is None or before.r is None or before.a is None:
        return None
    found = drift_bound(case, claims, before, call, results)
    if found is None:
        return None
    enclosure = Enclosure(case, claims, before, call.arrays["x"], results["z"])
    zero, node = np.zeros(results["a"].shape), enclosure.node
    shift = node.bias_array.astype(np.float64) if enclosure.folded else 0.0
    expected = node.exact(results["r"], np.ones(results["r"].shape, bool), zero, zero)[3] + shift
    finite = (results["status"] != Status.NONFINITE).reshape(-1, *(1,) * (zero.ndim - 1))
    limit = np.where(finite, found[0] + 2.0**-50 * np.abs(expected), np.inf)
    return np.abs(results["a"].astype(np.float64) - expected), limit, np.where(np.isfinite(expected), expected, 0.0)
