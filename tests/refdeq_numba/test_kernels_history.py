"""Rows, inner products and linear combinations of solvers with a memory: bits of the reference, whatever the shapes."""

import numpy as np
import pytest
from refdeq_numba.kernels import NumbaKernels

from refdeq import scalar
from refdeq.reference import ReferenceKernels

DTYPES = ["float32", "float64"]
STATES = [[(1,)], [(31,)], [(32,)], [(33,)], [(3, 5)], [(7,), (2, 3, 4), (33,)], [(32,), (1,), (64,)], [(2, 300), (500,)]]
COUNTS = [0, 1, 2, 3, 4, 5, 8, 11]
WIDTHS = [1, 31, 32, 33, 64, 77, 512, 513, 1100]


def backends(order="strict"):
    return ReferenceKernels(), NumbaKernels(order, threads=2)


def history(rng, numbers, count, batch, width, dtype, special=0.0):
    """Columns, weights of which some are zero, and a row."""
    columns = [numbers(rng, (batch, width), dtype, special) for _ in range(count)]
    weights = np.where(
        rng.random((batch, count)) < 0.2, rng.choice([0.0, -0.0], (batch, count)), rng.normal(size=(batch, count))
    )
    return columns, weights, numbers(rng, (batch, width), dtype, special)


def inner(kernels, columns, row, active):
    out = np.full((len(row), len(columns)), 7.0)
    with np.errstate(all="ignore"):
        kernels.inner(columns, row, active, out)
    return out


def combine(kernels, columns, weights, active, like):
    out = np.full_like(like, 7.0)
    with np.errstate(all="ignore"):
        kernels.combine(columns, weights, active, out)
    return out


# ---------------------------------------------------------------------------------------------------------- bits, any shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", STATES, ids=str)
@pytest.mark.parametrize("batch", [0, 1, 5])
def test_rows_of_states_and_back(shapes, dtype, batch, assert_same_bits, numbers):
    rng = np.random.default_rng(3)
    parts = [numbers(rng, (batch, *shape), dtype, 0.2) for shape in shapes]
    active = rng.random(batch) < 0.6
    width = sum(int(np.prod(shape)) for shape in shapes)
    results = []
    for kernels in backends():
        rows = np.full((batch, width), 7, dtype=dtype)
        kernels.flatten(parts, active, rows)
        back = [np.full_like(part, 9) for part in parts]
        kernels.unflatten(rows, active, back)
        results.append([rows, *back])
    for got, expected in zip(results[1], results[0], strict=True):
        assert_same_bits(got, expected)
    for got, part in zip(results[1][1:], parts, strict=True):
        assert_same_bits(got[active], part[active])
        assert (got[~active] == 9).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("width", WIDTHS)
