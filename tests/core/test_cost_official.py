"""The published accounting (C-3) by hand, convention by convention; the whole of it is tested against the published numbers in
`tests/oracles/test_deltadeq_flow.py`.
"""

import numpy as np
import pytest

import refdeq as rd
from refdeq.cost_official import OFFICIAL_NOTE, OfficialCost, official_cost, official_dense

SITES = 4 * 5


def conv_graph(weight, *, bias, group=1, kernel=(3, 3)):
    """``z <- relu(Conv(z)) + x`` with as many channels out as in."""
    builder = rd.GraphBuilder()
    channels = weight[0]
    z, x = builder.state("z", (channels, 4, 5)), builder.injection("x", (channels, 4, 5))
    parameters = [builder.parameter("W", np.zeros((*weight, *kernel)))]
    parameters += [builder.parameter("b", np.zeros(channels))] if bias else []
    pads = [k // 2 for k in kernel] * 2
    y = builder.node("Conv", z, *parameters, name="conv", pads=pads, group=group)
    builder.output(z, builder.node("Add", builder.node("Relu", y, name="relu"), x, name="f"))
    return builder.build().graph


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (1, 5)])
def test_the_kernel_area_is_missing(kernel):
    graph = conv_graph((6, 6), bias=True, kernel=kernel)
    assert official_dense(graph, graph.linear_nodes[0]) == 6 * SITES * (6 + 1)


def test_groups_and_a_missing_bias_count_less():
    assert official_dense(*_with_node(conv_graph((6, 2), bias=True, group=3))) == 6 * SITES * (2 + 1)
    assert official_dense(*_with_node(conv_graph((6, 6), bias=False))) == 6 * SITES * 6


def _with_node(graph):
    return graph, graph.linear_nodes[0]


def test_one_relu_and_one_convolution_by_hand():
    graph = conv_graph((6, 6), bias=True)
    full, numel = 840, 120
    cost = official_cost(graph, 3, {"conv": 30}, {"conv"})
    assert cost == OfficialCost(full * 30 / numel + 3 * numel + 3 * 120, 3 * full + 3 * 120, 3 * numel - 30, 3 * numel)


def test_a_node_without_a_gate_is_scaled_too_but_not_counted():
    cost = official_cost(conv_graph((6, 6), bias=True), 1, {"conv": 60}, set())
    assert cost == OfficialCost(420 + 120 + 120, 840 + 120, 0, 0)


def test_restricted_to_some_nodes():
    graph = conv_graph((6, 6), bias=True)
    parts = [official_cost(graph, 2, {"conv": 60}, {"conv"}, [name]).flops for name in ("conv", "relu", "f")]
    assert parts == [420 + 240, 240, 0]
    assert sum(parts) == official_cost(graph, 2, {"conv": 60}, {"conv"}).flops


def gated_update_cell():
    """``z <- (1 - s) z + s t`` with ``s = sigmoid(A z)`` and ``t = tanh(B z + x)``: both nodes read one gate."""
    rng = np.random.default_rng(3)
    builder = rd.GraphBuilder()
    z, x = builder.state("z", (5,)), builder.injection("x", (5,))
    a, b = (builder.parameter(name, 0.3 * rng.standard_normal((5, 5))) for name in "AB")
    one = builder.parameter("one", np.ones(1))
    s = builder.node("Sigmoid", builder.node("Gemm", z, a, transB=1, name="a"), name="s")
    t = builder.node("Tanh", builder.node("Add", builder.node("Gemm", z, b, transB=1, name="b"), x, name="sum"), name="t")
    kept = builder.node("Mul", builder.node("Sub", one, s, name="keep"), z, name="kept")
    builder.output(z, builder.node("Add", kept, builder.node("Mul", s, t, name="new"), name="f"))
    return builder.build()


def test_readers_of_one_gate_pay_the_subtraction_each_and_a_blend_costs_two(rng):
    cell = gated_update_cell()
    solution = rd.solve(cell, rng.standard_normal((1, 5)), delta=rd.DeltaRule(threshold=9.0), stop=rd.StopRule(max_eval=2))
    per_evaluation = 3 * 5 + 10 * 5 + 2 * 5  # sigmoid, tanh, blend; products outside the blend are free
    assert solution.cost.official == OfficialCost(
        flops=2 * per_evaluation + 2 * 2 * 5,  # z0 is zero, and nothing is sent after it: only subtractions remain
        flops_dense=2 * per_evaluation + 2 * 2 * 25,
        zeros=2 * 2 * 5,
        elements=2 * 2 * 5,
    )


def test_zeros_of_the_first_dense_input_count_as_skipped(rng):
    z0 = np.array([[1.0, 0.0, 2.0, 0.0, 0.0]])
    rule, stop = rd.DeltaRule(threshold=9.0), rd.StopRule(max_eval=2)
    solution = rd.solve(gated_update_cell(), rng.standard_normal((1, 5)), z0=z0, delta=rule, stop=stop)
    assert (solution.cost.official.zeros, solution.cost.official.elements) == (2 * (3 + 5), 2 * 2 * 5)
    assert solution.cost.official.flops == 2 * 25 * 2 / 5 + 2 * (2 * 5 + 75)
    assert (solution.cost.macs, solution.cost.macs_dense) == (50, 100), "exact accounting needs all of a dense start"


def test_a_node_listed_dense_pays_for_the_non_zeros_of_its_plain_input(rng):
    z0 = np.array([[1.0, 0.0, 2.0, 0.0, 3.0]])
    rule, stop = rd.DeltaRule(threshold=9.0, dense=("b",)), rd.StopRule(max_eval=1)
    solution = rd.solve(gated_update_cell(), rng.standard_normal((1, 5)), z0=z0, delta=rule, stop=stop)
    assert solution.cost.official == OfficialCost(2 * 25 * 3 / 5 + 2 * 5 + 75, 2 * 25 + 75, 2, 5)


def test_samples_add_up(rng):
    cell, x = gated_update_cell(), rng.standard_normal((3, 5))
    rule, stop = rd.DeltaRule(threshold=0.05), rd.StopRule(rtol=1e-2)
    together = rd.solve(cell, x, delta=rule, stop=stop).cost.official
    alone = [rd.solve(cell, x[b : b + 1], delta=rule, stop=stop).cost.official for b in range(3)]
    assert (together.zeros, together.elements) == (sum(c.zeros for c in alone), sum(c.elements for c in alone))
    assert together.flops_dense == sum(c.flops_dense for c in alone)
    assert together.flops == sum(c.flops for c in alone), "whole numbers: 25 nnz / 5 is one"


def test_the_note_says_what_is_counted():
    for word in ("kernel area", "nnz/numel", "first dense input", "3 per sigmoid", "10 per tanh", "2 per blended"):
        assert word in OFFICIAL_NOTE
