"""What solvers, criteria and splittings tell the loop: broken samples, other measures, another graph's residual (S-3, S-9)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

import refdeq as rd
from refdeq.callable_map import CallableMap
from refdeq.loop import iterate
from refdeq.reference import ReferenceKernels
from refdeq.solvers import Picard, Split
from refdeq.stopping import SampleCriterion
from refdeq.types import Status, StopRule


@dataclass(frozen=True)
class BreaksAt:
    """Picard that meets a zero denominator when |z| of a sample reaches a limit."""

    limit: float
    name: str = "breaks"

    def init(self, kernels, z):
        return 0

    def step(self, kernels, z, f, state, active):
        broken = active & (np.abs(z["z"][:, 0]) >= self.limit)
        kernels.copy_active(f["z"], active & ~broken, z["z"])
        return state + 1, broken


def halving(z, x):
    return 0.5 * z


def test_a_broken_sample_keeps_the_point_of_its_last_evaluation_and_its_neighbours_go_on():
    z0 = np.array([[8.0], [1.0]])
    sol = rd.solve(halving, z0=z0, solver=BreaksAt(4.0), stop=StopRule(atol=0.1, max_eval=9), trace=True)
    assert [Status(int(s)) for s in sol.status] == [Status.BREAKDOWN, Status.CONVERGED]
    assert (sol.z[0, 0], sol.residual[0], sol.n_eval[0]) == (8.0, 4.0, 1)
    alone = rd.solve(halving, z0=z0[1:], solver=BreaksAt(4.0), stop=StopRule(atol=0.1, max_eval=9))
    assert (sol.z[1, 0], sol.n_eval[1]) == (alone.z[0, 0], alone.n_eval[0]) == (0.125, 4)
    np.testing.assert_array_equal(sol.trace.active[:, 0], [True, False, False, False])


def test_convergence_and_budget_come_before_breakdown():
    stop = StopRule(atol=4.0, max_eval=1)
    sol = rd.solve(halving, z0=np.array([[8.0], [64.0]]), solver=BreaksAt(4.0), stop=stop)
    assert [Status(int(s)) for s in sol.status] == [Status.CONVERGED, Status.MAX_EVAL]


def test_the_solver_state_is_handed_from_step_to_step():
    z0 = np.ones((1, 1))
    sol = rd.solve(halving, z0=z0, solver=BreaksAt(4.0), stop=StopRule(max_eval=5))
    assert sol.solver_state == 5  # the step after the last evaluation touches no sample
    assert sol.z[0, 0] == 2.0**-4


@dataclass(frozen=True)
class SumOfBatch(SampleCriterion):
    """All samples stop together, when the sum of their residuals is small; only even evaluations count as lowest."""

    def decide(self, residual, scale, n_eval, history):
        return np.full(len(residual), Status.CONVERGED if residual.sum() <= self.stop.atol else Status.RUNNING)

    def rank(self, residual, scale, n_eval):
        return np.where(n_eval % 2 == 0, residual, np.inf)


def run(criterion, returned="last", z0=((8.0,), (1.0,))):
    start = np.array(z0)
    z = {"z": start.copy()}
    evaluator = CallableMap(halving, None, start)
    return iterate(evaluator, ReferenceKernels(), Picard(), criterion.stop, z, returned=returned, criterion=criterion)


def test_a_criterion_decides_for_the_whole_batch():
    result = run(SumOfBatch(StopRule(atol=1.125)))
    np.testing.assert_array_equal(result.n_eval, [3, 3])
    np.testing.assert_array_equal(result.residual, [1.0, 0.125])


def test_a_criterion_says_what_lowest_compares():
    result = run(SumOfBatch(StopRule(atol=1.125)), returned="lowest")
    np.testing.assert_array_equal(result.z["z"], [[4.0], [0.5]])  # evaluation 2; the third is lower and does not count


@dataclass(frozen=True)
class TwiceTheState(Picard):
    """A splitting whose variable u is half of z: u <- f(2u) / 2, reported as z = 2u and f(2u)."""

    def split(self, cell):
        builder = rd.GraphBuilder()
        u, x = builder.state("z", (1,)), builder.injection("x", (1,))
        two, half = builder.parameter("two", np.array([2.0])), builder.parameter("half", np.array([0.5]))
        z = builder.node("Mul", u, two, name="point")
        gemm = builder.node("Gemm", z, builder.parameter("W", np.array([[0.5]])), name="gemm")
        f = builder.node("Add", gemm, x, name="value")
        builder.output(u, builder.node("Mul", f, half, name="next"))
        return Split(builder.build(), {"z": "point"}, {"z": "value"})


def test_a_splitting_reports_point_and_residual_of_the_original_cell():
    cell = rd.GraphBuilder()
    z, x = cell.state("z", (1,)), cell.injection("x", (1,))
    gemm = cell.node("Gemm", z, cell.parameter("W", np.array([[0.5]])), name="gemm")
    cell.output(z, cell.node("Add", gemm, x, name="f"))
    original, data = cell.build(), np.array([[1.0], [2.0]])
    stop = StopRule(atol=0.25, max_eval=20)
    sol = rd.solve(original, data, solver=TwiceTheState(), stop=stop, returned="lowest", verify=True, trace=True)
    plain = rd.solve(original, data, stop=stop, trace=True)
    for name in ("z", "n_eval", "residual", "scale", "status"):  # powers of two: the splitting is Picard exactly
        np.testing.assert_array_equal(getattr(sol, name), getattr(plain, name))
    np.testing.assert_array_equal(sol.residual_dense, sol.residual)
    np.testing.assert_array_equal(sol.trace.z["z"], plain.trace.z["z"])
    np.testing.assert_array_equal(sol.trace.f["z"], plain.trace.f["z"])
    assert "splitting" in sol.executor


def test_a_splitting_goes_on_from_its_own_variable():
    data, stop = np.array([[1.0]]), StopRule(max_eval=3)
    cell = rd.models.rnn(np.array([[0.5]]), np.array([[1.0]]), np.array([0.0]))
    first = rd.solve(cell, data, solver=TwiceTheState(), stop=stop)
    assert first.z[0, 0] == 1.5
    assert first.iterate["z"][0, 0] == 0.75  # the variable at which the last evaluation was made
    again = rd.solve(cell, data, solver=TwiceTheState(), stop=StopRule(max_eval=1), warm=first)
    assert again.z[0, 0] == 1.5
    other = rd.solve(cell, data, solver=Picard(), stop=StopRule(max_eval=1), warm=first)
    assert other.z[0, 0] == 1.5  # another solver starts from the point
    named = replace(first, solver="another")
    assert rd.solve(cell, data, solver=TwiceTheState(), stop=StopRule(max_eval=1), warm=named).z[0, 0] == 3.0
