"""Accumulates: strict order has the bits of the reference, fast order stays within the bound of N-7 and repeats itself."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from refdeq_numba.kernels import NumbaKernels
from refdeq_numba.machine import has_fused_multiply_add

from refdeq.ops import OPS
from refdeq.reference import ReferenceKernels

DTYPES = ["float32", "float64"]
GEMMS = [(1, 1), (4, 3), (33, 19), (64, 70)]
CONVS = [
    ((3, 8), (4, 3, 3), {"pads": (1, 1)}),
    ((4, 6, 5), (6, 2, 3, 3), {"group": 2, "pads": (1, 1, 1, 1)}),
    ((5, 7, 4), (3, 5, 2, 3), {"strides": (2, 1), "dilations": (1, 2), "pads": (0, 1, 1, 2)}),
]


def gemm_case(rng, outputs, inputs, batch, dtype, numbers, special=0.0, transposed=1):
    shape = (outputs, inputs) if transposed else (inputs, outputs)
    d, weight, a = (numbers(rng, s, dtype, special) for s in ((batch, inputs), shape, (batch, outputs)))
    return d, rng.random(d.shape) < 0.4, weight, OPS["Gemm"].complete({"transB": transposed}), a


def conv_case(rng, data, weight, given, batch, dtype, numbers, special=0.0):
    attributes = OPS["Conv"].complete(given)
    out = OPS["Conv"].infer([(-1, *data), weight], attributes)[1:]
    d, w, a = (numbers(rng, s, dtype, special) for s in ((batch, *data), weight, (batch, *out)))
    return d, rng.random(d.shape) < 0.4, w, attributes, a


def accumulated(kernels, kind, case, active, dense=False):
    d, mask, weight, attributes, a = case
    a = a.copy()
    with np.errstate(all="ignore"):
        getattr(kernels, f"accumulate_{kind}")(d, None if dense else mask, weight, attributes, active, a)
    return a


def cases(rng, batch, dtype, numbers, special=0.0):
    for (outputs, inputs), transposed in [(shape, t) for shape in GEMMS for t in (0, 1)]:
        yield "gemm", gemm_case(rng, outputs, inputs, batch, dtype, numbers, special, transposed)
    for data, weight, given in CONVS:
        yield "conv", conv_case(rng, data, weight, given, batch, dtype, numbers, special)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [0, 1, 3, 11])
def test_strict_accumulates_have_the_bits_of_the_reference(batch, dtype, assert_same_bits, numbers):
    rng = np.random.default_rng(11)
    for special in (0.0, 0.1):
        for kind, case in cases(rng, batch, dtype, numbers, special):
            for active in (np.ones(batch, dtype=bool), rng.random(batch) < 0.6):
                for dense in (False, True):
                    expected = accumulated(ReferenceKernels(), kind, case, active, dense)
                    assert_same_bits(accumulated(NumbaKernels(), kind, case, active, dense), expected)


@pytest.mark.parametrize("sent", [0, 1, 2, 3, 4, 5, 9])
def test_columns_that_are_not_sent_are_not_read(sent, assert_same_bits):
    """D-7, for every remainder of the loop over columns: the others hold NaN."""
    rng = np.random.default_rng(sent)
    mask = np.zeros((5, 9), dtype=bool)
    mask[:, rng.permutation(9)[:sent]] = True
    weight = np.where(mask[0], rng.standard_normal((7, 9)), np.nan)
    d = np.where(mask, rng.standard_normal((5, 9)), np.inf)
    start = rng.standard_normal((5, 7))
    for order in ("strict", "fast"):
        for rows in (1, 5):
            a = accumulated(NumbaKernels(order), "gemm", (d, mask, weight, {"transB": 1}, start), np.arange(5) < rows)
            assert np.isfinite(a).all()
            assert_same_bits(a[rows:], start[rows:])
            if sent == 0:
                assert_same_bits(a, start)


@pytest.mark.parametrize("order", ["strict", "fast"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_do_not_depend_on_batch_position_or_threads(dtype, order, assert_same_bits, numbers):
    rng = np.random.default_rng(13)
    for kind, case in cases(rng, 40, dtype, numbers):
        everyone = np.ones(40, dtype=bool)
        whole = accumulated(NumbaKernels(order), kind, case, everyone)
        for threads in (2, 3):
            big = tuple(np.repeat(v, 12, axis=0) if i in (0, 1, 4) else v for i, v in enumerate(case))
            repeated = accumulated(NumbaKernels(order, threads), kind, big, np.ones(480, dtype=bool))
            assert_same_bits(repeated, np.repeat(whole, 12, axis=0))
        for b in rng.integers(0, 40, 3):
            alone = tuple(v[b : b + 1] if i in (0, 1, 4) else v for i, v in enumerate(case))
            assert_same_bits(accumulated(NumbaKernels(order), kind, alone, everyone[:1])[0], whole[b])
        ends = [0, *sorted(rng.integers(0, 40, 2).tolist()), 40]
        for first, last in itertools.pairwise(ends):
            part = accumulated(NumbaKernels(order), kind, case, (np.arange(40) >= first) & (np.arange(40) < last))
            assert_same_bits(part[first:last], whole[first:last])


def exact_gemm(case, b, i):
    """Exact value, sum of magnitudes and number of terms of one output (N-7)."""
    d, mask, weight, _, a = case
    terms = [Fraction(float(weight[i, j])) * Fraction(float(d[b, j])) for j in np.flatnonzero(mask[b])]
    return Fraction(float(a[b, i])) + sum(terms), abs(Fraction(float(a[b, i]))) + sum(map(abs, terms)), len(terms)


def exact_conv(case, b, site):
    """The same for one site of a Conv, straight from its definition."""
    d, mask, weight, attributes, a = case
    m, rank = site[0], weight.ndim - 2
    inputs, outputs = weight.shape[1], weight.shape[0] // attributes["group"]
    strides, dilations = (attributes[name] or (1,) * rank for name in ("strides", "dilations"))
    pads = attributes["pads"] or (0,) * (2 * rank)
    terms = []
    for tap in np.ndindex(weight.shape[2:]):
        where = tuple(site[1 + i] * strides[i] - pads[i] + tap[i] * dilations[i] for i in range(rank))
        if all(0 <= place < n for place, n in zip(where, d.shape[2:], strict=True)):
            for c in range(inputs):
                read = (b, m // outputs * inputs + c, *where)
                if mask[read]:
                    terms.append(Fraction(float(weight[(m, c, *tap)])) * Fraction(float(d[read])))
    start = Fraction(float(a[(b, *site)]))
    return start + sum(terms), abs(start) + sum(map(abs, terms)), len(terms)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fast_order_is_within_the_bound_and_repeats_itself(dtype, assert_same_bits, numbers):
    """N-7 with exact sums: ``(k + 1) u (|a| + sum |A| |d|)``; both orders obey it, and they are not the same order."""
    rng = np.random.default_rng(17)
    unit = Fraction(float(np.finfo(dtype).eps)) / 2
    differing = 0
    runs = [("gemm", gemm_case(rng, 19, 33, 3, dtype, numbers)), ("gemm", gemm_case(rng, 19, 33, 6, dtype, numbers))]
    runs += [("conv", conv_case(rng, *shape, 2, dtype, numbers)) for shape in CONVS]
    for kind, case in runs:
        everyone = np.ones(len(case[0]), dtype=bool)
        fast = accumulated(NumbaKernels("fast"), kind, case, everyone)
        strict = accumulated(NumbaKernels("strict"), kind, case, everyone)
        assert_same_bits(accumulated(NumbaKernels("fast"), kind, case, everyone), fast)
        differing += int((fast != strict).sum())
        for index in rng.choice(fast.size, 40):
            where = tuple(int(n) for n in np.unravel_index(index, fast.shape))
            exact, size, terms = exact_gemm(case, *where) if kind == "gemm" else exact_conv(case, where[0], where[1:])
            for got in (fast, strict):
                assert abs(Fraction(float(got[where])) - exact) <= (terms + 1) * unit * size
    assert (differing > 0) == has_fused_multiply_add()


@pytest.mark.parametrize("dtype", DTYPES)
def test_fast_dense_operators_are_within_the_bound(dtype, numbers):
    """Ungated Gemm and MatMul: every term counts, one more rounding for the bias."""
    rng = np.random.default_rng(19)
    unit = Fraction(float(np.finfo(dtype).eps)) / 2
    x, w, c = numbers(rng, (3, 21), dtype), numbers(rng, (21, 5), dtype), numbers(rng, (5,), dtype)
    out = np.empty((3, 5), dtype=dtype)
    for name, inputs in [("Gemm", [x, w, c]), ("MatMul", [x, w])]:
        run = NumbaKernels("fast").ops[name]
        run(inputs, [True, False, False][: len(inputs)], OPS[name].complete({}), np.ones(3, dtype=bool), out)
        for b, i in np.ndindex(out.shape):
            terms = [Fraction(float(x[b, j])) * Fraction(float(w[j, i])) for j in range(21)]
            terms += [Fraction(float(c[i]))] if len(inputs) == 3 else []
            bound = (len(terms) + 1) * unit * sum(map(abs, terms))
            assert abs(Fraction(float(out[b, i])) - sum(terms)) <= bound


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["strict", "fast"])
def test_biases_and_relaxation_are_exact_in_both_orders(order, dtype, assert_same_bits, numbers):
    rng = np.random.default_rng(23)
    active = np.array([True, False, True, True])
    for shape, bias_shapes in [((5,), [(), (1,), (5,), (1, 5), (1, 1)]), ((3, 4, 2), [(3, 1, 1)])]:
        a, s = numbers(rng, (4, *shape), dtype, 0.2), numbers(rng, (4, *shape), dtype, 0.2)
        for bias in (None, *(numbers(rng, bias_shape, dtype, 0.2) for bias_shape in bias_shapes)):
            results = []
            for kernels in (ReferenceKernels(), NumbaKernels(order)):
                outs = [a.copy() for _ in range(5)]
                with np.errstate(all="ignore"):
                    kernels.add_bias(a, bias, 1.0, 1.0, active, outs[0])
                    kernels.add_bias(outs[1], bias, 0.3, -1.7, active, outs[1])
                    if bias is not None:
                        kernels.fold_bias(s, bias, active, outs[2])
                    kernels.relax(outs[3], s, 0.3, active, outs[3])
                    kernels.relax(a, s, 1.0, active, outs[4])
                results.append(outs)
            for mine, theirs in zip(results[1], results[0], strict=True):
                assert_same_bits(mine, theirs)
