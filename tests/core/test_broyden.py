"""Broyden's theory: hand-computed steps, 2 N steps, secants, rings, SciPy, given columns (S-8)."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize

import refdeq as rd
from refdeq import Broyden, StopRule
from refdeq.errors import ArgumentError
from refdeq.reference import ReferenceKernels
from refdeq.solvers.broyden import apply_inverse

U = 2.0**-53
KERNELS = ReferenceKernels()


def affine(a, b):
    return lambda z, x: z @ a.T + b


def run(f, z0, solver, evaluations):
    return rd.solve(f, z0=z0, solver=solver, stop=StopRule(max_eval=evaluations), trace=True)


# ------------------------------------------------------------------------------------------------------ hand-computed steps


@pytest.mark.parametrize("update", ["good", "bad"])
def test_one_dimension_is_the_secant_method(update):
    """g = 1 + 2 z: z = 0, then 1 (Picard), then the zero of the line through (0, 1) and (1, 3)."""
    sol = run(lambda z, x: 1 + 3 * z, np.zeros((1, 1)), Broyden(update=update), 4)
    np.testing.assert_array_equal(sol.trace.z["z"].ravel(), [0.0, 1.0, -0.5, -0.5])


# z0 = 0: g = (2, 4). z1 = (2, 4): f = (4, 0), g = (2, -4). dz = (2, 4), dg = (0, -8), H dg = (0, 8), dz - H dg = (2, -4).
# good: v = -dz, v . dg = 32, u = (1/16, -1/8); <v, g> = 12; f - 12 u = (13/4, 3/2).
# bad: v = dg, v . dg = 64, u = (1/32, -1/16); <v, g> = 32; f - 32 u = (3, 2).
TWO = affine(np.diag([1.0, -1.0]), np.array([2.0, 4.0]))


@pytest.mark.parametrize(
    ("update", "z2", "u", "v"),
    [("good", (3.25, 1.5), (0.0625, -0.125), (-2.0, -4.0)), ("bad", (3.0, 2.0), (0.03125, -0.0625), (0.0, -8.0))],
)
def test_two_dimensions(update, z2, u, v):
    sol = run(TWO, np.zeros((1, 2)), Broyden(update=update), 3)
    np.testing.assert_array_equal(sol.trace.z["z"][:, 0], [(0, 0), (2, 4), z2])
    state = sol.solver_state
    np.testing.assert_array_equal([state.u[0][0], state.v[0][0]], [u, v])
    np.testing.assert_array_equal(state.valid(), [[True]])  # a step is needed for a pair, and none follows the last evaluation


def test_the_first_step_is_picard(tanh_cell, rng):
    cell, x = tanh_cell(dtype="float32"), rng.standard_normal((3, 2)).astype("float32")
    one, two = (rd.solve(cell, x, solver=s, stop=StopRule(max_eval=2)) for s in (Broyden(), rd.Picard()))
    np.testing.assert_array_equal(one.z, two.z)


def test_coupled_samples_are_one_vector(same_bits):
    """The numbers of TWO are exact: two samples of one component step as one sample of two."""
    a, b = np.array([[1.0], [-1.0]]), np.array([[2.0], [4.0]])
    for update in ("good", "bad"):
        z = run(lambda z, x: a * z + b, np.zeros((2, 1)), Broyden(coupled=True, update=update), 3).trace.z["z"]
        same_bits(z[:, :, 0], run(TWO, np.zeros((1, 2)), Broyden(update=update), 3).trace.z["z"][:, 0])


# -------------------------------------------------------------------------------------------------------------------- theory


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("update", ["good", "bad"])
def test_an_affine_map_is_solved_in_two_n_steps(update, n, rng):
    """Gay's theorem; the map is expansive, so that nothing but the theorem makes it converge."""
    a, b = np.eye(n) + np.linalg.qr(rng.standard_normal((n, n)))[0] * 1.5, rng.standard_normal(n)
    sol = run(affine(a, b), np.zeros((1, n)), Broyden(update=update), 2 * n + 1)
    size = max(np.linalg.norm(g) for g in sol.trace.residual)
    # the theorem cancels numbers of the size of the largest residual met; each of 2 N steps rounds N + 2 N products
    assert sol.residual[0] <= (2 * n) * (3 * n) * 100 * U * size
    if n > 1:
        assert sol.trace.residual[n] > 1e-3 * sol.trace.residual[0]  # N steps are not enough


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize(("update", "method"), [("good", "broyden1"), ("bad", "broyden2")])
def test_scipy_takes_the_same_steps(update, method, window, tanh_cell, rng):
    """SciPy's "simple" reduction drops the oldest pair before the update, as a ring does here; 1e-10 as for traces (S-9)."""
    cell, x = tanh_cell(n=12, norm=1.5), rng.standard_normal((1, 2))
    p, theirs = cell.parameters, []

    def g(z):
        value = np.tanh(p["W"] @ z + p["U"] @ x[0] + p["b"]) - z
        theirs.append(np.linalg.norm(value))
        return value

    options = {"max_rank": window, "reduction_method": "simple", "f_tol": 1e-300, "maxiter": 12}
    with pytest.raises(scipy.optimize.NoConvergence):
        getattr(scipy.optimize, method)(g, np.zeros(12), alpha=1.0, line_search=None, **options)
    ours = rd.solve(cell, x, solver=Broyden(update=update, window=window), stop=StopRule(max_eval=13), trace=True)
    assert np.abs(ours.trace.residual[:, 0] - theirs[:13]).max() <= 1e-10 * theirs[0]


