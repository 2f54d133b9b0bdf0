"""Statuses, freezing, budgets, what is returned, hooks (S-1 to S-5, N-2)."""

from __future__ import annotations

import numpy as np
import pytest

import refdeq as rd
from refdeq.errors import SolveError
from refdeq.loop import Progress
from refdeq.stopping import decide, relative
from refdeq.types import Status, StopRule


def scaling_cell(factors, dtype="float64"):
    """Componentwise ``z <- c * z + x``; each component its own rate."""
    builder = rd.GraphBuilder(dtype)
    n = len(factors)
    z, x = builder.state("z", (n,)), builder.injection("x", (n,))
    w = builder.parameter("W", np.diag(np.array(factors, dtype=dtype)))
    builder.output(z, builder.node("Add", builder.node("Gemm", z, w, name="linear"), x, name="f"))
    return builder.build()


def picture(sol):
    return [(Status(int(s)).name, int(n)) for s, n in zip(sol.status, sol.n_eval, strict=True)]


# ------------------------------------------------------------------------------------------------- statuses and their order


@pytest.mark.parametrize(
    ("residual", "scale", "n_eval", "expected"),
    [
        (np.nan, 1.0, 5, Status.NONFINITE),
        (np.inf, 1.0, 5, Status.NONFINITE),
        (0.0, np.inf, 1, Status.NONFINITE),
        (0.0, np.nan, 1, Status.NONFINITE),
        (0.5, 1.0, 5, Status.CONVERGED),  # atol holds exactly, whatever else does
        (0.25, 0.0, 1, Status.CONVERGED),
        (100.0, 1e6, 1, Status.CONVERGED),  # rtol holds, though it diverged
        (100.0, 1.0, 5, Status.DIVERGED),
        (80.0, 1.0, 5, Status.STAGNATED),  # 80 is not above 10 times the first residual, 8
        (80.0, 1.0, 1, Status.STAGNATED),
    ],
)
def test_order_of_decisions(residual, scale, n_eval, expected):
    """All conditions hold at once in the fifth evaluation; the first in the order of S-3 wins."""
    stop = StopRule(atol=0.5, rtol=1e-3, max_eval=5, divergence=10.0, stagnation=(1, 1.0))
    history = [np.array([8.0]), np.array([residual])]
    got = decide(stop, np.array([residual]), np.array([scale]), np.array([n_eval]), history)
    assert Status(int(got[0])) is expected


def test_max_eval_comes_last():
    stop = StopRule(atol=0.5, max_eval=5)
    for residual, expected in ((0.5, Status.CONVERGED), (np.nextafter(0.5, 1), Status.MAX_EVAL)):
        value = np.array([residual])
        assert decide(stop, value, value, np.array([5]), [value])[0] == expected
        assert decide(stop, value, value, np.array([4]), [value])[0] in (Status.CONVERGED, Status.RUNNING)


def test_relative_residual_is_guarded():
    assert relative(np.array([1.0]), np.array([0.0]), 0.5)[0] == 2.0
    stop = StopRule(rtol=2.0, max_eval=9, eps=0.5)
    one, zero = np.array([1.0]), np.array([0.0])
    assert decide(stop, one, zero, np.array([1]), [one])[0] == Status.CONVERGED
    assert decide(stop, np.nextafter(one, 2), zero, np.array([1]), [one])[0] == Status.RUNNING


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([4, 2, 1, 0.5], False),  # keeps halving
        ([4, 2, 2, 2], True),
        ([4, 2, 5, 1.9], False),  # 1.9 < 1.0 * 2
        ([4, 2, 5, 2], True),
        ([4, 2, 2], False),  # the last two are below the one before them
        ([4, 2], False),  # the window is not full beside an earlier evaluation
    ],
)
def test_stagnation_formula(history, expected):
    stop = StopRule(max_eval=99, stagnation=(2, 1.0))
    rows = [np.array([float(h)]) for h in history]
    got = decide(stop, rows[-1], np.ones(1), np.array([len(rows)]), rows)
    assert bool(got[0] == Status.STAGNATED) is expected


def test_divergence_is_relative_to_the_first_residual_and_strict():
    stop = StopRule(max_eval=99, divergence=10.0)
    for now, expected in ((10.0, Status.RUNNING), (np.nextafter(10.0, 11), Status.DIVERGED)):
        assert decide(stop, np.array([now]), np.ones(1), np.array([2]), [np.ones(1), np.array([now])])[0] == expected


