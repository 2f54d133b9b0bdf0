"""Operators against ``onnx.reference`` (forward) and against the definition of a derivative (vjp)."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from op_cases import ACTIVATIONS, CASES, Case, forward, integers

from refdeq.errors import GraphError
from refdeq.ops import BATCH, OPS
from refdeq.ops.base import unbroadcast

EXACT = {"Add", "Sub", "Mul", "Neg", "Identity", "Concat", "Slice", "Reshape", "Transpose", "Relu", "LeakyRelu"}
ULPS = {"Tanh": 2, "Sigmoid": 3, "Sin": 2.5, "Cos": 2.5, "Exp": 2}  # the documented limits of refdeq's formulas


def onnx_value(case, inputs):
    """Value by ONNX's own evaluator."""
    kind = helper.np_dtype_to_tensor_dtype(inputs[0].dtype)
    names = [f"i{k}" for k in range(len(inputs))]
    values = [helper.make_tensor_value_info(n, kind, list(a.shape)) for n, a in zip(names, inputs, strict=True)]
    feeds = dict(zip(names, inputs, strict=True))
    for name, numbers in case.tensors.items():
        names.append(name)
        values.append(helper.make_tensor_value_info(name, TensorProto.INT64, [len(numbers)]))
        feeds[name] = np.array(numbers, dtype=np.int64)
    attributes = {k: list(v) if isinstance(v, tuple) else v for k, v in case.attributes.items()}
    node = helper.make_node(case.op, names, ["out"], **attributes)
    out = helper.make_tensor_value_info("out", kind, [f"d{i}" for i in range(forward(case, inputs).ndim)])
    graph = helper.make_graph([node], "g", values, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(model)
    return ReferenceEvaluator(model).run(None, feeds)[0]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_forward_equals_onnx_where_arithmetic_is_exact(case, dtype, rng):
    inputs = integers(case, rng, dtype)
    ours, theirs = forward(case, inputs), onnx_value(case, inputs)
    assert ours.dtype == dtype
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_forward_is_within_the_summation_bound_of_onnx(case, dtype, rng):
    inputs = [rng.standard_normal(shape).astype(dtype) for shape in case.shapes]
    ours, theirs = forward(case, inputs), onnx_value(case, inputs)
    if case.op in EXACT:
        np.testing.assert_array_equal(ours, theirs)
        return
    # N-7: both sides err by at most (k + 4) u G, with k terms, G the same node on absolute values, and four more roundings
    gauge = np.abs(forward(case, [np.abs(a).astype(np.float64) for a in inputs]))
    if "beta" in case.attributes or "alpha" in case.attributes:
        positive = {k: abs(v) for k, v in case.attributes.items()}
        gauge = forward(Case(case.op, case.shapes, positive), [np.abs(a).astype(np.float64) for a in inputs])
    if case.op == "DFT":  # no output exceeds the sum of the absolute parts along the axis
        gauge = np.abs(inputs[0]).astype(np.float64).sum(axis=(case.attributes["axis"], -1), keepdims=True)
    terms = int(np.prod(inputs[0].shape[1:]))
    error = np.abs(ours.astype(np.float64) - theirs)
    assert np.all(error <= 2 * (terms + 4) * np.finfo(dtype).eps / 2 * gauge)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_activations_are_within_their_ulps_of_numpy(name, dtype, rng):
    x = rng.uniform(-8, 8, (50, 40)).astype(dtype)
    ours, theirs = forward(Case(name, [x.shape]), [x]), onnx_value(Case(name, [x.shape]), [x])
    wide = np.spacing(np.abs(theirs).astype(dtype)).astype(np.float64)
    # NumPy's own functions err by up to 4 ulp (its documented limit); float32 here is rounded once from float64
    limit = (ULPS[name] if dtype is np.float64 else 1) + 4
    if name == "Sigmoid":
        limit += 2  # ONNX's evaluator composes it from exp, an addition and a division
    assert np.all(np.abs(ours.astype(np.float64) - theirs) <= limit * wide)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_inferred_shape_is_the_shape(case, rng):
    shapes = [(BATCH, *s[1:]) if i in case.batched else s for i, s in enumerate(case.shapes)]
    op = OPS[case.op]
    inferred = op.infer(shapes, op.complete(case.attributes | case.tensors))
    value = forward(case, integers(case, rng))
    assert inferred == (BATCH, *value.shape[1:])


@pytest.mark.parametrize("case", [c for c in CASES if c.op != "MatMul" or 0 in c.batched], ids=str)
def test_empty_batch(case, rng):
    inputs = [np.zeros((0, *s[1:])) if i in case.batched else np.zeros(s) for i, s in enumerate(case.shapes)]
    value = forward(case, inputs)
    assert value.shape[0] == 0
    assert value.shape[1:] == forward(case, integers(case, rng)).shape[1:]


# ---------------------------------------------------------------------------------------------------------------------- vjp


@pytest.mark.parametrize("case", [c for c in CASES if "Relu" not in c.op], ids=str)
def test_vjp_is_the_transpose(case, rng):
    """<g, J w> = <J^T g, w>: every operator here is linear in each input, and on small integers nothing is rounded."""
    op, inputs = OPS[case.op], integers(case, rng)
    out = forward(case, inputs)
    g = rng.integers(-4, 5, out.shape).astype(np.float64)
    gradients = op.vjp(inputs, out, op.complete(case.attributes | case.tensors), g)
    assert len(gradients) == len(inputs)
    for i, (value, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        w = rng.integers(-4, 5, value.shape).astype(np.float64)
        step = forward(case, [*inputs[:i], value + w, *inputs[i + 1 :]]) - out
        assert gradient.shape == value.shape
        assert np.sum(g * step) == np.sum(gradient * w)


@pytest.mark.parametrize("case", [Case("Relu", [(3, 7)]), Case("LeakyRelu", [(3, 7)], {"alpha": 0.25})], ids=str)
def test_vjp_of_piecewise_linear_operators(case, rng):
    op = OPS[case.op]
    x = rng.choice([-3.0, -1.0, 2.0, 5.0], (3, 7))
    g = rng.integers(-4, 5, x.shape).astype(np.float64)
    attributes = op.complete(case.attributes)
    (gradient,) = op.vjp([x], forward(case, [x]), attributes, g)
    w = rng.choice([-0.5, 0.5], x.shape)  # too small to cross the kink
    np.testing.assert_array_equal(gradient * w, g * (forward(case, [x + w]) - forward(case, [x])))
    slope = {"Relu": 0.0, "LeakyRelu": 1.0}[case.op]  # the derivative taken at the kink itself
    assert op.vjp([np.zeros((1, 1))], np.zeros((1, 1)), attributes, np.ones((1, 1)))[0] == slope


THIRD_DERIVATIVE = {"Tanh": 2.0, "Sigmoid": 0.125, "Sin": 1.0, "Cos": 1.0}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_vjp_of_activations_against_central_differences(name, rng):
    op, h = OPS[name], 2.0**-16
    x = np.round(rng.uniform(-4, 4, 400) * 2**20) / 2**20  # x + h and x - h are exact
    y, above, below = (op.forward([p], {}) for p in (x, x + h, x - h))
    (gradient,) = op.vjp([x], y, {}, np.ones_like(x))
    third = THIRD_DERIVATIVE.get(name, np.exp(x + h))
    value_error = 3 * np.spacing(np.maximum(np.abs(above), np.abs(below)))  # at most 3 ulp each
    bound = h * h / 6 * third + value_error / h + 8 * np.spacing(np.maximum(np.abs(gradient), 1.0))
    assert np.all(np.abs(gradient - (above - below) / (2 * h)) <= bound)


def test_unbroadcast_sums_over_broadcast_axes():
    g = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(unbroadcast(g, (3, 1)), g.sum(axis=(0, 2))[:, None])
    np.testing.assert_array_equal(unbroadcast(g, ()), g.sum())
    assert unbroadcast(g, (2, 3, 4)) is g


# ------------------------------------------------------------------------------------------------------- special values


def test_relu_special_values(same_bits):
    x = np.array([np.nan, -np.inf, np.inf, -0.0, 0.0, -5e-324, 5e-324])
    same_bits(OPS["Relu"].forward([x], {}), np.array([np.nan, 0.0, np.inf, 0.0, 0.0, 0.0, 5e-324]))
    leaky = OPS["LeakyRelu"].forward([x], {"alpha": 0.25})
    same_bits(leaky, np.array([np.nan, -np.inf, np.inf, -0.0, 0.0, -0.0, 5e-324]))


def test_dense_evaluation_reads_zeros(same_bits):
    """N-6: a dense sum runs over all elements, so that 0 * NaN shows."""
    weight = np.array([[np.nan, 1.0], [1.0, 1.0]])
    same_bits(forward(Case("Gemm", []), [np.array([[0.0, 2.0]]), weight]), np.array([[np.nan, 2.0]]))


def test_sums_start_from_positive_zero(same_bits):
    same_bits(forward(Case("Gemm", []), [np.array([[-0.0]]), np.array([[1.0]])]), np.array([[0.0]]))
    same_bits(forward(Case("ReduceMean", [], {}, {"axes": (1,)}), [np.array([[-0.0, -0.0]])]), np.array([[0.0]]))


# --------------------------------------------------------------------------------------------------------------- errors

B = BATCH
BAD = [
    ("Gemm", [(B, 4), (5, 4)], {}, "does not fit"),
    ("Gemm", [(B, 4, 1), (4, 4)], {}, "rank 2"),
    ("Gemm", [(B, 4), (B, 4)], {}, "parameter"),
    ("Gemm", [(B, 4), (4, 5), (B, 5)], {}, "parameter"),
    ("Gemm", [(B, 4), (4, 5), (4,)], {}, "broadcast"),
    ("Gemm", [(B, 4), (4, 5)], {"transA": 1}, "batch axis"),
    ("MatMul", [(B, 3), (4, 2)], {}, "do not fit"),
    ("MatMul", [(B, 3), (B, 3, 2)], {}, "do not fit"),
    ("MatMul", [(B, 3), (3, B)], {}, "do not fit"),
    ("MatMul", [(3,), (B, 3)], {}, "do not fit"),
    ("MatMul", [(B, 3), (5, 3, 2)], {}, "do not fit"),
    ("Conv", [(B, 3, 5), (4, 2, 3)], {}, "channels"),
    ("Conv", [(B, 4, 5), (3, 2, 3)], {"group": 2}, "channels"),
    ("Conv", [(B, 3, 5), (4, 3, 6)], {}, "larger"),
    ("Conv", [(B, 3, 5), (4, 3, 3), (3,)], {}, "bias"),
    ("Conv", [(B, 3, 5, 5), (4, 3, 3)], {}, "rank 4"),
    ("Conv", [(B, 3), (4, 3)], {}, "data must be"),
    ("Conv", [(B, 3, 5), (4, 3, 3)], {"pads": (1,)}, "entries"),
    ("Conv", [(B, 3, 5), (4, 3, 3)], {"strides": (0,)}, ">= 1"),
    ("Conv", [(B, 3, 5), (4, 3, 3)], {"pads": (-1, 0)}, ">= 0"),
    ("Conv", [(B, 3, 5), (4, 3, 3)], {"kernel_shape": (2,)}, "kernel_shape"),
    ("Conv", [(B, 3, 5), (4, 3, 3)], {"group": 0}, "group"),
    ("Add", [(B, 3), (B, 4)], {}, "broadcast"),
    ("Add", [(B, 3), (B, 4, 3)], {}, "broadcast"),
    ("Add", [(B, 3), (B, 1, 3)], {}, "batch axis"),
    ("Mul", [(B, 3), (5, 3)], {}, "broadcast"),
    ("Concat", [(B, 3), (B, 4, 1)], {"axis": 1}, "differ"),
    ("Concat", [(B, 3), (2, 3)], {"axis": 1}, "differ"),
    ("Concat", [(B, 3)], {"axis": 0}, "batch"),
    ("Concat", [(B, 3)], {"axis": -2}, "batch"),
    ("Concat", [(B, 3)], {"axis": 2}, "outside"),
    ("Slice", [(B, 3)], {"starts": (0,), "ends": (2,)}, "batch"),
    ("Slice", [(B, 3)], {"starts": (0,), "ends": (2, 3), "axes": (1,)}, "one length"),
    ("Slice", [(B, 3)], {"starts": (2,), "ends": (2,), "axes": (1,)}, "nothing"),
    ("Slice", [(B, 3)], {"starts": (2,), "ends": (0,), "axes": (1,), "steps": (-1,)}, "steps"),
    ("Slice", [(B, 3)], {"starts": (0, 1), "ends": (2, 2), "axes": (1, -1)}, "twice"),
    ("Reshape", [(B, 4)], {"shape": (-1, 2)}, "begin with 0"),
    ("Reshape", [(B, 4)], {"shape": ()}, "begin with 0"),
    ("Reshape", [(B, 4)], {"shape": (0, 3)}, "does not fit"),
    ("Reshape", [(B, 4)], {"shape": (0, -2, -2)}, "does not fit"),
    ("Reshape", [(B, 4)], {"shape": (0, -1, -1)}, "does not fit"),
    ("Reshape", [(B, 4)], {"shape": (0, 4, 0)}, "lacks"),
    ("Transpose", [(B, 4)], {"perm": (1, 0)}, "batch"),
    ("Transpose", [(B, 4)], {"perm": (0, 0)}, "rank 2"),
    ("Transpose", [(B, 4)], {"perm": (0, 1, 2)}, "rank 2"),
    ("Transpose", [(B, 4)], {"perm": ()}, "rank 2"),
    ("DFT", [(B, 4)], {"axis": 1}, "complex"),
    ("DFT", [(B, 4, 3)], {"axis": 1}, "complex"),
    ("DFT", [(B, 4, 2)], {"axis": 0}, "batch"),
    ("DFT", [(B, 4, 2)], {"axis": -1}, "last axis"),
    ("DFT", [(B, 4, 2)], {"axis": 3}, "axis 3"),
    ("DFT", [(B, 4, 2)], {"axis": 1, "inverse": 2}, "inverse"),
    ("ReduceMean", [(B, 4)], {"axes": (0,)}, "batch"),
    ("ReduceMean", [(B, 4)], {"axes": ()}, "at least one"),
    ("ReduceMean", [(B, 4)], {"axes": (1, -1)}, "each once"),
]


@pytest.mark.parametrize(("name", "shapes", "attributes", "message"), BAD)
def test_shapes_that_do_not_fit(name, shapes, attributes, message):
    op = OPS[name]
    with pytest.raises(GraphError, match=message):
        op.infer(shapes, op.complete(attributes))


@pytest.mark.parametrize(
    ("name", "attributes", "message"),
    [
        ("Tanh", {"alpha": 1.0}, "unknown attribute 'alpha'"),
        ("Concat", {}, "'axis' is required"),
        ("Reshape", {"shape": (0, 2.0)}, "wrong kind"),
        ("Conv", {"group": 1.0}, "wrong kind"),
        ("Conv", {"strides": 2}, "wrong kind"),
        ("Gemm", {"alpha": "1"}, "wrong kind"),
        ("Gemm", {"transB": None}, "wrong kind"),
        ("LeakyRelu", {"alpha": True}, "wrong kind"),
        ("Slice", {"starts": (True,), "ends": (1,)}, "wrong kind"),
    ],
)
def test_wrong_attributes(name, attributes, message):
    with pytest.raises(GraphError, match=message):
        OPS[name].complete(attributes)
