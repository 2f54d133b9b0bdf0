"""Strict order (N-6): array accumulates equal the scalar sum over explicit index lists, bit for bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from refdeq import scalar
from refdeq.ops import OPS
from refdeq.ops.conv import accumulate_conv
from refdeq.ops.linear import accumulate_gemm
from refdeq.reference import ReferenceKernels

CONV = OPS["Conv"]


def wild(rng, shape, dtype):
    """Numbers over many binades, so that every order of summation gives other bits."""
    return (rng.standard_normal(shape) * np.exp2(rng.integers(-12, 12, shape))).astype(dtype)


def scalar_gemm(d, sent, weight, a):
    """Sum every output on its own, term by term."""
    out = np.empty_like(a)
    for b, i in np.ndindex(a.shape):
        out[b, i] = scalar.accumulate(a[b, i], list(weight[:, i]), list(d[b]), list(sent[b]))
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("batch", "k", "n"), [(1, 1, 1), (2, 7, 5), (3, 33, 2)])
def test_gemm(dtype, share, batch, k, n, rng, same_bits):
    d, weight, a = wild(rng, (batch, k), dtype), wild(rng, (k, n), dtype), wild(rng, (batch, n), dtype)
    sent = rng.random((batch, k)) < share
    expected = scalar_gemm(d, sent, weight, a)
    accumulate_gemm(d, sent, weight, a)
    same_bits(a, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dense_gemm_reads_every_column(dtype, rng, same_bits):
    d, weight, a = wild(rng, (2, 9), dtype), wild(rng, (9, 4), dtype), np.zeros((2, 4), dtype)
    d[:, ::2] = 0
    weight[0, 1] = np.inf
    with np.errstate(invalid="ignore"):
        expected = scalar_gemm(d, np.ones(d.shape, bool), weight, a)
        accumulate_gemm(d, None, weight, a)
    same_bits(a, expected)
    assert np.isnan(a[:, 1]).all()  # 0 * Inf


def test_gemm_with_factors_rounds_once_each(rng, same_bits):
    d, weight, bias = wild(rng, (2, 6), np.float32), wild(rng, (6, 3), np.float32), wild(rng, (3,), np.float32)
    alpha, beta = np.float32(0.7), np.float32(-1.3)
    out = OPS["Gemm"].forward([d, weight, bias], OPS["Gemm"].complete({"alpha": 0.7, "beta": -1.3}))
    a = scalar_gemm(d, np.ones(d.shape, bool), weight, np.zeros((2, 3), np.float32))
    same_bits(out, np.array([[alpha * a[b, i] + beta * bias[i] for i in range(3)] for b in range(2)], np.float32))


@pytest.mark.parametrize("axes", [(1,), (2,), (1, 2)])
def test_mean_adds_in_row_major_order(axes, rng, same_bits):
    x = wild(rng, (2, 5, 3), np.float32)
    out = OPS["ReduceMean"].forward([x], {"axes": axes, "keepdims": 0})
    for index in np.ndindex(out.shape):
        picked = x[(index[0], *(slice(None) if axis in axes else index[1] for axis in (1, 2)))].ravel()
        ones = [np.float32(1)] * len(picked)
        total = scalar.accumulate(np.float32(0), ones, list(picked), [True] * len(picked))
        same_bits(out[index], total / np.float32(len(picked)))


def test_matmul_adds_in_ascending_order(rng, same_bits):
    left, right = wild(rng, (2, 3, 7), np.float32), wild(rng, (2, 7, 4), np.float32)
    out = OPS["MatMul"].forward([left, right], {})
    for b, i, j in np.ndindex(out.shape):
        terms = list(left[b, i]), list(right[b, :, j])
        same_bits(out[b, i, j], scalar.accumulate(np.float32(0), *terms, [True] * 7))


# --------------------------------------------------------------------------------------------------------------- Conv


def scalar_conv(d, sent, weight, attributes, a):
    """Every output on its own: kernel position first, then channel; padded positions are absent."""
    sites = d.shape[2:]
    rank, group = len(sites), attributes["group"]
    strides = attributes["strides"] or (1,) * rank
    pads = (attributes["pads"] or (0,) * rank)[:rank]
    dilations = attributes["dilations"] or (1,) * rank
    inputs, outputs = weight.shape[1], weight.shape[0] // group
    out = np.empty_like(a)
    for b, m, *where in np.ndindex(a.shape):
        weights, values, flags = [], [], []
        for tap in itertools.product(*(range(n) for n in weight.shape[2:])):
            site = tuple(w * s - p + t * e for w, s, p, t, e in zip(where, strides, pads, tap, dilations, strict=True))
            if not all(0 <= i < n for i, n in zip(site, sites, strict=True)):
                continue
            for c in range(inputs):
                channel = (m // outputs) * inputs + c
                weights.append(weight[(m, c, *tap)])
                values.append(d[(b, channel, *site)])
                flags.append(bool(sent[(b, channel, *site)]))
        out[(b, m, *where)] = scalar.accumulate(a[(b, m, *where)], weights, values, flags)
    return out


CONVS = [
    ((2, 3, 6), (4, 3, 3), {}),
    ((1, 4, 7), (6, 2, 3), {"group": 2, "strides": (2,), "pads": (2, 1), "dilations": (2,)}),
    ((2, 2, 4, 5), (3, 2, 3, 2), {}),
    ((1, 3, 5, 4), (2, 3, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((1, 4, 5, 6), (4, 1, 3, 2), {"group": 4, "strides": (2, 3), "pads": (2, 0, 1, 1), "dilations": (1, 2)}),
    ((1, 1, 1, 1), (1, 1, 3, 3), {"pads": (1, 1, 1, 1)}),
]


@pytest.mark.parametrize(("data", "kernel", "attributes"), CONVS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("share", [0.4, None])
def test_conv(data, kernel, attributes, dtype, share, rng, same_bits):
    attributes = CONV.complete(attributes)
    shape = CONV.infer([(-1, *data[1:]), kernel], attributes)
    d, weight = wild(rng, data, dtype), wild(rng, kernel, dtype)
    a = wild(rng, (data[0], *shape[1:]), dtype) if share is not None else np.zeros((data[0], *shape[1:]), dtype)
    sent = rng.random(data) < share if share is not None else None
    expected = scalar_conv(d, np.ones(data, bool) if sent is None else sent, weight, attributes, a)
    accumulate_conv(d, sent, weight, attributes, a)
    same_bits(a, expected)


# ---------------------------------------------------------------------------------------------- not sent, not read (D-7)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_columns_not_sent_are_not_read(poison, rng, same_bits):
    d, weight, a = wild(rng, (2, 5), np.float64), wild(rng, (5, 3), np.float64), np.zeros((2, 3))
    sent = np.array([[True, False, True, True, False]] * 2)
    clean = a.copy()
    accumulate_gemm(d, sent, weight, clean)
    weight[1], d[:, 4] = poison, poison
    accumulate_gemm(d, sent, weight, a)
    same_bits(a, clean)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_conv_inputs_not_sent_are_not_read(poison, rng, same_bits):
    attributes = CONV.complete({"pads": (1, 1, 1, 1)})
    d, weight = wild(rng, (1, 2, 3, 3), np.float64), wild(rng, (2, 2, 3, 3), np.float64)
    sent = rng.random(d.shape) < 0.5
    sent[:, 1] = False
    clean, a = np.zeros((1, 2, 3, 3)), np.zeros((1, 2, 3, 3))
    with np.errstate(invalid="ignore"):
        accumulate_conv(d, sent, weight, attributes, clean)
        weight[:, 1] = poison  # a whole channel that is not sent
        d[~sent] = poison
        accumulate_conv(d, sent, weight, attributes, a)
    same_bits(a, clean)


# ----------------------------------------------------------------------------------------- samples are independent (S-1)


@pytest.mark.parametrize("op", ["Gemm", "Conv"])
def test_kernels_leave_inactive_samples_alone(op, rng, same_bits):
    kernels, active = ReferenceKernels(), np.array([True, False, True])
    if op == "Gemm":
        d, weight, a = wild(rng, (3, 4), np.float64), wild(rng, (4, 2), np.float64), wild(rng, (3, 2), np.float64)
        accumulate, attributes = kernels.accumulate_gemm, OPS["Gemm"].complete({})
    else:
        d, weight, a = wild(rng, (3, 2, 5), np.float64), wild(rng, (4, 2, 3), np.float64), wild(rng, (3, 4, 3), np.float64)
        accumulate, attributes = kernels.accumulate_conv, CONV.complete({})
    d[1] = np.nan
    sent, before = rng.random(d.shape) < 0.5, a.copy()
    accumulate(d, sent, weight, attributes, active, a)
    same_bits(a[1], before[1])
    for b in (0, 2):  # every sample alone gives the same bits
        alone = before[b : b + 1].copy()
        accumulate(d[b : b + 1], sent[b : b + 1], weight, attributes, np.array([True]), alone)
        same_bits(a[b], alone[0])
