"""Level L5: a certificate that a fixed point exists near the returned point, and how near (section 3.3 g).

No trajectory is needed. With ``r = z - f(z)``, ``R`` close to ``(I - J)^-1`` and ``L2`` the largest second derivative of the
activation, a vector ``D`` that satisfies ``D >= |R r| + |R| L2/2 (|A| D)^2 + |I - R (I - J)| D`` encloses exactly one fixed
point: ``|z - z*| <= D`` (Krawczyk's operator maps the box into itself). It is found by iteration with inflation, in float64;
rounding of the judge itself is covered by terms of ``n 2^-50``. Source: Rump, Verification methods, Acta Numerica 2010.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq.types import Status
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.judge.bounds import residual_bound
from refdeq_validation.judge.bounds_solver import CURVATURE, SLOPE, activation_error, derivative, exact_activation, rounding
from refdeq_validation.judge.calls import Memory, answered, has_arrays
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.drift import drift_bound
from refdeq_validation.judge.free_running import judge_statuses
from refdeq_validation.judge.nodes import linear_node
from refdeq_validation.judge.returned import memory_after, shapes_returned
from refdeq_validation.judge.sessions import Sessions
from refdeq_validation.judge.verdicts import Failure, Findings
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.protocol.transcript import Transcript

__all__ = ["Certificate", "certify", "judge_certificates"]

Array = np.ndarray[Any, Any]
Results = Mapping[str, Array]

INFLATION = 1.05


@dataclass(frozen=True)
class Certificate:
    """What is known of the fixed point near a point.

    Attributes
    ----------
    radius : (N,) float64
        ``|z - z*| <= radius``.
    point : (N,) array
        z* itself, in the widest format.
    own : (N,) float64
        ``|point - z*| <= own``: a certificate at the refined point.
    claimed : (N,) float64
        The radius that the claimed residual alone gives.
    ratio : float
        Overestimate: median of ``radius / |z - z*|``; NaN where z is z* to within what is known of it.
    """

    radius: Array
    point: Array
    own: Array
    claimed: Array
    ratio: float


class _Cell:
    """One sample's cell ``phi(A z + c)`` as a dense matrix, in the widest format."""

    def __init__(self, problem: Problem, x: Array) -> None:
        parameters = {"W": problem.weight} | ({} if problem.bias is None else {"b": problem.bias})
        node = linear_node(problem.graph()["nodes"][0], parameters)
        size = int(np.prod(problem.shape))
        units = np.eye(size).reshape(size, *problem.shape)
        zero = np.zeros((size, *problem.out_shape))
        self.matrix = node.exact(units, units > 0, zero, zero)[3].reshape(size, -1).T
        shift = x.astype(np.longdouble)
        if node.bias is not None:
            shift = shift + node.bias
        self.shift, self.name = shift.ravel(), problem.activation
        self.wide = self.matrix.astype(np.longdouble)

    def total(self, z: Array) -> Array:
        """``A z + c``."""
        return np.asarray(self.wide @ z.astype(np.longdouble) + self.shift)

    def residual(self, z: Array) -> tuple[Array, Array]:
        """``z - f(z)`` and what its evaluation here may be off."""
        total = self.total(z)
        value = z.astype(np.longdouble) - exact_activation(self.name, total)
        eps = float(np.finfo(np.longdouble).eps)
        size = np.abs(self.wide) @ np.abs(z.astype(np.longdouble)) + np.abs(self.shift)
        error = eps * ((len(z) + 4) * SLOPE[self.name] * size + 4.0 * (np.abs(z) + 1.0 + np.abs(value)))
        return value, error.astype(np.float64)

    def operator(self, z: Array) -> tuple[Array, Array]:
        """``|R|``'s matrix R and the defect ``|I - R (I - J)|``, rounding included."""
        slope = derivative(self.name, self.total(z)).astype(np.float64)
        forward = np.eye(len(z)) - slope[:, None] * self.matrix
        inverse = np.linalg.inv(forward)
        lost = len(z) * 2.0**-50 * (np.abs(inverse) @ np.abs(forward))
        return inverse, np.abs(np.eye(len(z)) - inverse @ forward) + lost

    def enclose(self, start: Array, inverse: Array, defect: Array) -> Array | None:
        """The least D that iteration finds with ``D >= start + |R| L2/2 (|A| D)^2 + defect D``; None where it finds none."""
        half, sizes, steep = CURVATURE[self.name] / 2.0, np.abs(self.matrix), np.abs(inverse)
        radius = start * INFLATION + 1e-300
        for _ in range(60):
            needed = start + steep @ (half * (sizes @ radius) ** 2) + defect @ radius
            needed = needed * (1.0 + 2.0**-40)
            if not np.isfinite(needed).all():
                return None
            if (needed <= radius).all():
                return radius
            radius = np.maximum(radius, needed * 1.01)
        return None


