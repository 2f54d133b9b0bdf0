"""Broyden where it can go wrong: zero denominators, line searches, gates, bad arguments (S-3, S-8, D-8)."""

from __future__ import annotations

import numpy as np
import pytest

import refdeq as rd
from refdeq import ArmijoLineSearch, Broyden, Status, StopRule
from refdeq.errors import ArgumentError

U = 2.0**-53


def affine(a, b):
    return lambda z, x: z @ a.T + b


def run(f, z0, solver, evaluations):
    return rd.solve(f, z0=z0, solver=solver, stop=StopRule(max_eval=evaluations), trace=True)


def picture(sol):
    return [(Status(int(s)).name, int(n)) for s, n in zip(sol.status, sol.n_eval, strict=True)]


# ---------------------------------------------------------------------------------------------------------------- breakdown


def test_a_zero_denominator_is_a_breakdown_of_that_sample_alone(rng, same_bits):
    """Sample 1 has f = z + 1: its residual never changes, dg = 0. The others end with the bits they have alone."""
    z0 = rng.standard_normal((3, 4))
    z0[1] = [1.0, -2.0, 3.0, 0.5]  # exact sums

    def f(z, x):  # elementwise: a matrix product of a library has other bits in another batch
        return np.where(x, z + 1.0, 0.9 * np.sin(np.roll(z, 1, axis=1)) - 0.3 * z)

    def solved(rows):
        x, stop = np.array([False, True, False])[rows, None], StopRule(atol=1e-9, max_eval=60)
        return rd.solve(f, x, z0=z0[rows], solver=Broyden(), stop=stop, trace=True)

    sol = solved([0, 1, 2])
    assert picture(sol)[1] == ("BREAKDOWN", 2)
    np.testing.assert_array_equal(sol.z[1], sol.trace.z["z"][1, 1])  # left at the argument of its last evaluation
    assert sol.residual[1] == 2.0
    assert sol.solver_state.count[1] == 0
    assert all(np.isfinite(column[1]).all() for column in [*sol.solver_state.u, *sol.solver_state.v])
    for b in (0, 2):
        alone = solved([b])
        assert picture(alone) == [picture(sol)[b]]
        assert alone.converged
        same_bits(alone.z[0], sol.z[b])
        same_bits(alone.trace.residual[:, 0], sol.trace.residual[: len(alone.trace), b])


@pytest.mark.parametrize("update", ["good", "bad"])
def test_a_denominator_without_reciprocal_is_a_breakdown(update):
    """g = 1e-150, then 1e-150 (1 + 1e-10): the denominators are subnormal, about 1e-310 and 1e-320."""
    sol = run(lambda z, x: z + np.where(z == 0.0, 1.0, 1.0 + 1e-10) * 1e-150, np.zeros((1, 1)), Broyden(update=update), 5)
    assert picture(sol) == [("BREAKDOWN", 2)]
    assert sol.z[0, 0] == 1e-150


@pytest.mark.parametrize("options", [{}, {"update": "bad"}, {"window": 1}, {"line_search": "armijo"}], ids=str)
def test_a_residual_of_zero_needs_no_update(options):
    """Without a tolerance a solved sample goes on to its budget, where it is."""
    sol = run(affine(np.diag([0.5, -0.5]), np.zeros(2)), np.zeros((1, 2)), Broyden(**options), 6)
    np.testing.assert_array_equal(sol.trace.z["z"], 0.0)
    assert picture(sol) == [("MAX_EVAL", 6)]


# -------------------------------------------------------------------------------------------------------------- line search


def steep(z, x):
    return z - 6.0 * np.arctan(z)


@pytest.mark.parametrize("backtracks", [1, 2, 5])
def test_trials_are_evaluations_along_the_step(backtracks):
    """Replayed from the residuals: a step that is too long is shortened, a bounded number of times; then a new one begins."""
    search = ArmijoLineSearch(backtracks=backtracks, shortest=0.1)
    sol = run(steep, np.full((1, 1), 1.0), Broyden(line_search=search), 12)
    z, phi = sol.trace.z["z"][:, 0, 0], sol.trace.residual[:, 0] ** 2
    base, length, full, refused, every = 0, 1.0, z[1] - z[0], 0, []
    for t in range(1, 11):
        if refused < backtracks and phi[t] > (1 - 2 * search.decrease * length) * phi[base]:
            fitted = length**2 * phi[base] / (phi[t] - phi[base] + 2 * length * phi[base])
            length, refused = min(max(fitted, search.shortest * length), search.longest * length), refused + 1
            assert abs(z[t + 1] - (z[base] + length * full)) <= 8 * U * (abs(z[base]) + abs(full))
        else:
            every.append(refused)
            base, length, full, refused = t, 1.0, z[t + 1] - z[t], 0
    assert sum(every[:-1]) > 0
    assert sol.solver_state.count[0] == len(every)


