"""Products with the Jacobians of f at a solution: ``refdeq.jvp`` and ``refdeq.vjp``."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq.checks import check_choice
from refdeq.errors import ArgumentError
from refdeq.gradients import forward
from refdeq.gradients.linearisation import Arrays, CellMap, CellPoint, Pulled, frozen_masks
from refdeq.graph import Cell
from refdeq.solution import Solution
from refdeq.validate_inputs import check_values

__all__ = ["frozen_masks", "jvp", "linearise_solution", "pushed", "vjp"]


def linearise_solution(cell: Cell, solution: Solution, jacobian: str = "dense") -> CellPoint:
    """Linearise a cell at the returned point of a solve, with the injections of that solve (G-1).

    Parameters
    ----------
    cell : Cell
        What was solved; other weights of the same shapes are allowed with the dense Jacobian.
    solution : Solution
    jacobian : {"dense", "frozen-mask"}

    Raises
    ------
    ArgumentError, ShapeError, DTypeError, MemoryMismatchError
    """
    check_choice("jacobian", jacobian, ("dense", "frozen-mask"))
    if not isinstance(cell, Cell):
        raise ArgumentError("cell", expected="a Cell (a plain callable has no graph to differentiate)", got=type(cell).__name__)
    if not isinstance(solution, Solution):
        raise ArgumentError("solution", expected="a Solution", got=type(solution).__name__)
    batch = len(solution.status)
    states = check_values("solution", solution.states, cell.graph.states, cell.dtype, batch)
    x = check_values("solution.x", dict(solution.x), cell.graph.injections, cell.dtype, batch)
    frozen = frozen_masks(cell, solution) if jacobian == "frozen-mask" else {}
    with np.errstate(all="ignore"):
        return CellMap(cell, x, batch, frozen).linearise(states)


def pushed(point: CellPoint, tangents: Arrays) -> Arrays:
    """Tangents of f's outputs, per state, at a linearised cell; zeros where nothing arrives."""
    found = forward.jvp(point.cell, point.values, tangents, point.frozen)
    outputs = point.cell.graph.outputs
    return {s: found[name] if name in found else np.zeros_like(point.values[s]) for s, name in outputs.items()}


def jvp(
    cell: Cell,
    solution: Solution,
    tangent: Any = None,
    *,
    injections: Any = None,
    parameters: Any = None,
    jacobian: str = "dense",
) -> Any:
    """Directional derivative of f at a solution, ``J t`` with ``J = df/dz``, sample by sample.

    Parameters
    ----------
    cell : Cell
        What was solved.
    solution : Solution
        Its returned point and its injections are where the derivative is taken.
    tangent : (B, ...) ndarray, or dict of state name to ndarray, optional
        In the cell's dtype; None when the state does not vary.
    injections : (B, ...) ndarray, or dict of injection name to ndarray, optional
        Tangents of the injections, added in: ``J t + (df/dx) t_x``.
    parameters : dict of parameter name to ndarray, optional
        Tangents of some parameters, the same for every sample: ``... + (df/dtheta) t_theta``.
    jacobian : {"dense", "frozen-mask"}
        Of the dense cell, or of the delta-evaluated cell with its final masks frozen (G-1): what a gate did not send its node
        does not depend on.

    Returns
    -------
    (B, ...) ndarray, or dict of state name to ndarray when the cell has several states
        A sample at a point that is not finite has a product that is not finite; the others are not touched by it.

    Raises
    ------
    ArgumentError, ShapeError, DTypeError, MemoryMismatchError

    Examples
    --------
    >>> import refdeq as rd
    >>> cell = rd.models.rnn(np.array([[0.5]]), np.array([[1.0]]), np.array([0.0]))
    >>> sol = rd.solve(cell, np.array([[1.0]]), stop=rd.StopRule(rtol=1e-12))
    >>> product = rd.jvp(cell, sol, np.array([[2.0]]))
    >>> bool(abs(product - 2.0 * 0.5 * (1 - sol.z**2)) < 1e-11)  # z = tanh(W z + U x + b)
    True
    """
    point = linearise_solution(cell, solution, jacobian)
    graph, batch = cell.graph, len(solution.status)
    tangents: Arrays = {}
    if tangent is not None:
        tangents |= check_values("tangent", tangent, graph.states, cell.dtype, batch)
    if injections is not None:
        tangents |= check_values("injections", injections, graph.injections, cell.dtype, batch)
    if parameters is not None:
        tangents |= _parameter_tangents(cell, parameters)
    if not tangents:
        raise ArgumentError("tangent", hint="give a tangent of the state, of injections or of parameters")
    with np.errstate(all="ignore"):
        out = pushed(point, tangents)
    return next(iter(out.values())) if len(out) == 1 else out


def _parameter_tangents(cell: Cell, given: Any) -> Arrays:
    """Tangents of those parameters that vary, checked; parameters have no batch axis."""
    if not isinstance(given, dict) or not set(given) <= set(cell.parameters):
        named = sorted(given) if isinstance(given, dict) else type(given).__name__
        raise ArgumentError("parameters", expected=f"a dict with names out of {sorted(cell.parameters)}", got=named)
    found: Arrays = {}
    for name, array in given.items():
        lifted = array[None] if isinstance(array, np.ndarray) else array
        shapes = {name: cell.graph.parameters[name]}
        found[name] = check_values("parameters", {name: lifted}, shapes, cell.dtype, 1)[name][0]
    return found


def vjp(cell: Cell, solution: Solution, cotangent: Any, *, jacobian: str = "dense") -> Pulled:
    """Reverse products of f at a solution: ``J^T v``, and those with respect to injections and parameters.

    Parameters
    ----------
    cell : Cell
        What was solved.
    solution : Solution
    cotangent : (B, ...) ndarray, or dict of state name to ndarray
        In the cell's dtype.
    jacobian : {"dense", "frozen-mask"}
        As in :func:`jvp`.

    Returns
    -------
    Pulled
        ``states`` and ``injections`` per sample, ``parameters`` summed over the batch; zeros where f does not depend on a
        value.

    Raises
    ------
    ArgumentError, ShapeError, DTypeError, MemoryMismatchError

    Examples
    --------
    >>> import refdeq as rd
    >>> cell = rd.models.rnn(np.array([[0.5]]), np.array([[1.0]]), np.array([0.0]))
    >>> sol = rd.solve(cell, np.array([[1.0]]), stop=rd.StopRule(rtol=1e-12))
    >>> back = rd.vjp(cell, sol, np.array([[2.0]]))
    >>> bool(abs(back.injections["x"] - 2.0 * (1 - sol.z**2)) < 1e-11)
    True
    """
    point = linearise_solution(cell, solution, jacobian)
    v = check_values("cotangent", cotangent, cell.graph.states, cell.dtype, len(solution.status))
    with np.errstate(all="ignore"):
        return point.pull(v)
