"""The adjoint map as a cell (G-2): operator by operator equal to the reverse walk, and solved like any other cell."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_cases import UNIT, two_state_cell
from hypothesis import given
from hypothesis import strategies as st

import refdeq as rd
from refdeq.errors import ArgumentError, UnsupportedError
from refdeq.evaluation import Evaluator
from refdeq.gradients.adjoint_cell import adjoint_cell
from refdeq.gradients.linearisation import CellMap
from refdeq.gradients.transposes import TRANSPOSES
from refdeq.ops import BATCH, OPS
from refdeq.reference import ReferenceKernels


def integers(rng, *shape):
    return rng.integers(-4, 5, shape).astype(np.float64)


def through(cell, x, batch, rng):
    """``J^T y + g`` by the adjoint cell and by the reverse walk, at integer states, for integer y and g."""
    arrays = [{s: integers(rng, batch, *shape) for s, shape in cell.graph.states.items()} for _ in range(3)]
    z, y, g = arrays
    point = CellMap(cell, x, batch, {}).linearise(z)
    adjoint = adjoint_cell(cell)
    evaluator = Evaluator(adjoint.cell, ReferenceKernels(), adjoint.injections(point.values, g, {}), batch)
    found = evaluator.evaluate(y, np.ones(batch, dtype=bool))
    back = point.transpose(y)
    return found, {s: back[s] + g[s] for s in z}


def node_cell(shape, op, others=(), attributes=None, position=0):
    """A cell with one node: ``u <- op(z, ...)`` beside ``z <- z``.

    The other operands are parameters (arrays), injections (shapes) or z again; z itself goes to `position`.
    """
    builder, attributes = rd.GraphBuilder(), attributes or {}
    names, lengths = [], {"z": (BATCH, *shape)}
    z = builder.state("z", shape)
    for i, other in enumerate(others):
        if isinstance(other, np.ndarray):
            names.append(builder.parameter(f"p{i}", other))
            lengths[names[-1]] = other.shape
        else:
            names.append(z if other == "z" else builder.injection(f"x{i}", other))
            lengths.setdefault(names[-1], (BATCH, *other))
    names.insert(position, z)
    out = OPS[op].infer([lengths[name] for name in names], OPS[op].complete(attributes))
    builder.output(builder.state("u", out[1:]), builder.node(op, *names, name="node", **attributes))
    builder.output(z, z)
    return builder.build()


W = np.arange(12.0).reshape(4, 3) - 5
CASES = {
    "gemm": ((3,), "Gemm", [W.T.copy()], {}),
    "gemm transposed, scaled": ((3,), "Gemm", [W, np.ones(4)], {"transB": 1, "alpha": 2.0, "beta": 3.0}),
    "matmul left": ((2, 3), "MatMul", [W.T.copy()], {}),
    "matmul right": ((2, 3), "MatMul", [np.ones((5, 2))], {}, 1),
    "matmul of values": ((2, 3), "MatMul", [(3, 4)], {}),
    "matmul of values, right": ((3, 2), "MatMul", [(4, 3)], {}, 1),
    "matmul with itself": ((3, 3), "MatMul", ["z"], {}),
    "matmul broadcast": ((1, 2, 3), "MatMul", [(4, 3, 2)], {}),
    "add": ((2, 3), "Add", [np.ones(3)], {}),
    "add, broadcast": ((1, 3), "Add", [(4, 3)], {}),
    "add to itself": ((2,), "Add", ["z"], {}),
    "sub": ((3,), "Sub", [(3,)], {}),
    "sub from": ((3,), "Sub", [(3,)], {}, 1),
    "sub, broadcast": ((2, 1), "Sub", [(2, 8)], {}, 1),
    "mul": ((2, 3), "Mul", [(2, 3)], {}),
    "mul by a parameter": ((2, 3), "Mul", [np.array([1.0, -2.0, 4.0])], {}, 1),
    "mul, broadcast": ((1, 2), "Mul", [(4, 2)], {}),
    "square": ((3,), "Mul", ["z"], {}),
    "neg": ((3,), "Neg", [], {}),
    "identity": ((3,), "Identity", [], {}),
    "relu": ((3,), "Relu", [], {}),
    "leaky relu": ((3,), "LeakyRelu", [], {"alpha": 0.25}),
    "tanh": ((3,), "Tanh", [], {}),
    "sigmoid": ((3,), "Sigmoid", [], {}),
    "sin": ((3,), "Sin", [], {}),
    "cos": ((3,), "Cos", [], {}),
    "exp": ((3,), "Exp", [], {}),
    "concat": ((2, 3), "Concat", [(2, 2), "z", (2, 1)], {"axis": -1}),
    "slice": ((4, 5), "Slice", [], {"starts": (1, -3), "ends": (3, 9), "axes": (1, -1)}),
    "slice of all": ((4,), "Slice", [], {"starts": (0,), "ends": (99,), "axes": (1,)}),
    "reshape": ((2, 6), "Reshape", [], {"shape": (0, 3, -1)}),
    "transpose": ((2, 3, 4), "Transpose", [], {"perm": (0, 3, 1, 2)}),
    "mean": ((4, 3), "ReduceMean", [], {"axes": (1,)}),
    "mean of all": ((4, 2), "ReduceMean", [], {"axes": (-1, 1), "keepdims": 0}),
    "dft": ((4, 2), "DFT", [], {"axis": 1}),
    "dft, inverse": ((2, 4, 2), "DFT", [], {"axis": 2, "inverse": 1}),
    "dft of real": ((4, 1), "DFT", [], {"axis": 1}),
}


@pytest.mark.parametrize("case", CASES)
def test_every_operator_is_transposed_exactly(case, rng):
    """Integers and powers of two: no operation rounds (slopes of smooth functions multiply one integer), so bits are equal."""
    cell = node_cell(*CASES[case])
    x = {name: integers(rng, 3, *shape) for name, shape in cell.graph.injections.items()}
    found, expected = through(cell, x, 3, rng)
    for s in expected:
        np.testing.assert_array_equal(found[s], expected[s])


def test_the_cases_cover_every_operator():
    assert {case[1] for case in CASES.values()} | {"Conv"} == set(TRANSPOSES) == set(OPS)


@st.composite
def convolutions(draw):
    rank, group = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel = draw(st.tuples(*[st.integers(1, 3)] * rank))
    dilations = draw(st.tuples(*[st.integers(1, 2)] * rank))
    pads = draw(st.tuples(*[st.integers(0, 5)] * (2 * rank)))
    sites = tuple(
        draw(st.integers(max(1, d * (k - 1) + 1 - p - q), 6))
        for d, k, p, q in zip(dilations, kernel, pads[:rank], pads[rank:], strict=True)
    )
    outputs, channels = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    seed = draw(st.integers(0, 99))
    weight = integers(np.random.default_rng(seed), group * outputs, channels, *kernel)
    attributes = {"pads": pads, "dilations": dilations, "group": group}
    return (group * channels, *sites), weight, attributes, seed


@given(case=convolutions())
def test_convolutions_are_transposed_exactly(case):
    """Groups, dilations, uneven padding, also beyond the kernel's reach; integers, so bits are equal."""
    shape, weight, attributes, seed = case
    cell = node_cell(shape, "Conv", [weight, np.ones(len(weight))], attributes)
    found, expected = through(cell, {}, 2, np.random.default_rng(seed))
    for s in expected:
        np.testing.assert_array_equal(found[s], expected[s])