def test_every_step_has_its_own_backtracks():
    """Refusals of an earlier step do not use up those of a later one."""
    stop, z0 = StopRule(atol=1e-9, max_eval=60), np.array([[1.0], [3.0], [-8.0], [20.0]])
    search = ArmijoLineSearch(backtracks=1, longest=0.9, shortest=0.9)
    sol = rd.solve(steep, z0=z0, solver=Broyden(line_search=search), stop=stop, trace=True)
    assert np.any(sol.n_eval - 2 - sol.solver_state.count >= 2)


def test_where_full_steps_diverge_a_line_search_converges():
    stop = StopRule(atol=1e-12, max_eval=60)
    z0 = np.array([[1.0], [3.0], [-8.0]])
    with_search = rd.solve(steep, z0=z0, solver=Broyden(line_search="armijo"), stop=stop)
    assert with_search.converged
    np.testing.assert_array_equal(np.abs(with_search.z) <= 1e-12, True)


@pytest.mark.parametrize("backtracks", [1, 2, 5])
def test_backtracking_is_bounded(backtracks):
    """A residual that never falls: after so many refused trials the next one is accepted, and a pair is formed from it."""
    search = ArmijoLineSearch(backtracks=backtracks)
    sol = run(lambda z, x: z + 1.0 + np.abs(z - 0.0), np.zeros((1, 1)), Broyden(line_search=search), backtracks + 3)
    assert sol.solver_state.count[0] == 1
    z = sol.trace.z["z"][:, 0, 0]
    assert np.all(np.diff(z[1 : backtracks + 2]) < 0.0)  # shorter and shorter steps from 0
    assert np.all(z[1 : backtracks + 2] > 0.0)


def test_trials_of_one_sample_do_not_delay_another(same_bits):
    z0 = np.array([[1.0], [0.01], [-8.0]])
    stop, solver = StopRule(atol=1e-9, max_eval=60), Broyden(line_search="armijo", window=2)
    sol = rd.solve(steep, z0=z0, solver=solver, stop=stop)
    for b in range(3):
        alone = rd.solve(steep, z0=z0[b : b + 1], solver=solver, stop=stop)
        same_bits(alone.z[0], sol.z[b])
        assert alone.n_eval[0] == sol.n_eval[b]
    assert len(set(sol.n_eval)) > 1


def test_gates_advance_at_every_trial(tanh_cell, rng):
    """D-8: the memory has counted as many evaluations as the sample made, and every one of them sent something."""
    cell, x = tanh_cell(norm=6.0), rng.standard_normal((4, 2))
    solver, rule = Broyden(line_search="armijo"), rd.DeltaRule(threshold=0.0)
    stop = StopRule(rtol=1e-9, max_eval=40)
    sol = rd.solve(cell, x, solver=solver, stop=stop, delta=rule, trace=True)
    refused = sol.n_eval - 2 - sol.solver_state.count
    assert refused.max() > 0
    np.testing.assert_array_equal(sol.memory.count, sol.n_eval)
    for b, n in enumerate(sol.n_eval):
        assert sol.trace.mask["z"][:n, b].any(axis=1).all()
        np.testing.assert_array_equal(sol.trace.r["z"][:n, b], sol.trace.z["z"][:n, b])


# ---------------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "window": [0, -1, 2.0, True, "all"],
        "update": ["ugly", None],
        "line_search": ["wolfe", 1.0, ArmijoLineSearch],
        "coupled": [1, None],
    }.items(),
)
def test_bad_arguments(name, values):
    for value in values:
        with pytest.raises(ArgumentError, match=name):
            Broyden(**{name: value})


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "decrease": [0.0, 0.5, np.nan],
        "shortest": [0.0, 0.6],
        "longest": [0.0, 1.0],
        "backtracks": [0, 1.5],
    }.items(),
)
def test_bad_line_searches(name, values):
    for value in values:
        with pytest.raises(ArgumentError, match=name):
            ArmijoLineSearch(**{name: value})


def test_names():
    assert (Broyden().name, Broyden(window=8).name) == ("broyden(inf)", "broyden(8)")
    assert Broyden(line_search="armijo") == Broyden(line_search=ArmijoLineSearch())