def test_all_endings_in_one_batch():
    """z' = c z + x with c = 1/2, 1 and 4 (diverging by 4 per step, its residual growing likewise)."""
    cell = scaling_cell([0.5])
    grow = scaling_cell([4.0])
    x = np.array([[1.0], [0.0], [np.nan], [1e308]])
    sol = rd.solve(cell, x, stop=StopRule(atol=2.0**-10, max_eval=20))
    # residuals of the first sample: 1, 1/2, ..., 2**-10 at evaluation 11; 1e308 needs more than 20
    assert picture(sol) == [("CONVERGED", 11), ("CONVERGED", 1), ("NONFINITE", 1), ("NONFINITE", 1)]
    assert sol.residual[0] == 2.0**-10
    sol = rd.solve(grow, x[:2], stop=StopRule(atol=0.0, max_eval=20, divergence=60.0))
    assert picture(sol) == [("DIVERGED", 4), ("CONVERGED", 1)]  # 1, 4, 16, 64 > 60
    sol = rd.solve(scaling_cell([-1.0]), x[:1], stop=StopRule(atol=0.0, max_eval=20, stagnation=(3, 1.0)))
    assert picture(sol) == [("STAGNATED", 4)]  # z = 0, 1, 0, 1: the residual stays 1
    assert rd.solve(cell, x[:1], stop=StopRule(max_eval=7)).counts() == {Status.MAX_EVAL: 1}


def test_overflow_is_nonfinite_not_hidden():
    sol = rd.solve(scaling_cell([4.0]), np.array([[1.0]]), stop=StopRule(atol=0.0, max_eval=2000))
    assert picture(sol)[0][0] == "NONFINITE"
    assert np.isfinite(sol.z).all()  # the argument of the last evaluation; f of it was not finite
    assert not np.isfinite(sol.residual).any()


# -------------------------------------------------------------------------------------------- freezing and neighbours (S-1)


@pytest.mark.parametrize("rule", [None, rd.DeltaRule(threshold=0.01), rd.DeltaRule(threshold=0.02, bias="folded", refresh=3)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e308])
def test_a_bad_sample_does_not_touch_its_neighbours(rule, bad, tanh_cell, rng, same_bits):
    cell, stop = tanh_cell(), StopRule(rtol=1e-6, max_eval=60)
    x = rng.standard_normal((4, 2))
    clean = rd.solve(cell, x, delta=rule, stop=stop)
    x[2] = bad
    sol = rd.solve(cell, x, delta=rule, stop=stop)
    others = [0, 1, 3]
    same_bits(sol.z[others], clean.z[others])
    np.testing.assert_array_equal(sol.n_eval[others], clean.n_eval[others])
    if rule is not None:
        same_bits(sol.memory.a["recurrent"][others], clean.memory.a["recurrent"][others])
    if not np.isfinite(bad):
        assert sol.status[2] == Status.NONFINITE


@pytest.mark.parametrize("rule", [None, rd.DeltaRule(threshold=0.01), rd.DeltaRule(threshold=0.01, start="zero", refresh=4)])
def test_results_do_not_depend_on_the_batch(rule, tanh_cell, rng, same_bits):
    cell, x, stop = tanh_cell(), 3 * rng.standard_normal((5, 2)), StopRule(rtol=1e-7, max_eval=40)
    whole = rd.solve(cell, x, delta=rule, stop=stop)
    assert len(set(whole.n_eval)) > 1
    for parts in ([[0], [1], [2], [3], [4]], [[4, 2], [3, 0, 1]]):
        for rows in parts:
            sol = rd.solve(cell, x[rows], delta=rule, stop=stop)
            same_bits(sol.z, whole.z[rows])
            same_bits(sol.residual, whole.residual[rows])
            np.testing.assert_array_equal(sol.n_eval, whole.n_eval[rows])
            np.testing.assert_array_equal(sol.cost.macs_per_sample, whole.cost.macs_per_sample[rows])
            if rule is not None:
                same_bits(sol.memory.r["z"], whole.memory.r["z"][rows])
                same_bits(sol.memory.a["recurrent"], whole.memory.a["recurrent"][rows])
                np.testing.assert_array_equal(sol.memory.count, whole.memory.count[rows])


