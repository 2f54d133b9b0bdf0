"""Neumann series and JFB (G-2): what is missing is known exactly, and so are bits and counts."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_cases import NORM, TIGHT, UNIT, certified_solve, rnn_jacobians, rnn_problem, roundings

import refdeq as rd
from refdeq.errors import ArgumentError


def accumulated(k, tau, c, g):
    """Error of k damped steps whose product errs by c u |v|, and the largest |v| among them: |B| <= beta."""
    beta = abs(1 - tau) + tau * NORM
    largest = tau * sum(beta**i for i in range(k)) * np.linalg.norm(g)
    return k * max(1.0, beta) ** k * (c + 8) * UNIT * (largest + np.linalg.norm(g)), largest


@pytest.mark.parametrize("k", [1, 2, 5, 20])
@pytest.mark.parametrize("tau", [1.0, 0.5, 1.4])
def test_what_the_series_lacks_is_the_power_of_its_matrix(k, tau, tanh_cell, rng):
    cell, x, sol, g = rnn_problem(tanh_cell, rng)
    grad = rd.gradient(cell, sol, g, method=rd.Neumann(k, tau))
    c = roundings(cell, sol.z, x)
    for i, jacobian in enumerate(rnn_jacobians(cell, sol.z, x)):
        n = len(jacobian)
        exact, radius = certified_solve(np.eye(n) - jacobian.T, g[i], 1 - NORM)
        power = np.linalg.matrix_power((1 - tau) * np.eye(n) + tau * jacobian.T, k)
        error, _ = accumulated(k, tau, c, g[i])
        growth = np.linalg.norm(power) + 1
        missing = exact - grad.adjoint["z"][i]
        slack = error + growth * (radius + k * 4 * n * n * UNIT * np.linalg.norm(exact))
        assert np.linalg.norm(missing - power @ exact) <= slack
        assert abs(grad.residual[i] - np.linalg.norm(power @ g[i])) <= 2 * slack  # g - (I - J^T) v_k = B^k g
        assert np.linalg.norm(missing) > 1e3 * slack or k == 20  # the identity is not met by both sides vanishing


@pytest.mark.parametrize("tau", [1.0, 0.3])
def test_the_series_is_damped_picard_from_zero(tau, tanh_cell, rng, same_bits):
    cell, _, sol, g = rnn_problem(tanh_cell, rng)
    series = rd.gradient(cell, sol, g, method=rd.Neumann(6, tau))
    steps = rd.Ift(solver=rd.KrasnoselskiiMann(alpha=tau), start="zero", stop=rd.StopRule(max_eval=7))
    iterated = rd.gradient(cell, sol, g, method=steps)
    same_bits(series.adjoint["z"], iterated.adjoint["z"])
    same_bits(series.parameters["W"], iterated.parameters["W"])


def test_the_series_by_hand():
    """J = 1/2 at z = 0: 1 + 1/2 + 1/4 = 7/4; with tau = 1/2, B = 3/4: 1/2 (1 + 3/4 + 9/16) = 37/32."""
    cell = rd.models.rnn(np.array([[0.5]]), np.array([[1.0]]), np.array([0.0]))
    sol = rd.solve(cell, np.zeros((1, 1)))
    for tau, expected, left in ((1.0, 1.75, 0.125), (0.5, 37 / 32, 27 / 64)):
        grad = rd.gradient(cell, sol, np.ones((1, 1)), method=rd.Neumann(3, tau))
        assert grad.adjoint["z"][0, 0] == expected
        assert grad.injections["x"][0, 0] == expected  # U = 1 and the slope is 1
        assert grad.residual[0] == left
        assert grad.n_eval[0] == 2
        assert grad.status[0] == rd.Status.MAX_EVAL


def test_damping_reaches_what_the_plain_series_cannot(affine_cell):
    """J = -2: the series diverges; with tau = 1/2, B = -1/2, and 1 / (1 + 2) comes out to 2^-k."""
    cell = affine_cell(np.array([[-2.0]]), np.zeros(1))
    sol = rd.solve(cell, np.zeros((1, 1)))
    plain, damped = (rd.gradient(cell, sol, np.ones((1, 1)), method=rd.Neumann(30, tau)) for tau in (1.0, 0.5))
    assert plain.residual[0] == 2.0**30
    assert damped.residual[0] <= 2.0**-30 + 4 * UNIT
    assert abs(damped.adjoint["z"][0, 0] - 1 / 3) <= (2.0**-30 + 4 * UNIT) / 3


def test_jfb_is_the_first_term_and_points_the_right_way(tanh_cell, rng, same_bits):
    cell, _, sol, g = rnn_problem(tanh_cell, rng, n=12, batch=8)
    jfb = rd.gradient(cell, sol, g, method=rd.Jfb())
    first = rd.gradient(cell, sol, g, method=rd.Neumann(1))
    exact = rd.gradient(cell, sol, g, method=rd.Ift(stop=TIGHT))
    same_bits(jfb.adjoint["z"], g)
    for name in cell.parameters:
        same_bits(jfb.parameters[name], first.parameters[name])
    assert not jfb.n_eval.any()
    v = exact.adjoint["z"]
    aligned, length = np.sum(g * v, axis=1), np.sum(v * v, axis=1)
    # <g, v> = <(I - J^T) v, v> >= (1 - |J|) |v|^2; the residual of v turns that by at most 1e-14 |v|
    assert np.all(aligned >= (1 - NORM) * length - 2e-14 * np.sqrt(length))
    assert np.all(aligned < length * (1 + NORM))
    # in parameter space nothing is promised in general; W of this cell is well enough conditioned
    assert sum(np.sum(jfb.parameters[p] * exact.parameters[p]) for p in cell.parameters) > 0
    assert not np.array_equal(jfb.parameters["W"], exact.parameters["W"])


@pytest.mark.parametrize("method", [rd.Ift(), rd.Neumann(3), rd.Jfb()])
def test_methods_at_the_fixed_point(method, tanh_cell, rng, same_bits):
    """They take the cotangent at the returned z, and their gradient with respect to the initial state is zero."""
    cell, _, sol, g = rnn_problem(tanh_cell, rng)
    seen = []
    grad = rd.gradient(cell, sol, lambda z: seen.append(z) or g, method=method)
    same_bits(seen[0], sol.z)
    same_bits(grad.z, sol.z)
    np.testing.assert_array_equal(grad.initial["z"], np.zeros_like(g))
    assert grad.method == method.name
    same_bits(grad.adjoint["z"], rd.gradient(cell, sol, g, method=method).adjoint["z"])


def test_callables_have_series_too(rng, same_bits):
    """z <- z/4 + x, so J^T v = v/4: all sums are exact. Every product counts but the VJP that ends the method."""
    x, g = np.ones((2, 3)), rng.integers(-8, 8, (2, 3)).astype(float)
    f = lambda z, x: z / 4 + x  # noqa: E731
    sol = rd.solve(f, x, z0=np.zeros((2, 3)))
    for method, total in ((rd.Neumann(3), 1 + 1 / 4 + 1 / 16), (rd.Neumann(1, 0.5), 0.5), (rd.Jfb(), 1.0)):
        calls = []
        grad = rd.gradient(f, sol, g, method=method, vjp=lambda z, x, v, calls=calls: calls.append(z) or v / 4)
        same_bits(grad.adjoint["z"], g * total)
        assert len(calls) == grad.n_eval[0] + 1 == grad.n_eval[1] + 1
        assert grad.parameters == {}
        assert grad.injections == {}


@pytest.mark.parametrize("k", [0, -1, 1.0, True, "3", None])
@pytest.mark.parametrize("method", [rd.Neumann, rd.Phantom, rd.Unrolled])
def test_bad_numbers_of_steps(method, k):
    with pytest.raises(ArgumentError, match="k: expected an integer"):
        method(k)


@pytest.mark.parametrize("damping", [0.0, -1.0, 2.5, np.nan, "1"])
@pytest.mark.parametrize("method", [rd.Neumann, rd.Phantom, rd.Unrolled])
def test_bad_dampings(method, damping):
    with pytest.raises(ArgumentError, match="damping"):
        method(3, damping)
