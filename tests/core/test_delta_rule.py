"""Delta-evaluated solves against a simulation in plain Python on single numbers, and hand-computed sequences (D-1 to D-12)."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import refdeq as rd
from refdeq import scalar
from refdeq.delta import resolve_gates, round_threshold
from refdeq.errors import ArgumentError, ShapeError
from refdeq.reference import ReferenceKernels, group

BUDGET = 7


def gated_cell(n, dtype, bias=True, seed=0):
    """``z <- (A z + b) + x``: a gate, an accumulator, and nothing else that could hide an error."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, n))
    a *= 0.6 / np.linalg.norm(a, 2)
    builder = rd.GraphBuilder(dtype)
    z, x = builder.state("z", (n,)), builder.injection("x", (n,))
    inputs = [z, builder.parameter("A", a.astype(dtype))]
    if bias:
        inputs.append(builder.parameter("b", rng.standard_normal(n).astype(dtype)))
    builder.output(z, builder.node("Add", builder.node("Gemm", *inputs, transB=1, name="linear"), x, name="f"))
    return builder.build()


def narrow(value, name):
    """Round a float32 to a narrow format by its bits."""
    if name == "float16":
        return np.float32(struct.unpack("e", struct.pack("e", float(value)))[0])
    bits = struct.unpack("I", struct.pack("f", float(value)))[0]
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return np.float32(struct.unpack("f", struct.pack("I", bits))[0])


def simulate(cell, x, z0, rule, evaluations):
    """One sample of Picard under a rule, number by number; yields (z, r, mask, a, f) of every evaluation."""
    weight, number, n = cell.parameters["A"], x.dtype.type, len(x)
    bias = cell.parameters.get("b")
    zero, tau = number(0), number(rule.threshold)
    folded = rule.bias == "folded" and bias is not None
    z, r = list(z0), [zero] * n
    a = [zero + bias[i] if folded else zero for i in range(n)]

    def product(values, sent, start):
        return [scalar.accumulate(start[i], list(weight[i]), values, sent) for i in range(n)]

    for k in range(evaluations):
        if k == 0 and rule.start == "dense":
            r, d, mask = list(z), list(z), [True] * n
        else:
            delta = [scalar.difference(z[j], r[j]) for j in range(n)]
            if rule.delta_dtype:
                half = np.dtype(rule.delta_dtype).type
                delta = [number(half(z[j]) - half(r[j])) for j in range(n)]
            mask = [scalar.is_sent(v, tau, rule.compare) for v in delta]
            if rule.granularity == "sample":
                mask = [any(mask)] * n
            d = [number(scalar.gated(v, m)) for v, m in zip(delta, mask, strict=True)]
            if rule.memory == "feedback":
                d = [narrow(v, rule.feedback_format) for v in d]
            r = [scalar.remember(z[j], r[j], mask[j], rule.memory, d[j]) for j in range(n)]
        dense = (k == 0 and rule.start == "dense") or (k > 0 and rule.refresh and k % rule.refresh == 0)
        if dense:
            a = product(r, [True] * n, [zero] * n)
            a = [a[i] + bias[i] for i in range(n)] if folded else a
        elif folded:
            s = product(d, mask, [zero] * n)
            a = [((s[i] + bias[i]) + a[i]) - bias[i] for i in range(n)]
        else:
            a = product(d, mask, a)
        linear = a if folded or bias is None else [a[i] + bias[i] for i in range(n)]
        f = [linear[i] + x[i] for i in range(n)]
        yield z, r, mask, a, f
        z = f


RULES = [
    rd.DeltaRule(threshold=0.05 if g == "element" else 0.5, compare=c, memory=m, start=s, bias=b, granularity=g, refresh=k)
    for c, m, s, b, g, k in itertools.product(
        ("gt", "ge"), ("sent", "always"), ("dense", "zero"), ("separate", "folded"), ("element", "sample"), (0, 3)
    )
] + [
    rd.DeltaRule(threshold=0.1, memory="feedback", feedback_format=f, start=s, refresh=k)
    for f, s, k in itertools.product(("float16", "bfloat16"), ("dense", "zero"), (0, 2))
]


