"""Level L6: implicit gradients by residual ratios, bounds of their assembly, and derivatives taken another way (section 3.3 j).

The Jacobian is taken by complex steps with the masks frozen, ``Im f(z + i h e_j) / h``: no subtraction, so the derivative has
full precision, and no formula of a derivative is shared with what is judged. Then: the adjoint equation as a residual ratio, in
units of n u; the assembly ``x = slope v``, ``W = sum slope v z^T``, ``b = sum slope v`` within their rounding; the dot test
against a direct solve; and finite differences of the fixed point itself where it can be proved what they must give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq_validation.cases.model import Call, Case
from refdeq_validation.judge import bounds
from refdeq_validation.judge.bounds_solver import CURVATURE, SLOPE, rounding
from refdeq_validation.judge.calls import Memory, answered, has_arrays
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.differences import judge_differences
from refdeq_validation.judge.enclosure import Enclosure
from refdeq_validation.judge.jacobian import STEP, complex_activation, weight_gradient
from refdeq_validation.judge.returned import memory_after
from refdeq_validation.judge.sessions import Sessions
from refdeq_validation.judge.solves import judge_traced
from refdeq_validation.judge.verdicts import Failure, Findings
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.protocol.transcript import Transcript

__all__ = ["Linearised", "judge_gradients", "linearise"]

Array = np.ndarray[Any, Any]
Results = Mapping[str, Array]

THRESHOLD = 30.0
"""Of residual ratios in units of n u."""


@dataclass(frozen=True)
class Linearised:
    """The cell of a batch at a point.

    Attributes
    ----------
    jacobian : (B, N, N) float64
        By complex steps, masks frozen.
    slope, slope_error : (B, N) float64
        Derivative of the activation, and how far that of an implementation may be from it.
    """

    jacobian: Array
    slope: Array
    slope_error: Array


def linearise(case: Case, claims: Claims, x: Array, z: Array, mask: Array | None) -> Linearised:
    """Take the Jacobian of the dense cell at `z`, with what a mask did not send left out (G-1).

    The slopes of an implementation are taken at its own ``A z + b + x``, which N-7 and two roundings bound, and in a handful of
    operations: ``L2 E + 8 u``.

    Parameters
    ----------
    case : Case
    claims : Claims
    x, z : (B, ...) arrays
    mask : (B, *shape) bool or None
    """
    problem, batch = case.problem, len(z)
    enclosure = Enclosure(case, claims, Memory(z, np.zeros((batch, *problem.out_shape)), np.zeros(batch, np.int64)), x, z)
    size = int(np.prod(problem.shape))
    node, units = enclosure.node, np.eye(size).reshape(size, *problem.shape)
    columns = node.exact(units, units > 0, np.zeros((size, *problem.out_shape)), np.zeros((size, *problem.out_shape)))[3]
    matrix = columns.reshape(size, -1).T
    zero, everything = np.zeros((batch, *problem.out_shape)), np.ones(z.shape, bool)
    _, gauge, k, total = node.exact(z, everything, zero, zero)
    if node.bias is not None:
        total = total + node.bias
    total = total + x
    limit = bounds.accumulate(enclosure.model, k, zero, gauge, gauge + np.abs(z).sum()).limit
    limit = limit + 3.0 * rounding(np.abs(total) + gauge, problem.dtype)
    flat = total.reshape(batch, -1)
    slope = np.imag(complex_activation(problem.activation, flat + 1j * STEP)) / STEP
    jacobian = np.empty((batch, size, size))
    for b in range(batch):
        sent = matrix if mask is None else matrix * mask[b].ravel()
        jacobian[b] = np.imag(complex_activation(problem.activation, flat[b][:, None] + 1j * STEP * sent)) / STEP
    error = CURVATURE.get(problem.activation, 0.0) * limit.reshape(batch, -1)
    return Linearised(jacobian, slope, error + 8.0 * bounds.unit_roundoff(np.dtype(problem.dtype)) * (1.0 + np.abs(slope)))


def judge_gradients(case: Case, transcript: Transcript, claims: Claims) -> Findings:
    """Judge the gradients of a transcript.

    Masks that are frozen are those that the traced solve before the gradient showed, which is judged by replay.

    Parameters
    ----------
    case : Case
    transcript : Transcript
    claims : Claims

    Returns
    -------
    Findings
    """
    findings = Findings()
    compare = Comparer(findings)
    memories = Sessions()
    with np.errstate(all="ignore"):
        for t, call, answer in answered(case, transcript, compare):
            number, results = memories.begun(case, call), answer.results
            if call.name == "solve":
                keep = memories.kept(number, call)
                if not judge_traced(case, t, call, keep, results, claims, findings):
                    break
                memories[number] = memory_after(case, call, keep, results)
            elif call.name == "gradient":
                if not has_arrays(compare, t, results, _shapes(case.problem, len(call.arrays["z"]))):
                    break
                frozen = call.options.get("jacobian") == "frozen-mask"
                mask = memories[number].mask if frozen else None
                if frozen and mask is None:
                    compare.equal("structure", f"call {t}: masks", "shown by a traced solve before", "not shown")
                    break
                _judge(case, claims, call, t, results, mask, compare)
    return findings


def _shapes(problem: Problem, batch: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    wanted: dict[str, tuple[tuple[int, ...], Any]] = {
        "v": ((batch, *problem.shape), problem.dtype),
        "x": ((batch, *problem.out_shape), problem.dtype),
        "weight": (problem.weight.shape, problem.dtype),
    }
    return wanted | ({} if problem.bias is None else {"bias": (problem.bias.shape, problem.dtype)})


def _judge(case: Case, claims: Claims, call: Call, t: int, results: Results, mask: Array | None, compare: Comparer) -> None:
    z, g, batch = call.arrays["z"], call.arrays["cotangent"], len(call.arrays["z"])
    at = linearise(case, claims, call.arrays["x"], z, mask)
    v, g = results["v"].reshape(batch, -1).astype(np.float64), g.reshape(batch, -1).astype(np.float64)
    for b in range(batch):
        _judge_adjoint(t, b, at.jacobian[b], v[b], g[b], case.problem.dtype, compare)
    _judge_assembly(case.problem, t, at, v, z, results, compare)
    if case.problem.activation in CURVATURE:
        judge_differences(case, call, t, at.jacobian, at.slope, results["x"], mask, compare)
    elif case.problem.activation not in SLOPE:
        compare.findings.notes.append("finite differences: no bound on the second derivative")


def _judge_adjoint(t: int, b: int, jacobian: Array, v: Array, g: Array, dtype: str, compare: Comparer) -> None:
    """``||(I - J^T) v - g||_1 / ((1 + ||J^T||_1) ||v||_1 n u) < 30``, and the dot test that follows from it."""
    n, unit = len(v), bounds.unit_roundoff(np.dtype(dtype))
    residual = np.abs(v - jacobian.T @ v - g).sum()
    weight = (1.0 + np.abs(jacobian.T).sum(axis=0).max(initial=0.0)) * np.abs(v).sum()
    limit = THRESHOLD * n * unit * weight + n * bounds.underflow(np.dtype(dtype))
    _ratio(t, "gradient", "v: adjoint equation", (b,), float(residual), float(limit), compare)
    # <g, (I - J)^-1 w> = <v, w> for every w: the residual of v is all that they may differ by
    forward = np.eye(n) - jacobian
    probe = 1.0 + (np.arange(n) * 7 % 11) / 11.0
    reached = np.linalg.solve(forward, probe)
    own = n * 2.0**-50 * np.abs(np.linalg.inv(forward)) @ (np.abs(forward) @ np.abs(reached) + probe)
    size = float(np.abs(g) @ own + n * 2.0**-52 * (np.abs(g) @ np.abs(reached) + np.abs(v) @ probe))
    allowed = float(limit * np.abs(reached).max(initial=0.0)) + size
    _ratio(t, "gradient", "v: dot test", (b,), float(abs(g @ reached - v @ probe)), allowed, compare)


def _judge_assembly(problem: Problem, t: int, at: Linearised, v: Array, z: Array, results: Results, compare: Comparer) -> None:
    """``slope v`` and its sums: ``(B + 2) u sum |slope v| |z|`` and what the slopes may be off (section 3.3 j)."""
    batch, dtype = len(z), np.dtype(problem.dtype)
    unit, lost = bounds.unit_roundoff(dtype), bounds.underflow(dtype)
    shape = (batch, *problem.out_shape)
    push, loose = (at.slope * v).reshape(shape), (at.slope_error * np.abs(v)).reshape(shape)
    limit = loose + 4.0 * unit * np.abs(push) + lost
    compare.within("gradient", t, "x", push, results["x"], np.abs(results["x"] - push), limit)
    exact, size = weight_gradient(problem, push, z), weight_gradient(problem, np.abs(push), np.abs(z))
    spread = weight_gradient(problem, loose, np.abs(z))
    terms = float(np.prod(shape) // problem.out_shape[0])
    limit = spread + (terms + 2.0) * unit * (size + spread) + terms * lost
    compare.within("gradient", t, "weight", exact, results["weight"], np.abs(results["weight"] - exact), limit)
    if problem.bias is None:
        return
    axes = (0, *range(2, push.ndim))
    exact, size, spread = (part.sum(axis=axes) for part in (push, np.abs(push), loose))
    limit = spread + (terms + 2.0) * unit * (size + spread) + terms * lost
    compare.within("gradient", t, "bias", exact, results["bias"], np.abs(results["bias"] - exact), limit)


def _ratio(t: int, kind: str, tensor: str, index: tuple[int, ...], size: float, limit: float, compare: Comparer) -> None:
    compare.findings.values += 1
    if limit > 0:
        compare.findings.ratios(np.array([size / limit]))
    if not size <= limit:
        compare.findings.add(Failure(kind, t, tensor, index, "0", f"{size:.3g}", size, limit))
