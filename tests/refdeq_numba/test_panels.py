"""Layouts of weights: packing loses nothing, pads with zeros, begins on a cache line."""

import math

import numpy as np
import pytest
from refdeq_numba import simd
from refdeq_numba.conv_data import pack_conv
from refdeq_numba.fused_data import pack, rows_per_block
from refdeq_numba.panels import VECTORS, aligned, columns_of, pack_panels
from refdeq_numba.scratch import ROWS

DTYPES = ["float32", "float64"]


def sizes(dtype):
    """Numbers of outputs around a panel and around two."""
    width = VECTORS * simd.vector_bytes() // np.dtype(dtype).itemsize
    return [1, 2, width - 1, width, width + 1, 2 * width - 1, 2 * width + 1, 200]


@pytest.mark.parametrize("columns", [1, 7, 65])
@pytest.mark.parametrize("dtype", DTYPES)
def test_packing_loses_nothing(same_bits, rng, dtype, columns):
    for n in sizes(dtype):
        weight = rng.standard_normal((columns, n)).astype(dtype)
        packed = pack_panels(weight)
        whole = np.concatenate(packed.data.reshape(packed.count, columns, packed.width), axis=1)
        same_bits(whole[:, :n], weight)
        assert not whole[:, n:].any()
        assert (packed.k, packed.n, packed.is_finite) == (columns, n, True)
        assert packed.count == -(-n // packed.width)
        assert packed.data.ctypes.data % 64 == 0


def test_width_is_that_of_the_vectors_of_this_machine():
    for dtype in DTYPES:
        assert pack_panels(np.ones((1, 1), dtype)).width * np.dtype(dtype).itemsize == VECTORS * simd.vector_bytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_noticed(bad):
    weight = np.ones((3, 40))
    weight[2, 39] = bad
    assert not pack_panels(weight).is_finite
    assert not pack(weight, None).is_finite
    assert not pack_conv(weight.T.reshape(40, 3, 1), 2).is_finite


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_columns_are_those_of_the_weight(same_bits, rng, dtype, transposed):
    for n in sizes(dtype):
        weight = rng.standard_normal((n, 5) if transposed else (5, n)).astype(dtype)
        weight = weight.T if transposed else weight
        columns = columns_of(weight)
        same_bits(columns[:, :n], weight)
        assert not columns[:, n:].any()
        assert columns.ctypes.data % 64 == columns.strides[0] % 64 == 0


@pytest.mark.parametrize("kernel", [(3,), (2, 3)])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_taps_of_a_convolution_are_columns(same_bits, rng, dtype, group, kernel):
    """Where :class:`refdeq_numba.conv_data.ConvPanels` says they are."""
    inputs, taps = 5, math.prod(kernel)
    for outputs in sizes(dtype)[:-1]:
        weight = rng.standard_normal((group * outputs, inputs, *kernel)).astype(dtype)
        packed, by_tap = pack_conv(weight, group), weight.reshape(group, outputs, inputs, taps)
        for g, tap, c, m in np.ndindex(group, taps, inputs, outputs):
            begin = ((g * packed.count + m // packed.width) * taps + tap) * inputs * packed.width
            same_bits(packed.data[begin + c * packed.width + m % packed.width], by_tap[g, m, c, tap])
        assert packed.data.size == group * packed.count * taps * inputs * packed.width


@pytest.mark.parametrize("bias", [np.arange(3.0), np.arange(3.0)[None], np.array(2.0), np.ones((1, 1))])
def test_packed_bias_is_one_row(bias):
    np.testing.assert_array_equal(pack(np.eye(3), bias).bias, np.broadcast_to(bias, (1, 3)))
    assert pack(np.eye(3), None).bias.shape == (0, 3)


@pytest.mark.parametrize("n", [1, 20, 256, 4096])
def test_blocks_hold_whole_groups(n):
    rows = rows_per_block(n, np.dtype("float32"))
    assert 6 <= rows <= 60
    assert rows % 6 == 0
    assert ROWS % 6 == ROWS % 4 == 0


@pytest.mark.parametrize("shape", [(0,), (3,), (2, 5)])
def test_aligned_arrays_begin_on_a_cache_line(shape):
    array = aligned(shape, np.dtype("float64"))
    assert array.ctypes.data % 64 == 0 or math.prod(shape) == 0
    assert array.shape == shape
    assert not array.any()