def test_several_states_and_paths(rng):
    """The whole cell of the difference tests: the same terms in another order, each rounded a few times."""
    cell = two_state_cell(rng)
    x = {"x": rng.standard_normal((3, 2, 6)), "q": rng.standard_normal((3, 4))}
    found, expected = through(cell, x, 3, rng)
    for s in expected:  # at most 12 terms deep in each of ten nodes, with weights and values below 16
        assert np.abs(found[s] - expected[s]).max() <= 10 * 12 * 16 * 16 * UNIT


def test_names_do_not_collide(rng, same_bits):
    """Whatever the forward graph calls its values."""
    builder = rd.GraphBuilder()
    z, x = builder.state("slope of t", (2,)), builder.injection("cotangent of slope of t", (2,))
    w = builder.parameter("adjoint of slope of t", np.eye(2))
    linear = builder.node("Gemm", z, w, name="mul")
    builder.output(z, builder.node("Tanh", builder.node("Add", linear, x, name="value of mul"), name="t"))
    cell = builder.build()
    adjoint = adjoint_cell(cell).cell
    assert [node.name for node in adjoint.graph.linear_nodes] == ["mul"]
    found, expected = through(cell, {"cotangent of slope of t": integers(rng, 2, 2)}, 2, rng)
    same_bits(found["slope of t"], expected["slope of t"])


def test_what_cannot_be_written_is_named():
    strided = node_cell((2, 5, 5), "Conv", [np.ones((2, 2, 3, 3))], {"strides": (2, 1)})
    with pytest.raises(UnsupportedError, match=r"'node'.*strides \(2, 1\)"):
        adjoint_cell(strided)
    with pytest.raises(UnsupportedError, match=r"'node'.*step 2"):
        adjoint_cell(node_cell((5,), "Slice", [], {"starts": (0,), "ends": (5,), "axes": (1,), "steps": (2,)}))
    with pytest.raises(ArgumentError, match="frozen"):
        adjoint_cell(strided, ["other"])
