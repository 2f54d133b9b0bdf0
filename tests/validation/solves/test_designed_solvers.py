"""Replay of refdeq's own solves by every solver of the text, splittings included, and of bugs planted in them."""

import copy

import numpy as np
import pytest
from refdeq_validation.designed.graphs import every_operator_cell, linear_cell
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.replay import replay
from refdeq_validation.judge.splitting import judge_resolvent
from refdeq_validation.judge.verdicts import Findings
from refdeq_validation.runner import judge_solve, run_data

import refdeq as rd

STOP = rd.StopRule(rtol=1e-4, max_eval=9)
SOLVERS = [
    rd.Anderson(window=3),
    rd.Anderson(window=3, form="weights", mixing=0.8, ridge=1e-3),
    rd.Broyden(window=2),
    rd.Broyden(line_search="armijo", update="bad"),
]


def monotone(dtype):
    rng = np.random.default_rng(3)
    a, b, u = (rng.standard_normal((6, 6)) / 3.0 for _ in range(3))
    return rd.models.monotone(a, b, u, rng.standard_normal(6), m=0.5).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.name)
def test_every_solver_is_replayed(solver, backend, dtype):
    rng = np.random.default_rng(1)
    for cell in (linear_cell(7, dtype, bias=True, activation="Tanh"), every_operator_cell(dtype)):
        x = rng.standard_normal((3, *cell.graph.injections["x"])).astype(dtype)
        rule = rd.DeltaRule(threshold=0.01) if "gemm" not in {node.name for node in cell.graph.nodes} else None
        for order in ("strict", "fast") if backend == "numba" else ("strict",):
            solution, findings = judge_solve(cell, x, rule=rule, stop=STOP, backend=backend, order=order, solver=solver)
            assert findings.passed, [failure.sentence() for failure in findings.failures]
            assert solution.n_eval.max() > 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", [None, rd.DeltaRule(threshold=1e-3), rd.DeltaRule.preset("delta-network", threshold=1e-3)])
@pytest.mark.parametrize("solver", [rd.ForwardBackward(), rd.PeacemanRachford(), rd.PeacemanRachford(alpha=0.7)])
def test_splittings_are_replayed_as_the_cells_they_rewrite(solver, rule, dtype):
    cell = monotone(dtype)
    x = np.random.default_rng(2).standard_normal((3, 6)).astype(dtype)
    for backend in ("reference", "numba"):
        solution, findings = judge_solve(cell, x, rule=rule, stop=STOP, backend=backend, solver=solver)
        assert findings.passed, [failure.sentence() for failure in findings.failures]
        assert solution.n_eval.max() > 3


def run_of(solver, rule=None):
    cell = monotone("float64")
    x = np.random.default_rng(2).standard_normal((3, 6))
    solution = rd.solve(cell, x, solver=solver, stop=STOP, delta=rule, trace=True)
    return copy.deepcopy(run_data(cell, solution, {"z": np.zeros((3, 6))}, rule, solver, "strict", None))


@pytest.mark.parametrize("solver", [rd.ForwardBackward(), rd.PeacemanRachford()])
def test_a_splitting_with_another_step_length_is_found(solver):
    run = run_of(solver)
    assert replay(run).passed
    run.solver = {**run.solver, "alpha": 1.01 * run.solver["alpha"]}
    assert {failure.kind for failure in replay(run).failures} & {"state", "value"}
    run = run_of(solver)
    run.trace.z["z"][2, 0, 0] += 1e-9
    assert "state" in {failure.kind for failure in replay(run).failures}


def test_a_resolvent_of_another_step_length_is_found():
    cell = monotone("float32")
    solver = rd.PeacemanRachford(alpha=0.5)
    v = solver.split(cell).cell.parameters["V"]
    weight = cell.parameters[cell.graph.linear_nodes[0].inputs[1]]
    good, bad = Findings(), Findings()
    judge_resolvent(weight, v, 0.5, Comparer(good))
    judge_resolvent(weight, v, 0.501, Comparer(bad))
    assert (good.failed, bad.failed) == (0, 1)


def test_cancelled_samples_are_replayed():
    cell = linear_cell(5, "float64", bias=True, activation="Tanh")
    x = np.random.default_rng(4).standard_normal((3, 5))
    stop = rd.StopRule(rtol=1e-12, max_eval=20)
    solution = rd.solve(cell, x, stop=stop, trace=True, on_evaluation=lambda progress: progress.evaluation < 4)
    assert set(solution.status) == {rd.Status.CANCELLED}
    start = {"z": np.zeros((3, 5))}
    assert replay(run_data(cell, solution, start, None, rd.Picard(), "strict", None, cancelled=4)).passed
    for wrong in (None, 3):
        run = run_data(cell, solution, start, None, rd.Picard(), "strict", None, cancelled=wrong)
        assert "stop_rule" in {failure.kind for failure in replay(run).failures}
