"""Sums of columns in registers against plain sums: strict bits, any panels, any part of a list, nothing beside them."""

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError
from refdeq_numba import column_sums, simd, sums
from refdeq_numba.machine import has_fused_multiply_add
from refdeq_numba.panels import VECTORS, columns_of

DTYPES = ["float32", "float64"]
COLUMNS = 40


@njit
def add_six(rounding, a, at, w, first, start, stop, d, d_at):
    sums.group_of_six(rounding, a, at, w, first, start, stop, d, d_at)


@njit
def add_four(rounding, a, at, w, first, start, stop, d, d_at):
    sums.group_of_four(rounding, a, at, w, first, start, stop, d, d_at)


GROUPS = {6: add_six, 4: add_four}


def width_of(dtype):
    return VECTORS * simd.vector_bytes() // np.dtype(dtype).itemsize


def numbers(rng, size, dtype):
    return rng.standard_normal(size).astype(dtype)


def listed(rng, count, dtype):
    index = np.sort(rng.permutation(COLUMNS)[:count]).astype(np.int32)
    return index, numbers(rng, count, dtype)


def plain(a, at, panel, width, index, value):
    """One panel, column after column, product and sum rounded each."""
    for j, d in zip(index, value, strict=True):
        a[at : at + width] += panel[j * width : (j + 1) * width] * d


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("panels", sums.PANELS)
@pytest.mark.parametrize("count", [0, 1, 2, 3, COLUMNS])
def test_row_is_the_strict_sum(same_bits, rng, dtype, panels, count):
    width = width_of(dtype)
    step = (COLUMNS + 3) * width  # panels need not touch
    w, a = numbers(rng, 5 + panels * step, dtype), numbers(rng, 3 + panels * width + 1, dtype)
    index, value = listed(rng, count, dtype)
    expected, twin = a.copy(), a.copy()
    for panel in range(panels):
        plain(expected, 3 + panel * width, w[5 + panel * step :], width, index, value)
    sums.row(None, panels, a, 3, w, 5, step, index, value, 0, count)
    same_bits(a, expected)
    sums.row_plain(panels, width, twin, 3, w, 5, step, index, value, 0, count)
    same_bits(twin, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_list_may_be_added_in_parts(same_bits, rng, dtype):
    width = width_of(dtype)
    w, a = numbers(rng, COLUMNS * width, dtype), numbers(rng, width, dtype)
    index, value = listed(rng, 31, dtype)
    parts = a.copy()
    sums.row(None, 1, a, 0, w, 0, 0, index, value, 0, 31)
    for start, stop in ((0, 1), (1, 1), (1, 17), (17, 31)):
        sums.row(None, 1, parts, 0, w, 0, 0, index, value, start, stop)
    same_bits(parts, a)


@pytest.mark.parametrize("rounding", [None, simd.ONCE])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", GROUPS)
@pytest.mark.parametrize("columns", [(0, COLUMNS), (7, 33), (5, 6), (9, 9)])
def test_group_is_as_many_rows(same_bits, rng, columns, rows, dtype, rounding):
    """Each with its own accumulators and differences, which lie anywhere."""
    width, (start, stop) = width_of(dtype), columns
    w, d, a = (numbers(rng, size, dtype) for size in (11 + COLUMNS * width, 3 + rows * COLUMNS, 2 + 2 * rows * width))
    places = tuple(int(i) * width + 2 for i in rng.permutation(2 * rows)[:rows])
    values = tuple(int(i) * COLUMNS + 3 for i in rng.permutation(rows))
    expected, index = a.copy(), np.arange(COLUMNS, dtype=np.int32)
    for place, value in zip(places, values, strict=True):
        sums.row(rounding, 1, expected, place, w, 11, 0, index, d[value : value + COLUMNS], start, stop)
    GROUPS[rows](rounding, a, places, w, 11, start, stop, d, values)
    same_bits(a, expected)


@pytest.mark.parametrize("panels", sums.PANELS)
def test_nothing_beyond_the_panels_is_touched(panels):
    width = panels * width_of("float32")
    a = np.full(3 * width, np.nan, dtype=np.float32)
    a[width : 2 * width] = 0
    w, d = np.ones(4 * width, dtype=np.float32), np.ones(4, dtype=np.float32)
    sums.row(None, panels, a, width, w, 0, 4 * width // panels, np.arange(4, dtype=np.int32), d, 0, 4)
    np.testing.assert_array_equal(a, np.repeat(np.array([np.nan, 4, np.nan], dtype=np.float32), width))


@pytest.mark.parametrize("rounding", [None, simd.ONCE])
def test_columns_not_listed_are_not_read(rounding):
    width = width_of("float64")
    w = np.full(2 * 5 * width, np.nan)
    for panel in range(2):
        w[(5 * panel + 2) * width : (5 * panel + 3) * width] = 1.0
    a, value = np.zeros(2 * width), np.array([np.nan, 0.5, np.nan])
    sums.row(rounding, 2, a, 0, w, 0, 5 * width, np.array([1, 2, 3], dtype=np.int32), value, 1, 2)
    assert (a == 0.5).all()


@pytest.mark.skipif(not has_fused_multiply_add(), reason="no fused multiply-add on this machine")
@pytest.mark.parametrize("kernel", ["row", "six", "four", "columns", "rest"])
def test_fused_rounds_once(kernel):
    """``(1 + e)^2 - 1 - 2e`` is e^2 when the product is not rounded and 0 when it is."""
    e, width = 2.0**-30, width_of("float64")
    rows = {"six": 6, "four": 4}.get(kernel, 1)
    for rounding, expected in ((simd.ONCE, e * e), (None, 0.0)):
        a, w, d = np.full(rows * width, -1.0 - 2.0 * e), np.full(width, 1.0 + e), np.full(1, 1.0 + e)
        index, places = np.zeros(1, dtype=np.int32), tuple(range(0, rows * width, width))
        if kernel == "row":
            sums.row(rounding, 1, a, 0, w, 0, 0, index, d, 0, 1)
        elif kernel == "columns":
            column_sums.add_columns_of(rounding, width // VECTORS, a, 0, w, width, 0, width, index, d, 1)
        elif kernel == "rest":
            a = a[: width // VECTORS - 1].copy()
            column_sums.add_columns_of(rounding, width // VECTORS, a, 0, w, width, 0, len(a), index, d, 1)
        else:
            GROUPS[rows](rounding, a, places, w, 0, 0, 1, d, (0,) * rows)
        assert (a == expected).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 8, 9, 15, COLUMNS])
def test_whole_columns_are_the_strict_sum(same_bits, rng, count, dtype):
    """Outputs of any range, those behind the last vector too; nothing beside them."""
    n, lanes = 37, simd.vector_bytes() // np.dtype(dtype).itemsize
    weight = columns_of(numbers(rng, (COLUMNS, n), dtype))
    index, value = listed(rng, count, dtype)
    for first, last in ((0, n), (0, lanes), (5, 30), (n - 1, n)):
        a = numbers(rng, 4 + n + 2, dtype)
        expected = a.copy()
        for j, d in zip(index, value, strict=True):
            expected[4 + first : 4 + last] += weight[j, first:last] * d
        column_sums.add_columns_of(None, lanes, a, 4, weight.reshape(-1), weight.shape[1], first, last, index, value, count)
        same_bits(a, expected)


def test_rounding_is_one_of_two():
    a, index = np.zeros(64), np.zeros(1, dtype=np.int32)
    with pytest.raises(TypingError, match="None or ONCE expected"):
        sums.row(True, 1, a, 0, a, 0, 0, index, a, 0, 0)