def test_a_frozen_sample_stops_changing(tanh_cell, rng, same_bits):
    cell, x = tanh_cell(), rng.standard_normal((3, 2)) * np.array([[0.01], [1.0], [5.0]])
    rule = rd.DeltaRule(threshold=0.01)
    sol = rd.solve(cell, x, delta=rule, stop=StopRule(rtol=1e-4, max_eval=50), trace=True)
    assert len(set(sol.n_eval)) > 1
    for b, n in enumerate(sol.n_eval):
        assert sol.trace.active[:n, b].all()
        assert not sol.trace.active[n:, b].any()
        same_bits(sol.z[b], sol.trace.z["z"][n - 1, b])
        same_bits(sol.memory.r["z"][b], sol.trace.r["z"][n - 1, b])
        same_bits(sol.memory.a["recurrent"][b], sol.trace.a["recurrent"][n - 1, b])
        assert sol.memory.count[b] == n
        assert np.isnan(sol.trace.z["z"][n:, b]).all()
        assert not sol.trace.mask["z"][n:, b].any()


# --------------------------------------------------------------------------------------------- budgets and what is returned


@pytest.mark.parametrize("n", [1, 2, 5])
def test_budget_counts_evaluations_and_no_step_follows(n):
    sol = rd.solve(scaling_cell([0.5]), np.array([[1.0]]), stop=StopRule(max_eval=n))
    assert picture(sol) == [("MAX_EVAL", n)]
    assert sol.z[0, 0] == 2.0 - 2.0 ** (2 - n)  # the argument of evaluation n: 0, 1, 1.5, ...


def test_plain_callable_sees_every_evaluation():
    seen = []

    def f(z, x):
        seen.append(z.copy())
        return 0.5 * z + x

    sol = rd.solve(f, 1.0, z0=np.zeros((1, 1)), stop=StopRule(max_eval=3))
    assert [float(z[0, 0]) for z in seen] == [0.0, 1.0, 1.5]
    assert sol.z[0, 0] == 1.5


def bouncing(values):
    """A callable whose residuals are the given numbers, one per evaluation."""
    calls = iter(values)
    return lambda z, x: z + next(calls)


@pytest.mark.parametrize(
    ("steps", "index"),
    [
        ([4.0, 1.0, 2.0], 1),
        ([2.0, 2.0, -2.0], 0),  # a tie keeps the earlier
        ([4.0, 3.0, np.nan], 1),
        ([np.inf], 0),
        ([np.nan], 0),  # all NaN: z0
    ],
)
def test_lowest_residual(steps, index):
    z0 = np.array([[10.0]])
    sol = rd.solve(bouncing(steps), z0=z0, stop=StopRule(max_eval=3), returned="lowest")
    assert sol.z[0, 0] == 10.0 + sum(steps[:index])
    np.testing.assert_array_equal(sol.residual, [abs(steps[index])])


def test_lowest_compares_relative_residuals_when_only_those_are_asked_for():
    steps = [4.0, 5.0]  # |f| = 14, 19: 4/14 > 5/19
    for options, index in (({"rtol": 0.0}, 1), ({"atol": 0.0}, 0), ({"rtol": 0.0, "atol": 0.0}, 0)):
        stop = StopRule(max_eval=2, **options)
        sol = rd.solve(bouncing(steps), z0=np.array([[10.0]]), stop=stop, returned="lowest")
        assert sol.z[0, 0] == 10.0 + sum(steps[:index])


def test_memory_is_that_of_the_last_evaluation_also_for_lowest(same_bits):
    cell, x, rule = scaling_cell([2.0]), np.array([[1.0]]), rd.DeltaRule(threshold=0.0)
    stop = StopRule(max_eval=4)
    last, low = (rd.solve(cell, x, delta=rule, stop=stop, returned=r) for r in ("last", "lowest"))
    assert low.z[0, 0] == 0.0
    assert last.z[0, 0] == 7.0
    same_bits(low.memory.r["z"], last.memory.r["z"])


def test_polish_makes_one_more_evaluation(same_bits):
    cell, x = scaling_cell([0.5]), np.array([[1.0]])
    sol = rd.solve(cell, x, stop=StopRule(max_eval=3), polish=True)
    assert (sol.z[0, 0], int(sol.n_eval[0]), sol.polished) == (1.75, 4, True)
    assert not rd.solve(cell, x, stop=StopRule(max_eval=3)).polished


