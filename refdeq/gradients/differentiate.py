"""The public call ``refdeq.gradient``: checks, the samples that take part, and the method's estimate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from refdeq.checks import check_choice
from refdeq.errors import ArgumentError, ShapeError
from refdeq.gradients.ift import Ift
from refdeq.gradients.linearisation import Arrays, CellMap, Differentiable, UserMap, frozen_masks
from refdeq.gradients.problem import Method, Problem
from refdeq.gradients.result import Gradient
from refdeq.graph import Cell
from refdeq.solution import Solution
from refdeq.types import Status
from refdeq.validate_inputs import check_values

__all__ = ["gradient"]


def gradient(
    cell: Cell | Callable[..., Any],
    solution: Solution,
    cotangent: Any,
    *,
    method: Method | None = None,
    jacobian: str = "dense",
    where: Any = None,
    vjp: Callable[..., Any] | None = None,
) -> Gradient:
    """Gradient of a loss through a solve: parameters, injections and initial state (G-1, G-2).

    Parameters
    ----------
    cell : Cell or callable
        What was solved.
    solution : Solution
    cotangent : (B, ...) ndarray, or dict of state name to ndarray, or callable
        ``dL/dz`` in the cell's dtype. A callable gets the state at which the method takes the loss, in the form of
        ``Solution.z`` and of the samples that take part, and returns it there: at the solution, or at the last unrolled
        state (``Gradient.z``).
    method : Method
        :class:`~refdeq.gradients.ift.Ift` (the default), ``Neumann``, ``Jfb``, ``Phantom`` or ``Unrolled``.
    jacobian : {"dense", "frozen-mask"}
        J of the dense cell, or of the delta-evaluated cell with its final masks frozen; not for unrolled methods.
    where : (B,) bool ndarray, optional
        Samples that take part, such as ``solution.status == Status.CONVERGED``; all by default. The others get zeros and the
        status CANCELLED, and the gradients of parameters do not contain them.
    vjp : callable, optional
        For a plain callable: ``vjp(z, x, v)`` returns ``J^T v`` at z (S-11).

    Returns
    -------
    Gradient

    Raises
    ------
    ArgumentError, ShapeError, DTypeError, MemoryMismatchError
        Bad input; nothing has been computed.
    UnsupportedError
        The adjoint cannot run as a cell (``Ift`` with a delta rule or a backend), and why.

    Examples
    --------
    >>> import refdeq as rd
    >>> cell = rd.models.rnn(np.array([[0.5]]), np.array([[1.0]]), np.array([0.0]))
    >>> sol = rd.solve(cell, np.array([[1.0]]), stop=rd.StopRule(rtol=1e-12))
    >>> grad = rd.gradient(cell, sol, np.ones((1, 1)), method=rd.Ift(stop=rd.StopRule(rtol=1e-12)))
    >>> slope = 1 - float(sol.z[0, 0]) ** 2  # dz/db = slope / (1 - W slope) for z = tanh(W z + U x + b)
    >>> abs(float(grad.parameters["b"][0]) - slope / (1 - 0.5 * slope)) < 1e-9
    True
    """
    method = Ift() if method is None else method
    if isinstance(method, type) or not (hasattr(method, "estimate") and hasattr(method, "name")):
        raise ArgumentError("method", expected="a gradient method such as Ift()", got=repr(method))
    check_choice("jacobian", jacobian, ("dense", "frozen-mask"))
    if not isinstance(solution, Solution):
        raise ArgumentError("solution", expected="a Solution", got=type(solution).__name__)
    rows = _rows(where, len(solution.status))
    with np.errstate(all="ignore"):
        if isinstance(cell, Cell):
            problem = _of_cell(cell, solution, cotangent, jacobian, rows, vjp)
        else:
            problem = _of_callable(cell, solution, cotangent, jacobian, where, rows, vjp)
        estimate = method.estimate(problem)
        return estimate if where is None else _spread(estimate, solution, rows)


def _rows(where: Any, batch: int) -> np.ndarray:
    if where is None:
        return np.arange(batch)
    if not isinstance(where, np.ndarray) or where.dtype != bool:
        raise ArgumentError("where", expected="a NumPy array of bool", got=getattr(where, "dtype", type(where).__name__))
    if where.shape != (batch,):
        raise ShapeError("where", expected=(batch,), got=where.shape)
    return np.flatnonzero(where)


def _of_cell(cell: Cell, solution: Solution, cotangent: Any, jacobian: str, rows: np.ndarray, vjp: Any) -> Problem:
    if vjp is not None:
        raise ArgumentError("vjp", hint="only for a plain callable; a Cell has its own")
    batch, graph = len(solution.status), cell.graph
    states = check_values("solution", solution.states, graph.states, cell.dtype, batch)
    x = check_values("solution.x", solution.x, graph.injections, cell.dtype, batch)
    frozen = frozen_masks(cell, solution) if jacobian == "frozen-mask" else {}
    made_by = CellMap(cell, _taken(x, rows), len(rows), _taken(frozen, rows))
    return _problem(made_by, solution, states, cotangent, jacobian, rows)


def _of_callable(f: Any, solution: Solution, cotangent: Any, jacobian: str, where: Any, rows: np.ndarray, vjp: Any) -> Problem:
    if not callable(f):
        raise ArgumentError("cell", expected="a Cell or a callable f(z, x)", got=type(f).__name__)
    if vjp is None:
        raise ArgumentError("vjp", hint="the gradient of a plain callable needs vjp(z, x, v) (S-11)")
    if jacobian != "dense":
        raise ArgumentError("jacobian", hint="a plain callable has no gates; use 'dense'")
    if where is not None:
        raise ArgumentError("where", hint="a plain callable sees the whole batch (S-11); zero the cotangents instead")
    if solution.executor != "plain callable":
        raise ArgumentError("solution", hint="it was not made from a plain callable; pass its Cell")
    z = solution.states["z"]
    return _problem(UserMap(f, vjp, solution.x["x"], z), solution, {"z": z}, cotangent, jacobian, rows)


def _problem(
    made_by: Differentiable, solution: Solution, states: Arrays, cotangent: Any, jacobian: str, rows: np.ndarray
) -> Problem:
    shapes = {s: array.shape[1:] for s, array in states.items()}
    dtype, batch = next(iter(states.values())).dtype, len(solution.status)
    # everything below is in the order of the solution's states, which is that of the rows of solvers with a memory
    taken = _taken(states, rows)
    if not callable(cotangent):
        checked = check_values("cotangent", cotangent, shapes, dtype, batch)
        g = _taken({s: checked[s] for s in states}, rows)
        return Problem(made_by, solution, taken, lambda z: g, jacobian, rows)

    def at(z: Arrays) -> Arrays:
        point = {s: array.copy() for s, array in z.items()}
        given = cotangent(next(iter(point.values())) if len(point) == 1 else point)
        checked = check_values("cotangent(z)", given, shapes, dtype, len(rows))
        return {s: checked[s] for s in states}

    return Problem(made_by, solution, taken, at, jacobian, rows)


def _taken(arrays: Mapping[str, np.ndarray], rows: np.ndarray) -> Arrays:
    return {name: array[rows] for name, array in arrays.items()}


def _spread(estimate: Gradient, solution: Solution, rows: np.ndarray) -> Gradient:
    """Put the samples that took part back in their places."""
    batch = len(solution.status)

    def placed(array: np.ndarray, blank: float = 0) -> np.ndarray:
        out = np.full((batch, *array.shape[1:]), blank, dtype=array.dtype)
        out[rows] = array
        return out

    states = {s: array.copy() for s, array in solution.states.items()}
    for s, array in estimate.states.items():
        states[s][rows] = array
    return replace(
        estimate,
        injections={name: placed(array) for name, array in estimate.injections.items()},
        initial={s: placed(array) for s, array in estimate.initial.items()},
        adjoint={s: placed(array) for s, array in estimate.adjoint.items()},
        states=states,
        status=placed(estimate.status, Status.CANCELLED),
        n_eval=placed(estimate.n_eval),
        residual=placed(estimate.residual, np.nan),
        residual_dense=None if estimate.residual_dense is None else placed(estimate.residual_dense, np.nan),
    )
