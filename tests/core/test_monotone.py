"""Monotone operator networks: parametrisation, and fixed points against the complementarity problem they solve."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monotone_cases import certified_distance, constants, conv_cell, dense_parts, fc_cell, injection

import refdeq as rd
from refdeq.circular import dense_matrix, symbol
from refdeq.errors import ArgumentError, DTypeError, RefdeqError, ShapeError, UnsupportedError
from refdeq.models import monotone_conv_pullback, monotone_kernel, monotone_pullback, monotone_weight

U = 2.0**-53
PR, FB = rd.PeacemanRachford, rd.ForwardBackward
CELLS = {"fc": fc_cell, "conv": conv_cell}
TIGHT = rd.StopRule(atol=1e-11, max_eval=3000)


# ------------------------------------------------------------------------------------------------------- parametrisation


@given(st.integers(1, 12), st.floats(0.01, 10.0), st.floats(0.0, 5.0), st.integers(0, 100))
def test_the_symmetric_part_is_at_least_m(n, m, skew, seed):
    rng = np.random.default_rng(seed)
    a, b_skew = rng.standard_normal((2, n, n))
    w = monotone_weight(a, skew * b_skew, m)
    s = np.eye(n) - w
    gauge = 1 + m + np.linalg.norm(a) ** 2 + 2 * skew * np.linalg.norm(b_skew)
    lost = (8 * n + 16) * U * gauge  # eigvalsh, and n + 4 roundings of every entry of W
    assert np.linalg.eigvalsh((s + s.T) / 2)[0] >= m - lost
    np.testing.assert_allclose((s + s.T) / 2, m * np.eye(n) + a.T @ a, rtol=0, atol=lost)


def test_weight_by_hand():
    a, b_skew = np.array([[1.0, 2.0]]), np.array([[5.0, 3.0], [1.0, 7.0]])
    np.testing.assert_array_equal(monotone_weight(a, b_skew, 0.5), [[-0.5, 0.0], [-4.0, -3.5]])


def test_the_weight_is_rounded_once():
    rng = np.random.default_rng(0)
    a, b_skew = rng.standard_normal((2, 7, 7)).astype(np.float32)
    wide = monotone_weight(a.astype(np.float64), b_skew.astype(np.float64), 0.3)
    np.testing.assert_array_equal(monotone_weight(a, b_skew, 0.3), wide.astype(np.float32))


@pytest.mark.parametrize("size", [(3, 4), (1, 1), (5, 2)])
@pytest.mark.parametrize("h", [0.0, 2.0, -1.0])
def test_kernel_against_the_operators_it_is_made_of(size, h, rng):
    """W as a dense matrix against ``(1 - m) I - A^T A + B - B^T`` with A and B as dense matrices."""
    a0, b0 = rng.standard_normal((2, 3, 3, 3, 3))
    g, m, lengths = 1.7, 0.4, (size[0] + 2, size[1] + 2)
    got = dense_matrix(monotone_kernel(a0, b0, g, h, m), lengths)
    a = np.sqrt(g) * dense_matrix(a0 / np.linalg.norm(a0), lengths)
    b = h * dense_matrix(b0 / np.linalg.norm(b0), lengths)
    expected = (1 - m) * np.eye(len(a)) - a.T @ a + b - b.T
    # 27 products and some 10 other roundings in every entry, on both sides, of terms that sum to the gauge at most
    gauge = 1 + m + np.abs(a).T @ np.abs(a) + np.abs(b) + np.abs(b).T
    assert np.all(np.abs(got - expected) <= 2 * (27 + 10) * U * gauge)


def test_the_least_eigenvalue_is_m_where_a_frequency_is_in_the_kernel_of_a(rng):
    """A of taps that sum to zero cannot see a constant image."""
    a0 = np.zeros((1, 1, 3, 3))
    a0[0, 0, 1, 0], a0[0, 0, 1, 2] = 1.0, -1.0
    cell = conv_cell(1, 1)
    kernel = monotone_kernel(a0, rng.standard_normal((1, 1, 3, 3)), 2.0, 1.0, 0.25)
    cell = rd.models.monotone_conv(a0, rng.standard_normal((1, 1, 3, 3)), np.ones((1, 1, 3, 3)), np.zeros(1), (4, 4), m=0.25)
    hermitian = 1 - symbol(kernel, (6, 6)).real
    assert abs(hermitian.min() - 0.25) <= 64 * U * 4
    assert abs(rd.solvers.monotone_constants(cell)[0] - 0.25) <= 64 * U * 4


@pytest.mark.parametrize("kind", CELLS)
def test_monotone_constants(kind):
    cell = CELLS[kind]()
    w, _, _ = dense_parts(cell, injection(cell))
    m, norm = constants(w)
    got_m, got_norm = rd.solvers.monotone_constants(cell)
    lost = 64 * len(w) * U * norm  # backward errors of eigvalsh and svd, of the whole and per frequency
    assert abs(got_m - m) <= lost
    assert abs(got_norm - norm) <= lost
    assert norm > 1


def central_differences(loss, value, h=2.0**-12):
    """Gradient by central differences: exact for a quadratic, but for its rounding."""
    out = np.zeros_like(value)
    for index in np.ndindex(value.shape):
        step = np.zeros_like(value)
        step[index] = h
        out[index] = (loss(value + step) - loss(value - step)) / (2 * h)
    return out


def test_pullback_against_central_differences(rng):
    """W is quadratic in A and linear in B: differences are exact up to rounding."""
    a, b_skew, direction = rng.standard_normal((3, 4)), rng.standard_normal((4, 4)), rng.standard_normal((4, 4))
    to_a, to_b = monotone_pullback(a, direction)
    gauge = 64 * (1 + np.abs(a).sum() ** 2 + np.abs(b_skew).sum()) * np.abs(direction).sum()
    for got, by_differences in (
        (to_a, central_differences(lambda p: np.sum(direction * monotone_weight(p, b_skew)), a)),
        (to_b, central_differences(lambda p: np.sum(direction * monotone_weight(a, p)), b_skew)),
    ):
        assert np.all(np.abs(got - by_differences) <= gauge * U * 2.0**12)


def test_convolutional_pullback_against_central_differences(rng):
    a0, b0 = rng.standard_normal((2, 2, 2, 3, 3))
    direction, g, h = rng.standard_normal((2, 2, 5, 5)), 1.3, -0.7

    def loss(a0=a0, b0=b0, g=g, h=h):
        return float(np.sum(direction * monotone_kernel(a0, b0, g, h)))

    got = monotone_conv_pullback(a0, b0, direction, g, h)
    step = 2.0**-14
    expected = (
        central_differences(lambda p: loss(a0=p), a0, step),
        central_differences(lambda p: loss(b0=p), b0, step),
        (loss(g=g + step) - loss(g=g - step)) / (2 * step),
        (loss(h=h + step) - loss(h=h - step)) / (2 * step),
    )
    # a normalised kernel has third derivatives below 40 / norm^3 in every direction; products of it double that
    size = np.abs(direction).sum() * 10
    bound = step**2 / 6 * 240 * size + 64 * size * U / step
    for ours, theirs in zip(got, expected, strict=True):
        assert np.all(np.abs(ours - theirs) <= bound)
    assert abs(np.sum(got[0] * a0)) <= 1e3 * U * size  # moving along the kernel itself changes nothing
    assert bound <= 1e-3 * max(np.abs(got[0]).max(), np.abs(got[1]).max())


def test_initial_weights_are_the_published_defaults():
    a, b_skew, u, b = rd.models.random_monotone(50, 9, np.random.default_rng(1))
    for array, fan_in in ((a, 50), (b_skew, 50), (u, 9), (b, 9)):
        assert 0.9 / np.sqrt(fan_in) < np.abs(array).max() <= 1 / np.sqrt(fan_in) or array.size < 20
    again = rd.models.random_monotone(50, 9, np.random.default_rng(1), dtype="float32")
    np.testing.assert_array_equal(again[0], a.astype(np.float32))
    a0, b0, u, b = rd.models.random_monotone_conv(8, 3, np.random.default_rng(1))
    assert np.abs(a0).max() <= 1 / np.sqrt(72)
    assert np.abs(b0).max() <= 1 / np.sqrt(72)
    assert np.abs(u).max() <= 1 / np.sqrt(27)
    assert b.shape == (8,)


@pytest.mark.parametrize("size", [(1, 1), (2, 5)])
def test_the_border_is_held_at_zero(size):
    """With a bias that makes everything else positive, exactly one pixel around the image is zero."""
    a0, b0, u, _ = rd.models.random_monotone_conv(2, 1, np.random.default_rng(1))
    cell = rd.models.monotone_conv(a0, b0, u, np.full(2, 50.0), size, g=0.1, h=0.1)
    z = rd.solve(cell, np.ones((1, 1, *size)), solver=PR(), stop=TIGHT, polish=True).z
    inside = np.zeros(z.shape, dtype=bool)
    inside[:, :, 1 : 1 + size[0], 1 : 1 + size[1]] = True
    np.testing.assert_array_equal(z > 0, inside)
    np.testing.assert_array_equal(z[~inside], 0.0)


# ------------------------------------------------------------------------------------------------------------ fixed points


@pytest.mark.parametrize("solver", [PR(alpha=0.5), PR(), FB()], ids=lambda s: s.name)
@pytest.mark.parametrize("kind", CELLS)
def test_the_complementarity_problem(kind, solver):
    """``z >= 0``, ``w = (I - W) z - beta >= 0`` and ``z w = 0``: independent of any iteration.

    At ``z = f(y)`` of a point y with residual r, ``w = relu(-p) + W (y - z)`` with ``p = W y + beta``: below zero, and beside
    z, by no more than ``|W| r``.
    """
    cell = CELLS[kind]()
    x = injection(cell)
    sol = rd.solve(cell, x, solver=solver, stop=TIGHT)
    assert sol.converged
    matrix, beta, mask = dense_parts(cell, x)
    y, inside = sol.z.reshape(len(x), -1), mask > 0
    z = mask * np.maximum(y @ matrix.T + beta, 0)
    w = (z @ (np.eye(len(matrix)) - matrix).T - beta)[:, inside]
    lost = 8 * (len(matrix) + 4) * U * (np.abs(y) @ np.abs(matrix).T + np.abs(beta) + z).max()
    slack = np.linalg.norm(matrix, 2) * np.linalg.norm(y - z, axis=1).max() + lost
    assert slack < 1e-9
    assert w.min() >= -slack
    assert np.all(np.abs(z[:, inside] * w) <= slack * (1 + z.max()))
    assert (z[:, inside] > 0).any()
    assert (w > 1e-3).any()


@pytest.mark.parametrize("kind", CELLS)
def test_exact_solution_on_the_support(kind):
    """The fixed point solves a linear system on its support; both points are certified by their own residuals."""
    cell = CELLS[kind]()
    x = injection(cell)
    sol = rd.solve(cell, x, solver=PR(alpha=1.0), stop=TIGHT, polish=True)
    w, beta, mask = dense_parts(cell, x)
    z = sol.z.reshape(len(x), -1)
    exact = np.zeros_like(z)
    for i in range(len(x)):
        on = (z[i] > 1e-9) & (mask > 0)
        exact[i, on] = np.linalg.solve((np.eye(len(w)) - w)[np.ix_(on, on)], beta[i, on])
    distance = certified_distance(cell, x, sol.z) + certified_distance(cell, x, exact)
    assert np.all(np.linalg.norm(z - exact, axis=1) <= distance)
    assert distance.max() < 1e-8


@pytest.mark.parametrize("kind", CELLS)
def test_the_solution_is_lipschitz_in_the_injection(kind):
    """``|z*(x) - z*(x')| <= |beta - beta'| / m``; for beta = U x + b that is ``|U| |x - x'| / m``."""
    cell = CELLS[kind]()
    x = injection(cell, batch=12)
    w, beta, _ = dense_parts(cell, x)
    m, _ = constants(w)
    z = rd.solve(cell, x, solver=PR(), stop=TIGHT).z
    lost = certified_distance(cell, x, z)
    rows = z.reshape(len(x), -1)
    for i, j in itertools.combinations(range(len(x)), 2):
        moved = np.linalg.norm(rows[i] - rows[j])
        assert moved <= np.linalg.norm(beta[i] - beta[j]) / m + lost[i] + lost[j]
        if kind == "fc":
            assert moved <= np.linalg.norm(cell.parameters["U"], 2) * np.linalg.norm(x[i] - x[j]) / m + lost[i] + lost[j]


# ------------------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize("m", [0.0, -1.0, np.nan, np.inf, "1", None])
def test_bad_m(m):
    with pytest.raises(ArgumentError, match="m:"):
        monotone_weight(np.eye(2), np.eye(2), m)
    with pytest.raises(ArgumentError, match="m:"):
        conv_cell(m=m)


@pytest.mark.parametrize(
    ("a", "b_skew", "error"),
    [
        (np.eye(2), np.eye(3), ShapeError),
        (np.eye(2), np.eye(2, dtype=np.float32), DTypeError),
        (np.ones(2), np.eye(2), ShapeError),
    ],
)
def test_parts_that_do_not_fit(a, b_skew, error):
    with pytest.raises(error):
        monotone_weight(a, b_skew)


@pytest.mark.parametrize(
    "options", [{"g": -1.0}, {"h": np.nan}, {"g": np.inf}, {"size": (0, 3)}, {"size": (3, 2.5)}], ids=lambda o: repr(o)
)
def test_bad_convolutional_options(options):
    with pytest.raises(ArgumentError):
        conv_cell(**options)


def test_kernels_without_a_direction():
    with pytest.raises(ArgumentError, match="a0"):
        monotone_kernel(np.zeros((1, 1, 3, 3)), np.ones((1, 1, 3, 3)))
    with pytest.raises(ShapeError, match="a0 and b0"):
        monotone_kernel(np.ones((1, 1, 5, 5)), np.ones((1, 1, 5, 5)))
    with pytest.raises(RefdeqError, match="u:"):
        rd.models.monotone_conv(*np.ones((2, 1, 1, 3, 3)), np.ones((1, 1, 5, 5)), np.zeros(1), (4, 4))


def test_constants_need_the_form(tanh_cell):
    with pytest.raises(UnsupportedError, match="Tanh"):
        rd.solvers.monotone_constants(tanh_cell())
