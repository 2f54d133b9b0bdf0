"""Moves, elementwise kernels, gates and lists, with what the reference makes of the same numbers."""

from __future__ import annotations

import numpy as np
from cupy_cases import BATCH, ROWS, Case, N, listed, numbers, put, written

from refdeq.formats import round_to_format
from refdeq.ops import OPS
from refdeq.reference import decide, difference


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


def list_with(width, *densities):
    def case(rng, dtype):
        density = np.resize(densities, (BATCH, 1))
        mask = (rng.random((BATCH, width)) < density).astype(np.uint8)
        index, length = written("int32", width), written("int32", 1)[:, 0].copy()
        expected = index.copy()
        for row in ROWS:
            sent = np.flatnonzero(mask[row])
            expected[row, : len(sent)] = sent
        return row_case(width, [mask, index, length], {4: expected, 5: put(length, mask[ROWS].sum(axis=1))})

    return case


CASES = {
    function.__name__: [function]
    for function in (fill, fill_flags, clear_words, copy, gather, scatter, move, transpose, leaky_relu, relax)
}
CASES |= {
    function.__name__: [function]
    for function in (add_bias, fold_bias, mean, gate_decide, gate_share, count_sent, count_nonzero)
}
CASES |= {name.lower(): [unary(name)] for name in ("Neg", "Relu", "Tanh", "Sigmoid", "Sin", "Cos", "Exp")}
CASES |= {name.lower(): [binary(name)] for name in ("Add", "Sub", "Mul")}
CASES["gate"] = [
    gate_with(*choices) for choices in ((0, 0, 0, 0), (1, 1, 0, 0), (0, 2, 0, 0), (1, 2, 0, 1), (0, 0, 1, 0), (1, 0, 2, 0))
]
CASES["list_sent"] = [list_with(300, 0.5, 0.5, 0.1, 1.0), list_with(256, 0.0, 1.0), list_with(129, 0.9), list_with(1, 0.5)]
