"""The SIMD kernels against plain sums: bits in strict order, every tile width, every part of a list."""

import math

import numpy as np
import pytest
from numba import njit
from refdeq_numba import simd
from refdeq_numba.fused_data import aligned, pack, rows_per_block
from refdeq_numba.machine import has_fused_multiply_add


@njit
def add_row(is_fused, vectors, a, at, w, first, index, start, stop, d, d_at):
    simd.row(is_fused, vectors, a, at, w, first, index, start, stop, d, d_at)


@njit
def add_group(is_fused, width, shift, a, at, w, first, start, stop, d, d_at):
    simd.group(is_fused, width, shift, a, at, w, first, start, stop, d, d_at)


def lanes_of(dtype):
    return simd.vector_bytes() // np.dtype(dtype).itemsize


def numbers(rng, size, dtype):
    return rng.standard_normal(size).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("vectors", simd.TILES)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 40])
def test_row_is_the_strict_sum(same_bits, rng, dtype, vectors, count):
    width, columns = vectors * lanes_of(dtype), 40
    w, a, d = (numbers(rng, size, dtype) for size in (5 + columns * width, 3 + width + 1, 2 + columns))
    index = np.sort(rng.permutation(columns)[:count]).astype(np.int32)
    expected = a.copy()
    for j in index:
        expected[3 : 3 + width] += w[5 + j * width : 5 + (j + 1) * width] * d[2 + j]
    add_row(False, vectors, a, 3, w, 5, index, 0, count, d, 2)
    same_bits(a, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("vectors", simd.TILES)
def test_group_is_four_rows(same_bits, rng, dtype, vectors):
    width, columns = vectors * lanes_of(dtype), 40
    w, d = numbers(rng, columns * width, dtype), numbers(rng, 4 * columns, dtype)
    a = numbers(rng, 4 * width, dtype)
    expected = a.copy()
    places, values = tuple(range(0, 4 * width, width)), tuple(range(0, 4 * columns, columns))
    for place, value in zip(places, values, strict=True):
        add_row(False, vectors, expected, place, w, 0, np.arange(columns, dtype=np.int32), 7, 33, d, value)
    for shift in range(0, width, 2 * lanes_of(dtype)):
        add_group(False, width, shift, a, places, w, 0, 7, 33, d, values)
    same_bits(a, expected)


def test_nothing_beyond_the_tile_is_touched(rng):
    width = 2 * lanes_of("float32")
    a = np.full(3 * width, np.nan, dtype=np.float32)
    a[width : 2 * width] = 0
    w, d = np.ones(4 * width, dtype=np.float32), np.ones(4, dtype=np.float32)
    add_row(False, 2, a, width, w, 0, np.arange(4, dtype=np.int32), 0, 4, d, 0)
    np.testing.assert_array_equal(a, np.repeat(np.array([np.nan, 4, np.nan], dtype=np.float32), width))


def test_columns_not_listed_are_not_read(rng):
    width = 8 * lanes_of("float64")
    w = np.full(5 * width, np.nan)
    w[2 * width : 3 * width] = 1.0
    a, d = np.zeros(width), np.full(5, np.nan)
    d[2] = 0.5
    add_row(False, 8, a, 0, w, 0, np.array([1, 2, 3], dtype=np.int32), 1, 2, d, 0)
    assert (a == 0.5).all()


@pytest.mark.skipif(not has_fused_multiply_add(), reason="no fused multiply-add on this machine")
def test_fused_rounds_once():
    """``(1 + e)^2 - 1 - 2e`` is e^2 when the product is not rounded and 0 when it is."""
    e, width = 2.0**-30, 2 * lanes_of("float64")
    w, d = np.full(width, 1.0 + e), np.full(1, 1.0 + e)
    for is_fused, expected in ((True, e * e), (False, 0.0)):
        a = np.full(width, -1.0 - 2.0 * e)
        add_row(is_fused, 2, a, 0, w, 0, np.zeros(1, dtype=np.int32), 0, 1, d, 0)
        assert (a == expected).all()


@pytest.mark.parametrize("n", [1, 5, 16, 33, 200])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_packing_loses_nothing(same_bits, rng, n, dtype):
    weight = numbers(rng, (7, n), dtype)
    packed = pack(weight, None)
    unpacked = []
    for start, vectors in zip(packed.start, packed.vectors, strict=True):
        width = vectors * packed.lanes
        unpacked.append(packed.panel[start : start + 7 * width].reshape(7, width))
    whole = np.concatenate(unpacked, axis=1)
    same_bits(whole[:, :n], weight)
    assert not whole[:, n:].any()
    assert packed.panel.ctypes.data % 64 == 0
    assert packed.bias.shape == (0, n)


@pytest.mark.parametrize("bias", [np.arange(3.0), np.arange(3.0)[None], np.array(2.0), np.ones((1, 1))])
def test_packed_bias_is_one_row(bias):
    np.testing.assert_array_equal(pack(np.eye(3), bias).bias, np.broadcast_to(bias, (1, 3)))


@pytest.mark.parametrize("n", [1, 20, 256, 4096])
def test_blocks_hold_whole_groups(n):
    rows = rows_per_block(n, np.dtype("float32"))
    assert simd.GROUP <= rows <= 64
    assert rows % simd.GROUP == 0


@pytest.mark.parametrize("shape", [(0,), (3,), (2, 5)])
def test_aligned_arrays_begin_on_a_cache_line(shape):
    array = aligned(shape, np.dtype("float64"))
    assert array.ctypes.data % 64 == 0 or math.prod(shape) == 0
    assert array.shape == shape
