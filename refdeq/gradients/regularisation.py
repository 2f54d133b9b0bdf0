"""Jacobian regularisation (Bai, Koltun and Kolter 2021): a random estimate of ``||J||_F^2``, and its exact gradients.

With ``J = df/dz`` at the returned z and random vectors e of independent entries of mean 0 and variance 1::

    R = 1 / (V numel(z)) sum_v ||e_v^T J||^2,        E[R] = 1 / B sum_b ||J_b||_F^2 / d

(d entries of z per sample, ``numel(z) = B d``). One reverse walk gives ``w = J^T e``. The gradient of ``||w||^2`` with respect
to anything f depends on is ``2 grad <e, J w>`` with w held fixed: the derivative of the reverse walk along the state tangent
2w, which costs a forward walk and one walk more, and forms no difference quotient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq.checks import check_choice, check_integer
from refdeq.errors import ShapeError
from refdeq.gradients import forward
from refdeq.gradients.linearisation import Arrays, CellPoint
from refdeq.gradients.products import linearise_solution
from refdeq.gradients.reverse import vjp_tangent
from refdeq.graph import Cell
from refdeq.solution import Solution
from refdeq.validate_inputs import check_values

__all__ = ["JacobianPenalty", "jacobian_penalty", "random_vectors"]


@dataclass(frozen=True, eq=False, repr=False)
class JacobianPenalty:
    """Penalty on the Jacobian of f at a solution, with its gradients at these random vectors.

    Attributes
    ----------
    value : float
        R of the batch: the mean of `per_sample`; 0.0 for an empty batch.
    per_sample : (B,) float64
        ``1 / (V d) sum_v ||e_v^T J_b||^2``. Not finite where f is not (N-2), and then `value` and the gradients of the
        parameters are not finite either.
    parameters : dict of parameter name to ndarray
        ``dR/dtheta`` with z held fixed.
    injections : dict of injection name to (B, ...) ndarray
        ``dR/dx`` with z held fixed.
    states : dict of state name to (B, ...) ndarray
        ``dR/dz``. Given to :func:`refdeq.gradient` as the cotangent, it yields the part of the gradient that goes through the
        solution; added to `parameters` and `injections` that is the whole.
    vectors : int
        V.
    """

    value: float
    per_sample: np.ndarray
    parameters: Arrays
    injections: Arrays
    states: Arrays
    vectors: int

    def __repr__(self) -> str:
        return f"JacobianPenalty({self.value:.6g}; {len(self.per_sample)} samples, {self.vectors} random vectors)"


def jacobian_penalty(
    cell: Cell,
    solution: Solution,
    *,
    vectors: int = 1,
    rng: int | np.random.Generator = 0,
    distribution: str = "normal",
    probes: Any = None,
) -> JacobianPenalty:
    """Estimate ``||J||_F^2`` per element at a solution by random vectors, and differentiate the estimate exactly.

    Parameters
    ----------
    cell : Cell
        What was solved; the dense cell is differentiated.
    solution : Solution
    vectors : int
        Random vectors V, at least 1; the variance falls as 1 / V.
    rng : int or numpy.random.Generator
        Seed, or a generator to draw from; a training loop passes one generator to all its calls.
    distribution : {"normal", "rademacher"}
        Standard normal entries, as published, or signs of equal probability, which have the smaller variance:
        ``Var ||J^T e||^2`` is ``2 ||J J^T||_F^2`` for the former and ``2 (||J J^T||_F^2 - sum_i (J J^T)_ii^2)`` for the latter.
    probes : (V, B, ...) ndarray, or dict of state name to such arrays, optional
        The vectors themselves, in the cell's dtype, instead of random ones.

    Returns
    -------
    JacobianPenalty

    Raises
    ------
    ArgumentError, ShapeError, DTypeError

    Examples
    --------
    >>> import refdeq as rd
    >>> cell = rd.models.rnn(np.array([[0.5]]), np.array([[1.0]]), np.array([0.0]))
    >>> sol = rd.solve(cell, np.array([[1.0]]), stop=rd.StopRule(rtol=1e-12))
    >>> penalty = rd.jacobian_penalty(cell, sol, distribution="rademacher")  # exact here: J is a number
    >>> abs(penalty.value - (0.5 * (1 - float(sol.z[0, 0]) ** 2)) ** 2) < 1e-11
    True
    """
    check_integer("vectors", vectors, low=1)
    check_choice("distribution", distribution, ("normal", "rademacher"))
    if not isinstance(rng, np.random.Generator):
        check_integer("rng (a seed, or a numpy.random.Generator)", rng, low=0)
    point = linearise_solution(cell, solution)
    if probes is None:
        given = random_vectors(cell, len(solution.status), vectors, rng, distribution)
    else:
        given = _checked_probes(cell, len(solution.status), probes)
    with np.errstate(all="ignore"):
        return _penalty(point, given, len(solution.status))


def random_vectors(
    cell: Cell, batch: int, vectors: int, rng: int | np.random.Generator, distribution: str = "normal"
) -> Arrays:
    """Draw V random vectors of the shape of a batch's state, vector by vector, states in declared order.

    Returns
    -------
    dict of state name to (V, B, ...) ndarray in the cell's dtype
        Drawn in float64 and rounded, so that both dtypes see the same numbers.
    """
    generator = np.random.default_rng(rng)
    shapes = {name: (batch, *shape) for name, shape in cell.graph.states.items()}
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in shapes}
    for _ in range(vectors):
        for name, shape in shapes.items():
            normal = distribution == "normal"
            sample = generator.standard_normal(shape) if normal else 2.0 * generator.integers(0, 2, shape) - 1.0
            drawn[name].append(sample.astype(cell.dtype))
    return {name: np.stack(samples) for name, samples in drawn.items()}


def _checked_probes(cell: Cell, batch: int, probes: Any) -> Arrays:
    shapes = {name: (batch, *shape) for name, shape in cell.graph.states.items()}
    given = check_values("probes", probes, shapes, cell.dtype)
    if len(next(iter(given.values()))) == 0:
        raise ShapeError("probes", expected="at least one vector on axis 0", got=0)
    return given


def _penalty(point: CellPoint, probes: Arrays, batch: int) -> JacobianPenalty:
    """Value and gradients; everything but the sums of squares in the cell's dtype."""
    cell, values, graph = point.cell, point.values, point.cell.graph
    vectors = len(next(iter(probes.values())))
    numel = sum(values[name].size for name in graph.states)
    weight = cell.dtype.type(2.0 / (vectors * numel) if numel else 0.0)
    squares = np.zeros(batch)
    gradients = {name: np.zeros_like(values[name]) for name in (*graph.parameters, *graph.injections, *graph.states)}
    for v in range(vectors):
        probe = {name: array[v] for name, array in probes.items()}
        back = point.transpose(probe)
        squares += sum(np.square(w.astype(np.float64)).sum(axis=tuple(range(1, w.ndim))) for w in back.values())
        tangents = forward.jvp(cell, values, {name: weight * w for name, w in back.items()}, point.frozen)
        _, moving = vjp_tangent(cell, values, tangents, probe, point.frozen)
        for name in gradients.keys() & moving.keys():
            gradients[name] = gradients[name] + moving[name]
    per_sample = squares * (batch / (vectors * numel)) if numel else squares
    return JacobianPenalty(
        value=float(per_sample.mean()) if batch else 0.0,
        per_sample=per_sample,
        parameters={name: gradients[name] for name in graph.parameters},
        injections={name: gradients[name] for name in graph.injections},
        states={name: gradients[name] for name in graph.states},
        vectors=vectors,
    )
