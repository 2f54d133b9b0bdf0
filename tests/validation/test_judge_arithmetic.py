"""The judge's own arithmetic against the scalar specification, exact rationals, and slow readings of the clauses."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refdeq_validation.judge import arithmetic
from refdeq_validation.judge.compiled import activation
from refdeq_validation.judge.nodes import linear_node

from refdeq import scalar

DTYPES = ("float32", "float64")
AWKWARD = [0.0, -0.0, 0.625, 1.0, 5e-324, 1e-310, 1e-40, 88.8, 709.79, 745.2, 2.0**20, 2.0**30, 2.0**30 + 1.0, 1e300]
AWKWARD += [math.inf, math.nan, math.pi / 4, math.pi / 2, math.pi, 100 * math.pi]


def same(left, right):
    assert left.dtype == right.dtype
    assert arithmetic.same_bits(left, right).all()


# ---------------------------------------------------------------------------------------------------------------- activations


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["Tanh", "Sigmoid", "Sin", "Cos", "Exp"])
def test_compiled_activations_are_the_scalar_ones(name, dtype):
    rng = np.random.default_rng(1)
    with np.errstate(over="ignore"):
        edges = np.array([s * v for v in AWKWARD for s in (1, -1)]).astype(dtype)
        edges = np.concatenate([edges, np.nextafter(edges, 0), np.nextafter(edges, np.array(np.inf, dtype))])
    spread = (rng.standard_normal(2000) * 10.0 ** rng.uniform(-12, 6, 2000)).astype(dtype)
    x = np.concatenate([edges, spread]).astype(dtype)
    one = getattr(scalar, name.lower())
    with np.errstate(over="ignore"):
        expected = np.array([one(float(v)) for v in x]).astype(dtype)
    same(activation(name, x), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_operators_on_special_values(dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 2.0, -2.0], dtype)
    same(arithmetic.apply_exact("Relu", [x], {}), np.array([np.nan, np.inf, 0, 0, 0, 2, 0], dtype))
    with np.errstate(over="ignore"):
        leaky = arithmetic.apply_exact("LeakyRelu", [x], {"alpha": 0.1})
    tenth = np.dtype(dtype).type(0.1)
    same(leaky, np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 2, tenth * np.dtype(dtype).type(-2)], dtype))
    same(arithmetic.apply_exact("Neg", [x], {}), np.array([np.nan, -np.inf, np.inf, -0.0, 0.0, -2, 2], dtype))
    with pytest.raises(KeyError, match="does not know"):
        arithmetic.apply_exact("Softmax", [x], {})


def test_bits_differ_where_numbers_may_not():
    left, right = np.array([0.0, np.nan, 1.0]), np.array([-0.0, -np.nan, 1.0])
    assert arithmetic.same_bits(left, right).tolist() == [False, True, True]


# ------------------------------------------------------------------------------------------------------------------- the gate

numbers = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(numbers, numbers, st.sampled_from([0.0, 0.25, 1e-45, math.inf]), st.sampled_from(["gt", "ge"]))
def test_decisions_are_the_scalar_ones(u, r, threshold, compare):
    with np.errstate(all="ignore"):
        array = np.array([u]), np.array([r])
        delta, sent = arithmetic.decide_all(*array, np.array(threshold), compare, None)
        expected = scalar.difference(np.float64(u), np.float64(r))
        same(delta, np.array([expected]))
        assert sent[0] == scalar.is_sent(expected, threshold, compare)
        for memory in ("sent", "always"):
            d, after = arithmetic.next_reference(*array, delta, sent, memory, None)
            same(d, np.array([scalar.gated(expected, bool(sent[0]))]))
            same(after, np.array([scalar.remember(u, r, bool(sent[0]), memory)]))


def nearest_even(value, digits, least, largest):
    """Round a finite number to `digits` bits on a grid not finer than ``2**least``, ties to even: by exact rationals."""
    if value == 0.0:
        return value
    size = abs(Fraction(value))
    exponent = max(math.floor(math.log2(abs(value))) - 1, least - digits)
    while Fraction(2) ** (exponent + 1) <= size:
        exponent += 1
    unit = Fraction(2) ** max(exponent - digits + 1, least)
    whole, rest = divmod(size, unit)
    if rest * 2 > unit or (rest * 2 == unit and whole % 2):
        whole += 1
    rounded = whole * unit
    return math.copysign(math.inf if rounded > largest else float(rounded), value)


FORMATS = {
    "float16": (11, -24, Fraction(65504)),
    "bfloat16": (8, -133, (Fraction(2) - Fraction(1, 128)) * Fraction(2) ** 127),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_narrow_formats_round_to_nearest_even(name, dtype):
    rng, (digits, least, largest) = np.random.default_rng(2), FORMATS[name]
    values = list(rng.standard_normal(300) * 2.0 ** rng.uniform(-30, 20, 300))
    grid = [Fraction(m) * Fraction(2) ** e for m in (2**digits + 1, 2**digits + 3, 3, 5) for e in (-20, least - 1, 3)]
    ties = [float(v) for v in grid] + [float(v * (1 + Fraction(1, 2**40))) for v in grid] + [float(largest), 65519.0, 65520.0]
    values = np.array([*values, *ties, *[-v for v in ties], 0.0, -0.0, 5e-324, 2.0**-134, 3.0 * 2.0**-134, 1e-45])
    with np.errstate(over="ignore", under="ignore"):
        values = values.astype(dtype)
        expected = np.array([nearest_even(float(v), digits, least, largest) for v in values]).astype(dtype)
        same(arithmetic.round_narrow(values, name), expected)
        special = np.array([np.nan, np.inf, -np.inf], dtype)
        same(arithmetic.round_narrow(special, name), special)


@pytest.mark.parametrize("granularity", ["element", "sample", "channel", "pixel", "tile"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 7)])
def test_groups_decide_together(granularity, shape):
    tile = (2, 3, 2)
    sent = np.random.default_rng(3).random((6, *shape)) < 0.1
    got = arithmetic.or_over_groups(sent, granularity, tile)

    def group(index):
        channel, *site = index
        if granularity == "tile":
            lengths = tile[:2] if len(site) == 2 else tile[1:2]
            return channel // tile[2], *(s // n for s, n in zip(site, lengths, strict=True))
        return {"element": index, "sample": (), "channel": (channel,), "pixel": tuple(site)}[granularity]

    for b in range(len(sent)):
        fired = {group(index) for index in np.ndindex(shape) if sent[(b, *index)]}
        for index in np.ndindex(shape):
            assert got[(b, *index)] == (group(index) in fired)


# --------------------------------------------------------------------------------------------------------------------- norms


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("sizes", [(1,), (31,), (33,), (7, 64), (40, 30)])
def test_norms_are_the_scalar_ones(norm, sizes):
    rng = np.random.default_rng(sum(sizes))
    f, z = ([rng.standard_normal((3, n)).astype("float32") for n in sizes] for _ in range(2))
    f[0][1, 0] = np.nan
    f[-1][2, -1] = np.inf
    residual, scale = arithmetic.norms(f, z, norm)
    for b in range(3):
        values, arguments = ([float(v) for part in parts for v in part[b]] for parts in (f, z))
        same(residual[b : b + 1], np.array([scalar.residual(values, arguments, norm)]))
        same(scale[b : b + 1], np.array([scalar.residual(values, [0.0] * len(values), norm)]))


# ---------------------------------------------------------------------------------------------------------------------- sums


def gemm(dtype, rng, shape=(5, 4), trans=1):
    k, n = shape
    weight = rng.standard_normal((n, k) if trans else (k, n)).astype(dtype)
    data = {"name": "a", "op": "Gemm", "inputs": ["u", "W"], "attributes": {"transB": trans}}
    return linear_node(data, {"W": weight}), (k,), (n,)


GEOMETRIES = {
    "plain": (2, 3, 1, (4, 5), (2, 3), {}),
    "padded": (2, 2, 1, (4, 5), (3, 3), {"pads": (1, 1, 1, 1)}),
    "strided": (3, 2, 1, (5, 6), (2, 3), {"strides": (2, 3), "pads": (1, 0, 0, 2)}),
    "dilated": (1, 2, 1, (6, 7), (3, 2), {"dilations": (2, 3), "pads": (2, 1, 2, 3)}),
    "grouped": (4, 6, 2, (3, 4), (2, 2), {"pads": (0, 1, 1, 0)}),
    "depthwise": (3, 3, 3, (4, 4), (3, 3), {"strides": (2, 1), "pads": (1, 1, 1, 1), "dilations": (1, 2)}),
    "one axis": (2, 4, 2, (9,), (3,), {"strides": (2,), "pads": (2, 1), "dilations": (2,)}),
}


def conv(geometry, dtype, rng):
    channels, outputs, group, sites, kernel, attributes = GEOMETRIES[geometry]
    weight = rng.standard_normal((outputs, channels // group, *kernel)).astype(dtype)
    data = {"name": "a", "op": "Conv", "inputs": ["u", "W"], "attributes": {**attributes, "group": group}}
    rank = len(sites)
    strides, dilations = (attributes.get(name, (1,) * rank) for name in ("strides", "dilations"))
    pads = attributes.get("pads", (0,) * 2 * rank)
    lengths = tuple(
        (n + pads[i] + pads[rank + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1 for i, n in enumerate(sites)
    )
    taps = {}
    for m, out in itertools.product(range(outputs), np.ndindex(lengths)):
        listed = []
        for tap in np.ndindex(kernel):  # kernel position, then channel fastest (N-6)
            at = tuple(out[i] * strides[i] - pads[i] + tap[i] * dilations[i] for i in range(rank))
            if all(0 <= at[i] < sites[i] for i in range(rank)):
                first = m // (outputs // group) * (channels // group)
                listed += [((first + c, *at), weight[(m, c, *tap)]) for c in range(channels // group)]
        taps[(m, *out)] = listed
    return linear_node(data, {"W": weight}), (channels, *sites), (outputs, *lengths), taps


def check_sums(node, shape, out, taps, dtype, rng):
    """Strict bits against the scalar sum; error, gauge, terms and exact sum against rationals."""
    d, base, got = (rng.standard_normal((2, *s)).astype(dtype) for s in (shape, out, out))
    sent = rng.random((2, *shape)) < 0.6
    strict = node.strict(d, sent, base)
    error, gauge, terms, exact = node.exact(d, sent, base, got)
    macs = 0
    for b in range(2):
        for place, listed in taps.items():
            at = (b, *place)
            on = [bool(sent[(b, *source)]) for source, _ in listed]
            weights, values = [w for _, w in listed], [d[(b, *source)] for source, _ in listed]
            assert strict[at] == scalar.accumulate(base[at], weights, values, on)
            products = [Fraction(float(w)) * Fraction(float(v)) for w, v, o in zip(weights, values, on, strict=True) if o]
            k, total = len(products), Fraction(float(base[at])) + sum(products)
            size = abs(Fraction(float(base[at]))) + sum(map(abs, products))
            macs += k
            assert terms[at] == k
            assert abs(Fraction(gauge[at]) - size) <= (2 * k + 1) * Fraction(2) ** -53 * size
            own = k * Fraction(2) ** -53 if dtype == "float32" and node.conv is None else Fraction(2) ** -100
            true = Fraction(float(got[at])) - total
            assert abs(Fraction(error[at]) - true) <= 2 * Fraction(2) ** -53 * (abs(true) + own * size) + own * size
            assert abs(Fraction(exact[at]) - total) <= Fraction(2) ** -53 * abs(total) + own * size
    assert node.macs(sent, (2, *out)) == macs


@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_a_gemm(dtype, trans):
    rng = np.random.default_rng(4)
    node, shape, out = gemm(dtype, rng, trans=trans)
    taps = {(i,): [((j,), node.weight[j, i]) for j in range(shape[0])] for i in range(out[0])}
    check_sums(node, shape, out, taps, dtype, rng)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_a_convolution(dtype, geometry):
    rng = np.random.default_rng(5)
    node, shape, out, taps = conv(geometry, dtype, rng)
    check_sums(node, shape, out, taps, dtype, rng)


def test_cancelling_sums_are_exact():
    """What float64 would lose in the middle of a sum, double-double keeps."""
    node = linear_node({"name": "a", "op": "Gemm", "inputs": ["u", "W"], "attributes": {}}, {"W": np.ones((4, 1))})
    d, base = np.array([[1e30, 1.0, -1e30, 0.25]]), np.zeros((1, 1))
    error, _, terms, exact = node.exact(d, np.ones((1, 4), bool), base, np.array([[1.0]]))
    assert terms[0, 0] == 4.0
    assert error[0, 0] == -0.25
    assert exact[0, 0] == 1.25


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_sums_with_values_that_are_not_finite(bad):
    node = linear_node({"name": "a", "op": "Gemm", "inputs": ["u", "W"], "attributes": {}}, {"W": np.ones((3, 1))})
    _, _, _, exact = node.exact(np.array([[1.0, bad, 2.0]]), np.ones((1, 3), bool), np.zeros((1, 1)), np.zeros((1, 1)))
    same(exact[0], np.array([bad]))
