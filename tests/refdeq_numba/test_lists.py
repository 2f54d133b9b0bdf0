"""Lists of sent columns: every mask, every tail, differences beside them, ends of blocks, and nothing beyond a row."""

import numpy as np
import pytest
from numba import njit
from refdeq_numba import lists
from refdeq_numba.compress import SHUFFLES_4, SHUFFLES_8, SLACK, compress, has_shuffles
from refdeq_numba.lists import BLOCK, count_columns, has_negative_zero, list_all, list_columns
from refdeq_numba.simd import bits_of, count_ones, count_trailing_zeros, prefetch

DTYPES = ["float32", "float64"]
SIZES = [1, 3, 4, 7, 8, 9, 12, 63, 64, 65, 71, 72, 127, 128, 129, 200, 300]
DENSITIES = [0.0, 0.02, 0.15, 0.25, 0.5, 0.9, 1.0]


class Lists:
    """Room for the lists of three rows, full of numbers that nothing may leave as they are by mistake."""

    def __init__(self, n, dtype):
        blocks = -(-n // BLOCK)
        self.bits = np.full((3, blocks), 2**63 + 5, dtype=np.uint64)
        self.columns = np.full((3, n + SLACK), -7, dtype=np.int32)
        self.values = np.full((3, n + SLACK), np.nan, dtype=dtype)
        self.ends = np.zeros((3, blocks + 1), dtype=np.int64)


def check(same_bits, room, n, mask, d, i, count):
    expected = np.flatnonzero(mask)
    assert count == len(expected)
    np.testing.assert_array_equal(room.columns[i, :count], expected)
    same_bits(room.values[i, :count], d[expected])
    np.testing.assert_array_equal(
        room.ends[i], [np.count_nonzero(mask[: BLOCK * block]) for block in range(-(-n // BLOCK) + 1)]
    )
    others = [r for r in range(3) if r != i]
    assert (room.columns[others] == -7).all()
    assert np.isnan(room.values[others]).all()


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_lists_hold_what_is_sent(same_bits, rng, dtype, n):
    for density in DENSITIES:
        masks = np.zeros((2, n + 5), dtype=bool)
        masks[:, 2 : 2 + n] = rng.random((2, n)) < density
        masks[:, :2] = masks[:, 2 + n :] = True  # what lies beside a row is not its own
        d = rng.standard_normal(3 + 2 * n + 1).astype(dtype)
        room = Lists(n, dtype)
        mask, own = masks[1, 2 : 2 + n], d[3 + n : 3 + 2 * n]
        used = count_columns(n, masks.reshape(-1), n + 7, room.bits, 1)
        assert used == mask.sum()
        count = list_columns(n, room.bits, d, 3 + n, room.columns, room.values, room.ends, 1)
        check(same_bits, room, n, mask, own, 1, count)


@pytest.mark.parametrize("n", SIZES)
def test_list_of_all(same_bits, rng, n):
    room, d = Lists(n, "float64"), rng.standard_normal(2 + n)
    list_all(n, d, 2, room.columns, room.values, room.ends, 2)
    check(same_bits, room, n, np.ones(n, dtype=bool), d[2:], 2, n)


@pytest.mark.parametrize("step", [8, 4])
def test_every_pattern_has_its_shuffle(step):
    table = {8: SHUFFLES_8, 4: SHUFFLES_4}[step].reshape(-1, step)
    assert len(table) == 2**step
    for pattern, row in enumerate(table):
        chosen = [place for place in range(step) if pattern >> place & 1]
        assert row[: len(chosen)].tolist() == chosen


@njit
def shuffle(d, d_at, pattern, table, first, columns, values, at):
    compress(d, d_at, pattern, table, first, columns, values, at)


@pytest.mark.skipif(not has_shuffles(), reason="this processor has no shuffles by a register")
@pytest.mark.parametrize("dtype", DTYPES)
def test_compress_is_the_loop_over_bits(same_bits, rng, dtype):
    step, table = (8, SHUFFLES_8) if dtype == "float32" else (4, SHUFFLES_4)
    d = rng.standard_normal(5 + step).astype(dtype)
    d[5], d[6] = -0.0, np.inf
    for pattern in range(2**step):
        columns, values = np.full(3 + step + 2, -7, dtype=np.int32), np.full(3 + step + 2, 7, dtype=dtype)
        shuffle(d, 5, pattern, table, 1000, columns, values, 3)
        chosen = [place for place in range(step) if pattern >> place & 1]
        assert columns[3 : 3 + len(chosen)].tolist() == [1000 + place for place in chosen]
        same_bits(values[3 : 3 + len(chosen)], d[5:][chosen])
        assert (columns[[0, 1, 2, -2, -1]] == -7).all()  # no more than it says is written
        assert (values[[0, 1, 2, -2, -1]] == 7).all()


def test_blocks_are_shuffled_where_that_is_faster():
    """Both ways of listing run in these tests: few of 64, and many."""
    assert 0 < lists._WORTH_SHUFFLING < BLOCK * max(DENSITIES[3:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_negative_zero_is_found_and_nothing_else(dtype):
    integer = np.dtype(f"i{np.dtype(dtype).itemsize}").type
    numbers = np.array([0.0, 1.0, -1.0, np.nan, -np.inf, 5e-324, -1e-45, np.finfo(dtype).min], dtype=dtype)
    least = integer(np.iinfo(integer).min)
    for place in range(len(numbers)):
        with_one = numbers.copy()
        with_one[place] = -0.0
        bits = with_one.view(integer)
        assert has_negative_zero(bits, least, 0, len(bits))
        assert has_negative_zero(bits, least, place, place + 1)
        assert not has_negative_zero(bits, least, place + 1, len(bits))
        assert not has_negative_zero(bits, least, 0, place)
    assert not has_negative_zero(numbers.view(integer), least, 0, len(numbers))


@njit
def words(mask, index):
    bits = bits_of(mask, index)
    return bits, count_ones(bits), count_trailing_zeros(bits)


def test_bits_of_a_mask(rng):
    for density in (0.02, 0.5, 1.0):
        mask = rng.random(70) < density
        mask[40] = True
        for index in range(7):
            bits, ones, zeros = words(mask, index)
            own = mask[index : index + 64]
            assert int(bits) == sum(1 << int(place) for place in np.flatnonzero(own))
            assert (ones, zeros) == (own.sum(), np.flatnonzero(own)[0])


@njit
def ask(array, index):
    prefetch(array, index)


def test_prefetch_changes_nothing_anywhere():
    array = np.arange(5.0)
    for index in (0, 4, -(10**9), 10**12):
        ask(array, index)
    np.testing.assert_array_equal(array, np.arange(5.0))
