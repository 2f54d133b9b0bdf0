"""Budgets, windows and refreshes beyond what compiled code counts to: every backend does what the reference does."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from refdeq_cupy import loader
from refdeq_cupy.simulated import ShimDevice
from refdeq_gpu.plans import make_plan

import refdeq as rd
from refdeq import execution, fc_pattern
from refdeq.errors import ArgumentError, UnsupportedError

sys.path.insert(0, str(Path(__file__).parents[1] / "refdeq_numba"))
sys.path.insert(0, str(Path(__file__).parent))
import fc_solving
import row_solving
from fused_cells import compare, rnn

HUGE = [2**31, 2**63, 2**70, np.int64(2**63 - 1)]
RULE = rd.DeltaRule(threshold=1e-2)
needs_shim = pytest.mark.skipif(loader.compiler() is None, reason="the simulated device needs g++")


class EveryPlan(fc_solving.OnePlan):
    """What the GPU backends offer."""

    def plan(self, request):
        return make_plan(request, self.device)


def solve_by(way, cell, x, **options):
    if way in ("reference", "numba"):
        return rd.solve(cell, x, backend=way, **options)
    if way == "rows":
        return row_solving.solved(ShimDevice(), cell, x, **options)
    return rd.solve(cell, x, backend=EveryPlan(ShimDevice()), **options)


@pytest.fixture
def problem(rng):
    return rnn(rng, 4, "float64"), rng.uniform(-1, 1, (2, 2))


WAYS = ["reference", "numba", pytest.param("gpu", marks=needs_shim)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("huge", HUGE)
def test_numbers_that_nothing_counts_to_are_never_reached(same_bits, problem, way, huge):
    """Each is compared with the reference under a number that is not reached either."""
    budget, stalled = rd.StopRule(rtol=1e-3, max_eval=huge), {"stagnation": (3, 0.9)}
    every = rd.DeltaRule(threshold=1e-2, refresh=huge)
    usual = rd.StopRule(rtol=1e-3)
    pairs = [
        ({"stop": budget, "trace": True}, {"stop": usual, "trace": True}),
        ({"stop": rd.StopRule(max_eval=huge, **stalled), "delta": RULE}, {"stop": rd.StopRule(**stalled), "delta": RULE}),
        ({"stop": rd.StopRule(rtol=1e-3, stagnation=(huge, 0.9))}, {"stop": usual}),
        ({"stop": usual, "delta": every}, {"stop": usual, "delta": RULE}),
    ]
    for asked, equal in pairs:
        got = solve_by(way, *problem, **asked)
        assert way == "reference" or got.executor.startswith("fused: ")
        compare(same_bits, got, rd.solve(*problem, **equal))


@pytest.mark.parametrize("huge", HUGE)
def test_anderson_has_no_overflow(same_bits, problem, huge):
    for solver in (rd.Anderson(window=3), rd.Anderson(window=3, warmup=huge, restart=huge)):
        options = {"solver": solver, "trace": True}
        got = rd.solve(*problem, backend="numba", executor="fused", stop=rd.StopRule(rtol=1e-6, max_eval=huge), **options)
        compare(same_bits, got, rd.solve(*problem, stop=rd.StopRule(rtol=1e-6), **options))


@pytest.mark.parametrize("way", WAYS)
def test_windows_that_no_plan_keeps_run_at_op_level(same_bits, problem, way, monkeypatch):
    monkeypatch.setattr(fc_pattern, "LONGEST_WINDOW", 3)
    for window, runs in (
        (3, "fused: "),
        (4, "op level (the fused solve keeps 3 residuals of a sample, "),
    ):
        stop = rd.StopRule(max_eval=2**70, stagnation=(window, 0.9))
        got = solve_by(way, *problem, stop=stop)
        compare(same_bits, got, rd.solve(*problem, stop=stop))
        assert (got.status == rd.Status.STAGNATED).all()
        assert way == "reference" or got.executor.startswith(runs)


@needs_shim
def test_rows_leave_budgets_of_more_than_32_bits_to_others(same_bits, problem):
    most = 2**31 - 1
    usual = rd.solve(*problem, stop=rd.StopRule(rtol=1e-3))
    compare(same_bits, solve_by("rows", *problem, stop=rd.StopRule(rtol=1e-3, max_eval=most)), usual)
    more = rd.StopRule(rtol=1e-3, max_eval=most + 1)
    with pytest.raises(UnsupportedError, match="rows count up to 2147483647 evaluations, the budget is larger"):
        solve_by("rows", *problem, stop=more)
    assert ", from 64 samples row lists" in EveryPlan(ShimDevice()).plan(_request(problem[0])).name
    assert solve_by("gpu", *problem, stop=more).executor == "fused: fc tanh, one launch"


@pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None or importlib.util.find_spec("greenlet") is None, reason="no simulator"
)
def test_kernels_in_python_get_the_same_numbers(same_bits, problem):
    from refdeq_cuda.simulated_device import SimulatedDevice

    options = {"delta": rd.DeltaRule(threshold=1e-2, refresh=2**70), "z0": np.zeros((2, 4))}
    got = rd.solve(*problem, backend=EveryPlan(SimulatedDevice()), stop=rd.StopRule(rtol=1e-1, max_eval=2**70), **options)
    assert got.executor.startswith("fused: fc tanh")
    compare(same_bits, got, rd.solve(*problem, stop=rd.StopRule(rtol=1e-1), **options))


@needs_shim
def test_a_plan_of_rows_does_not_wrap_around(problem):
    bound = EveryPlan(ShimDevice()).plan(_request(problem[0])).plans["rows"].bind(problem[0].parameters, threads=1)
    with pytest.raises(ArgumentError, match="max_eval: expected at most 2147483647 in a solve by rows, got 2147483648"):
        bound.run({"z": np.zeros((2, 4))}, {}, None, rd.StopRule(max_eval=2**31), None)


def _request(cell):
    from refdeq.registry import PlanRequest

    return PlanRequest(cell.graph, rd.Picard(), {}, "dense", "separate", 0, "last", "strict")


@pytest.mark.parametrize("stop", [{"rtol": 1e-3}, {"atol": 1e-3, "norm": "linf"}, {"stagnation": (2, 0.95)}, {}])
def test_long_traces_have_the_evaluations_that_are_made(same_bits, problem, stop, monkeypatch):
    """Beyond the longest buffers a fused solve runs twice; statuses, the used-up budget among them, stay what they are."""
    monkeypatch.setattr(execution, "_LONGEST_BUFFERS", 10)
    budget = 11
    for rule in (None, RULE):
        options = {"stop": rd.StopRule(max_eval=budget, **stop), "delta": rule, "trace": True}
        got = solve_by("numba", *problem, executor="fused", **options)
        compare(same_bits, got, rd.solve(*problem, **options))
        assert len(got.trace) == got.n_eval.max()
        assert stop or (got.n_eval == budget).all()