def test_verify_uncovers_what_a_gate_hides(tanh_cell, rng):
    """With an infinite threshold f stands still and Picard 'converges' at once (S-2b)."""
    cell, x = tanh_cell(), rng.standard_normal((3, 2))
    rule, stop = rd.DeltaRule(threshold=np.inf), StopRule(rtol=1e-6)
    sol = rd.solve(cell, x, delta=rule, stop=stop, verify=True)
    assert sol.converged
    assert set(sol.n_eval) == {2}
    assert np.all(sol.residual == 0.0)
    assert "3 of 3 samples" in sol.warnings[0]
    f = rd.solve(cell, x, z0=sol.z, stop=StopRule(max_eval=2)).z  # the second argument is f of the first
    exact = np.linalg.norm(f - sol.z, axis=1)
    # two sums of six squares and a square root: relative rounding below 8 u each way
    assert np.all(np.abs(sol.residual_dense - exact) <= 16 * 2.0**-53 * exact)
    assert rd.solve(cell, x, stop=stop, verify=True).warnings == ()
    absolute = rd.solve(cell, x, delta=rule, stop=StopRule(atol=1e-6), verify=True)
    assert "3 of 3 samples" in absolute.warnings[0]
    assert rd.solve(cell, x, delta=rule, stop=StopRule(atol=100.0), verify=True).warnings == ()
    assert rd.solve(cell, x, delta=rule, stop=stop).residual_dense is None


# ----------------------------------------------------------------------------------------------------- hooks and statuses


def test_hook_sees_progress_and_cancels(same_bits):
    cell, x = scaling_cell([0.5]), np.array([[1.0], [0.0]])
    seen = []

    def hook(progress):
        seen.append(progress)
        return progress.evaluation < 3

    sol = rd.solve(cell, x, stop=StopRule(atol=0.0, max_eval=50), on_evaluation=hook)
    assert seen == [Progress(1, 1, 1, 1.0), Progress(2, 1, 1, 0.5), Progress(3, 1, 1, 0.25)]
    assert picture(sol) == [("CANCELLED", 3), ("CONVERGED", 1)]
    same_bits(sol.z, np.array([[1.5], [0.0]]))


@pytest.mark.parametrize(("answer", "evaluations"), [(None, 9), (True, 9), (False, 1), (np.False_, 1)])
def test_what_a_hook_may_answer(answer, evaluations):
    sol = rd.solve(scaling_cell([0.5]), np.ones((1, 1)), stop=StopRule(max_eval=9), on_evaluation=lambda p: answer)
    assert sol.n_eval[0] == evaluations


def test_hook_of_a_finished_batch():
    seen = []
    rd.solve(scaling_cell([0.5]), np.zeros((1, 1)), stop=StopRule(atol=1.0), on_evaluation=seen.append)
    assert len(seen) == 1
    assert (seen[0].running, seen[0].finished) == (0, 1)
    assert np.isnan(seen[0].worst)


def test_raise_for_status_carries_the_solution():
    cell, x = scaling_cell([0.5]), np.array([[0.0], [1.0], [np.nan]])
    sol = rd.solve(cell, x, stop=StopRule(atol=1e-9, max_eval=2))
    with pytest.raises(SolveError) as caught:
        sol.raise_for_status()
    assert caught.value.solution is sol
    text = str(caught.value)
    assert "1 of 3 evaluation budget used up" in text
    assert "1 of 3 the residual or f(z) became NaN" in text
    assert "first: sample 1" in text
    rd.solve(cell, x[:1]).raise_for_status()
    assert not sol.converged
    assert repr(sol).startswith("Solution(3 samples: CONVERGED 1, MAX_EVAL 1, NONFINITE 1; evaluations 1 to 2")


def test_relative_residuals_of_a_solution():
    sol = rd.solve(scaling_cell([0.5]), np.array([[2.0]]), stop=StopRule(max_eval=2, eps=1.0))
    assert sol.residual_rel[0] == 1.0 / (3.0 + 1.0)  # z = 2, f = 3


def test_every_status_has_a_sentence():
    assert len({status.sentence for status in Status}) == len(Status)