def check_against_simulation(cell, rule, x, same_bits):
    z0 = (0.1 * x[:, ::-1]).astype(x.dtype)  # near the threshold, so that a start from zero sends some and not all
    sol = rd.solve(cell, x, z0=z0, delta=rule, stop=rd.StopRule(max_eval=BUDGET), trace=True)
    trace = sol.trace
    for b in range(len(x)):
        for k, (z, r, mask, a, f) in enumerate(simulate(cell, x[b], z0[b], rule, BUDGET)):
            same_bits(trace.z["z"][k, b], z)
            np.testing.assert_array_equal(trace.mask["z"][k, b], mask)
            same_bits(trace.r["z"][k, b], r)
            same_bits(trace.a["linear"][k, b], a)
            same_bits(trace.f["z"][k, b], f)
    same_bits(sol.memory.r["z"], trace.r["z"][-1])
    same_bits(sol.memory.a["linear"], trace.a["linear"][-1])
    np.testing.assert_array_equal(sol.memory.mask["z"], trace.mask["z"][-1])
    np.testing.assert_array_equal(sol.memory.count, [BUDGET] * len(x))
    return trace


def label(rule):
    changed = (rule.compare, rule.memory, rule.start, rule.bias, rule.granularity, rule.refresh, rule.feedback_format or "")
    return "-".join(map(str, changed))


# the oracle rounds float32 to narrow formats by its bits, hence no feedback in float64
RULES_AND_DTYPES = [(r, d) for r in RULES for d in ("float32", "float64") if d == "float32" or r.memory != "feedback"]


@pytest.mark.parametrize(("rule", "dtype"), RULES_AND_DTYPES, ids=lambda v: v if isinstance(v, str) else label(v))
def test_every_rule_is_the_simulation(rule, dtype, rng, same_bits):
    x = rng.standard_normal((2, 5)).astype(dtype)
    trace = check_against_simulation(gated_cell(5, dtype), rule, x, same_bits)
    masks = trace.mask["z"][1:]
    assert masks.any()
    assert not masks.all()  # the gate was at work


@pytest.mark.parametrize("name", ["float16", "float32"])
def test_narrow_differences(name, rng, same_bits):
    dtype = "float32" if name == "float16" else "float64"
    rule = rd.DeltaRule(threshold=0.05, delta_dtype=name)
    check_against_simulation(gated_cell(4, dtype), rule, rng.standard_normal((2, 4)).astype(dtype), same_bits)


def test_without_a_bias_folded_is_separate(rng, same_bits):
    cell, x = gated_cell(4, "float64", bias=False), rng.standard_normal((2, 4))
    for bias in ("separate", "folded"):
        check_against_simulation(cell, rd.DeltaRule(threshold=0.05, bias=bias), x, same_bits)


@settings(max_examples=40)
@given(st.lists(st.sampled_from([0.0, -0.0, 0.25, -0.25, 1e300, np.inf, -np.inf, np.nan, 5e-324]), min_size=3, max_size=3))
def test_special_injections_follow_the_simulation(values):
    with np.errstate(all="ignore"):
        cell, rule = gated_cell(3, "float64"), rd.DeltaRule(threshold=0.1)
        steps = list(simulate(cell, np.array(values), np.zeros(3), rule, 3))
        trace = rd.solve(cell, np.array([values]), delta=rule, stop=rd.StopRule(max_eval=3), trace=True).trace
    for k in range(len(trace)):
        np.testing.assert_array_equal(trace.f["z"][k, 0], steps[k][4])
        np.testing.assert_array_equal(trace.mask["z"][k, 0], steps[k][2])


# -------------------------------------------------------------------------------------------- one gate, hand-computed


def run_gate(rule, values, references, channels=1):
    """Advance the gate of a (n,) value once; return r, mask, d."""
    u = np.array([values], dtype=float)
    builder = rd.GraphBuilder()
    z = builder.state("z", (len(values),))
    builder.output(z, builder.node("Gemm", z, builder.parameter("W", np.eye(len(values)))))
    spec = resolve_gates(builder.build().graph, rule)[0]["z"]
    r, mask, d = np.array([references], dtype=float), np.zeros(u.shape, bool), np.full(u.shape, 7.0)
    with np.errstate(all="ignore"):
        ReferenceKernels().gate(u, spec, np.array([True]), r, mask, d)
    return r[0], mask[0], d[0]


