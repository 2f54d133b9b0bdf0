"""Cells and solvers of refdeq for a problem of the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refdeq.errors import ArgumentError
from refdeq.graph import Cell, Graph, GraphBuilder
from refdeq.solvers import Anderson, Broyden, KrasnoselskiiMann, Picard, Solver
from refdeq_validation.protocol.problem import Problem

__all__ = ["WATCHED", "solve_cell", "solver_of", "step_cell"]

WATCHED = "z"
"""The value that the one gate of a problem watches."""

_SOLVERS = {"picard": Picard, "krasnoselskii-mann": KrasnoselskiiMann, "anderson": Anderson, "broyden": Broyden}


def step_cell(problem: Problem) -> tuple[Cell, bool]:
    """A cell whose value is the output of the linear node, and whether it has one state.

    A square problem becomes ``z <- (A z + b) + x``, which fused plans know. Otherwise the state z stays as it is and a
    second state takes the output.
    """
    builder = GraphBuilder(problem.dtype)
    is_square = problem.out_shape == problem.shape
    z = builder.state(WATCHED, problem.shape)
    inputs = [z, builder.parameter("W", problem.weight)]
    if problem.bias is not None:
        inputs.append(builder.parameter("b", problem.bias))
    attributes = {"transB": 1} if problem.op == "Gemm" else dict(problem.attributes)
    if is_square:
        x = builder.injection("x", problem.out_shape)
        linear = builder.node(problem.op, *inputs, name="linear", **attributes)
        builder.output(z, builder.node("Add", linear, x, name="total"))
    else:
        y = builder.state("y", problem.out_shape)
        builder.output(z, z)
        builder.output(y, builder.node(problem.op, *inputs, name="linear", **attributes))
    return builder.build(), is_square


def solve_cell(problem: Problem) -> Cell:
    """The cell ``z <- phi((A z + b) + x)`` of a problem."""
    if problem.out_shape != problem.shape:
        raise ArgumentError("problem", expected=f"out_shape {problem.shape}, as the state's", got=problem.out_shape)
    parameters = {"W": problem.weight} | ({} if problem.bias is None else {"b": problem.bias})
    return Cell(Graph.from_dict(problem.graph()), parameters)


def solver_of(options: Mapping[str, Any]) -> Solver:
    """The solver that a problem names.

    >>> solver_of({"name": "krasnoselskii-mann", "alpha": 0.5})
    KrasnoselskiiMann(alpha=0.5)
    """
    if options.get("name") not in _SOLVERS:
        raise ArgumentError("solver.name", expected=f"one of {', '.join(_SOLVERS)}", got=repr(options.get("name")))
    given = {name: value for name, value in options.items() if name != "name"}
    solver: Solver = _SOLVERS[options["name"]](**given)
    return solver
