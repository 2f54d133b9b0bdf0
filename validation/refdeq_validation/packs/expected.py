"""Expected values of unit steps, as packs carry them: exact sums, never tolerances.

Masks and references depend on inputs only, so they are bits. The accumulator is judged from the implementation's own, as it
was before; what the pack gives is the exact change ``S = sum A d`` over the sent terms, as an unevaluated pair of float64
numbers, with the gauge ``P = sum |A| |d|`` and the number of terms k: all that a bound needs, whatever arithmetic was declared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refdeq_validation.cases.model import Case
from refdeq_validation.judge import arithmetic, sums
from refdeq_validation.judge.nodes import LinearNode, linear_node
from refdeq_validation.protocol.problem import Problem

__all__ = ["exact_pair", "expected_steps", "operand_sizes"]

Array = np.ndarray[Any, Any]
Step = dict[str, Array]


@dataclass(frozen=True)
class _State:
    """Gate state of one session, its accumulator as strict order makes it."""

    r: Array
    a: Array
    count: Array


def expected_steps(case: Case) -> list[Step | None]:
    """Expected values of every call; None where nothing can be said beforehand.

    Parameters
    ----------
    case : Case

    Returns
    -------
    list
        For a step: ``mask`` (bool) and ``r``, bits; ``a`` and ``y``, bits of an implementation in strict order (N-6), and of
        every implementation where the case expects ``exact``; ``margin`` ((B,) float64, least ``| |delta| - tau |`` of the
        sample; 0 is a tie, Inf where a dense start decides nothing); ``fresh`` ((B,) bool: the accumulator starts from +0, not
        from the one before); and of its change ``sum_hi``, ``sum_lo``, ``gauge`` (float64) and ``k`` (int32). Nothing where
        there is no state to go on from, for dense problems, for narrow storage, and for solves and gradients, which are
        replayed from an implementation's own trace.
    """
    with np.errstate(all="ignore"):
        return [None if found is None else found[0] for found in _walk(case)]


def _walk(case: Case) -> Iterator[tuple[Step, Array, Array] | None]:
    """What is expected of every call, with the terms of a step's sum and which of them are taken."""
    problem, states, node = case.problem, dict[int, _State](), _node(case.problem)
    for call in case.calls:
        number, found = int(call.options.get("session", 0)), None
        if call.options.get("may_refuse"):
            states.pop(number, None)  # whether it changes anything is the implementation's choice
        elif not call.refused and problem.gate_rule is not None and problem.storage is None:
            if call.name == "reset":
                states[number] = _fresh(problem, int(call.options["batch"]))
            elif call.name == "set_state":
                states[number] = _State(call.arrays["r"], call.arrays["a"], call.arrays["count"])
            elif call.name == "step" and number in states:
                found, states[number] = _step(problem, node, call.arrays["u"], states[number])
            elif call.name == "solve":
                states.pop(number, None)
        yield found


def _fresh(problem: Problem, batch: int) -> _State:
    """State after a reset (D-5, D-6)."""
    r, a = np.zeros((batch, *problem.shape), problem.dtype), np.zeros((batch, *problem.out_shape), problem.dtype)
    return _State(r, a + _bias(problem) if _is_folded(problem) else a, np.zeros(batch, np.int64))


