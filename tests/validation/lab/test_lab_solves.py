"""The plain implementation equals the reference in bits: two readings of one text, written apart."""

from dataclasses import replace

import numpy as np
import pytest
from refdeq_validation.cases.draw import uniform
from refdeq_validation.judge.arithmetic import same_bits
from refdeq_validation.lab.session import Lab
from refdeq_validation.protocol.problem import Problem

import refdeq as rd
from refdeq.types import Status

SOLVERS = {
    "picard": {"name": "picard"},
    "damped": {"name": "krasnoselskii-mann", "alpha": 0.7},
    "undamped": {"name": "krasnoselskii-mann", "alpha": 1.0},
    "anderson": {"name": "anderson", "window": 3},
    "anderson, mixed, ridge": {"name": "anderson", "window": 4, "mixing": 0.6, "ridge": 1e-4, "restart": 5, "warmup": 1},
    "anderson, ridge of the diagonal": {"name": "anderson", "window": 2, "ridge": 1e-3, "ridge_scale": "diagonal"},
    "anderson, weights": {"name": "anderson", "window": 3, "form": "weights", "ridge": 1e-6, "ridge_scale": "absolute"},
    "anderson, weights, mixed, warm up": {"name": "anderson", "window": 3, "form": "weights", "mixing": 0.5, "warmup": 2},
    "anderson, wide": {"name": "anderson", "window": 20, "safeguard": None},
    "broyden": {"name": "broyden"},
    "broyden, bad, window": {"name": "broyden", "update": "bad", "window": 3},
    "broyden, window": {"name": "broyden", "window": 2},
    "broyden, armijo": {"name": "broyden", "line_search": "armijo"},
}
KINDS = {
    "picard": rd.Picard,
    "krasnoselskii-mann": rd.KrasnoselskiiMann,
    "anderson": rd.Anderson,
    "broyden": rd.Broyden,
}
RULES = {
    "none": None,
    "refdeq": rd.DeltaRule(threshold=0.01),
    "published code": rd.DeltaRule.preset("deltadeq-code", threshold=0.02),
    "delta network": rd.DeltaRule.preset("delta-network", threshold=0.01, refresh=3),
    "feedback": rd.DeltaRule(threshold=0.005, memory="feedback", feedback_format="bfloat16", granularity="sample"),
}


def gemm(seed: int, dtype: str, **changes: object) -> Problem:
    weight = uniform(seed, "W", (9, 9), dtype) * np.dtype(dtype).type(changes.pop("gain", 0.3))
    bias = uniform(seed, "b", (9,), dtype)
    return replace(Problem("Gemm", dtype, (9,), weight, bias, None, stop=rd.StopRule(rtol=1e-5, max_eval=25)), **changes)


def conv(seed: int, dtype: str, **changes: object) -> Problem:
    weight = uniform(seed, "W", (4, 2, 3, 3), dtype) * np.dtype(dtype).type(0.2)
    attributes = {"pads": (1, 1, 1, 1), "group": 2}
    problem = Problem("Conv", dtype, (4, 4, 5), weight, uniform(seed, "b", (4,), dtype), None, attributes)
    return replace(problem, stop=rd.StopRule(rtol=1e-5, max_eval=25), **changes)


def by_reference(problem: Problem, x: np.ndarray, z0: np.ndarray, **options: object) -> rd.Solution:
    cell = rd.Cell(
        rd.Graph.from_dict(problem.graph()), {"W": problem.weight} | ({} if problem.bias is None else {"b": problem.bias})
    )
    solver = {key: value for key, value in problem.solver.items() if key != "name"}
    return rd.solve(
        cell,
        x,
        z0=z0,
        solver=KINDS[problem.solver["name"]](**solver),
        stop=problem.stop,
        delta=problem.rule,
        returned=problem.returned,
        trace=True,
        **options,
    )


def assert_equal(problem: Problem, found: dict[str, np.ndarray], wanted: rd.Solution) -> None:
    expected = {name: getattr(wanted, name) for name in ("z", "status", "n_eval", "residual", "scale")}
    trace = wanted.trace
    expected |= {f"trace.{name}": getattr(trace, name) for name in ("active", "residual", "scale")}
    expected |= {"trace.z": trace.z["z"], "trace.f": trace.f["z"]}
    if problem.rule is not None:
        expected |= {"trace.r": trace.r["z"], "trace.mask": trace.mask["z"], "trace.a": trace.a["linear"]}
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert same_bits(np.asarray(value), found[name]).all(), name


def compare(problem: Problem, seed: int, batch: int = 3) -> rd.Solution:
    x = uniform(seed, "x", (batch, *problem.out_shape), problem.dtype)
    z0 = uniform(seed, "z0", (batch, *problem.shape), problem.dtype)
    wanted = by_reference(problem, x, z0)
    found = Lab().open(problem).solve(x, z0, keep=False, trace=True)
    assert_equal(problem, found, wanted)
    return wanted


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers(solver: str, dtype: str) -> None:
    problem = gemm(1, dtype, solver=SOLVERS[solver], activation="Tanh")
    solution = compare(problem, 2)
    assert len(set(solution.n_eval.tolist())) > 1 or solver == "undamped" or int(solution.n_eval[0]) > 3


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("make", [gemm, conv])
def test_rules(make: object, rule: str) -> None:
    for solver in ("picard", "anderson", "broyden"):
        compare(make(3, "float32", rule=RULES[rule], solver=SOLVERS[solver], activation="Sigmoid"), 4)