def certify(problem: Problem, x: Array, z: Array, claimed: float, error: Array) -> Certificate | None:
    """Certificate for one sample, or None where none is found.

    Parameters
    ----------
    problem : Problem
        With an activation whose second derivative is bounded.
    x, z : arrays
        Injection and returned point of the sample.
    claimed : float
        Euclidean norm that the residual of the implementation's f claims to have at most.
    error : array
        How far that f may be from the exact one, per element.
    """
    if problem.activation not in CURVATURE:
        return None
    with np.errstate(all="ignore"):
        return _certified(problem, x, z, claimed, error)


def _certified(problem: Problem, x: Array, z: Array, claimed: float, error: Array) -> Certificate | None:
    cell, z = _Cell(problem, x), z.ravel().astype(np.longdouble)
    try:
        inverse, defect = cell.operator(z)
    except np.linalg.LinAlgError:
        return None
    residual, own_error = cell.residual(z)
    start = np.abs(inverse @ residual.astype(np.float64)) + np.abs(inverse) @ (own_error + 2.0**-50 * len(z) * np.abs(residual))
    radius = cell.enclose(start.astype(np.float64), inverse, defect)
    if radius is None:
        return None
    point = z
    for _ in range(4):
        point = point - inverse @ cell.residual(point)[0]
    rest, rest_error = cell.residual(point)
    start = (np.abs(inverse) @ (np.abs(rest) + rest_error)).astype(np.float64)
    own = cell.enclose(start, inverse, defect + _moved(cell, inverse, z, point))
    if own is None:
        return None
    rows = np.sqrt((inverse**2).sum(axis=1))
    bound = cell.enclose(rows * claimed + np.abs(inverse) @ error.ravel(), inverse, defect)
    distance = np.abs(z - point).astype(np.float64)
    told = distance > own
    ratio = float(np.median(radius[told] / distance[told])) if told.any() else float("nan")
    return Certificate(radius, point, own, np.full(len(z), np.inf) if bound is None else bound, ratio)


def _moved(cell: _Cell, inverse: Array, z: Array, point: Array) -> Array:
    """What ``|I - R (I - J)|`` grows by when J is taken at another point: ``|R| L2 diag(|A| |z - z'|) |A|``."""
    shift = np.abs(cell.matrix) @ np.abs(z - point).astype(np.float64)
    return np.asarray(np.abs(inverse) @ (CURVATURE[cell.name] * shift[:, None] * np.abs(cell.matrix)))


def judge_certificates(case: Case, transcript: Transcript, claims: Claims) -> Findings:
    """Judge returned points by certificates, and by the residual bound where there is none.

    Parameters
    ----------
    case : Case
    transcript : Transcript
    claims : Claims

    Returns
    -------
    Findings
        A note says how many samples were certified, and the median overestimate.
    """
    findings = Findings()
    compare = Comparer(findings)
    memories = Sessions()
    with np.errstate(all="ignore"):
        for t, call, answer in answered(case, transcript, compare):
            number = memories.begun(case, call)
            if call.name == "solve":
                batch, kept = len(call.arrays["z0"]), memories.kept(number, call)
                if not has_arrays(compare, t, answer.results, shapes_returned(case, batch, claims)):
                    break
                before = Memory.fresh(case, batch) if kept is None else kept
                _judge(case, claims, before, call, t, answer.results, compare)
                memories[number] = memory_after(case, call, kept, answer.results)
    return findings


