"""Picard and Krasnoselskii-Mann on closed forms, bit by bit (S-2, S-6, S-11)."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis.extra import numpy as hnp

import refdeq as rd
from refdeq import scalar
from refdeq.errors import ArgumentError, DTypeError, ShapeError
from refdeq.reference import ReferenceKernels, norm_of

KM = rd.KrasnoselskiiMann


def contraction(rng, n, norm):
    a = rng.standard_normal((n, n))
    return norm * a / np.linalg.norm(a, 2)


@pytest.mark.parametrize("solver", [rd.Picard(), KM(alpha=0.7), KM(alpha=1.0), KM(alpha=1.2)], ids=lambda s: s.name)
@pytest.mark.parametrize("n", [1, 5, 40])
def test_affine_cells_against_a_linear_solve(solver, n, affine_cell, rng):
    a, b, x = contraction(rng, n, 0.5), rng.standard_normal(n), rng.standard_normal((3, n))
    stop = rd.StopRule(atol=1e-12, max_eval=500)
    sol = rd.solve(affine_cell(a, b), x, solver=solver, stop=stop)
    assert sol.converged
    exact = np.linalg.solve(np.eye(n) - a, (x + b).T).T
    # z - z* = -(I - A)^-1 (f(z) - z): at most residual / (1 - |A|), plus what evaluating f (n + 2 roundings) and the
    # direct solve (backward error of order n, condition at most 3) lose
    lost = (2 * n + 8) * 2.0**-53 * 3 * (np.linalg.norm(exact, axis=1) + np.linalg.norm(x + b, axis=1)) * np.sqrt(n)
    assert np.all(np.linalg.norm(sol.z - exact, axis=1) <= (sol.residual + lost) / (1 - 0.5))
    assert np.all(sol.residual <= 1e-12)


@pytest.mark.parametrize("solver", [rd.Picard(), KM(alpha=0.8)], ids=lambda s: s.name)
def test_scipy_finds_the_same_point(solver, tanh_cell, rng):
    cell, x = tanh_cell(norm=0.6), rng.standard_normal((1, 2))
    p = cell.parameters
    shift = p["U"] @ x[0] + p["b"]

    def f(z):
        return np.tanh(p["W"] @ z + shift)

    theirs = scipy.optimize.fixed_point(f, np.zeros(6), xtol=1e-13, maxiter=500, method="iteration")
    sol = rd.solve(cell, x, solver=solver, stop=rd.StopRule(atol=1e-12, max_eval=300))
    # both residuals, certified through the contraction constant 0.6; 64 roundings cover the two evaluations of f
    slack = 64 * 2.0**-53 * np.sqrt(6)
    distance = (np.linalg.norm(f(theirs) - theirs) + sol.residual[0] + slack) / (1 - 0.6)
    assert np.linalg.norm(sol.z[0] - theirs) <= distance


def test_picard_converges_linearly_at_its_rate(affine_cell, rng):
    """On a scaled rotation every error component shrinks by exactly the factor; residuals follow within rounding."""
    a = 0.5 * np.array([[0.0, -1.0], [1.0, 0.0]])
    sol = rd.solve(affine_cell(a, np.ones(2)), np.zeros((1, 2)), stop=rd.StopRule(max_eval=30), trace=True)
    residual = sol.trace.residual[:, 0]
    np.testing.assert_array_equal(residual[1:] / residual[:-1], 0.5)  # powers of two: no rounding at all


def test_km_damps_a_map_on_which_picard_cycles(affine_cell):
    cell, x, stop = affine_cell(-np.eye(2), np.zeros(2)), np.array([[1.0, 2.0]]), rd.StopRule(atol=0.0, max_eval=10)
    assert rd.solve(cell, x, stop=stop).counts() == {rd.Status.MAX_EVAL: 1}
    sol = rd.solve(cell, x, solver=KM(alpha=0.5), stop=stop)
    assert sol.converged
    np.testing.assert_array_equal(sol.z, x / 2)


# ------------------------------------------------------------------------------------------------------- steps, bit by bit


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9, 1.0, 1.3, 2.0, 1e-300, 1 - 1e-12])
def test_km_rounds_as_written(dtype, alpha, rng, same_bits):
    z, f = (rng.standard_normal((4, 9)).astype(dtype) for _ in range(2))
    number = np.dtype(dtype).type
    with np.errstate(under="ignore"):
        out = z.copy()
        ReferenceKernels().relax(out, f, alpha, np.array([True, True, False, True]), out)
        factors = number(alpha), number(1.0 - alpha)
        expected = [[scalar.relax(z[b, i], f[b, i], *factors) for i in range(9)] for b in range(4)]
    expected = f.copy() if alpha == 1.0 else np.array(expected, dtype=dtype)
    expected[2] = z[2]
    same_bits(out, expected)


@pytest.mark.parametrize("rule", [None, rd.DeltaRule(threshold=0.02), rd.DeltaRule.preset("deltadeq-code", threshold=0.02)])
def test_km_with_alpha_one_is_picard(rule, tanh_cell, rng, same_bits):
    cell, x, stop = tanh_cell(), rng.standard_normal((3, 2)), rd.StopRule(rtol=1e-8, max_eval=40)
    one, two = (rd.solve(cell, x, solver=s, stop=stop, delta=rule, trace=True) for s in (rd.Picard(), KM(alpha=1.0)))
    same_bits(one.trace.z["z"], two.trace.z["z"])
    same_bits(one.trace.residual, two.trace.residual)


def test_km_keeps_special_values(same_bits):
    """alpha = 1 copies f, though z is infinite; otherwise beta * z shows."""
    z, f, everyone = np.array([[np.inf, np.nan]]), np.array([[1.0, -0.0]]), np.array([True])
    out = np.empty((1, 2))
    with np.errstate(invalid="ignore"):
        ReferenceKernels().relax(z, f, 1.0, everyone, out)
        same_bits(out, f)
        ReferenceKernels().relax(z, f, 0.5, everyone, out)
    same_bits(out, np.array([[np.inf, np.nan]]))


@pytest.mark.parametrize("alpha", [0.0, -0.5, 2.5, np.nan, np.inf, "0.5", None, True])
def test_bad_alpha(alpha):
    with pytest.raises(ArgumentError, match="alpha"):
        KM(alpha=alpha)


def test_alpha_is_a_float64(same_bits):
    """1 - alpha is formed in float64, whatever number alpha came as (S-6)."""
    assert type(KM(alpha=np.float32(0.3)).alpha) is float
    with pytest.raises(TypeError):
        KM(0.5)


# ------------------------------------------------------------------------------------------------------ residuals (S-2)


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=70)))
def test_array_norms_are_the_scalar_ones(rows):
    with np.errstate(all="ignore"):
        for norm in ("l2", "linf"):
            expected = [scalar.residual(list(row), [0.0] * len(row), norm) for row in rows]
            np.testing.assert_array_equal(norm_of(rows, norm), expected)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(1,), (31,), (32,), (33,), (20, 17, 30), (70, 1)])
def test_states_are_concatenated_in_declared_order(norm, dtype, sizes, rng, same_bits):
    shapes = [(3, n) if i % 2 == 0 else (3, 1, n) for i, n in enumerate(sizes)]
    f, z = ([(10.0 ** rng.integers(-3, 4, s) * rng.standard_normal(s)).astype(dtype) for s in shapes] for _ in range(2))
    residual, scale = np.full(3, -1.0), np.full(3, -1.0)
    ReferenceKernels().residual(f, z, norm, np.array([True, False, True]), residual, scale)
    for b in (0, 2):
        values = [float(v) for part in f for v in part[b].ravel()]
        arguments = [float(v) for part in z for v in part[b].ravel()]
        same_bits(residual[b], scalar.residual(values, arguments, norm))
        same_bits(scale[b], scalar.residual(values, [0.0] * len(values), norm))
    assert residual[1] == scale[1] == -1.0


def test_order_of_states_matters_in_bits():
    """The test above can fail: another order gives other bits."""
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((1, 40)), rng.standard_normal((1, 25))]
    assert norm_of(np.concatenate(parts, axis=1), "l2") != norm_of(np.concatenate(parts[::-1], axis=1), "l2")


# --------------------------------------------------------------------------------------------------- plain callables (S-11)


def test_a_callable_equals_the_cell(tanh_cell, rng, same_bits):
    """One Picard step at a time: the callable evaluates the same cell."""
    cell, x, stop = tanh_cell(), rng.standard_normal((4, 2)), rd.StopRule(rtol=1e-9, max_eval=200)

    def f(z, x):
        return rd.solve(cell, x, z0=z, stop=rd.StopRule(max_eval=2)).z

    one, two = rd.solve(cell, x, stop=stop, trace=True), rd.solve(f, x, z0=np.zeros((4, 6)), stop=stop, trace=True)
    same_bits(one.z, two.z)
    same_bits(one.residual, two.residual)
    np.testing.assert_array_equal(one.n_eval, two.n_eval)
    same_bits(one.trace.f["z"], two.trace.f["z"])
    assert two.executor == "plain callable"
    assert two.cost is None
    assert two.memory is None


def test_a_callable_cannot_change_the_state_of_the_solver():
    def f(z, x):
        z *= 0.5
        return z

    sol = rd.solve(f, z0=np.ones((1, 2)), stop=rd.StopRule(max_eval=3))
    np.testing.assert_array_equal(sol.z, 0.25)
    np.testing.assert_array_equal(sol.residual, np.sqrt(2) * 0.125)


def test_a_callable_of_any_rank_and_an_empty_batch():
    sol = rd.solve(lambda z, x: z / 2 + x, 1.0, z0=np.zeros((2, 3, 4, 5), np.float32), stop=rd.StopRule(rtol=1e-6))
    assert sol.converged
    assert sol.z.dtype == np.float32
    empty = rd.solve(lambda z, x: 1 / 0, z0=np.zeros((0, 3)), trace=True)
    assert empty.z.shape == (0, 3)
    assert empty.converged
    assert len(empty.trace) == 0


@pytest.mark.parametrize(
    ("value", "error"),
    [(np.zeros((2, 4)), ShapeError), (np.zeros(3), ShapeError), (np.zeros((2, 3), np.float32), DTypeError), (None, ShapeError)],
)
def test_a_callable_that_returns_something_else(value, error):
    with pytest.raises(error, match="f\\(z, x\\)"):
        rd.solve(lambda z, x: value, z0=np.zeros((2, 3)))