@pytest.mark.parametrize("activation", ["Identity", "Relu", "LeakyRelu", "Tanh", "Sigmoid", "Sin", "Cos", "Exp"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations(activation: str, dtype: str) -> None:
    compare(gemm(5, dtype, activation=activation, gain=0.2), 6)


@pytest.mark.parametrize("returned", ["last", "lowest"])
@pytest.mark.parametrize(
    ("stop", "gain", "status"),
    [
        (rd.StopRule(atol=1e-3, max_eval=30), 0.2, Status.CONVERGED),
        (rd.StopRule(rtol=1e-3, norm="linf"), 0.2, Status.CONVERGED),
        (rd.StopRule(max_eval=6), 0.2, Status.MAX_EVAL),
        (rd.StopRule(atol=1e-9, divergence=3.0, max_eval=40), 1.5, Status.DIVERGED),
        (rd.StopRule(atol=1e-30, stagnation=(2, 0.05), max_eval=60), 0.2, Status.STAGNATED),
        (rd.StopRule(atol=1e-30, max_eval=900), 30.0, Status.NONFINITE),
    ],
)
def test_statuses(stop: rd.StopRule, gain: float, status: Status, returned: str) -> None:
    assert status in compare(gemm(7, "float64", stop=stop, gain=gain, returned=returned), 8).status


def test_breakdown() -> None:
    """f(z) = z + x: g does not change, so Broyden's denominator is zero; the neighbour that starts solved goes on."""
    eye = np.eye(2)
    problem = Problem("Gemm", "float64", (2,), eye, None, None, solver={"name": "broyden"}, stop=rd.StopRule(max_eval=5))
    x, z0 = np.array([[1.0, 0.0], [0.0, 0.0]]), np.zeros((2, 2))
    found = Lab().open(problem).solve(x, z0, keep=False, trace=True)
    assert_equal(problem, found, by_reference(problem, x, z0))
    assert found["status"].tolist() == [Status.BREAKDOWN, Status.MAX_EVAL]


def test_warm_start_keeps_memory_and_phase() -> None:
    problem = gemm(9, "float32", rule=rd.DeltaRule(threshold=0.01, refresh=4), stop=rd.StopRule(max_eval=6))
    x, z0 = uniform(1, "x", (2, 9), "float32"), np.zeros((2, 9), np.float32)
    session = Lab().open(problem)
    cold, reference = session.solve(x, z0, keep=False, trace=True), by_reference(problem, x, z0)
    assert_equal(problem, cold, reference)
    moved = x + np.float32(0.1)
    cell = rd.Cell(rd.Graph.from_dict(problem.graph()), {"W": problem.weight, "b": problem.bias})
    warm = rd.solve(
        cell, moved, warm=reference, reuse="state+memory", delta=problem.rule, solver=rd.Picard(), stop=problem.stop, trace=True
    )
    assert_equal(problem, session.solve(moved, cold["z"], keep=True, trace=True), warm)


def test_samples_do_not_depend_on_their_neighbours() -> None:
    problem = gemm(10, "float32", rule=rd.DeltaRule(threshold=0.01), solver=SOLVERS["anderson"], activation="Tanh")
    x, z0 = uniform(1, "x", (4, 9), "float32"), uniform(2, "x", (4, 9), "float32")
    together = Lab().open(problem).solve(x, z0, keep=False, trace=False)
    for b in range(4):
        alone = Lab().open(problem).solve(x[b : b + 1], z0[b : b + 1], keep=False, trace=False)
        for name, values in alone.items():
            assert same_bits(together[name][b : b + 1], values).all(), name


def test_an_empty_batch() -> None:
    problem = gemm(11, "float32", rule=rd.DeltaRule(threshold=0.01))
    found = Lab().open(problem).solve(np.zeros((0, 9), np.float32), np.zeros((0, 9), np.float32), keep=False, trace=True)
    assert found["z"].shape == (0, 9)
    assert found["trace.a"].shape == (0, 0, 9)


def test_refusals() -> None:
    problem = gemm(12, "float32", rule=rd.DeltaRule(threshold=0.01))
    session = Lab().open(problem)
    x = np.zeros((2, 9), np.float32)
    with pytest.raises(ValueError, match="reset"):
        session.solve(x, x, keep=True, trace=False)
    session.solve(x, x, keep=False, trace=False)
    with pytest.raises(ValueError, match="batch"):
        session.solve(x[:1], x[:1], keep=True, trace=False)
    with pytest.raises(TypeError, match="float32"):
        session.solve(x.astype(np.float64), x, keep=False, trace=False)
    with pytest.raises(NotImplementedError, match="newton"):
        Lab().open(replace(problem, solver={"name": "newton"})).solve(x, x, keep=False, trace=False)
