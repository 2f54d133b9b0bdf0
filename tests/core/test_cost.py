"""Exact cost (C-1, C-2): every count against loops over single taps, in every kind of evaluation, on every backend."""

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import refdeq as rd
from refdeq.ops.conv import conv_fan_out

ALWAYS_SENT = 0.0  # with compare "ge" a threshold of 0 sends everything


@pytest.fixture(params=("reference", "numba"))
def backend(request):
    return request.param


def fan_out_by_counting(data, weight, out, strides, pads, dilations, group):
    """Outputs that each input element (C, ...) takes part in, by walking over every output, channel and tap."""
    counts = np.zeros(data, dtype=np.int64)
    per_group = weight[0] // group
    for m, c in product(range(weight[0]), range(weight[1])):
        channel = (m // per_group) * weight[1] + c
        for site in product(*map(range, out)):
            for tap in product(*map(range, weight[2:])):
                place = tuple(o * s - p + t * d for o, s, p, t, d in zip(site, strides, pads, tap, dilations, strict=False))
                if all(0 <= i < n for i, n in zip(place, data[1:], strict=True)):
                    counts[(channel, *place)] += 1
    return counts


@st.composite
def geometries(draw):
    """Data shape, weight shape, output sites and attributes of a Conv that has an output."""
    rank = draw(st.integers(1, 2))

    def lengths(low, high, count=rank):
        return tuple(draw(st.lists(st.integers(low, high), min_size=count, max_size=count)))

    group = draw(st.integers(1, 3))
    data = (group * draw(st.integers(1, 2)), *lengths(1, 6))
    weight = (group * draw(st.integers(1, 2)), data[0] // group, *lengths(1, 4))
    strides, pads, dilations = lengths(1, 3), lengths(0, 3, 2 * rank), lengths(1, 3)
    padded = [n + p + q for n, p, q in zip(data[1:], pads[:rank], pads[rank:], strict=True)]
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, weight[2:], strict=True)]
    out = tuple((n - r) // s + 1 for n, r, s in zip(padded, reach, strides, strict=True))
    assume(all(n >= r for n, r in zip(padded, reach, strict=True)))
    return data, weight, out, {"strides": strides, "pads": pads, "dilations": dilations, "group": group}


@given(geometries())
def test_conv_fan_out_counts_border_stride_dilation_and_groups(geometry):
    data, weight, out, attributes = geometry
    counted = fan_out_by_counting(data, weight, out, **attributes)
    known = conv_fan_out((-1, *data), (-1, weight[0], *out), weight, {**attributes, "kernel_shape": None})
    np.testing.assert_array_equal(np.broadcast_to(known, data), counted)


def test_conv_fan_out_by_hand():
    attributes = {"strides": None, "pads": (1, 1, 1, 1), "dilations": None, "group": 1, "kernel_shape": None}
    known = conv_fan_out((-1, 2, 3, 4), (-1, 5, 3, 4), (5, 2, 3, 3), attributes)
    np.testing.assert_array_equal(known[0], 5 * np.array([[4, 6, 6, 4], [6, 9, 9, 6], [4, 6, 6, 4]]))


# ------------------------------------------------------------------------------------------------------ whole solves


def mixing_cell(weight, data, attributes):
    """``z <- sin(z / 2 + x + mean of Conv(z))``: elements that settle at different speeds, a Conv of any geometry."""
    builder = rd.GraphBuilder()
    z, x = builder.state("z", data), builder.injection("x", data)
    y = builder.node("Conv", z, builder.parameter("W", weight), name="conv", **attributes)
    mean = builder.node("ReduceMean", y, name="mean", axes=list(range(1, weight.ndim)), keepdims=1)
    moved = builder.node(
        "Add", x, builder.node("Mul", z, builder.parameter("half", np.array([0.5])), name="halved"), name="moved"
    )
    builder.output(z, builder.node("Sin", builder.node("Add", moved, mean, name="sum"), name="f"))
    return builder.build()


RULES = {
    "dense start": {"start": "dense"},
    "zero start": {"start": "zero"},
    "refresh": {"start": "dense", "refresh": 2},
    "refresh after a zero start": {"start": "zero", "refresh": 3},
    "memory always": {"memory": "always", "compare": "ge"},
    "folded bias, whole channels": {"bias": "folded", "granularity": "channel"},
}


def is_dense(rule, count):
    """Whether a sample's evaluation `count` after the reset reads everything (D-5, D-12)."""
    return (count == 0 and rule.start == "dense") or (count > 0 and rule.refresh > 0 and count % rule.refresh == 0)


def macs_from_trace(solution, gate, fan_out, rule):
    """Multiply-accumulates per sample: fan-outs of what the recorded masks let through (C-1)."""
    trace, spent = solution.trace, np.zeros(len(solution.status), dtype=np.int64)
    evaluations = np.zeros(len(spent), dtype=int)
    for active, masks in zip(trace.active, trace.mask[gate], strict=True):
        for b in np.flatnonzero(active):
            sent = np.ones_like(masks[b]) if is_dense(rule, evaluations[b]) else masks[b]
            spent[b] += int((sent * fan_out).sum())
            evaluations[b] += 1
    return spent


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("geometry", [((2, 1, 3, 2), (2, 1), (1, 0, 2, 1), (1, 2), 2), ((3, 2, 3), (2,), (0, 2), (2,), 1)])
def test_conv_macs_of_a_solve_are_the_sent_fan_outs(backend, rng, name, geometry):
    shape, strides, pads, dilations, group = geometry
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    data = (shape[1] * group, *(5, 6)[: len(shape) - 2])
    cell = mixing_cell(0.3 * rng.standard_normal(shape), data, attributes)
    x, rule = rng.standard_normal((3, *data)), rd.DeltaRule(threshold=0.03, **RULES[name])
    z0 = rd.solve(cell, x).z
    z0[1:] = 0.0  # the first sample starts where it ends, so that it is frozen early
    solution = rd.solve(cell, x, z0=z0, delta=rule, stop=rd.StopRule(rtol=1e-2, max_eval=7), backend=backend, trace=True)
    fan_out = fan_out_by_counting(data, shape, cell.graph.shapes["conv"][2:], **attributes)
    expected = macs_from_trace(solution, "z", fan_out, rule)
    assert len(set(solution.n_eval)) > 1, "no sample was frozen before another"
    np.testing.assert_array_equal(solution.cost.macs_per_sample, expected)
    assert solution.cost.macs == solution.cost.by_node["conv"] == expected.sum() < solution.cost.macs_dense
    assert solution.cost.macs_dense == fan_out.sum() * solution.n_eval.sum()
    assert solution.cost.by_gate["z"] == solution.trace.mask["z"].sum()


@pytest.mark.parametrize("name", [name for name in RULES if "channels" not in name])
def test_gemm_macs_of_a_solve_are_the_sent_columns(backend, rng, tanh_cell, name):
    cell, rule = tanh_cell(n=7), rd.DeltaRule(threshold=0.02, **RULES[name])
    solution = rd.solve(cell, rng.standard_normal((4, 2)), delta=rule, stop=rd.StopRule(rtol=1e-3), backend=backend, trace=True)
    assert len(set(solution.n_eval)) > 1, "no sample was frozen before another"
    np.testing.assert_array_equal(solution.cost.macs_per_sample, macs_from_trace(solution, "z", 7, rule))


def test_first_evaluation_is_in_every_total(backend, rng, tanh_cell):
    x, stop = rng.standard_normal((2, 2)), rd.StopRule(max_eval=1)
    dense = rd.solve(tanh_cell(n=6), x, delta=rd.DeltaRule(threshold=9.0), stop=stop, backend=backend)
    assert dense.cost.macs == dense.cost.macs_dense == 2 * 36
    zero = rd.solve(tanh_cell(n=6), x, delta=rd.DeltaRule(threshold=9.0, start="zero"), stop=stop, backend=backend)
    assert (zero.cost.macs, zero.cost.macs_dense, zero.cost.saved) == (0, 72, 1.0)


def test_refresh_counts_fully(backend, rng, tanh_cell):
    rule = rd.DeltaRule(threshold=9.0, refresh=3)
    solution = rd.solve(tanh_cell(n=6), rng.standard_normal((2, 2)), delta=rule, stop=rd.StopRule(max_eval=8), backend=backend)
    assert solution.cost.macs == 2 * 36 * 3, "evaluations 0 (start), 3 and 6 (refresh) are dense, the others send nothing"


def test_going_on_from_delta_memory_has_no_dense_start(backend, rng, tanh_cell):
    rule, stop = rd.DeltaRule(threshold=9.0), rd.StopRule(max_eval=2)
    first = rd.solve(tanh_cell(n=6), rng.standard_normal((2, 2)), delta=rule, stop=stop, backend=backend)
    x, kept = first.x, {"reuse": "state+memory", "warm": first}
    assert rd.solve(tanh_cell(n=6), x, delta=rule, stop=stop, backend=backend, **kept).cost.macs == 0
    assert rd.solve(tanh_cell(n=6), x, delta=rule, stop=stop, backend=backend, warm=first).cost.macs == 72


def test_readers_of_one_gate_each_pay_their_own_fan_out(backend, rng, conv_cell):
    cell, rule = conv_cell(), rd.DeltaRule(threshold=0.02)
    solution = rd.solve(cell, rng.standard_normal((2, 3, 4, 5)), delta=rule, backend=backend, trace=True)
    fan_out = fan_out_by_counting((3, 4, 5), (3, 3, 3, 3), (4, 5), (1, 1), (1, 1), (1, 1), 1)
    expected = int(macs_from_trace(solution, "z", fan_out, rule).sum())
    assert solution.cost.by_node == {"c1": expected, "c2": expected}
    assert list(solution.cost.by_gate) == ["z"]
    assert solution.cost.macs == 2 * expected < solution.cost.macs_dense


def test_a_node_listed_dense_pays_fully(backend, rng, conv_cell):
    rule = rd.DeltaRule(threshold=9.0, dense=("c2",))
    solution = rd.solve(
        conv_cell(), rng.standard_normal((2, 3, 4, 5)), delta=rule, stop=rd.StopRule(max_eval=5), backend=backend
    )
    one = int(fan_out_by_counting((3, 4, 5), (3, 3, 3, 3), (4, 5), (1, 1), (1, 1), (1, 1), 1).sum())
    assert solution.cost.by_node == {"c1": 2 * one, "c2": 2 * 5 * one}
    assert solution.cost.macs_dense == 2 * 2 * 5 * one


def test_without_a_rule_everything_is_needed(backend, rng, tanh_cell):
    solution = rd.solve(tanh_cell(n=6), rng.standard_normal((3, 2)), stop=rd.StopRule(rtol=1e-3), backend=backend)
    assert solution.cost.macs == solution.cost.macs_dense == 36 * solution.n_eval.sum()
    assert solution.cost.saved == 0.0
    assert solution.cost.by_gate == {}
    assert solution.cost.official is None


def test_nodes_of_x_alone_are_counted_once_and_apart(backend, rng, tanh_cell):
    solution = rd.solve(tanh_cell(n=6, d=2), rng.standard_normal((3, 2)), stop=rd.StopRule(max_eval=7), backend=backend)
    assert solution.cost.macs_hoisted == 3 * 6 * 2
    assert list(solution.cost.by_node) == ["recurrent"]


def test_overheads_by_hand(backend, rng, tanh_cell):
    cell, x, stop = tanh_cell(n=6), rng.standard_normal((3, 2)), rd.StopRule(max_eval=4)
    plain = rd.solve(cell, x, stop=stop, backend=backend).cost.overhead
    assert plain == rd.OpCount(elementwise=6 * 12, nonlinear=6 * 12)  # one Add, one Tanh; 12 evaluations
    gated = rd.solve(cell, x, stop=stop, backend=backend, delta=rd.DeltaRule(threshold=0.1)).cost.overhead
    assert gated == plain + rd.OpCount(elementwise=2 * 6 * 12)  # a subtraction and a comparison per element


def test_a_cell_without_a_linear_node_costs_nothing(rng):
    builder = rd.GraphBuilder()
    z, x = builder.state("z", (2,)), builder.injection("x", (2,))
    builder.output(z, builder.node("Tanh", builder.node("Add", z, x)))
    cost = rd.solve(builder.build(), rng.standard_normal((1, 2)), delta=rd.DeltaRule(threshold=ALWAYS_SENT)).cost
    assert (cost.macs, cost.macs_dense, cost.saved, cost.official) == (0, 0, 0.0, None)
