"""Sums, norms and inner products, with what the reference makes of the same numbers."""

from __future__ import annotations

import numpy as np
from cupy_cases import BATCH, ROWS, Case, N, listed, numbers, put, written

from refdeq.ops.conv import accumulate_conv
from refdeq.reference import tree_sum

# Sums ----------------------------------------------------------------------------------------------------------------------


def ordinary_but_last(rng, shape, dtype):
    """Sums of many terms: what is not finite would hide all else, so only the last listed sample has such numbers."""
    values = numbers(rng, shape, dtype, False)
    values[ROWS[-1]] = numbers(rng, shape[1:], dtype)
    return values


def gemm_listed(inner, n, density):
    def case(rng, dtype):
        d, weight = ordinary_but_last(rng, (BATCH, inner), dtype), numbers(rng, (inner, n), dtype, False)
        a, mask = numbers(rng, (BATCH, n), dtype), rng.random((BATCH, inner)) < density
        mask[:, inner // 2] = False  # D-7: what is not sent is not read
        weight[inner // 2] = np.nan
        index, length, expected = written("int32", inner), mask.sum(axis=1).astype(np.int32), a.copy()
        for row in ROWS:
            sent = np.flatnonzero(mask[row])
            index[row, : length[row]] = sent
            for column in sent:
                expected[row] = expected[row] + weight[column] * d[row, column]
        arguments = [ROWS, np.int64(len(ROWS)), np.int64(inner), np.int64(n), d, index, length, weight, a]
        return Case(arguments, {8: expected}, grid=(-(-n // 128), 3 if density < 1 else 2), block=128)

    return case


def gemm_dense(inner, n, grid_rows, density=None):
    """Ten listed samples: more than one tile of eight has. With a density, nothing is added for columns that are not sent."""

    def case(rng, dtype):
        rows = np.array([0, 1, 3, 4, 5, 6, 7, 8, 10, 11], dtype=np.int32)
        d, weight = numbers(rng, (12, inner), dtype, False), numbers(rng, (inner, n), dtype, False)
        d[rows[-1]], a = numbers(rng, inner, dtype), numbers(rng, (12, n), dtype)
        mask = np.ones((12, inner), bool) if density is None else rng.random((12, inner)) < density
        if density is not None:
            mask[:, inner // 2] = False  # where a weight is NaN, and in a sample of accumulators that are -0
            weight[inner // 2], mask[rows[1]], a[rows[1]] = np.nan, False, -0.0
        expected = a.copy()
        for column in range(inner):
            sent = rows[mask[rows, column]]
            expected[sent] = expected[sent] + weight[column] * d[sent, column, None]
        flags = np.zeros(1, dtype=np.uint8) if density is None else mask.astype(np.uint8)
        sizes = np.int64(len(rows)), np.int64(inner), np.int64(n)
        arguments = [rows, *sizes, d, np.int32(density is not None), flags, weight, a]
        return Case(arguments, {8: expected}, grid=(-(-n // 32), grid_rows), block=(32, 8))

    return case


def matmul(rng, dtype):
    products, height, inner, width = 4, 3, 5, 2
    left, right = numbers(rng, (BATCH, 2, height, inner), dtype, False), numbers(rng, (3, inner, width), dtype, False)
    left_pick, right_pick, out = np.array([0, 1, 1, 0]), np.array([2, 0, 1, 1]), written(dtype, products * height * width)
    total = np.zeros((len(ROWS), products, height, width), dtype=dtype)
    for t in range(inner):
        total = total + left[ROWS][:, left_pick][..., t, None] * right[right_pick][:, t][None, :, None, :]
    sizes = [np.int64(size) for size in (products, height, inner, width)]
    operands = [np.int64(2 * height * inner), left_pick, left, np.int64(0), right_pick, right]
    expected = put(out, total.reshape(len(ROWS), -1))
    return Case([ROWS, np.int64(len(ROWS)), *sizes, *operands, out], {12: expected})


def conv(rng, dtype):
    geometry = {"strides": (2, 1), "pads": (1, 2, 1, 2), "dilations": (1, 2), "group": 2, "kernel_shape": None}
    d, weight = ordinary_but_last(rng, (BATCH, 4, 7, 6), dtype), numbers(rng, (6, 2, 3, 3), dtype, False)
    mask = rng.random(d.shape) < 0.6
    a = numbers(rng, (BATCH, 6, 4, 6), dtype, False)
    block = a[ROWS]
    accumulate_conv(d[ROWS], mask[ROWS], weight, geometry, block)
    sizes = (4, 7, 6, 6, 4, 6, 3, 3, 2, 1, 1, 2, 1, 2, 2, 1)
    arguments = [ROWS, np.int64(len(ROWS)), *(np.int32(size) for size in sizes), d, mask.astype(np.uint8), weight, a]
    return Case(arguments, {21: put(a, block)})


# Norms ---------------------------------------------------------------------------------------------------------------------


def warp_case(arguments, expected):
    return Case(arguments, expected, grid=len(ROWS), block=32)


def residual_with(is_linf):
    def case(rng, dtype):
        f, z, offset = numbers(rng, (BATCH, 100), dtype, is_linf), numbers(rng, (BATCH, 100), dtype, False), 13
        lanes, of_f = (np.abs(rng.standard_normal((BATCH, 32))) for _ in range(2))
        expected = lanes.copy(), of_f.copy()
        for row in ROWS:
            for k in range(100):
                values = float(f[row, k]) - float(z[row, k]), float(f[row, k])
                for target, value in zip(expected, values, strict=True):
                    lane = (offset + k) % 32
                    old = target[row, lane]
                    target[row, lane] = np.maximum(old, abs(value)) if is_linf else old + value * value
        return warp_case(
            [*listed(100), f, z, np.int64(offset), np.int32(is_linf), lanes, of_f], {7: expected[0], 8: expected[1]}
        )

    return case


def finish_with(is_linf):
    def case(rng, dtype):
        lanes, of_f, norms = numbers(rng, (BATCH, 32), "float64"), np.abs(rng.random((BATCH, 32))), written("float64", 2)
        lanes = np.abs(lanes) if is_linf else rng.random((BATCH, 32))
        pair = [np.max(x[ROWS], axis=1) if is_linf else np.sqrt(tree_sum(x[ROWS])) for x in (lanes, of_f)]
        arguments = [ROWS, np.int64(len(ROWS)), np.int32(is_linf), lanes, of_f, norms]
        return warp_case(arguments, {5: put(norms, np.stack(pair, axis=1))})

    return case


def inner(rng, dtype):
    column, row, out = numbers(rng, (BATCH, 100), dtype, False), numbers(rng, (BATCH, 100), dtype, False), written("float64", 4)
    expected = out.copy()
    expected[ROWS, 2] = tree_sum(column[ROWS].astype(np.float64) * row[ROWS].astype(np.float64))
    return warp_case([*listed(100), np.int64(4), np.int64(2), column, row, out], {7: expected})


def combine_add(rng, dtype):
    column, weights, total = numbers(rng, (BATCH, N), dtype), rng.standard_normal((BATCH, 3)), rng.standard_normal((BATCH, N))
    weights[2, 1], column[2] = 0.0, np.nan  # not read
    expected = total.copy()
    for row in (0, 3):
        expected[row] = expected[row] + weights[row, 1] * column[row].astype(np.float64)
    return Case([*listed(), np.int64(3), np.int64(1), column, weights, total], {7: expected})


def combine_round(rng, dtype):
    total, out = numbers(rng, (BATCH, N), "float64"), written(dtype)
    return Case([*listed(), total, out], {4: put(out, total[ROWS].astype(dtype))})


# One rounding or two ---------------------------------------------------------------------------------------------------------


def tiny(dtype):
    """Numbers ``(a, w)`` for which a + w w is ``small`` with one rounding and 0 with two."""
    half = 12 if dtype == "float32" else 27
    real = np.dtype(dtype).type
    return real(-(1 + 2.0 ** (1 - half))), real(1 + 2.0**-half), real(2.0 ** (-2 * half))


def fused_cases(dtype):
    """A launch of each kernel of fast order, by the name of its twin in strict order, and the result of both."""
    a, w, small = tiny(dtype)
    one, start = np.full((1, 1), w), np.full((1, 1), a)
    row, i4, i8 = np.zeros(1, dtype=np.int32), np.int32(1), np.int64(1)
    nothing = np.zeros(1, dtype=np.uint8)
    listing = [row, i8, i8, i8, one, np.zeros(1, dtype=np.int32), np.ones(1, dtype=np.int32), one, start]
    pick, left, right = np.zeros(1, dtype=np.int64), np.array([[a, w]]), np.array([[1, w]], dtype=dtype)
    product = [row, i8, i8, i8, np.int64(2), i8, np.int64(2), pick, left, np.int64(2), pick, right, start]
    geometry = [i4] * 10 + [np.int32(0)] * 2 + [i4] * 3
    return {
        "gemm_listed": (Case(listing, {8: small}, 1, 128), 8),
        "gemm_dense": (Case([row, i8, i8, i8, one, np.int32(0), nothing, one, start], {8: small}, 1, (32, 8)), 8),
        "matmul": (Case(product, {12: small}, 1, 32), 12),
        "conv": (Case([row, i8, *geometry, np.int32(0), one, nothing, one, start], {21: small}, 1, 32), 21),
    }


CASES = {function.__name__: [function] for function in (matmul, conv, inner, combine_add, combine_round)}
CASES["residual_part"] = [residual_with(False), residual_with(True)]
CASES["residual_finish"] = [finish_with(False), finish_with(True)]
CASES["gemm_listed"] = [gemm_listed(300, 140, 0.6), gemm_listed(257, 128, 1.1), gemm_listed(3, 1, 0.0)]
CASES["gemm_dense"] = [gemm_dense(70, 45, 1), gemm_dense(64, 32, 2), gemm_dense(1, 1, 2), gemm_dense(70, 33, 1, 0.6)]
