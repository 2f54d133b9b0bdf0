"""Graphs and cells: what is refused, inference, hoisting, plain-data round trips, outputs that are states (E-1, E-2, D-11)."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refdeq as rd
from refdeq.errors import DTypeError, GraphError, ShapeError
from refdeq.graph import Cell, Graph, GraphBuilder, Node


def base():
    """A builder with a state, an injection and a square weight, to break in one place each."""
    builder = GraphBuilder()
    builder.state("z", (3,))
    builder.injection("x", (3,))
    builder.parameter("W", np.eye(3))
    return builder


def finished():
    builder = base()
    linear = builder.node("Gemm", "z", "W", transB=1)
    hoisted = builder.node("Gemm", "x", "W")
    builder.output("z", builder.node("Add", linear, builder.node("Tanh", hoisted)))
    return builder.build()


# ------------------------------------------------------------------------------------------------------------ what is refused

BROKEN = {
    "no output": (lambda b: None, "state 'z' has no output"),
    "output of an unknown value": (lambda b: b.output("z", "nothing"), "state 'z' has no output"),
    "output of another shape": (lambda b: b.output("z", b.node("Concat", "z", "z", axis=1)), "expected \\(3,\\)"),
    "output that is a parameter": (lambda b: b.output("z", "W"), "expected \\(3,\\)"),
    "output of no state": (lambda b: (b.output("z", "z"), b.output("x", "z")), "'x' is not a state"),
    "unknown operator": (lambda b: b.output("z", b.node("Softmax", "z")), "unknown operator 'Softmax'; known are Add"),
    "unknown input": (lambda b: b.output("z", b.node("Tanh", "q")), "reads 'q', which is not defined before it"),
    "later node": (lambda b: b.output("z", (b.node("Tanh", "b", name="a"), b.node("Tanh", "a", name="b"))[0]), "reads 'b'"),
    "too many inputs": (lambda b: b.output("z", b.node("Tanh", "z", "z")), "Tanh takes 1 inputs, got 2"),
    "too few inputs": (lambda b: b.output("z", b.node("Gemm", "z")), "Gemm takes 2 or 3 inputs, got 1"),
    "no inputs": (lambda b: b.output("z", b.node("Concat", axis=1)), "Concat takes 1 or more inputs, got 0"),
    "unknown attribute": (lambda b: b.output("z", b.node("Tanh", "z", alpha=1.0)), "unknown attribute 'alpha'"),
    "attribute of a wrong kind": (lambda b: b.output("z", b.node("Concat", "z", axis="1")), "wrong kind"),
    "attribute of None": (lambda b: b.output("z", b.node("Slice", "z", starts=None, ends=(1,))), "Slice"),
    "node of parameters": (lambda b: b.output("z", b.node("Add", "W", "W")), "depends on parameters only"),
    "shapes that do not fit": (lambda b: b.output("z", b.node("Add", "z", b.parameter("v", np.ones(2)))), "node 'add': Add"),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_graph_says_what_is_wrong(name):
    spoil, message = BROKEN[name]
    builder = base()
    spoil(builder)
    with pytest.raises(GraphError, match=message):
        builder.build()


@pytest.mark.parametrize(
    "declare",
    [
        lambda b: b.state("W", (3,)),
        lambda b: b.state("z", (4,)),
        lambda b: b.injection("z", (3,)),
        lambda b: b.parameter("x", np.eye(3)),
        lambda b: b.node("Tanh", "z", name="W"),
        lambda b: (b.node("Tanh", "z", name="n"), b.node("Tanh", "x", name="n")),
    ],
)
def test_names_are_used_once(declare):
    with pytest.raises(GraphError, match="used twice"):
        declare(base())


def test_an_output_is_given_once():
    builder = base()
    builder.output("z", "z")
    with pytest.raises(GraphError, match="already has an output"):
        builder.output("z", "x")


@pytest.mark.parametrize(
    ("nodes", "states", "message"),
    [
        ((Node("", "Tanh", ("z",), {}),), {"z": (1,)}, "non-empty strings"),
        ((Node(3, "Tanh", ("z",), {}),), {"z": (1,)}, "non-empty strings"),
        ((Node("z", "Tanh", ("z",), {}),), {"z": (1,)}, "'z' is used twice"),
    ],
)
def test_names_of_graphs_made_by_hand(nodes, states, message):
    with pytest.raises(GraphError, match=message):
        Graph("float64", states, {}, {}, nodes, {"z": "z"})


def test_a_cell_introduces_itself():
    assert repr(finished()) == "Cell(float64, states: z (3,), injections: x (3,), 4 nodes, 9 parameters)"


@pytest.mark.parametrize("shape", [(0,), (-1,), (2.5,), ("3",), (3, 0), (True,)])
def test_lengths_are_positive_integers(shape):
    builder = GraphBuilder()
    builder.state("z", shape)
    builder.output("z", "z")
    with pytest.raises(GraphError, match="integers >= 1"):
        builder.build()


def build_scalar_cell(dtype):
    builder = GraphBuilder(dtype)
    builder.state("z", (1,))
    builder.output("z", "z")
    return builder.build()


@pytest.mark.parametrize("dtype", ["float16", "int64", "complex128", "bogus", 3])
def test_other_dtypes(dtype):
    with pytest.raises(GraphError, match="dtype must be one of"):
        Graph(dtype, {"z": (1,)}, {}, {}, (), {"z": "z"})
    with pytest.raises(GraphError, match="dtype must be one of"):
        build_scalar_cell(dtype)
    with pytest.raises(GraphError, match="dtype must be one of"):
        finished().astype(dtype)


def test_no_state():
    with pytest.raises(GraphError, match="at least one state"):
        GraphBuilder().build()


def test_node_names_avoid_every_other_name():
    builder = GraphBuilder()
    builder.state("tanh", (2,))
    names = [builder.node("Tanh", "tanh"), builder.node("Tanh", "tanh"), builder.node("Sin", "tanh")]
    assert names == ["tanh_2", "tanh_3", "sin"]


def test_attributes_are_kept_as_plain_numbers():
    """NumPy scalars and lists would otherwise break the digest and the file."""
    builder = GraphBuilder()
    builder.state("z", np.array([4]))
    part = builder.node("Slice", "z", starts=np.array([0]), ends=[np.int32(2)], axes=(np.int64(1),))
    builder.output("z", builder.node("Concat", part, part, axis=np.int64(1)))
    cell = builder.build()
    assert cell.graph.nodes[0].attributes == {"starts": (0,), "ends": (2,), "axes": (1,)}
    assert json.loads(json.dumps(cell.graph.to_dict())) == cell.graph.to_dict()
    assert len(cell.digest) == 64


# ------------------------------------------------------------------------------------------------------------ what is inferred


def test_hoisted_loop_and_linear_nodes(conv_cell):
    graph = finished().graph
    assert [n.name for n in graph.hoisted] == ["gemm_2", "tanh"]
    assert [n.name for n in graph.loop_nodes] == ["gemm", "add"]
    assert [n.name for n in graph.linear_nodes] == ["gemm"]
    assert graph.shapes == {
        "z": (-1, 3),
        "x": (-1, 3),
        "W": (3, 3),
        "gemm": (-1, 3),
        "gemm_2": (-1, 3),
        "tanh": (-1, 3),
        "add": (-1, 3),
    }
    assert [n.name for n in conv_cell().graph.linear_nodes] == ["c1", "c2"]


def test_matmul_is_never_gated():
    builder = base()
    builder.output("z", builder.node("MatMul", "z", "W"))
    assert builder.build().graph.linear_nodes == ()


@pytest.mark.parametrize("x_scale", [1.0, 1e3])
def test_hoisting_changes_nothing(x_scale, rng, same_bits):
    """The same function with x as a constant state (z2 <- z2), where nothing can be hoisted."""
    rng = np.random.default_rng(4)
    w, u = rng.standard_normal((4, 4)) / 4, rng.standard_normal((4, 3))
    cells = []
    for as_state in (False, True):
        builder = GraphBuilder()
        z = builder.state("z", (4,))
        x = builder.state("x", (3,)) if as_state else builder.injection("x", (3,))
        injected = builder.node("Gemm", x, builder.parameter("U", u), transB=1)
        linear = builder.node("Gemm", z, builder.parameter("W", w), transB=1)
        builder.output(z, builder.node("Tanh", builder.node("Add", linear, injected)))
        if as_state:
            builder.output(x, builder.node("Identity", x))
        cells.append(builder.build())
    x = x_scale * rng.standard_normal((2, 3))
    stop = rd.StopRule(max_eval=6)
    one = rd.solve(cells[0], x, stop=stop, trace=True)
    two = rd.solve(cells[1], z0={"z": np.zeros((2, 4)), "x": x}, stop=stop, trace=True)
    assert len(cells[1].graph.hoisted) == 0
    same_bits(one.trace.f["z"], two.trace.f["z"])


@pytest.mark.parametrize("solver", [rd.Picard(), rd.KrasnoselskiiMann(alpha=0.5)], ids=lambda s: s.name)
def test_outputs_that_are_states_are_simultaneous(solver, rng, same_bits):
    """A swap: p <- q, q <- p must not see what the solver has just written."""
    plain, copied = GraphBuilder(), GraphBuilder()
    for builder, through in ((plain, lambda b, v: v), (copied, lambda b, v: b.node("Identity", v))):
        p, q, r = (builder.state(name, (2,)) for name in "pqr")
        builder.output(p, through(builder, q))
        builder.output(q, through(builder, r))
        builder.output(r, through(builder, p))
    z0 = {name: rng.standard_normal((3, 2)) for name in "pqr"}
    stop = rd.StopRule(max_eval=4)
    one, two = (rd.solve(b.build(), z0=z0, solver=solver, stop=stop, trace=True) for b in (plain, copied))
    for name in "pqr":
        same_bits(one.trace.z[name], two.trace.z[name])
    if solver == rd.Picard():
        same_bits(one.states["p"], z0["p"])  # three steps around


def test_an_output_may_be_an_injection_or_hoisted(rng, same_bits):
    builder = base()
    builder.output("z", "x")
    x = rng.standard_normal((2, 3))
    sol = rd.solve(builder.build(), x)
    same_bits(sol.z, x)
    assert list(sol.n_eval) == [2, 2]


def test_scalar_states(rng):
    builder = GraphBuilder()
    z, x = builder.state("z", ()), builder.injection("x", ())
    builder.output(z, builder.node("Mul", builder.node("Add", z, x), builder.parameter("half", np.array(0.5))))
    sol = rd.solve(builder.build(), np.array([1.0, 2.0]), stop=rd.StopRule(atol=1e-9))
    assert np.all(np.abs(sol.z - [1.0, 2.0]) <= 2e-9)  # residual / (1 - 1/2)


# -------------------------------------------------------------------------------------------------------------- plain data


def test_round_trip_keeps_everything_and_its_order(conv_cell):
    for cell in (finished(), conv_cell()):
        data = json.loads(json.dumps(cell.graph.to_dict()))
        again = Graph.from_dict(data)
        assert again == cell.graph
        assert list(again.shapes) == list(cell.graph.shapes)
        assert Cell(again, cell.parameters).digest == cell.digest


def test_the_digest_tells_cells_apart():
    cell = finished()
    digests = {cell.digest, cell.astype("float32").digest}
    digests.add(Cell(cell.graph, {"W": np.nextafter(cell.parameters["W"], 2)}).digest)
    data = cell.graph.to_dict()
    data["nodes"][0]["attributes"] = {}
    digests.add(Cell(Graph.from_dict(data), cell.parameters).digest)
    assert len(digests) == 4
    assert finished().digest == cell.digest


def test_the_order_of_states_is_part_of_the_cell():
    """It decides the bits of the residual (S-2)."""

    def build(names):
        builder = GraphBuilder()
        for name in names:
            builder.output(name, builder.state(name, (1,)))
        return builder.build()

    assert build("pq").digest != build("qp").digest
    assert list(Graph.from_dict(build("qp").graph.to_dict()).states) == ["q", "p"]


_junk = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.text(max_size=3)
    | st.lists(st.integers(-2, 4), max_size=3)
    | st.just({})
)


@given(st.data())
def test_damaged_data_is_a_graph_error_or_a_graph(data):
    """Replace or delete one thing anywhere in the data."""
    graph = copy.deepcopy(finished().graph.to_dict())
    here = graph
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        key = data.draw(st.sampled_from(keys))
        deeper = isinstance(here[key], dict | list) and len(here[key]) > 0
        if deeper and data.draw(st.booleans()):
            here = here[key]
            continue
        if data.draw(st.booleans()):
            del here[key]
        else:
            here[key] = data.draw(_junk)
        break
    try:
        built = Graph.from_dict(graph)
    except GraphError:
        return
    assert built.to_dict()["states"]


# -------------------------------------------------------------------------------------------------------------------- cells


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({}, ShapeError),
        ({"W": np.eye(3), "V": np.eye(3)}, ShapeError),
        ({"W": np.eye(4)}, ShapeError),
        ({"W": np.eye(3, dtype=np.float32)}, DTypeError),
        ({"W": np.eye(3).astype(">f8")}, DTypeError),
        ({"W": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}, DTypeError),
        ({"W": None}, DTypeError),
    ],
)
def test_parameters_that_do_not_fit(parameters, error):
    with pytest.raises(error, match="parameter"):
        Cell(finished().graph, parameters)


def test_parameters_are_kept_as_read_only_copies():
    w = np.asfortranarray(np.arange(9.0).reshape(3, 3))
    cell = Cell(finished().graph, {"W": w})
    w[...] = 0.0
    assert cell.parameters["W"][1, 0] == 3.0
    assert cell.parameters["W"].flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        cell.parameters["W"][0, 0] = 1.0


def test_astype_rounds_once_and_back(same_bits):
    cell = rd.models.rnn(np.full((1, 1), 0.1), np.ones((1, 1)), np.zeros(1))
    same_bits(cell.astype("float32").parameters["W"], np.array([[0.1]], np.float32))
    assert cell.astype("float64").digest == cell.digest
    assert cell.astype(np.float32).graph.dtype == "float32"
