"""Fully connected cells that the fused plan fits, and the comparison of whole solutions, bit by bit."""

import numpy as np

import refdeq as rd

PRESETS = [None, "paper", "deltadeq-code", "delta-network", "refdeq"]


def weights(rng, n, dtype, norm=0.9):
    w = rng.standard_normal((n, n))
    return (w * (norm / np.linalg.norm(w, 2))).astype(dtype)


def rnn(rng, n, dtype):
    return rd.models.rnn(weights(rng, n, dtype), *(rng.standard_normal(s).astype(dtype) for s in ((n, 2), n)))


def siren(rng, n, dtype, norm=0.9):
    return rd.models.siren(weights(rng, n, dtype, norm), *(rng.standard_normal(s).astype(dtype) for s in ((n, 2), n) * 2))


def fourier(rng, n, dtype):
    return rd.models.fourier(weights(rng, n, dtype), *(rng.standard_normal(s).astype(dtype) for s in (n, *((n, 2), n) * 2)))


MODELS = {"rnn": rnn, "siren": siren, "fourier": fourier}


def chain(rng, n, dtype, activation, **attributes):
    """``z <- phi((z B + c) + x) * m`` with B as stored, a row bias, and a parameter for the filter."""
    builder = rd.GraphBuilder(dtype)
    z, x = builder.state("z", (n,)), builder.injection("x", (n,))
    b, c = builder.parameter("B", weights(rng, n, dtype)), builder.parameter("c", rng.standard_normal((1, n)).astype(dtype))
    total = builder.node("Add", x, builder.node("Gemm", z, b, c, name="linear"))
    value = builder.node(activation, total, **attributes)
    m = builder.parameter("m", rng.standard_normal(n).astype(dtype))
    builder.output(z, builder.node("Mul", m, value))
    return builder.build()


def compare(same_bits, got, expected):
    for name in ("status", "n_eval", "residual", "scale", "z"):
        same_bits(getattr(got, name), getattr(expected, name))
    same_bits(got.cost.macs_per_sample, expected.cost.macs_per_sample)
    assert (got.cost.by_gate, got.cost.by_node) == (expected.cost.by_gate, expected.cost.by_node)
    assert got.cost.official == expected.cost.official
    assert (got.memory is None) == (expected.memory is None)
    if got.memory is not None:
        same_bits(got.memory.count, expected.memory.count)
        for part in ("r", "mask", "a"):
            same_arrays(same_bits, getattr(got.memory, part), getattr(expected.memory, part))
    assert (got.trace is None) == (expected.trace is None)
    if got.trace is not None:
        for part in ("active", "residual", "scale"):
            same_bits(getattr(got.trace, part), getattr(expected.trace, part))
        for part in ("z", "f", "r", "mask", "a", "values", "hoisted"):
            same_arrays(same_bits, getattr(got.trace, part), getattr(expected.trace, part))


def same_arrays(same_bits, got, expected):
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        same_bits(got[name], array)