def test_sums_have_the_bits_of_the_reference(width, count, dtype, assert_same_bits, numbers):
    rng = np.random.default_rng([width, count])
    for batch, special in [(0, 0.0), (1, 0.0), (4, 0.0), (4, 0.02), (3, 0.5)]:
        columns, weights, row = history(rng, numbers, count, batch, width, dtype, special)
        active = rng.random(batch) < 0.7
        for order in ("strict", "fast"):
            reference, numba = backends(order)
            assert_same_bits(inner(numba, columns, row, active), inner(reference, columns, row, active))
            got, expected = (combine(kernels, columns, weights, active, row) for kernels in (numba, reference))
            assert_same_bits(got, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_do_not_depend_on_threads(dtype, assert_same_bits, numbers):
    rng = np.random.default_rng(41)
    columns, weights, row = history(rng, numbers, 7, 150, 1100, dtype)  # enough for several threads to be used
    active = rng.random(150) < 0.8
    one = NumbaKernels(threads=1)
    for threads in (2, 3, 7):
        several = NumbaKernels(threads=threads)
        assert_same_bits(inner(several, columns, row, active), inner(one, columns, row, active))
        got, expected = (combine(kernels, columns, weights, active, row) for kernels in (several, one))
        assert_same_bits(got, expected)


# -------------------------------------------------------------------------------------------------- one sample, by plain Python


@pytest.mark.parametrize("width", [1, 40, 77])
def test_inner_product_against_the_scalar_tree(width):
    """The squared norm of S-2 is the inner product of a row with itself."""
    values = np.random.default_rng(5).standard_normal((1, width))
    squared = inner(NumbaKernels(), [values], values, np.ones(1, dtype=bool))[0, 0]
    assert np.sqrt(squared) == scalar.residual(values[0].tolist(), [0.0] * width, "l2")


def test_inner_product_by_hand():
    """Element 32 joins lane 0: (1 + 2**-53) rounds to 1 there, while 2**-53 + 2**-53 would survive in a lane of its own."""
    row = np.zeros((1, 34))
    row[0, [0, 32, 33]] = 1.0, 2.0**-53, 2.0**-53
    ones = np.ones((1, 34))
    assert inner(NumbaKernels(), [ones], row, np.ones(1, dtype=bool))[0, 0] == 1.0
    row[0, [1, 32]] = 2.0**-53, 0.0
    assert inner(NumbaKernels(), [ones], row, np.ones(1, dtype=bool))[0, 0] == 1.0 + 2.0**-52


def test_combination_by_hand():
    """Ascending columns, each product rounded, one rounding to float32 at the end."""
    everyone = np.ones(1, dtype=bool)
    columns = [np.full((1, 3), value, dtype=np.float32) for value in (1.0, 2.0**-24, 2.0**-24)]
    assert combine(NumbaKernels(), columns, np.ones((1, 3)), everyone, columns[0]).tolist() == [[1.0 + 2.0**-23] * 3]
    wide = [np.full((1, 3), value) for value in (1.0, 2.0**-53, 2.0**-53)]
    assert combine(NumbaKernels(), wide, np.ones((1, 3)), everyone, wide[0]).tolist() == [[1.0] * 3]
    assert combine(NumbaKernels(), wide[::-1], np.ones((1, 3)), everyone, wide[0]).tolist() == [[1.0 + 2.0**-52] * 3]


def test_products_are_rounded_before_they_are_added():
    """(1 + 2**-30)**2 = 1 + 2**-29 + 2**-60: a fused multiply-add would leave 2**-60."""
    x = 1.0 + 2.0**-30
    everyone = np.ones(1, dtype=bool)
    for order in ("strict", "fast"):
        kernels = NumbaKernels(order)
        columns = [np.full((1, 40), 1.0 + 2.0**-29), np.full((1, 40), x)]
        assert not combine(kernels, columns, np.array([[-1.0, x]]), everyone, columns[0]).any()
        row = np.zeros((1, 64))
        row[0, [0, 32]] = -1.0, x
        other = np.zeros((1, 64))
        other[0, [0, 32]] = 1.0 + 2.0**-29, x
        assert inner(kernels, [other], row, everyone)[0, 0] == 0.0


# --------------------------------------------------------------------------------------------------------- what is not touched


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_column_of_weight_zero_is_not_read(dtype, assert_same_bits, numbers):
    rng = np.random.default_rng(7)
    everyone = np.ones(3, dtype=bool)
    columns, _, row = history(rng, numbers, 6, 3, 70, dtype)
    weights = rng.standard_normal((3, 6))
    weights[0, :2], weights[1, 4:], weights[2] = 0.0, -0.0, 0.0
    expected = combine(ReferenceKernels(), columns, weights, everyone, row)
    for i in range(6):
        columns[i][weights[:, i] == 0.0] = np.nan
    got = combine(NumbaKernels(), columns, weights, everyone, row)
    assert_same_bits(got, expected)
    assert_same_bits(got[2], np.zeros(70, dtype=dtype))


def test_a_weight_that_is_not_a_number_is_not_zero():
    columns = [np.ones((2, 5)), np.ones((2, 5))]
    got = combine(NumbaKernels(), columns, np.array([[1.0, np.nan], [1.0, 2.0]]), np.ones(2, dtype=bool), columns[0])
    assert np.isnan(got[0]).all()
    assert (got[1] == 3.0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_that_are_not_active_are_neither_read_nor_written(dtype, assert_same_bits, numbers):
    rng = np.random.default_rng(11)
    columns, weights, row = history(rng, numbers, 5, 6, 45, dtype)
    active = np.array([True, False, True, False, False, True])
    kernels = NumbaKernels(threads=2)
    products, sums = inner(kernels, columns, row, active), combine(kernels, columns, weights, active, row)
    for array in (*columns, weights, row):
        array[~active] = np.nan
    assert_same_bits(inner(kernels, columns, row, active), products)
    assert_same_bits(combine(kernels, columns, weights, active, row), sums)
    assert (products[~active] == 7.0).all()
    assert (sums[~active] == 7.0).all()


# ------------------------------------------------------------------------------------------------------ aliases, views, zeros


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", range(6))
def test_the_result_may_replace_any_column(target, dtype, assert_same_bits, numbers):
    rng = np.random.default_rng(13)
    columns, weights, row = history(rng, numbers, 6, 4, 1100, dtype)
    active = np.array([True, True, False, True])
    expected = combine(ReferenceKernels(), columns, weights, active, row)
    expected[~active] = columns[target][~active]
    NumbaKernels().combine(columns, weights, active, columns[target])
    assert_same_bits(columns[target], expected)


def test_columns_may_be_planes_of_one_array_and_host_arrays_may_be_views(assert_same_bits, numbers):
    rng = np.random.default_rng(17)
    planes, row = numbers(rng, (5, 4, 50), "float64"), numbers(rng, (4, 50), "float64")
    everyone = np.ones(4, dtype=bool)
    gram, weights = np.zeros((4, 5, 3)), np.asfortranarray(rng.standard_normal((4, 5)))
    weights.flags.writeable = False
    NumbaKernels().inner(list(planes), row, everyone, gram[:, :, 1])
    assert_same_bits(gram[:, :, 1], inner(ReferenceKernels(), list(planes), row, everyone))
    assert not gram[:, :, [0, 2]].any()
    got, expected = (combine(kernels, list(planes), weights, everyone, row) for kernels in (NumbaKernels(), ReferenceKernels()))
    assert_same_bits(got, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_and_subnormals(dtype, assert_same_bits):
    """Sums start from +0, so -0 comes out of none of them; subnormals are ordinary numbers (N-5)."""
    everyone = np.ones(1, dtype=bool)
    negative = np.full((1, 35), -0.0, dtype=dtype)
    assert_same_bits(inner(NumbaKernels(), [negative], np.ones_like(negative), everyone), np.zeros((1, 1)))
    for count in (1, 4):
        sums = combine(NumbaKernels(), [negative] * count, np.ones((1, count)), everyone, negative)
        assert_same_bits(sums, np.zeros_like(negative))
    tiny = np.full((1, 35), np.finfo(dtype).smallest_subnormal)
    assert_same_bits(combine(NumbaKernels(), [tiny], np.array([[3.0]]), everyone, tiny), 3 * tiny)
    assert_same_bits(combine(NumbaKernels(), [tiny] * 5, np.full((1, 5), 0.25), everyone, tiny), _quarters(tiny))
    assert inner(NumbaKernels(), [tiny], np.ones_like(tiny), everyone)[0, 0] == 35 * float(tiny[0, 0])


def _quarters(tiny):
    """Five quarters: formed exactly in float64 for float32, a quarter of the smallest float64 rounds to zero each time."""
    return tiny if tiny.dtype == np.float32 else np.zeros_like(tiny)


def test_a_column_of_another_layout_is_refused():
    """Compiled code reads columns by address: a wrong one must not get that far."""
    columns = [np.ones((2, 5)), np.ones((2, 6))]
    with pytest.raises(AssertionError, match="read by address"):
        combine(NumbaKernels(), columns, np.ones((2, 2)), np.ones(2, dtype=bool), columns[0])
    with pytest.raises(AssertionError, match="read by address"):
        inner(NumbaKernels(), [np.ones((2, 5), dtype=np.float32)], np.ones((2, 5)), np.ones(2, dtype=bool))
