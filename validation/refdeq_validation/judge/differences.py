"""Finite differences of the fixed point itself, where certificates say what they prove (section 3.3 j)."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq_validation.cases.model import Call, Case
from refdeq_validation.judge.bounds import unit_roundoff
from refdeq_validation.judge.bounds_solver import CURVATURE, exact_activation
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.nodes import linear_node
from refdeq_validation.judge.verdicts import Failure

__all__ = ["judge_differences"]

Array = np.ndarray[Any, Any]

WIDTH = 2.0**-17
"""Half the distance of the two points."""


def judge_differences(
    case: Case, call: Call, t: int, jacobian: Array, slope: Array, got: Array, mask: Array | None, compare: Comparer
) -> None:
    """``<dL/dx, p>`` against the difference of two fixed points at ``x +- h p``, of the cell with its masks frozen.

    The cell is that of the call, shifted so that the given z is its fixed point; with a mask, elements that were not sent are
    held. Masks cannot flip then: held elements do not enter the node at all. A fixed point moves by ``h y`` with
    ``y = (I - J)^-1 slope p``, and by at most ``e = h^2 |R| L2 (|A| 2|y| + |p|)^2 / 2`` beside that, as long as ``e`` is below
    ``h |y|`` at its largest; where it is not, nothing is proved and a note says so. The difference then is within
    ``|g| e / h`` of the derivative, plus the rounding of the two solves over h, plus what the adjoint equation leaves.

    Parameters
    ----------
    case : Case
    call : Call
        The gradient.
    t : int
    jacobian : (B, N, N)
    slope : (B, N)
    got : (B, *out_shape)
        The implementation's gradient with respect to x.
    mask : array or None
    compare : Comparer
    """
    problem, name = case.problem, case.problem.activation
    z = call.arrays["z"].reshape(len(got), -1).astype(np.longdouble)
    g = call.arrays["cotangent"].reshape(len(got), -1).astype(np.float64)
    node = linear_node(problem.graph()["nodes"][0], {"W": problem.weight, "b": np.zeros(0)})
    size = z.shape[1]
    units, zero = np.eye(size).reshape(size, *problem.shape), np.zeros((size, *problem.out_shape))
    matrix = node.exact(units, units > 0, zero, zero)[3].reshape(size, -1).T
    total = np.asarray(matrix.astype(np.longdouble) @ z.T).T + _shift(problem, call).reshape(len(got), -1)
    for b in range(len(got)):
        sent = matrix if mask is None else matrix * mask[b].ravel()
        inverse = np.linalg.inv(np.eye(size) - jacobian[b])
        probe = 1.0 - 2.0 * (np.arange(size) % 3 == 1)
        moved = inverse @ (slope[b] * probe)
        reach = np.abs(sent) @ (2.0 * np.abs(moved)) + np.abs(probe)
        rest = WIDTH**2 * np.abs(inverse) @ (CURVATURE[name] / 2.0 * reach**2)
        if not (rest <= WIDTH * max(float(np.abs(moved).max()), 1e-300) / 2.0).all():
            compare.findings.notes.append("finite differences: nothing proved, the cell curves too much")
            continue
        ends = [_solved(name, sent, total[b], z[b], inverse, sign * WIDTH * probe) for sign in (1.0, -1.0)]
        if ends[0] is None or ends[1] is None:
            compare.findings.notes.append("finite differences: the fixed point was not found")
            continue
        difference = float(g[b] @ (ends[0] - ends[1]) / (2.0 * WIDTH))
        eps, unit = float(np.finfo(np.longdouble).eps), unit_roundoff(np.dtype(problem.dtype))
        own = 64.0 * size * eps * float(np.abs(g[b]) @ (np.abs(inverse) @ (1.0 + np.abs(z[b]).astype(np.float64)))) / WIDTH
        v = np.linalg.solve((np.eye(size) - jacobian[b]).T, g[b])
        weight = (1.0 + np.abs(jacobian[b].T).sum(axis=0).max()) * np.abs(v).sum()
        adjoint = 60.0 * size * unit * weight * float(np.abs(moved).max()) + 60.0 * unit * float(np.abs(slope[b] * v).sum())
        limit = float(np.abs(g[b]) @ rest) / WIDTH + own + adjoint
        actual = float(got[b].ravel().astype(np.float64) @ probe)
        compare.findings.values += 1
        error = abs(actual - difference)
        compare.findings.ratios(np.array([error / limit]))
        if not error <= limit:
            words = f"{difference:.9g}, the difference of two fixed points"
            compare.findings.add(Failure("gradient", t, "x: finite difference", (b,), words, f"{actual:.9g}", error, limit))


def _shift(problem: Any, call: Call) -> Array:
    """``b + x``."""
    x = call.arrays["x"].astype(np.longdouble)
    return x if problem.bias is None else x + problem.bias.reshape(-1, *(1,) * (x.ndim - 2))


def _solved(name: str, sent: Array, total: Array, z: Array, inverse: Array, shift: Array) -> Array | None:
    """Fixed point of ``phi(total + sent (w - z) + shift) + z - phi(total)`` near z, by Newton's method, one inverse."""
    wide, base = sent.astype(np.longdouble), z - exact_activation(name, total)
    w = z.copy()
    for _ in range(80):
        step = w - exact_activation(name, total + wide @ (w - z) + shift) - base
        w = w - inverse @ step
        if np.abs(step).max() <= 8.0 * float(np.finfo(np.longdouble).eps) * (1.0 + float(np.abs(w).max())):
            return np.asarray(w)
    return None