def _judge(case: Case, claims: Claims, before: Memory, call: Call, t: int, results: Results, compare: Comparer) -> None:
    judge_statuses(case, t, results, compare)
    problem, stop = case.problem, case.problem.stop
    error = _value_error(case, claims, before, call, results)
    certified, ratios = 0, []
    converged = np.flatnonzero(results["status"] == Status.CONVERGED)
    for b in converged:
        x, z = call.arrays["x"][b], results["z"][b]
        residual, own = _Cell(problem, x).residual(z.ravel()) if problem.activation in SLOPE else (None, None)
        allowed = max(
            -np.inf if stop.atol is None else stop.atol,
            -np.inf if stop.rtol is None else stop.rtol * (float(results["scale"][b]) + stop.eps),
        )
        if residual is None or own is None:
            compare.findings.notes.append(f"no certificate: {problem.activation} has no bounded slope")
            continue
        if error is None:
            allowed = np.inf
            compare.findings.notes.append("claimed tolerance not judged: no bound on the value of f is known")
        else:
            _judge_residual(t, int(b), residual, error[b].ravel() + own, results, stop.norm, compare)
        euclidean = allowed * (len(residual) ** 0.5 if stop.norm == "linf" else 1.0)
        spread = np.zeros(z.shape) if error is None else error[b]
        found = certify(problem, x, z, euclidean * (1.0 + residual_bound(len(residual))), spread)
        compare.findings.values += z.size
        if found is None:
            continue
        certified += 1
        ratios += [found.ratio] if np.isfinite(found.ratio) else []
        distance = np.abs(z.ravel() - found.point).astype(np.float64)
        for words, radius in (("enclosure", found.radius), ("claimed tolerance", found.claimed)):
            good = distance <= radius + found.own
            compare.findings.ratios(np.array([float((distance / (radius + found.own)).max())]))
            if not good.all():
                at = int(np.flatnonzero(~good)[0])
                limit, size = float(radius[at] + found.own[at]), float(distance[at])
                text = f"within the {words} of z*"
                compare.findings.add(Failure("certificate", t, "z", (int(b), at), text, "farther", size, limit))
    median = float(np.median(ratios)) if ratios else float("nan")
    compare.findings.notes.append(f"certified {certified} of {len(converged)}, median overestimate {median:.3g}")


def _judge_residual(t: int, b: int, residual: Array, error: Array, results: Results, norm: str, compare: Comparer) -> None:
    """The reported residual against that of the exact dense f: they differ by at most what f is off (fall-back of 3.3 g)."""
    if norm == "linf":
        true, slack = float(np.abs(residual).max(initial=0)), float(error.max(initial=0))
    else:
        true, slack = float(np.sqrt((residual**2).sum())), float(np.sqrt((error**2).sum()))
    got = float(results["residual"][b])
    limit = slack + residual_bound(len(residual)) * (abs(true) + slack)
    expected, actual = np.array([true]), np.array([got])
    compare.within("certificate", t, "residual of the exact f", expected, actual, np.abs(actual - expected), np.array([limit]))


def _value_error(case: Case, claims: Claims, before: Memory, call: Call, results: Results) -> Array | None:
    """How far the implementation's f may be from the exact dense one: ``L (|A| tau + D_t + roundings) + eps_sigma``."""
    problem, rule = case.problem, case.problem.rule
    found = drift_bound(case, claims, before, call, results)
    if found is None or problem.activation not in SLOPE or (rule is not None and rule.memory == "feedback"):
        return None
    drift, reach = found
    late = 0.0 if rule is None or rule.memory == "always" else float(np.max(rule.threshold))
    error = drift + late * reach
    z = np.abs(results["z"].astype(np.float64)).reshape(len(drift), -1).max(axis=1).reshape(-1, *(1,) * (drift.ndim - 1))
    total = z * reach + np.abs(call.arrays["x"].astype(np.float64)) + error
    if problem.bias is not None:
        total = total + np.abs(problem.bias.astype(np.float64)).reshape(-1, *(1,) * (drift.ndim - 2))
    error = SLOPE[problem.activation] * (error + 3.0 * rounding(total, problem.dtype))
    native = claims.activation_ulp if claims.activation == "native" else None
    top = np.ones_like(total) if problem.activation not in ("Identity", "Relu") else total
    return np.asarray(error + activation_error(problem.activation, top, problem.dtype, native))
