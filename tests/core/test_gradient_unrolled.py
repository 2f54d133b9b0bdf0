"""Backpropagation through steps (G-2): forward bits of the solver, differences, and the limit at the fixed point."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_cases import NORM, TIGHT, UNIT, differences_agree, rnn_problem, roundings, two_state_cell

import refdeq as rd
from refdeq.errors import ArgumentError, DTypeError, ShapeError


def after_steps(cell, x, z0, k, tau):
    """State after k damped steps, by the solver: its last argument when it may evaluate k + 1 times (S-4)."""
    return rd.solve(cell, x, z0=z0, solver=rd.KrasnoselskiiMann(alpha=tau), stop=rd.StopRule(max_eval=k + 1)).states


@pytest.mark.parametrize("tau", [1.0, 0.7])
def test_the_forward_value_is_the_solvers(tau, tanh_cell, rng, same_bits):
    cell, x, sol, g = rnn_problem(tanh_cell, rng, stop=rd.StopRule(max_eval=3))
    z0 = rng.standard_normal(g.shape)
    same_bits(rd.gradient(cell, sol, g, method=rd.Unrolled(5, tau)).z, after_steps(cell, x, None, 5, tau)["z"])
    same_bits(rd.gradient(cell, sol, g, method=rd.Unrolled(5, tau, z0)).z, after_steps(cell, x, z0, 5, tau)["z"])
    phantom = rd.gradient(cell, sol, g, method=rd.Phantom(2, tau))
    same_bits(phantom.z, after_steps(cell, x, sol.z, 2, tau)["z"])
    assert not np.array_equal(phantom.z, sol.z)


@pytest.mark.parametrize(("method", "tau"), [(rd.Unrolled, 1.0), (rd.Unrolled, 0.6), (rd.Phantom, 1.0), (rd.Phantom, 1.3)])
def test_gradients_against_differences(method, tau, rng):
    """Three steps of two states from anywhere, a loss that is not linear, and its cotangent at the last state."""
    cell, k = two_state_cell(rng), 3
    x = {"x": rng.standard_normal((3, 2, 6)), "q": rng.standard_normal((3, 4))}
    z0 = {"y": rng.standard_normal((3, 2, 6)), "s": rng.standard_normal((3, 4))}
    weights = {"y": rng.standard_normal((3, 2, 6)), "s": rng.standard_normal((3, 4))}
    sol = rd.solve(cell, x, z0=z0, stop=rd.StopRule(max_eval=1))  # returns z0: the phantom's steps begin there too
    made = method(k, tau, z0) if method is rd.Unrolled else method(k, tau)
    grad = rd.gradient(cell, sol, lambda z: {s: w + z[s] for s, w in weights.items()}, method=made)

    def loss(parameters, x, z0):
        z = after_steps(rd.Cell(cell.graph, parameters), x, z0, k, tau)
        return sum(float(np.sum(z[s] * w + z[s] ** 2 / 2)) for s, w in weights.items())

    def moved(arrays, direction, step):
        return {name: array + step * direction[name] for name, array in arrays.items()}

    differences_agree(grad.parameters, lambda d, h: loss(moved(cell.parameters, d, h), x, z0), rng)
    differences_agree(grad.injections, lambda d, h: loss(cell.parameters, moved(x, d, h), z0), rng)
    differences_agree(grad.initial, lambda d, h: loss(cell.parameters, x, moved(z0, d, h)), rng)


@pytest.mark.parametrize(("k", "tau"), [(1, 1.0), (4, 1.0), (4, 0.5), (12, 0.8)])
def test_unrolling_at_the_fixed_point_is_the_series(k, tau, tanh_cell, rng):
    """UPG = NPG at z*. Off it by d the Jacobians differ by at most |W|^2 d max|tanh''|, here below 0.77 d NORM^2."""
    cell, x, sol, g = rnn_problem(tanh_cell, rng)
    unrolled, series = (rd.gradient(cell, sol, g, method=method(k, tau)) for method in (rd.Phantom, rd.Neumann))
    largest = tau * k * np.linalg.norm(g)
    per_step = 2 * roundings(cell, sol.z, x) * UNIT + 0.77 * NORM**2 * 1e-14 / (1 - NORM)
    bound = k * k * per_step * (largest + np.linalg.norm(g))
    assert np.abs(unrolled.adjoint["z"] - series.adjoint["z"]).max() <= bound
    assert np.abs(unrolled.residual - series.residual).max() <= 4 * bound
    # parameters: slope <= 1, |z| <= 1, and the batch is summed
    reach = (1 + np.abs(x).sum()) * len(x)
    for name in cell.parameters:
        assert np.abs(unrolled.parameters[name] - series.parameters[name]).max() <= reach * bound


def test_unrolled_forgets_its_start_and_becomes_implicit(tanh_cell, rng):
    cell, x, sol, g = rnn_problem(tanh_cell, rng)
    k = 120
    grad = rd.gradient(cell, sol, g, method=rd.Unrolled(k))
    exact = rd.gradient(cell, sol, g, method=rd.Ift(stop=TIGHT))
    assert 0 < np.linalg.norm(grad.initial["z"]) <= NORM**k * np.linalg.norm(g) * (1 + k * roundings(cell, sol.z, x) * UNIT)
    # sum over steps t of NORM^t 0.77 NORM^2 (t + 1) |z_{k-t} - z*|, with |z_j - z*| <= NORM^j |z*|: k^2 NORM^k |z*| is above it
    length = np.linalg.norm(g) / (1 - NORM)
    truncation = k * k * NORM**k * (1 + np.linalg.norm(sol.z)) * length / (1 - NORM)
    rounding = (2 * k * roundings(cell, sol.z, x) * UNIT * length + 1e-14) / (1 - NORM)
    assert np.abs(grad.adjoint["z"] - exact.adjoint["z"]).max() <= truncation + rounding
    assert np.abs(rd.gradient(cell, sol, g, method=rd.Unrolled(5)).adjoint["z"] - exact.adjoint["z"]).max() > 1e3 * (
        truncation + rounding
    )


def test_a_plain_callable_by_hand(rng, same_bits):
    """z <- z/2 + x, k = 3: dL/dz0 = g/8, and the evaluations get g, g/2, g/4."""
    x, g = np.ones((2, 3)), rng.integers(-8, 8, (2, 3)).astype(float)
    f = lambda z, x: z / 2 + x  # noqa: E731
    sol = rd.solve(f, x, z0=np.zeros((2, 3)))
    grad = rd.gradient(f, sol, g, method=rd.Unrolled(3), vjp=lambda z, x, v: v / 2)
    same_bits(grad.initial["z"], g / 8)
    same_bits(grad.adjoint["z"], g * 1.75)
    same_bits(grad.z, np.full((2, 3), 1.75))
    damped = rd.gradient(f, sol, g, method=rd.Unrolled(2, 0.5), vjp=lambda z, x, v: v / 2)  # B = 3/4
    same_bits(damped.initial["z"], g * 9 / 16)
    same_bits(damped.adjoint["z"], g * (0.5 + 0.375))
    at_each = []
    rd.gradient(f, sol, g, method=rd.Unrolled(3, z0=np.full((2, 3), 8.0)), vjp=lambda z, x, v: at_each.append(z[0, 0]) or v / 2)
    assert at_each == [3.5, 5.0, 8.0]  # the last evaluation first, each at its own state


def test_a_sample_that_overflows_leaves_the_others_alone(affine_cell, same_bits):
    cell = affine_cell(np.array([[1e200]]), np.zeros(1))
    x, g = np.array([[0.0], [1.0], [0.0]]), np.ones((3, 1))
    sol = rd.solve(cell, x, stop=rd.StopRule(max_eval=1))
    g[0], g[2] = 0.0, 1e-290
    grad = rd.gradient(cell, sol, g, method=rd.Unrolled(3))
    assert list(grad.status) == [rd.Status.MAX_EVAL, rd.Status.NONFINITE, rd.Status.NONFINITE]
    kept = sol.status == rd.Status.MAX_EVAL
    kept[1:] = False
    alone = rd.gradient(cell, rd.solve(cell, x[:1], stop=rd.StopRule(max_eval=1)), g[:1], method=rd.Unrolled(3))
    without = rd.gradient(cell, sol, g, method=rd.Unrolled(3), where=kept)
    for name in cell.parameters:
        same_bits(without.parameters[name], alone.parameters[name])
    assert list(without.status) == [rd.Status.MAX_EVAL, rd.Status.CANCELLED, rd.Status.CANCELLED]
    same_bits(without.z[0], alone.z[0])


@pytest.mark.parametrize("method", [rd.Phantom(2), rd.Unrolled(2)])
def test_frozen_masks_are_refused(method, tanh_cell, rng):
    cell, _, sol, g = rnn_problem(tanh_cell, rng, stop=rd.StopRule(max_eval=5), delta=rd.DeltaRule(threshold=0.1))
    with pytest.raises(ArgumentError, match="frozen-mask"):
        rd.gradient(cell, sol, g, method=method, jacobian="frozen-mask")


@pytest.mark.parametrize(
    ("z0", "error"),
    [
        (np.zeros((3, 7)), ShapeError),
        (np.zeros((2, 8)), ShapeError),
        (np.zeros((3, 8), np.float32), DTypeError),
        ([0.0], ArgumentError),
        ({"y": np.zeros((3, 8))}, ArgumentError),
    ],
)
def test_bad_first_states(z0, error, tanh_cell, rng):
    cell, _, sol, g = rnn_problem(tanh_cell, rng)
    with pytest.raises(error, match="z0"):
        rd.gradient(cell, sol, g, method=rd.Unrolled(2, z0=z0))


def test_a_cotangent_function_is_checked_like_an_array(tanh_cell, rng):
    cell, _, sol, g = rnn_problem(tanh_cell, rng)
    for wrong, error in ((g[:2], ShapeError), (g.astype(np.float32), DTypeError), (None, ArgumentError)):
        with pytest.raises(error, match="cotangent"):
            rd.gradient(cell, sol, lambda z, wrong=wrong: wrong, method=rd.Phantom(2))