UP, DOWN = np.nextafter(0.5, 1), np.nextafter(0.5, 0)
VALUES = [0.5, -0.5, UP, -UP, DOWN, np.nan, np.inf, -np.inf, -0.0, 5e-324]


@pytest.mark.parametrize(
    ("compare", "sent"),
    [
        ("gt", [0, 0, 1, 1, 0, 1, 1, 1, 0, 0]),
        ("ge", [1, 1, 1, 1, 0, 1, 1, 1, 0, 0]),
    ],
)
@pytest.mark.parametrize("memory", ["sent", "always"])
def test_ties_and_special_differences(compare, sent, memory, same_bits):
    r, mask, d = run_gate(rd.DeltaRule(threshold=0.5, compare=compare, memory=memory), VALUES, [0.0] * 10)
    np.testing.assert_array_equal(mask, np.array(sent, bool))
    same_bits(d, np.where(sent, VALUES, 0.0))
    same_bits(r, np.array(VALUES) if memory == "always" else np.where(sent, VALUES, 0.0))


def test_infinite_references(same_bits):
    """Inf - Inf is NaN and therefore sent; a finite value leaves an infinite reference."""
    r, mask, d = run_gate(rd.DeltaRule(threshold=0.5), [np.inf, -np.inf, 1.0], [np.inf, np.inf, np.inf])
    assert mask.all()
    same_bits(d, np.array([np.nan, -np.inf, -np.inf]))
    same_bits(r, np.array([np.inf, -np.inf, 1.0]))


def test_threshold_zero(same_bits):
    values, references = [0.0, -0.0, 5e-324, 1.0], [0.0, 0.0, 0.0, 1.0]
    assert run_gate(rd.DeltaRule(threshold=0.0, compare="ge"), values, references)[1].all()
    r, mask, _ = run_gate(rd.DeltaRule(threshold=0.0, compare="gt"), values, references)
    np.testing.assert_array_equal(mask, [False, False, True, False])
    same_bits(r, np.array([0.0, 0.0, 5e-324, 1.0]))  # N-4: -0 against +0 is no difference, "sent" keeps +0


def test_threshold_infinite():
    values = [1e308, np.nan, 0.0]
    assert list(run_gate(rd.DeltaRule(threshold=np.inf), values, [0.0] * 3)[1]) == [False, True, False]


def test_feedback_keeps_what_rounding_dropped():
    rule = rd.DeltaRule(threshold=0.25, memory="feedback", feedback_format="bfloat16")
    r, mask, d = run_gate(rule, [1.00390625, 0.25], [0.0, 0.0])  # 1 + 2**-8 is half way between two bfloat16 numbers
    assert list(mask) == [True, False]
    assert list(d) == [1.0, 0.0]
    assert list(r) == [1.0, 0.0]  # the difference that is left is 2**-8


def test_feedback_leaves_references_of_what_is_not_sent(same_bits):
    rule = rd.DeltaRule(threshold=0.25, memory="feedback", feedback_format="float16")
    same_bits(run_gate(rule, [0.0, np.inf, np.nan], [-0.0, -np.inf, 1.0])[0], np.array([-0.0, np.nan, np.nan]))


def test_per_channel_thresholds():
    rule = rd.DeltaRule(threshold=(0.1, 1.0, np.inf))
    assert list(run_gate(rule, [0.5, 0.5, 0.5], [0.0] * 3)[1]) == [True, False, False]


@pytest.mark.parametrize("value", [1e-50, 1e300])
def test_threshold_is_rounded_once_and_says_so(value):
    rounded, sentences = round_threshold(value, np.dtype("float32"))
    assert rounded.dtype == np.float32
    assert len(sentences) == 1
    cell = gated_cell(3, "float32")
    sol = rd.solve(cell, np.zeros((1, 3), np.float32), delta=rd.DeltaRule(threshold=value))
    assert sol.warnings == (sentences[0],)
    assert round_threshold(0.1, np.dtype("float32")) == (np.float32(0.1), [])


