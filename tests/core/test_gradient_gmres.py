"""The adjoint by GMRES (G-2): accuracy by certified solves, and counts and statuses that are true."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_cases import NORM, UNIT, certified_solve, rnn_jacobians, rnn_problem, roundings, two_state_cell

import refdeq as rd
from refdeq.errors import ArgumentError


def gmres(**options):
    return rd.Ift(solver="gmres", stop=rd.StopRule(**options))


@pytest.mark.parametrize("n", [1, 8, 64])
@pytest.mark.parametrize("start", ["zero", "cotangent"])
def test_against_dense_linear_algebra(n, start, tanh_cell, rng):
    """|v - v*| <= |residual| / (1 - |J|), the residual as reported, plus its own rounding."""
    cell, x, sol, g = rnn_problem(tanh_cell, rng, n=n)
    method = rd.Ift(solver="gmres", start=start, stop=rd.StopRule(atol=1e-11))
    grad = rd.gradient(cell, sol, g, method=method)
    assert grad.converged
    assert np.all(grad.residual <= 1e-11)
    for i, jacobian in enumerate(rnn_jacobians(cell, sol.z, x)):
        exact, radius = certified_solve(np.eye(n) - jacobian.T, g[i], 1 - NORM)
        rounding = (roundings(cell, sol.z, x) + 4) * UNIT * (np.linalg.norm(exact) + np.linalg.norm(g[i])) / (1 - NORM)
        assert np.linalg.norm(grad.adjoint["z"][i] - exact) <= grad.residual[i] / (1 - NORM) + radius + rounding


def test_where_picard_diverges(affine_cell, rng):
    """J = twice a rotation: I - J^T has singular values of at least 1."""
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    cell, g = affine_cell(2 * turn, np.zeros(6)), rng.standard_normal((4, 6))
    sol = rd.solve(cell, np.zeros((4, 6)), stop=rd.StopRule(max_eval=1))
    grad = rd.gradient(cell, sol, g, method=gmres(rtol=1e-12, max_eval=40))
    assert grad.converged
    assert np.all(grad.n_eval <= 6 + 3)  # six Krylov vectors, and the products that look at the result
    for i in range(4):
        exact, radius = certified_solve(np.eye(6) - 2 * turn.T, g[i], 1.0)
        slack = grad.residual[i] + radius + 60 * UNIT * np.linalg.norm(exact)
        assert np.linalg.norm(grad.adjoint["z"][i] - exact) <= slack
    picard = rd.gradient(cell, sol, g, method=rd.Ift(stop=rd.StopRule(rtol=1e-12, max_eval=40)))
    assert (picard.status == rd.Status.MAX_EVAL).all()


def test_counts_by_hand(affine_cell):
    """J = diag(1/2, 1/4). An eigenvector takes one Krylov vector, a mixture two, and nothing is asked of an exact start.

    Beside them: the look at the first v, SciPy's residual at the end of the cycle, the look at the last v.
    """
    cell = affine_cell(np.diag([0.5, 0.25]), np.zeros(2))
    sol = rd.solve(cell, np.zeros((3, 2)))
    g = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    grad = rd.gradient(cell, sol, g, method=gmres(atol=1e-14))
    assert list(grad.n_eval) == [4, 5, 1]
    assert grad.converged
    assert np.abs(grad.adjoint["z"] - g * [2, 4 / 3]).max() <= 2 * (1e-14 + 8 * UNIT)


def test_every_product_counts(affine_cell):
    """A callable's own count of its calls, one sample at a time."""
    calls = []
    f = lambda z, x: z / 2 + x  # noqa: E731
    matrix = np.array([[0.5, 0.25, 0.0], [0.0, 0.5, 0.25], [0.25, 0.0, -0.5]])
    sol = rd.solve(f, np.ones((2, 3)), z0=np.zeros((2, 3)))

    def vjp(z, x, v):
        calls.append(np.flatnonzero(v.any(axis=1)))
        return v @ matrix

    grad = rd.gradient(f, sol, np.array([[1.0, 2.0, 3.0], [1.0, 0.0, 0.0]]), method=gmres(rtol=1e-9), vjp=vjp)
    assert grad.converged
    assert len(calls) == grad.n_eval.sum() + 1  # and the one that ends every method
    for i in range(2):
        assert sum(list(rows) == [i] for rows in calls) == grad.n_eval[i]


@pytest.mark.parametrize("budget", range(1, 9))
def test_the_budget_is_kept(budget, tanh_cell, rng):
    cell, _, sol, g = rnn_problem(tanh_cell, rng, n=16)
    grad = rd.gradient(cell, sol, g, method=gmres(atol=1e-13, max_eval=budget))
    assert (grad.status == rd.Status.MAX_EVAL).all()
    assert np.all((grad.n_eval >= 1) & (grad.n_eval <= budget))
    more = rd.gradient(cell, sol, g, method=gmres(atol=1e-13, max_eval=budget + 6))
    assert np.all(more.residual < grad.residual)