def secants(sol, n):
    """Steps and changes of the residual, oldest first, and what the final H makes of the changes."""
    z, g = sol.trace.z["z"], sol.trace.f["z"] - sol.trace.z["z"]
    dz, dg = np.diff(z, axis=0), np.diff(g, axis=0)
    return dz, dg, np.stack([apply_inverse(KERNELS, sol.solver_state, change) for change in dg])


def allowed(sol, dz, dg, dtype):
    """Rounding of ``H dg``: each pair is rounded once to the dtype, and its products lose n + K + 6 roundings of float64."""
    state, n = sol.solver_state, dz.shape[1]
    reach = sum(
        np.abs(u) * np.sum(np.abs(v) * np.abs(dg), axis=1, keepdims=True) for u, v in zip(state.u, state.v, strict=True)
    )
    unit = float(np.finfo(dtype).eps)
    return (4 * unit + (n + len(state.u) + 6) * U) * (reach.astype(float) + np.abs(dg) + np.abs(dz))


def turning(z, x):
    return 1.2 * np.roll(z, 1, axis=1) + 0.3 * np.sin(z) + 0.5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("update", ["good", "bad"])
@pytest.mark.parametrize("window", [None, 3])
def test_the_newest_secant_holds_and_dropped_ones_do_not(window, update, dtype, rng):
    """``H dg = dz`` for the pair just formed, also when the ring has dropped others; a pair that was dropped is forgotten."""
    z0 = rng.standard_normal((2, 7)).astype(dtype)
    sol = run(turning, z0, Broyden(window=window, update=update), 8)
    dz, dg, image = secants(sol, 7)
    np.testing.assert_array_equal(sol.solver_state.count, 6)
    assert np.all(np.abs(image[5] - dz[5]) <= allowed(sol, dz[5], dg[5], dtype))
    if window is not None:
        assert np.all(np.linalg.norm(image[0] - dz[0], axis=1) > 0.05 * np.linalg.norm(dz[0], axis=1))


def test_dropping_after_the_update_would_lose_the_newest_secant(rng):
    """What a ring does that overwrites the oldest pair after forming the new one from it: the test above can fail."""
    sol = run(turning, rng.standard_normal((2, 7)), Broyden(window=None), 8)
    dz, dg, _ = secants(sol, 7)
    state = sol.solver_state
    state.u, state.v = state.u[3:], state.v[3:]
    image = apply_inverse(KERNELS, state, dg[5])
    assert np.all(np.linalg.norm(image - dz[5], axis=1) > 0.01 * np.linalg.norm(dz[5], axis=1))


def test_a_ring_that_is_long_enough_changes_nothing(rng, same_bits):
    z0 = rng.standard_normal((2, 7))
    z, same, short = (run(turning, z0, Broyden(window=w), 8).trace.z["z"] for w in (None, 6, 5))
    same_bits(same, z)
    same_bits(short[:7], z[:7])
    assert np.any(short[7] != z[7])


