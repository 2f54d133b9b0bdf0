"""Anderson: hand-computed steps, GMRES, SciPy, singular windows, restarts (S-7)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse.linalg

import refdeq as rd
from refdeq import Anderson, StopRule
from refdeq.errors import ArgumentError

U = 2.0**-53


def affine(a, b):
    return lambda z, x: z @ a.T + b


def arguments(f, z0, solver, evaluations):
    """The arguments of the first evaluations, (T, B, N)."""
    return rd.solve(f, z0=z0, solver=solver, stop=StopRule(max_eval=evaluations), trace=True).trace.z["z"]


# ------------------------------------------------------------------------------------------------------ hand-computed steps


def test_one_dimension_is_the_secant_method():
    """f = 1 + 3 z: z = 0, then f = 1; residuals 1 and 3, gamma = 3 / 2, next 4 - 3 * 3 / 2."""
    z = arguments(lambda z, x: 1 + 3 * z, np.zeros((1, 1)), Anderson(window=1), 4)
    np.testing.assert_array_equal(z.ravel(), [0.0, 1.0, -0.5, -0.5])


# z0 = 0: f = g = (2, 4). z1 = (2, 4): f = (4, 0), g = (2, -4). So dG = (0, -8), dF = (2, -4), <dG, g> = 32, <dG, dG> = 64.
TWO = affine(np.diag([1.0, -1.0]), np.array([2.0, 4.0]))


@pytest.mark.parametrize(
    ("options", "z1", "z2"),
    [
        ({}, (2, 4), (3, 2)),  # gamma = 1/2
        ({"ridge": 3.0, "ridge_scale": "trace"}, (2, 4), (3.75, 0.5)),  # gamma = 32/256
        ({"ridge": 3.0, "ridge_scale": "diagonal"}, (2, 4), (3.75, 0.5)),
        ({"ridge": 192.0, "ridge_scale": "absolute"}, (2, 4), (3.75, 0.5)),
        # z1 = (4, 8): f = (6, -4), g = (2, -12); dG = (0, -16), dF = (4, -8), gamma = 3/4: mixed f and g are (3, 2) and (2, 0)
        ({"mixing": 2.0}, (4, 8), (5, 2)),
        ({"warmup": 1}, (2, 4), (3, 2)),
        ({"warmup": 2}, (2, 4), (4, 0)),
        ({"restart": 1}, (2, 4), (4, 0)),
    ],
    ids=str,
)
def test_two_dimensions(options, z1, z2):
    z = arguments(TWO, np.zeros((1, 2)), Anderson(window=1, **options), 3)
    np.testing.assert_array_equal(z[:, 0], [(0, 0), z1, z2])


def test_weights_form_by_hand():
    """Residuals (2, 4) and (2, -4) have equal lengths: both weights are 1/2, up to the roundings of a 2 x 2 elimination."""
    z = arguments(TWO, np.zeros((1, 2)), Anderson(window=2, form="weights"), 3)
    np.testing.assert_allclose(z[2, 0], (3, 2), rtol=16 * U, atol=0.0)


# -------------------------------------------------------------------------------------------------------------------- theory


def turning(rng, n):
    """A normal matrix with eigenvalues all around a circle: GMRES is slow on it, and its least squares well conditioned."""
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return q @ (0.9 * np.roll(np.eye(n), 1, axis=0)) @ q.T


def lost_to_normal_equations(g):
    """First-order relative error of a step: with unit columns a Gram matrix loses (n + 3 k^2) u times its condition."""
    d = np.diff(g, axis=0).T
    d = d / np.linalg.norm(d, axis=0)
    return (len(d) + 3 * d.shape[1] ** 2) * U * np.linalg.cond(d) ** 2


@pytest.mark.parametrize("form", ["differences", "weights"])
@pytest.mark.parametrize("n", [2, 5, 9])
def test_a_full_window_is_gmres(form, n, rng):
    """On an affine map the mixed point is GMRES' iterate for (I - A) z = b; the next argument is f of it (Walker and Ni)."""
    a, b = turning(rng, n), rng.standard_normal(n)
    window = n if form == "differences" else n + 1
    z = arguments(affine(a, b), np.zeros((1, n)), Anderson(window=window, form=form), n + 1)[:, 0]
    g = z @ a.T + b - z
    lost = 0.0
    for k in range(1, n):
        theirs, _ = scipy.sparse.linalg.gmres(np.eye(n) - a, b, restart=k, maxiter=1, rtol=1e-300, atol=0.0)
        lost += lost_to_normal_equations(g[: k + 1]) * 10 * np.linalg.norm(z[: k + 1], axis=1).max()  # |(I - A)^-1| <= 10
        assert np.linalg.norm(z[k + 1] - (a @ theirs + b)) <= lost