# ----------------------------------------------------------------------------------------------- granularities (D-10)


def grouped(sent, granularity, tile=None):
    """OR over the group of every element, element by element."""
    out = np.zeros_like(sent)
    for b, c, *site in np.ndindex(sent.shape):
        steps = (tile[2], *tile[:2])[: sent.ndim - 1] if tile and sent.ndim == 4 else None
        if tile and sent.ndim == 3:
            steps = (tile[2], tile[1])
        members = []
        for c2, *site2 in np.ndindex(sent.shape[1:]):
            same = {
                "element": (c2, site2) == (c, site),
                "sample": True,
                "channel": c2 == c,
                "pixel": site2 == site,
                "tile": steps and all(p // s == q // s for p, q, s in zip((c2, *site2), (c, *site), steps, strict=True)),
            }[granularity]
            if same:
                members.append(sent[(b, c2, *site2)])
        out[(b, c, *site)] = any(members)
    return out


@pytest.mark.parametrize("shape", [(2, 5, 7, 4), (2, 3, 8)])
@pytest.mark.parametrize(
    ("granularity", "tile"),
    [("element", None), ("sample", None), ("channel", None), ("pixel", None), ("tile", (2, 3, 2)), ("tile", (100, 1, 100))],
)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.4])
def test_groups(shape, granularity, tile, share, rng):
    sent = rng.random(shape) < share
    np.testing.assert_array_equal(group(sent, granularity, tile), grouped(sent, granularity, tile))


def test_groups_of_a_gemm_input(rng):
    sent = rng.random((3, 6)) < 0.3
    np.testing.assert_array_equal(group(sent, "channel", None), sent)
    np.testing.assert_array_equal(group(sent, "sample", None), np.repeat(sent.any(axis=1), 6).reshape(3, 6))


def test_a_group_is_sent_as_a_whole(same_bits):
    rule = rd.DeltaRule(threshold=0.5, granularity="sample")
    r, mask, d = run_gate(rule, [0.1, 0.9, -0.2], [0.0, 0.0, 0.0])
    assert mask.all()
    same_bits(d, np.array([0.1, 0.9, -0.2]))
    same_bits(r, np.array([0.1, 0.9, -0.2]))
    assert not run_gate(rule, [0.1, 0.4, -0.2], [0.0, 0.0, 0.0])[1].any()


@pytest.mark.parametrize("granularity", ["pixel", "tile"])
def test_gemm_inputs_have_no_pixels(granularity):
    rule = rd.DeltaRule(threshold=0.1, granularity=granularity, tile=(1, 1, 1) if granularity == "tile" else None)
    with pytest.raises(ArgumentError, match="granularity"):
        rd.solve(gated_cell(3, "float64"), np.zeros((1, 3)), delta=rule)


def test_wrong_number_of_channel_thresholds():
    with pytest.raises(ShapeError, match="threshold of gate 'z'"):
        rd.solve(gated_cell(3, "float64"), np.zeros((1, 3)), delta=rd.DeltaRule(threshold=(0.1, 0.2)))


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_a_narrow_difference_must_be_narrower(name):
    if name == "float64":
        with pytest.raises(ArgumentError, match="delta_dtype"):
            rd.DeltaRule(threshold=0.1, delta_dtype=name)
        return
    with pytest.raises(ArgumentError, match="narrower than float32"):
        rd.solve(gated_cell(3, name), np.zeros((1, 3), np.float32), delta=rd.DeltaRule(threshold=0.1, delta_dtype=name))


def test_folded_bias_needs_unit_factors():
    builder = rd.GraphBuilder()
    z = builder.state("z", (2,))
    w, b = builder.parameter("W", np.eye(2) / 2), builder.parameter("b", np.ones(2))
    builder.output(z, builder.node("Gemm", z, w, b, beta=2.0))
    with pytest.raises(ArgumentError, match="folded"):
        rd.solve(builder.build(), z0=np.zeros((1, 2)), delta=rd.DeltaRule(threshold=0.1, bias="folded"))
