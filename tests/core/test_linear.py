"""Small float64 systems: accuracy, dependent columns, special values, the same bits in every batch (S-7)."""

from __future__ import annotations

import numpy as np
import pytest

from refdeq.linear import normalised_weights, regularised, solve_gram

U = 2.0**-53


def gram_of(columns):
    return columns.T @ columns


@pytest.mark.parametrize("k", [1, 2, 5, 12])
def test_a_regular_system_is_solved_backward_stably(k, rng):
    gram = np.stack([gram_of(rng.standard_normal((k + 3, k))) for _ in range(4)])
    rhs = rng.standard_normal((4, k))
    x = solve_gram(gram, rhs)
    # elimination of a positive definite matrix: backward error at most 3 k^2 u |A| (Higham, 10.1), 4 roundings of the scaling
    size = np.einsum("bij,bj->bi", np.abs(gram), np.abs(x)) + np.abs(rhs)
    lost = (3 * k**2 + k + 8) * U * np.linalg.norm(size, axis=1)
    assert np.all(np.linalg.norm(np.einsum("bij,bj->bi", gram, x) - rhs, axis=1) <= lost * np.sqrt(k))


def test_scales_far_apart_do_no_harm():
    """Columns of lengths 1e100 and 1e-100 that are orthogonal: each has its own weight."""
    gram = np.diag([1e200, 1e-200])[None]
    np.testing.assert_allclose(solve_gram(gram, np.array([[1e200, 3e-200]])), [[1.0, 3.0]], rtol=4 * U, atol=0.0)


def test_a_dependent_column_is_left_out_and_the_first_is_kept():
    """Column 1 is twice column 0, column 2 is independent: the answer is that of columns 0 and 2."""
    columns = np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 1.0], [0.0, 0.0, 1.0]])
    rhs = columns.T @ np.array([1.0, 2.0, 3.0])
    x = solve_gram(gram_of(columns)[None], rhs[None])[0]
    few = solve_gram(gram_of(columns[:, [0, 2]])[None], rhs[None, [0, 2]])[0]
    assert x[1] == 0.0
    np.testing.assert_allclose(x[[0, 2]], few, rtol=16 * U, atol=0.0)


def test_columns_that_do_not_exist_decide_about_no_bit(same_bits):
    """3 eps of column 1 remains, more than 2 eps: it is kept, also beside four empty columns that another sample has."""
    c = np.sqrt(1.0 - 3.0 * 2 * U)
    gram, rhs = np.array([[[1.0, c], [c, 1.0]]]), np.array([[1.0, 2.0]])
    x = solve_gram(gram, rhs)
    assert x[0, 1] != 0.0
    wide = np.zeros((1, 6, 6))
    wide[:, :2, :2] = gram
    same_bits(solve_gram(wide, np.pad(rhs, ((0, 0), (0, 4))))[:, :2], x)
    same_bits(normalised_weights(wide)[:, :2], normalised_weights(gram))


def test_one_direction_has_one_weight(rng):
    """Rounded, the Gram matrix of numbers is not quite singular; what remains of the second column is all rounding."""
    numbers = rng.standard_normal((500, 3))
    x = solve_gram(numbers[:, :, None] * numbers[:, None, :], numbers)
    np.testing.assert_array_equal(x[:, 1:], 0.0)
    assert np.all(np.abs(x[:, 0] * numbers[:, 0] - 1.0) <= 8 * U)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, -1.0])
def test_columns_that_are_no_columns_get_no_weight(bad):
    gram = np.array([[[4.0, 0.0], [0.0, bad]], [[bad, 0.0], [0.0, 4.0]]])
    np.testing.assert_array_equal(solve_gram(gram, np.full((2, 2), 8.0)), [[2.0, 0.0], [0.0, 2.0]])


def test_a_product_that_overflowed_leaves_out_the_later_column():
    gram = np.array([[[4.0, np.inf], [np.inf, 4.0]], [[4.0, np.nan], [np.nan, 4.0]]])
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(solve_gram(gram, np.full((2, 2), 8.0)), [[2.0, 0.0], [2.0, 0.0]])


def test_an_answer_that_is_not_finite_becomes_no_answer():
    gram = np.array([[[1e-300]], [[1.0]]])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(solve_gram(gram, np.array([[1e300], [1.0]])), [[0.0], [1.0]])


def test_no_sample_sees_another(rng, same_bits):
    gram = np.stack([gram_of(rng.standard_normal((7, 5))) for _ in range(6)])
    rhs = rng.standard_normal((6, 5))
    gram[1], gram[3, 2], rhs[4] = np.nan, 0.0, np.inf
    gram[3, :, 2] = 0.0
    with np.errstate(all="ignore"):
        together = solve_gram(gram, rhs)
        for b in range(6):
            same_bits(solve_gram(gram[b : b + 1], rhs[b : b + 1])[0], together[b])
            same_bits(normalised_weights(gram[b : b + 1])[0], normalised_weights(gram)[b])
        same_bits(solve_gram(np.asfortranarray(gram), rhs), together)


def test_arguments_are_not_changed(rng):
    gram, rhs, valid = gram_of(rng.standard_normal((4, 3)))[None], np.ones((1, 3)), np.array([[True, True, False]])
    before = gram.copy()
    solve_gram(gram, rhs)
    regularised(gram, valid, 1.0, "trace")
    np.testing.assert_array_equal(gram, before)
    np.testing.assert_array_equal(rhs, 1.0)


def test_weights_are_those_of_the_bordered_system(rng):
    gram = np.stack([gram_of(rng.standard_normal((8, 4))) for _ in range(3)])
    bordered = np.zeros((3, 5, 5))
    bordered[:, 0, 1:] = bordered[:, 1:, 0] = 1.0
    bordered[:, 1:, 1:] = gram
    expected = np.linalg.solve(bordered, np.tile([1.0, 0, 0, 0, 0], (3, 1))[:, :, None])[:, 1:, 0]
    # both are solved backward stably: a few k^2 u, times the condition of the matrix they solve with
    lost = (3 * 25 + 30) * U * np.linalg.cond(bordered).max() * np.abs(expected).max()
    assert np.abs(normalised_weights(gram) - expected).max() <= lost
    assert np.abs(normalised_weights(gram).sum(axis=1) - 1.0).max() <= 8 * U * np.abs(expected).sum(axis=1).max()


@pytest.mark.parametrize("gram", [np.zeros((2, 2)), np.full((2, 2), np.nan)])
def test_without_a_usable_column_all_weight_is_on_the_first(gram):
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(normalised_weights(gram[None]), [[1.0, 0.0]])


@pytest.mark.parametrize(
    ("scale", "ridge", "diagonal"), [("trace", 0.8, [6.0, 3.0]), ("diagonal", 0.5, [6.0, 1.5]), ("absolute", 0.5, [4.5, 1.5])]
)
def test_ridges(scale, ridge, diagonal):
    """The mean of the two valid entries, 4 and 1, is 2.5; the third column does not exist, whatever stands there."""
    gram = np.array([[[4.0, 0.5, np.nan], [0.5, 1.0, np.nan], [np.nan, np.nan, np.nan]]])
    got = regularised(gram, np.array([[True, True, False]]), ridge, scale)
    np.testing.assert_array_equal(got, [[[diagonal[0], 0.5, 0.0], [0.5, diagonal[1], 0.0], [0.0, 0.0, 0.0]]])
