"""Implicit gradients of the plain implementation: the adjoint equation itself, the reference, and central differences."""

from dataclasses import replace

import numpy as np
import pytest
from refdeq_validation.cases.draw import uniform
from refdeq_validation.lab.session import Lab
from refdeq_validation.protocol.problem import Problem

import refdeq as rd

STOP = rd.StopRule(atol=1e-14, max_eval=400)


def gemm(activation: str, **changes: object) -> Problem:
    weight = uniform(1, "W", (6, 6), "float64") * 0.2
    problem = Problem("Gemm", "float64", (6,), weight, uniform(1, "b", (6,), "float64"), None, activation=activation, stop=STOP)
    return replace(problem, **changes)


def conv(activation: str, **changes: object) -> Problem:
    weight = uniform(2, "W", (4, 2, 3, 3), "float64") * 0.1
    attributes = {"pads": (1, 1, 1, 1), "group": 2}
    bias = uniform(2, "b", (4,), "float64")
    return replace(Problem("Conv", "float64", (4, 3, 4), weight, bias, None, attributes, activation, stop=STOP), **changes)


def arrays(problem: Problem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = (2, *problem.shape)
    return uniform(3, "x", shape, "float64"), np.zeros(shape), uniform(3, "g", shape, "float64")


def cell_of(problem: Problem) -> rd.Cell:
    parameters = {"W": problem.weight} | ({} if problem.bias is None else {"b": problem.bias})
    return rd.Cell(rd.Graph.from_dict(problem.graph()), parameters)


@pytest.mark.parametrize("activation", ["Identity", "Tanh", "Sigmoid", "Sin", "Cos", "LeakyRelu", "Relu"])
@pytest.mark.parametrize("make", [gemm, conv])
def test_the_dense_gradient_is_that_of_the_reference(make: object, activation: str) -> None:
    problem = make(activation)
    x, z0, g = arrays(problem)
    solution = rd.solve(cell_of(problem), x, z0=z0, stop=STOP)
    found = Lab().open(problem).gradient(x, solution.z, g, jacobian="dense")
    wanted = rd.gradient(cell_of(problem), solution, g, method=rd.Ift(stop=rd.StopRule(atol=1e-13, max_eval=500)))
    for name, value in (
        ("v", wanted.adjoint["z"]),
        ("x", wanted.injections["x"]),
        ("weight", wanted.parameters["W"]),
        ("bias", wanted.parameters["b"]),
    ):
        assert np.abs(found[name] - value).max() < 1e-10, name


@pytest.mark.parametrize("make", [gemm, conv])
def test_the_gradient_is_the_derivative_of_the_fixed_point(make: object) -> None:
    """Central differences of <g, z*> with respect to one weight, one bias and one element of x."""
    problem = make("Tanh")
    x, z0, g = arrays(problem)

    def loss(problem: Problem, x: np.ndarray) -> float:
        return float((g * Lab().open(problem).solve(x, z0, keep=False, trace=False)["z"]).sum())

    z = Lab().open(problem).solve(x, z0, keep=False, trace=False)["z"]
    found, h = Lab().open(problem).gradient(x, z, g, jacobian="dense"), 1e-6
    for name in ("weight", "bias", "x"):
        at = tuple(1 if n > 1 else 0 for n in found[name].shape)
        sides = []
        for sign in (1.0, -1.0):
            base = x if name == "x" else getattr(problem, name)
            moved = base.copy()
            moved[at] += sign * h
            sides.append(loss(problem, moved) if name == "x" else loss(replace(problem, **{name: moved}), x))
        assert abs((sides[0] - sides[1]) / (2 * h) - found[name][at]) < 1e-7, name


def test_frozen_masks_are_those_of_the_last_evaluation() -> None:
    problem = gemm("Tanh", rule=rd.DeltaRule(threshold=1e-4), stop=rd.StopRule(max_eval=7))
    x, z0, g = arrays(problem)
    solution = rd.solve(cell_of(problem), x, z0=z0, stop=problem.stop, delta=problem.rule)
    session = Lab().open(problem)
    z = session.solve(x, z0, keep=False, trace=False)["z"]
    found = session.gradient(x, z, g, jacobian="frozen-mask")
    method = rd.Ift(stop=rd.StopRule(atol=1e-13, max_eval=500))
    wanted = rd.gradient(cell_of(problem), solution, g, method=method, jacobian="frozen-mask")
    dense = session.gradient(x, z, g, jacobian="dense")
    assert np.abs(found["v"] - wanted.adjoint["z"]).max() < 1e-10 < np.abs(found["v"] - dense["v"]).max()
    assert np.abs(found["weight"] - wanted.parameters["W"]).max() < 1e-10


def test_refusals() -> None:
    problem = gemm("Tanh")
    x, z0, g = arrays(problem)
    session = Lab().open(problem)
    with pytest.raises(ValueError, match="jacobian"):
        session.gradient(x, z0, g, jacobian="sparse")
    with pytest.raises(ValueError, match="reset"):
        session.gradient(x, z0, g, jacobian="frozen-mask")
    with pytest.raises(ValueError, match="cotangent"):
        session.gradient(x, z0, g[:1], jacobian="dense")
