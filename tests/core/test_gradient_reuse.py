"""The forward solve's quasi-Newton inverse, reused for the adjoint (G-2)."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_cases import NORM, UNIT, rnn_problem, two_state_cell

import refdeq as rd
from refdeq.errors import ArgumentError


def dense_inverses(state):
    """H = -I + sum u v^T per sample."""
    u, v = (np.stack(side, axis=1) for side in (state.u, state.v))
    return [-np.eye(u.shape[2]) + ui.T @ vi for ui, vi in zip(u, v, strict=True)]


def test_one_dimension_is_solved_before_it_begins():
    """f = 1 + 3 z: H = 1/(3 - 1) after one update, so -H^T g = g / (1 - 3) and the first evaluation finds no residual."""
    cell = rd.models.rnn(np.array([[0.0]]), np.array([[1.0]]), np.array([0.0]))
    f, vjp = (lambda z, x: 1 + 3 * z), (lambda z, x, v: 3 * v)
    sol = rd.solve(f, None, z0=np.zeros((2, 1)), solver=rd.Broyden(), stop=rd.StopRule(atol=0.0))
    g = np.array([[1.0], [-4.0]])
    for solver in (rd.Picard(), rd.Broyden(), "gmres"):
        method = rd.Ift(solver=solver, reuse="forward", stop=rd.StopRule(atol=0.0))
        grad = rd.gradient(f, sol, g, method=method, vjp=vjp)
        np.testing.assert_array_equal(grad.adjoint["z"], g / -2)
        assert list(grad.n_eval) == [1, 1]
        assert grad.converged
        plain = rd.gradient(f, sol, g, method=rd.Ift(solver=rd.Broyden(), stop=rd.StopRule(atol=0.0)), vjp=vjp)
        assert plain.n_eval.min() > 1
    assert cell.dtype == g.dtype


def test_the_start_is_the_transposed_inverse(tanh_cell, rng):
    """One evaluation returns its argument: -H^T g, with H put together from the columns; H itself gives something else."""
    cell, _, sol, g = rnn_problem(tanh_cell, rng, n=6, solver=rd.Broyden(), stop=rd.StopRule(rtol=1e-6))
    grad = rd.gradient(cell, sol, g, method=rd.Ift(reuse="forward", stop=rd.StopRule(max_eval=1)))
    second = rd.gradient(cell, sol, g, method=rd.Ift(reuse="forward", solver=rd.Broyden(), stop=rd.StopRule(max_eval=2)))
    state = sol.solver_state
    for i, inverse in enumerate(dense_inverses(state)):
        columns = sum(np.linalg.norm(u[i]) * np.linalg.norm(v[i]) for u, v in zip(state.u, state.v, strict=True))
        bound = 4 * (len(g[i]) + len(state.u)) * UNIT * (1 + columns) * np.linalg.norm(g[i])
        assert np.linalg.norm(grad.adjoint["z"][i] + inverse.T @ g[i]) <= bound
        assert np.linalg.norm(grad.adjoint["z"][i] + inverse @ g[i]) > 1e6 * bound
        # Broyden goes on with H^T: v - H^T (J^T v + g - v)
        v = grad.adjoint["z"][i]
        jacobian = (1 - sol.z[i] ** 2)[:, None] * cell.parameters["W"]  # z solves the equation to 1e-6, so this is J to 1e-6
        residual = jacobian.T @ v + g[i] - v
        off = 2 * NORM * 1e-6 * np.linalg.norm(v) * (1 + columns)
        assert np.linalg.norm(second.adjoint["z"][i] - (v - inverse.T @ residual)) <= off + bound * (1 + columns)
        assert np.linalg.norm(inverse.T @ residual + residual) > 10 * off  # it is no Picard step


@pytest.mark.parametrize("n", [16, 64])
def test_reuse_saves_evaluations(n, rng):
    """At |W| = 1.5, 8 samples, 1e-6: the transposed columns save a third or more; the start alone saves some Picard steps."""
    w = np.random.default_rng(1).standard_normal((n, n))
    cell = rd.models.rnn(1.5 * w / np.linalg.norm(w, 2), 0.3 * rng.standard_normal((n, 2)), 0.3 * rng.standard_normal(n))
    x, g = rng.standard_normal((8, 2)), rng.standard_normal((8, n))
    sol = rd.solve(cell, x, solver=rd.Broyden(), stop=rd.StopRule(rtol=1e-9, max_eval=400))
    assert sol.converged
    evaluations = {}
    for solver in (rd.Broyden(), rd.Picard()):
        for reuse in (None, "forward"):
            method = rd.Ift(solver=solver, reuse=reuse, stop=rd.StopRule(rtol=1e-6, max_eval=400))
            grad = rd.gradient(cell, sol, g, method=method)
            assert grad.converged
            evaluations[solver.name, reuse] = grad.n_eval.sum()
    assert 3 * evaluations["broyden(inf)", "forward"] <= 2 * evaluations["broyden(inf)", None]
    assert evaluations["picard", "forward"] < evaluations["picard", None]


def test_a_ring_and_chosen_samples(tanh_cell, rng, same_bits):
    """A window that has wrapped around, and the columns of the samples that take part."""
    cell, _, sol, g = rnn_problem(tanh_cell, rng, n=12, solver=rd.Broyden(window=3), stop=rd.StopRule(rtol=1e-6))
    assert sol.n_eval.min() > 5
    method = rd.Ift(solver=rd.Broyden(window=5), reuse="forward", stop=rd.StopRule(rtol=1e-6))
    whole = rd.gradient(cell, sol, g, method=method)
    some = rd.gradient(cell, sol, g, method=method, where=np.array([True, False, True]))
    assert whole.converged
    assert list(some.n_eval) == [whole.n_eval[0], 0, whole.n_eval[2]]
    first = rd.Ift(reuse="forward", stop=rd.StopRule(max_eval=1))
    begun = [rd.gradient(cell, sol, g, method=first, where=w).adjoint["z"] for w in (None, np.array([True, False, True]))]
    same_bits(begun[0][[0, 2]], begun[1][[0, 2]])
    for i in (0, 2):
        apart = (some.residual[i] + whole.residual[i] + 1e3 * UNIT * np.linalg.norm(g[i])) / (1 - NORM)
        assert np.linalg.norm(some.adjoint["z"][i] - whole.adjoint["z"][i]) <= apart
    same_bits(some.z, sol.z)
    assert not some.adjoint["z"][1].any()
    with pytest.raises(ArgumentError, match="window"):
        rd.gradient(cell, sol, g, method=rd.Ift(solver=rd.Broyden(window=2), reuse="forward"))


def test_states_keep_the_order_of_the_solution(rng, same_bits):
    """A mapping in another order is the same cotangent: the columns are rows of the states in one order."""
    cell = two_state_cell(rng)
    x = {"x": rng.standard_normal((3, 2, 6)), "q": rng.standard_normal((3, 4))}
    g = {"y": rng.standard_normal((3, 2, 6)), "s": rng.standard_normal((3, 4))}
    z0 = {s: np.zeros_like(array) for s, array in reversed(g.items())}
    for start in (None, z0):
        sol = rd.solve(cell, x, z0=start, solver=rd.Broyden(), stop=rd.StopRule(rtol=1e-9))
        method = rd.Ift(solver=rd.Broyden(), reuse="forward", stop=rd.StopRule(rtol=1e-6))
        one, two = (rd.gradient(cell, sol, given, method=method) for given in (g, dict(reversed(g.items()))))
        plain = rd.gradient(cell, sol, g, method=rd.Ift(solver=rd.Broyden(), stop=rd.StopRule(rtol=1e-6)))
        for s in g:
            same_bits(one.adjoint[s], two.adjoint[s])
        assert list(one.n_eval) == list(two.n_eval)
        assert one.n_eval.sum() < plain.n_eval.sum()


def test_other_solvers_leave_nothing_to_reuse(tanh_cell, rng):
    cell, _, sol, g = rnn_problem(tanh_cell, rng)
    with pytest.raises(ArgumentError, match="Broyden"):
        rd.gradient(cell, sol, g, method=rd.Ift(reuse="forward"))
    with pytest.raises(ArgumentError, match="reuse"):
        rd.Ift(reuse="backward")