def test_a_full_window_without_ridge_is_needed_for_that(rng):
    """The test above can fail: a column less, or a ridge, is farther from GMRES than any rounding."""
    n = 5
    a, b = turning(rng, n), rng.standard_normal(n)
    theirs, _ = scipy.sparse.linalg.gmres(np.eye(n) - a, b, restart=4, maxiter=1, rtol=1e-300, atol=0.0)
    for solver in (Anderson(window=3), Anderson(window=5, ridge=1e-4), Anderson(window=4, form="weights")):
        z = arguments(affine(a, b), np.zeros((1, n)), solver, 6)[:, 0]
        assert np.linalg.norm(z[5] - (a @ theirs + b)) > 1e-6


def test_weights_over_m_evaluations_are_m_minus_1_differences(rng):
    """Nonlinear, and beyond the window: without a ridge both forms solve one least-squares problem."""
    w = rng.standard_normal((8, 8))
    x = rng.standard_normal((1, 8))

    def f(z, _):
        return np.tanh(1.4 * z @ w.T / np.linalg.norm(w, 2) + x)

    one = arguments(f, np.zeros((1, 8)), Anderson(window=3), 9)[:, 0]
    two = arguments(f, np.zeros((1, 8)), Anderson(window=4, form="weights"), 9)[:, 0]
    lost = 0.0
    for k in range(1, 9):
        if k > 1:
            g = (f(one, None) - one)[max(0, k - 4) : k]
            scaled = np.linalg.norm(g, axis=1).max() / np.linalg.norm(np.diff(g, axis=0), axis=1).min()
            # errors of one step reach the next through f and the least squares: no more than doubled here
            lost = 2 * lost + 2 * lost_to_normal_equations(g) * max(scaled, 1.0) * np.linalg.norm(one[k])
        assert np.linalg.norm(one[k] - two[k]) <= lost + 1e-300
    assert np.abs(one - two).max() > 0.0


@pytest.mark.parametrize("window", [1, 5])
def test_scipy_takes_the_same_steps(window, tanh_cell, rng):
    """SciPy multiplies the diagonal of the Gram matrix by 1 + w0^2; peers' traces are compared to 1e-10 (S-9)."""
    cell, x = tanh_cell(n=12, norm=1.5), rng.standard_normal((1, 2))
    p, theirs = cell.parameters, []

    def g(z):
        value = np.tanh(p["W"] @ z + p["U"] @ x[0] + p["b"]) - z
        theirs.append(np.linalg.norm(value))
        return value

    with pytest.raises(scipy.optimize.NoConvergence):
        scipy.optimize.anderson(g, np.zeros(12), alpha=1.0, M=window, w0=0.01, line_search=None, maxiter=14, f_tol=1e-300)
    solver = Anderson(window=window, ridge=1e-4, ridge_scale="diagonal", safeguard=None)
    ours = rd.solve(cell, x, solver=solver, stop=StopRule(max_eval=15), trace=True).trace.residual[:, 0]
    assert np.abs(ours - theirs[:15]).max() <= 1e-10 * theirs[0]