def _step(problem: Problem, node: LinearNode, u: Array, state: _State) -> tuple[tuple[Step, Array, Array], _State]:
    """Gate (D-1 to D-5, D-10, D-12) and change of the accumulator (D-6)."""
    rule = problem.gate_rule
    assert rule is not None
    tau = np.asarray(rule.threshold, dtype=np.float64).astype(problem.dtype)
    tau = tau.reshape(-1, *(1,) * (u.ndim - 2)) if tau.ndim else tau
    start = state.count == 0 if rule.start == "dense" else np.zeros(len(u), bool)
    refresh = (state.count > 0) & (state.count % rule.refresh == 0) if rule.refresh else np.zeros(len(u), bool)
    delta, fires = arithmetic.decide_all(u, state.r, tau, rule.compare, rule.delta_dtype)
    sent = arithmetic.or_over_groups(fires, rule.granularity, rule.tile)
    d, r = arithmetic.next_reference(u, state.r, delta, sent, rule.memory, rule.feedback_format)
    lift, again = (flags.reshape(-1, *(1,) * (u.ndim - 1)) for flags in (start, refresh))
    mask, r, d = sent | lift, np.where(lift, u, r), np.where(lift, u, d)
    terms, taken = np.where(again, r, d), mask | again
    high, low, gauge, k = exact_pair(node, terms, taken, problem.out_shape)
    a = _strict(problem, node, terms, taken, state.a, (start | refresh).reshape(-1, *(1,) * (state.a.ndim - 1)))
    margin = np.abs(np.abs(delta.astype(np.float64)) - tau.astype(np.float64))
    step = {"mask": mask, "r": r, "a": a, "fresh": start | refresh, "sum_hi": high, "sum_lo": low, "gauge": gauge, "k": k}
    step["y"] = a if _is_folded(problem) else node.output(a)
    margin = margin.reshape(len(u), int(np.prod(u.shape[1:])))
    least = np.nanmin(margin, axis=1, initial=np.inf)  # a NaN difference is always sent: no margin
    step["margin"] = np.where(start, np.inf, least)
    return (step, terms, taken), _State(r, a, state.count + 1)


def _strict(problem: Problem, node: LinearNode, terms: Array, taken: Array, before: Array, fresh: Array) -> Array:
    """Accumulator in strict order (N-6), bias folded in where the rule says so (D-6)."""
    if not _is_folded(problem):
        return node.strict(terms, taken, np.where(fresh, before.dtype.type(0), before))
    total = node.strict(terms, taken, np.zeros_like(before)) + _bias(problem)
    return np.where(fresh, total, (total + before) - _bias(problem))


def _is_folded(problem: Problem) -> bool:
    return problem.gate_rule is not None and problem.gate_rule.bias == "folded" and problem.bias is not None


def _bias(problem: Problem) -> Array:
    assert problem.bias is not None
    return problem.bias.reshape(-1, *(1,) * (len(problem.out_shape) - 1))


def _node(problem: Problem) -> LinearNode:
    arrays = {"W": problem.weight} | ({} if problem.bias is None else {"b": problem.bias})
    return linear_node(problem.graph()["nodes"][0], arrays)


def exact_pair(node: LinearNode, d: Array, sent: Array, out_shape: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
    """Exact ``sum A d`` over the sent terms as high and low float64 parts, its gauge, and the number of terms.

    The low part is the error of the high part, which double-double sums give when asked for the error of the result they gave
    before; the pair is exact to 2^-100 of the gauge. Where the sum is not finite the low part is 0.
    """
    out = (len(d), *out_shape)
    weight, values = node.weight.astype(np.float64), np.ascontiguousarray(d, dtype=np.float64)
    if node.conv is None:
        arguments = (values, np.ascontiguousarray(sent), weight, np.zeros(out))
        _, gauge, k, high = sums.exact_gemm(*arguments, np.zeros(out), True)
        error = sums.exact_gemm(*arguments, high, True)[0]
    else:
        plane = (out[0], out[1], 1, out[2]) if len(out) == 3 else out
        values, sent = (part.reshape(*part.shape[:2], 1, -1) if part.ndim == 3 else part for part in (values, sent))
        parts = (values, np.ascontiguousarray(sent), weight, *node.conv, np.zeros(plane))
        _, gauge, k, high = sums.exact_conv(*parts, np.zeros(plane))
        error = sums.exact_conv(*parts, high)[0]
    low = np.where(np.isfinite(high) & np.isfinite(error), -error, 0.0) + 0.0
    return high.reshape(out), low.reshape(out), gauge.reshape(out), k.astype(np.int32).reshape(out)


def operand_sizes(case: Case) -> list[Array | None]:
    """``sum |A| + |d|`` over the terms of every step: what the underflow of re-rounded operands is multiplied by.

    Packs of files do not carry it: it follows from their inputs, and only some models of arithmetic need it.
    """
    problem = case.problem
    found: list[Array | None] = []
    with np.errstate(all="ignore"):
        node = _node(problem)
        ones = replace(node, weight=np.ones_like(node.weight))
        for walked in _walk(case):
            if walked is None:
                found.append(None)
                continue
            _, terms, taken = walked
            weights = exact_pair(node, np.ones_like(terms), taken, problem.out_shape)[2]
            found.append(weights + exact_pair(ones, terms, taken, problem.out_shape)[2])
    return found