def test_a_singular_equation_breaks_down_and_its_neighbours_do_not(affine_cell, same_bits):
    """I - J^T = diag(0, 1/2): no v for the first component, and one for the second."""
    cell = affine_cell(np.diag([1.0, 0.5]), np.zeros(2))
    sol = rd.solve(cell, np.zeros((3, 2)))
    g = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    grad = rd.gradient(cell, sol, g, method=gmres(rtol=1e-10))
    assert list(grad.status) == [rd.Status.BREAKDOWN, rd.Status.CONVERGED, rd.Status.BREAKDOWN]
    same_bits(grad.adjoint["z"][1], np.array([0.0, 2.0]))
    assert np.isfinite(grad.adjoint["z"]).all()
    assert grad.residual[0] == 1.0
    assert grad.residual[2] >= 1.0 - 8 * UNIT  # the first component's part of g is out of reach


def test_numbers_that_are_not_finite_stay_where_they_are(tanh_cell, rng, same_bits):
    cell, _, sol, g = rnn_problem(tanh_cell, rng, batch=4)
    good = rd.gradient(cell, sol, g, method=gmres(rtol=1e-9))
    g[1, 2], g[2, 0] = np.nan, np.inf
    grad = rd.gradient(cell, sol, g, method=gmres(rtol=1e-9))
    assert list(grad.status) == [rd.Status.CONVERGED, rd.Status.NONFINITE, rd.Status.NONFINITE, rd.Status.CONVERGED]
    assert list(grad.n_eval[1:3]) == [1, 1]
    for i in (0, 3):
        same_bits(grad.adjoint["z"][i], good.adjoint["z"][i])
        same_bits(grad.injections["x"][i], good.injections["x"][i])
    assert np.isnan(grad.parameters["W"]).any()  # a sum over the batch hides nothing (N-2)
    assert np.isfinite(rd.gradient(cell, sol, g, where=np.isfinite(g).all(axis=1)).parameters["W"]).all()


def test_restarts(tanh_cell, rng):
    """GMRES(1) on a contraction: I - J^T has a positive symmetric part, so each cycle shortens the residual."""
    cell, _, sol, g = rnn_problem(tanh_cell, rng)
    one = rd.Ift(solver="gmres", restart=1, stop=rd.StopRule(rtol=1e-8, max_eval=600))
    grad, full = rd.gradient(cell, sol, g, method=one), rd.gradient(cell, sol, g, method=gmres(rtol=1e-8))
    assert grad.converged
    assert np.all(grad.n_eval > full.n_eval)


def test_several_states_in_float32(rng):
    cell = two_state_cell(rng).astype("float32")
    x = {"x": rng.standard_normal((3, 2, 6)).astype("f4"), "q": rng.standard_normal((3, 4)).astype("f4")}
    g = {"y": rng.standard_normal((3, 2, 6)).astype("f4"), "s": rng.standard_normal((3, 4)).astype("f4")}
    sol = rd.solve(cell, x, stop=rd.StopRule(rtol=1e-6))
    grad = rd.gradient(cell, sol, g, method=gmres(rtol=1e-5))
    assert grad.converged
    assert {array.dtype for array in grad.adjoint.values()} == {np.dtype("f4")}
    back = rd.vjp(cell, sol, grad.adjoint).states
    missing = np.sqrt(sum(np.sum((back[s] + g[s] - grad.adjoint[s]) ** 2.0, axis=tuple(range(1, g[s].ndim))) for s in g))
    rounding = 16 * 2.0**-24 * np.sqrt(sum(np.sum(g[s] ** 2) for s in g))
    assert np.all(np.abs(missing - grad.residual) <= rounding)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop": rd.StopRule(max_eval=9)}, "tolerance"),
        ({"delta": rd.DeltaRule(threshold=0.1)}, "GMRES"),
        ({"backend": "numba"}, "GMRES"),
        ({"restart": 0}, "restart"),
        ({"solver": "cg"}, "solver"),
        ({"solver": rd.Picard}, "solver"),
        ({"stop": 1e-3}, "StopRule"),
        ({"start": None}, "start"),
        ({"delta": 0.1}, "DeltaRule"),
        ({"order": "slow"}, "order"),
        ({"threads": 0}, "threads"),
    ],
)
def test_bad_configurations(options, message):
    with pytest.raises(ArgumentError, match=message):
        rd.Ift(**{"solver": "gmres", **options})
