"""For every kernel of the op level: a launch, and what the reference makes of the same numbers.

Arrays that a kernel writes begin as NaN (flags as 9, counters as -9), so that what it must not touch is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refdeq.formats import round_to_format
from refdeq.ops import OPS
from refdeq.ops.conv import accumulate_conv
from refdeq.reference import decide, difference, tree_sum

BATCH, N = 5, 37
ROWS = np.array([0, 2, 3], dtype=np.int32)
SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-310, 1e-45, -1e-45, 65519.0, 65520.0, 3.3e38, 6e-8]


@dataclass
class Case:
    """Arguments of a launch, and the arrays that must come out, by the place of the argument."""

    arguments: list
    expected: dict
    grid: object = 2
    block: object = 64


def numbers(rng, shape, dtype, is_special=True):
    """Ordinary numbers of many sizes with special ones among them."""
    values = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3, shape)
    if is_special:
        at = rng.random(shape) < 0.15
        values[at] = rng.choice(SPECIAL, at.sum())
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def listed(n=N):
    return [ROWS, np.int64(len(ROWS)), np.int64(n)]


def written(dtype, width=N, batch=BATCH):
    fill = np.nan if np.dtype(dtype).kind == "f" else 9 if dtype == "uint8" else -9
    return np.full((batch, width), fill, dtype=dtype)


def put(out, values):
    """The array after `values` were written to the listed rows."""
    out = out.copy()
    out[ROWS] = values
    return out


def unary(operation):
    def case(rng, dtype):
        x, out = numbers(rng, (BATCH, N), dtype), written(dtype)
        return Case([*listed(), x, out], {4: put(out, OPS[operation].forward([x[ROWS]], {}))})

    return case


def binary(operation):
    def case(rng, dtype):
        x, y, out = numbers(rng, (BATCH, N), dtype), numbers(rng, (N,), dtype), written(dtype)
        expected = put(out, OPS[operation].forward([x[ROWS], y], {}))
        return Case([*listed(), x, np.int64(N), y, np.int64(0), out], {7: expected})

    return case


def fill(rng, dtype):
    out = written(dtype)
    return Case([*listed(), np.dtype(dtype).type(-0.0), out], {4: put(out, -0.0)})


def fill_flags(rng, dtype):
    out = written("uint8")
    return Case([*listed(), np.int32(1), out], {4: put(out, 1)})


def clear_words(rng, dtype):
    out = np.full(300, -9, dtype=np.int32)
    return Case([np.int64(290), out], {1: np.where(np.arange(300) < 290, 0, out).astype(np.int32)})


def copy(rng, dtype):
    x, out = numbers(rng, (BATCH, N), dtype), written(dtype)
    return Case([*listed(), x, out], {4: put(out, x[ROWS])})


def copy_flags(rng, dtype):
    x, out = rng.integers(0, 2, (BATCH, N)).astype(np.uint8), written("uint8")
    return Case([*listed(), x, out], {4: put(out, x[ROWS])})


def gather(rng, dtype):
    x, position, out = numbers(rng, (BATCH, 20), dtype), rng.integers(0, 20, N), written(dtype)
    return Case([*listed(), x, np.int64(20), position, out], {6: put(out, x[ROWS][:, position])})


def scatter(rng, dtype):
    x, position, out = numbers(rng, (BATCH, N), dtype), rng.permutation(50)[:N], written(dtype, 50)
    expected = out.copy()
    expected[np.ix_(ROWS, position)] = x[ROWS]
    return Case([*listed(), x, position, out, np.int64(50)], {5: expected})


def move(rng, dtype):
    x, out = numbers(rng, (BATCH, 45), dtype), written(dtype, 60)
    expected = out.copy()
    expected[ROWS, 11 : 11 + N] = x[ROWS, 5 : 5 + N]
    return Case([*listed(), x, np.int64(45), np.int64(5), out, np.int64(60), np.int64(11)], {6: expected})


def transpose(rng, dtype):
    x, out = numbers(rng, (70, 45), dtype), written(dtype, 70, 45)
    return Case([np.int32(70), np.int32(45), x, out], {3: np.ascontiguousarray(x.T)}, grid=(2, 3), block=(32, 8))


def leaky_relu(rng, dtype):
    x, out, alpha = numbers(rng, (BATCH, N), dtype), written(dtype), np.dtype(dtype).type(0.3)
    return Case([*listed(), x, alpha, out], {5: put(out, np.where(x[ROWS] < 0, alpha * x[ROWS], x[ROWS]))})


def relax(rng, dtype):
    z, f = numbers(rng, (BATCH, N), dtype), numbers(rng, (BATCH, N), dtype)
    beta, alpha = (np.dtype(dtype).type(value) for value in (0.3, 0.7))
    return Case([*listed(), beta, z, alpha, f, z], {7: put(z, beta * z[ROWS] + alpha * f[ROWS])})


def add_bias(rng, dtype):
    a, bias, out = numbers(rng, (BATCH, N), dtype), numbers(rng, (N,), dtype), written(dtype)
    alpha, beta = (np.dtype(dtype).type(value) for value in (0.3, 1.7))
    expected = put(out, alpha * a[ROWS] + beta * bias)
    return Case([*listed(), a, alpha, bias, beta, np.int32(1), out], {8: expected})


def fold_bias(rng, dtype):
    s, bias, a = numbers(rng, (BATCH, N), dtype), numbers(rng, (N,), dtype), numbers(rng, (BATCH, N), dtype)
    return Case([*listed(), s, bias, a], {5: put(a, ((s[ROWS] + bias) + a[ROWS]) - bias)})


def mean(rng, dtype):
    x, position, out = numbers(rng, (BATCH, 50), dtype, False), rng.integers(0, 50, (N, 6)), written(dtype)
    total = np.zeros((len(ROWS), N), dtype=dtype)
    for j in range(6):
        total = total + x[ROWS][:, position[:, j]]
    expected = put(out, total / np.dtype(dtype).type(6))
    return Case([*listed(), np.int64(6), np.int64(50), x, position, out], {7: expected})


# Gates and lists -----------------------------------------------------------------------------------------------------------


def passed(u, r, delta, sent, memory, name):
    """Reference and gated difference after a decision (D-3, D-4)."""
    gated = np.where(sent, delta, u.dtype.type(0))
    if memory == 1:
        return u, gated
    if memory == 0:
        return np.where(sent, u, r), gated
    gated = round_to_format(gated, name)
    return np.where(sent, r + gated, r), gated


def gate_values(rng, dtype):
    u, r = numbers(rng, (BATCH, N), dtype), numbers(rng, (BATCH, N), dtype)
    same = rng.random(u.shape) < 0.3
    u[same] = r[same]
    return u, r, np.abs(numbers(rng, (N,), dtype, False))


def gate_with(compare, memory, delta_dtype, feedback):
    def case(rng, dtype):
        u, r, threshold = gate_values(rng, dtype)
        delta = difference(u[ROWS], r[ROWS], (None, "float32", "float16")[delta_dtype])
        sent = decide(delta, threshold, ("gt", "ge")[compare])
        after, gated = passed(u[ROWS], r[ROWS], delta, sent, memory, ("float16", "bfloat16")[feedback])
        mask, d = written("uint8"), written(dtype)
        choices = [np.int32(choice) for choice in (compare, memory, delta_dtype, feedback)]
        return Case([*listed(), u, threshold, *choices, r, mask, d], {9: put(r, after), 10: put(mask, sent), 11: put(d, gated)})

    return case


def gate_decide(rng, dtype):
    u, r, threshold = gate_values(rng, dtype)
    group, some, d = rng.integers(0, 6, N).astype(np.int32), written("int32", 6), written(dtype)
    some[:] = 0
    delta = difference(u[ROWS], r[ROWS], None)
    sent = decide(delta, threshold * 30, "ge")
    expected = some.copy()
    for entry, row in enumerate(ROWS):
        expected[row, group[sent[entry]]] = 1
    arguments = [*listed(), np.int64(6), u, threshold * 30, group, np.int32(1), np.int32(0), r, some, d]
    return Case(arguments, {10: expected, 11: put(d, delta)})


def gate_share(rng, dtype):
    u, r, _ = gate_values(rng, dtype)
    group, some = rng.integers(0, 6, N).astype(np.int32), rng.integers(0, 2, (BATCH, 6)).astype(np.int32)
    d, mask = numbers(rng, (BATCH, N), dtype), written("uint8")
    sent = some[ROWS][:, group] != 0
    after, gated = passed(u[ROWS], r[ROWS], d[ROWS], sent, 2, "bfloat16")
    arguments = [*listed(), np.int64(6), u, group, some, np.int32(2), np.int32(1), r, mask, d]
    return Case(arguments, {9: put(r, after), 10: put(mask, sent), 11: put(d, gated)})


def row_case(width, arguments, expected):
    return Case([*listed(width), *arguments], expected, grid=len(ROWS), block=128)


def count_sent(rng, dtype):
    mask, fan_out = rng.integers(0, 2, (BATCH, 300)).astype(np.uint8), rng.integers(0, 1 << 40, 7)
    position, out = rng.integers(0, 7, 300), written("int64", 1)[:, 0].copy()
    expected = put(out, (mask[ROWS] * fan_out[position]).sum(axis=1))
    return row_case(300, [mask, np.int32(1), fan_out, position, out], {7: expected})


def count_nonzero(rng, dtype):
    values, out = numbers(rng, (BATCH, 300), dtype), written("int64", 1)[:, 0].copy()
    return row_case(300, [values, out], {4: put(out, np.count_nonzero(values[ROWS], axis=1))})


def list_sent(rng, dtype):
    mask = (rng.random((BATCH, 300)) < np.array([0.5, 0.5, 0.1, 1.0, 0.5])[:, None]).astype(np.uint8)
    index, length = written("int32", 300), written("int32", 1)[:, 0].copy()
    expected = index.copy()
    for row in ROWS:
        sent = np.flatnonzero(mask[row])
        expected[row, : len(sent)] = sent
    return row_case(300, [mask, index, length], {4: expected, 5: put(length, mask[ROWS].sum(axis=1))})


# Sums ----------------------------------------------------------------------------------------------------------------------


def ordinary_but_last(rng, shape, dtype):
    """Sums of many terms: what is not finite would hide all else, so only the last listed sample has such numbers."""
    values = numbers(rng, shape, dtype, False)
    values[ROWS[-1]] = numbers(rng, shape[1:], dtype)
    return values


def gemm_operands(rng, dtype, inner, n):
    return (
        ordinary_but_last(rng, (BATCH, inner), dtype),
        numbers(rng, (inner, n), dtype, False),
        numbers(rng, (BATCH, n), dtype),
    )


def gemm_listed(rng, dtype):
    inner, n = 300, 140
    d, weight, a = gemm_operands(rng, dtype, inner, n)
    weight[7] = np.nan
    mask = rng.random((BATCH, inner)) < 0.6
    mask[:, 7] = False  # D-7: what is not sent is not read
    index, length, expected = written("int32", inner), mask.sum(axis=1).astype(np.int32), a.copy()
    for row in range(BATCH):
        index[row, : length[row]] = np.flatnonzero(mask[row])
    for row in ROWS:
        for column in np.flatnonzero(mask[row]):
            expected[row] = expected[row] + weight[column] * d[row, column]
    arguments = [ROWS, np.int64(len(ROWS)), np.int64(inner), np.int64(n), d, index, length, weight, a]
    return Case(arguments, {8: expected}, grid=(2, 3), block=128)


def gemm_dense(rng, dtype):
    inner, n = 70, 45
    d, weight, a = gemm_operands(rng, dtype, inner, n)
    expected = a.copy()
    for column in range(inner):
        expected[ROWS] = expected[ROWS] + weight[column] * d[ROWS, column, None]
    arguments = [ROWS, np.int64(len(ROWS)), np.int64(inner), np.int64(n), d, weight, a]
    return Case(arguments, {6: expected}, grid=(2, 1), block=(32, 8))


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
        "gemm_dense": (Case([row, i8, i8, i8, one, one, start], {6: small}, 1, (32, 8)), 6),
        "matmul": (Case(product, {12: small}, 1, 32), 12),
        "conv": (Case([row, i8, *geometry, np.int32(0), one, nothing, one, start], {21: small}, 1, 32), 21),
    }


CASES = {
    function.__name__: [function]
    for function in (
        fill, fill_flags, clear_words, copy, copy_flags, gather, scatter, move, transpose, leaky_relu, relax, add_bias, fold_bias,
        mean, gate_decide, gate_share, count_sent, count_nonzero, list_sent, gemm_listed, gemm_dense, matmul, conv, inner,
        combine_add, combine_round,
    )
}  # fmt: skip
CASES |= {name.lower(): [unary(name)] for name in ("Neg", "Relu", "Tanh", "Sigmoid", "Sin", "Cos", "Exp")}
CASES |= {name.lower(): [binary(name)] for name in ("Add", "Sub", "Mul")}
CASES["gate"] = [
    gate_with(*choices) for choices in ((0, 0, 0, 0), (1, 1, 0, 0), (0, 2, 0, 0), (1, 2, 0, 1), (0, 0, 1, 0), (1, 0, 2, 0))
]
CASES["residual_part"] = [residual_with(False), residual_with(True)]
CASES["residual_finish"] = [finish_with(False), finish_with(True)]


def run(device, kernel, case, dtype):
    """Launch a case and return the arrays that it writes."""
    on_device = {}
    values = []
    for value in case.arguments:
        if isinstance(value, np.ndarray):
            if id(value) not in on_device:  # one argument may be two
                on_device[id(value)] = device.upload(value)
            values.append(on_device[id(value)])
        else:
            values.append(value.item())
    device.launch(kernel, case.grid, case.block, values, dtype=dtype)
    return {place: device.download(values[place]) for place in case.expected}