def test_good_and_bad_differ(rng):
    z0 = rng.standard_normal((1, 7))
    good, bad = (run(turning, z0, Broyden(update=u), 8).trace.z["z"] for u in ("good", "bad"))
    np.testing.assert_array_equal(good[:2], bad[:2])
    assert np.all(np.linalg.norm(good[2:] - bad[2:], axis=(1, 2)) > 1e-3)


def test_the_inverse_and_its_transpose_as_matrices(rng):
    sol = run(turning, rng.standard_normal((2, 5)), Broyden(), 6)
    state = sol.solver_state
    for b in range(2):
        h = -np.eye(5) + sum(np.outer(u[b], v[b]) for u, v in zip(state.u, state.v, strict=True))
        size = np.eye(5) + sum(np.abs(np.outer(u[b], v[b])) for u, v in zip(state.u, state.v, strict=True))
        rows = rng.standard_normal((2, 5))
        lost = (5 + 4 + 4) * U * size.sum() * np.abs(rows).max()
        assert np.abs(apply_inverse(KERNELS, state, rows)[b] - h @ rows[b]).max() <= lost
        assert np.abs(apply_inverse(KERNELS, state, rows, transpose=True)[b] - h.T @ rows[b]).max() <= lost


# ------------------------------------------------------------------------------------------------------------ given columns


class Continued:
    """A Broyden solver that begins with columns of another solve."""

    name = "continued"

    def __init__(self, solver, start):
        self.solver, self.start, self.step = solver, start, solver.step

    def init(self, kernels, z):
        return self.solver.init(kernels, z, self.start)


def test_the_adjoint_can_begin_with_the_transposed_columns(rng):
    """After 2 N steps on an affine map H is the inverse along all that was met: transposed, it solves the adjoint sooner."""
    n = 6
    a, b = turning_matrix(n), rng.standard_normal(n)
    forward = run(affine(a, b), np.zeros((1, n)), Broyden(), 2 * n + 1).solver_state
    adjoint, stop = affine(a.T, rng.standard_normal(n)), StopRule(rtol=1e-6, max_eval=99)
    cold = rd.solve(adjoint, z0=np.zeros((1, n)), solver=Broyden(), stop=stop)
    warm = rd.solve(adjoint, z0=np.zeros((1, n)), solver=Continued(Broyden(), (forward.v, forward.u)), stop=stop)
    wrong = rd.solve(adjoint, z0=np.zeros((1, n)), solver=Continued(Broyden(), (forward.u, forward.v)), stop=stop)
    assert cold.converged
    assert warm.converged
    assert warm.n_eval[0] < cold.n_eval[0]
    assert warm.n_eval[0] < wrong.n_eval[0]


def turning_matrix(n):
    return 1.2 * np.roll(np.eye(n), 1, axis=0) + np.diag(np.linspace(-0.3, 0.3, n))


@pytest.mark.parametrize("window", [None, 9])
def test_going_on_from_given_columns_changes_nothing(window, rng, same_bits):
    """The columns after k steps, and the argument, are all there is to a solve."""
    z0, solver = rng.standard_normal((2, 7)), Broyden(window=window)
    first, whole = run(turning, z0, solver, 5), run(turning, z0, solver, 9)
    # the pair of the last step belongs to the next evaluation; begin where H is known: at the argument before it
    state = first.solver_state
    rest = run(turning, whole.trace.z["z"][4], Continued(solver, (state.u, state.v)), 2)
    expected = whole.trace.z["z"][4] - apply_inverse(KERNELS, state, first.trace.f["z"][4] - first.trace.z["z"][4])
    assert np.abs(rest.trace.z["z"][1] - expected).max() <= 8 * U * np.abs(expected).max() * 7
    same_bits(rest.trace.z["z"][0], first.z)


def test_given_columns_are_copied_and_checked():
    z, u = {"z": np.zeros((2, 3))}, [np.ones((2, 3))]
    state = Broyden().init(KERNELS, z, (u, u))
    state.u[0][:] = 5.0
    np.testing.assert_array_equal(u[0], 1.0)
    for start, solver in (((u, []), Broyden()), (([u[0][:1]], u), Broyden()), ((u * 3, u * 3), Broyden(window=2))):
        with pytest.raises(ArgumentError, match="start"):
            solver.init(KERNELS, z, start)