@pytest.mark.parametrize("kind", ["nearly singular", "rotation", "non-normal"])
def test_where_picard_fails_or_crawls(kind, affine_cell, rng):
    n = 16
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    if kind == "nearly singular":
        middle = np.diag(np.linspace(-0.5, 0.999, n))
    elif kind == "rotation":
        middle = np.kron(np.diag(np.linspace(0.9, 0.999, n // 2)), np.array([[0.0, -1.0], [1.0, 0.0]]))
    else:
        middle = np.triu(rng.standard_normal((n, n)), 1) + np.diag(np.linspace(-0.9, 0.9, n))
    cell, x = affine_cell(q @ middle @ q.T, np.zeros(n)), rng.standard_normal((2, n))
    stop = StopRule(rtol=1e-10, max_eval=100)
    assert not rd.solve(cell, x, stop=stop).converged
    assert rd.solve(cell, x, solver=Anderson(), stop=stop).converged


# ------------------------------------------------------------------------------------------------------------ what ridges do


def test_a_huge_ridge_is_picard_in_differences_and_an_average_in_weights(rng):
    a, b = turning(rng, 4), rng.standard_normal(4)
    f, z0 = affine(a, b), rng.standard_normal((2, 4))
    picard = arguments(f, z0, rd.Picard(), 6)
    ridge = {"ridge": 1e40, "ridge_scale": "absolute"}
    np.testing.assert_array_equal(arguments(f, z0, Anderson(window=3, **ridge), 6), picard)
    averaged = arguments(f, z0, Anderson(window=2, form="weights", **ridge), 6)
    np.testing.assert_array_equal(averaged[:2], picard[:2])
    values = f(averaged, None)
    np.testing.assert_array_equal(averaged[2:], 0.5 * values[1:-1] + 0.5 * values[:-2])


# -------------------------------------------------------------------------------------------------------- singular windows


@pytest.mark.parametrize("form", ["differences", "weights"])
def test_residuals_that_never_change_are_picard(form):
    """f = z + c has no fixed point, and differences of residuals are exactly zero."""
    z = arguments(lambda z, x: z + 1.0, np.zeros((1, 3)), Anderson(window=4, form=form), 6)
    np.testing.assert_array_equal(z[:, 0], np.arange(6.0)[:, None] * np.ones(3))


def test_dependent_columns_leave_the_newest(same_bits):
    """In one dimension all columns depend on the newest one: any window is the secant method."""
    stop = StopRule(max_eval=9)
    one, five = (rd.solve(lambda z, x: np.cos(z), z0=np.zeros((1, 1)), solver=Anderson(window=w), stop=stop) for w in (1, 5))
    same_bits(five.z, one.z)
    assert one.residual[0] <= 2 * U


@pytest.mark.parametrize("form", ["differences", "weights"])
@pytest.mark.parametrize("mixing", [1.0, 0.5])
def test_a_residual_of_zero_stays_where_it_is(form, mixing):
    f, z0 = affine(np.diag([0.5, -0.5]), np.zeros(2)), np.zeros((1, 2))
    sol = rd.solve(f, z0=z0, solver=Anderson(window=3, form=form, mixing=mixing), stop=StopRule(max_eval=7), trace=True)
    np.testing.assert_array_equal(sol.trace.z["z"], 0.0)
    assert sol.counts() == {rd.Status.MAX_EVAL: 1}


@pytest.mark.parametrize(("dtype", "unit"), [("float64", U), ("float32", 2.0**-24)])
def test_far_beyond_convergence_nothing_blows_up(dtype, unit, rng):
    """At the level of rounding all columns are noise: the residual stays there."""
    w, x = rng.standard_normal((16, 16)), rng.standard_normal((4, 16)).astype(dtype)
    w = (0.8 * w / np.linalg.norm(w, 2)).astype(dtype)
    stop = StopRule(max_eval=60)
    sol = rd.solve(
        lambda z, x: np.tanh(z @ w.T + x), x, z0=np.zeros((4, 16), dtype), solver=Anderson(window=8), stop=stop, trace=True
    )
    # |z| <= 1: an evaluation is off by at most 16 + 4 roundings of numbers below |W|_1 + |x|, and so is the next argument
    size = np.linalg.norm(np.abs(w).sum(axis=1) + np.abs(x), axis=1)
    assert np.all(sol.trace.residual[40:] <= 2 * 20 * unit * size)


# ------------------------------------------------------------------------------------------------------- restarts, coupling


def bumpy(z, x):
    return np.sin(3.0 * z) + 0.3 * z[..., ::-1]


@pytest.mark.parametrize("form", ["differences", "weights"])
def test_a_restart_begins_anew(form, rng, same_bits):
    plain = Anderson(window=3, form=form, safeguard=None)
    z0, solver = rng.standard_normal((3, 5)), dataclasses.replace(plain, restart=4)
    z = arguments(bumpy, z0, solver, 9)
    same_bits(z[4:], arguments(bumpy, z[4], solver, 5))
    same_bits(z[:5], arguments(bumpy, z0, plain, 5))
    assert np.any(z[6:] != arguments(bumpy, z0, plain, 9)[6:])


def test_the_safeguard_restarts_a_sample_whose_residual_grows(rng, same_bits):
    z0, plain = rng.standard_normal((12, 5)), Anderson(window=3, safeguard=None)
    z = arguments(bumpy, z0, Anderson(window=3, safeguard=1.5), 8)
    residual = np.linalg.norm(bumpy(z, None) - z, axis=2)
    grown = residual > 1.5 * np.minimum.accumulate(residual, axis=0)
    grown[:4] = False  # three differences are there after four evaluations: no window is full before
    first = np.where(grown.any(axis=0), grown.argmax(axis=0), 7)
    assert len(set(first)) >= 3
    for b, t in enumerate(first):
        same_bits(z[: t + 1, b : b + 1], arguments(bumpy, z0[b : b + 1], plain, t + 1))
        if t < 7:  # the evaluation that shows the growth is the first of the new window
            same_bits(z[t : t + 2, b : b + 1], arguments(bumpy, z[t, b : b + 1], plain, 2))


def test_the_safeguard_compares_with_the_present_window(rng):
    """Replayed: a restart is a Picard step, forgets the lowest residual, and waits for a full window."""
    z = arguments(bumpy, rng.standard_normal((40, 5)), Anderson(window=2, safeguard=1.5), 30)
    value = bumpy(z, None)
    residual = np.linalg.norm(value - z, axis=2)
    restarts = np.zeros(40, dtype=int)
    for b in range(40):
        steps, best = 0, np.inf
        for t in range(29):
            if residual[t, b] < 1e-9:
                break  # solved: f and z are one
            if steps >= 3 and residual[t, b] > 1.5 * best:
                steps, best, restarts[b] = 0, np.inf, restarts[b] + 1
            assert np.array_equal(z[t + 1, b], value[t, b]) == (steps == 0)
            steps, best = steps + 1, min(best, residual[t, b])
    assert restarts.max() >= 2


def test_the_safeguard_leaves_a_window_alone_that_still_fills(rng, same_bits):
    """An expansive map: the residual grows before the least squares have seen all directions, and then is solved."""
    a = np.diag([-9.0, -4.0, -2.0, 0.5])
    z0 = rng.standard_normal((2, 4))
    z = arguments(affine(a, np.ones(4)), z0, Anderson(window=8, safeguard=1.0), 7)
    residual = np.linalg.norm(z @ a.T + 1.0 - z, axis=2)
    assert np.all(residual[1] > 2.0 * residual[0])
    assert np.all(residual[-1] < 1e-9 * residual[0])
    same_bits(z, arguments(affine(a, np.ones(4)), z0, Anderson(window=8, safeguard=None), 7))


def test_coupled_samples_are_one_vector(same_bits):
    """The numbers of TWO are exact: two samples of one component step as one sample of two."""
    a, b = np.array([[1.0], [-1.0]]), np.array([[2.0], [4.0]])
    z = arguments(lambda z, x: a * z + b, np.zeros((2, 1)), Anderson(window=1, coupled=True), 3)
    same_bits(z[:, :, 0], arguments(TWO, np.zeros((1, 2)), Anderson(window=1), 3)[:, 0])
    apart = arguments(lambda z, x: a * z + b, np.zeros((2, 1)), Anderson(window=1), 3)
    np.testing.assert_array_equal(apart[2, :, 0], [4.0, 2.0])  # alone: f = z + 2 has no fixed point, f = 4 - z has 2


# ---------------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "window": [0, -1, 2.0, True, None],
        "mixing": [0.0, -1.0, 2.5, np.nan, "1"],
        "ridge": [-1e-9, np.nan, np.inf, None],
        "ridge_scale": ["relative", None, 1.0],
        "form": ["gram", None],
        "restart": [0, 1.5, True],
        "safeguard": [0.5, np.nan, "2"],
        "warmup": [-1, 1.0, None],
        "coupled": [1, None, "yes"],
    }.items(),
)
def test_bad_arguments(name, values):
    for value in values:
        with pytest.raises(ArgumentError, match=name):
            Anderson(**{name: value})


def test_names():
    assert (Anderson(window=7).name, Anderson(window=7)) == ("anderson(7)", Anderson(window=7))
    with pytest.raises(TypeError):
        Anderson(5)
