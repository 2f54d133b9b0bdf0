"""Every operator, compiled, against the reference: equal bits, untouched inactive samples, any number of threads."""

import numpy as np
import pytest
from refdeq_numba.kernels import NumbaKernels

from refdeq.ops import OPS
from refdeq.reference import ReferenceKernels

ACTIVATIONS = ["Tanh", "Sigmoid", "Sin", "Cos", "Exp"]
UNARY = [*ACTIVATIONS, "Neg", "Identity", "Relu", "LeakyRelu"]

# operator, per-sample shapes of values ("x") or whole shapes of parameters ("p"), attributes
CASES = [
    *[(op, [("x", shape)], {}) for op in UNARY for shape in [(1,), (37,), (3, 5, 2)]],
    ("LeakyRelu", [("x", (9,))], {"alpha": 0.3}),
    *[(op, [("x", (7,)), ("x", (7,))], {}) for op in ("Add", "Sub", "Mul")],
    ("Sub", [("x", (33,)), ("p", (33,))], {}),
    ("Sub", [("p", (1, 5)), ("x", (5,))], {}),
    ("Mul", [("x", (3, 4, 5)), ("p", (3, 1, 1))], {}),
    ("Mul", [("x", (3, 4, 5)), ("x", (3, 1, 1))], {}),
    ("Add", [("x", (1, 4)), ("x", (3, 1))], {}),
    ("Add", [("x", (1,)), ("p", (6,))], {}),
    ("Sub", [("p", ()), ("x", (2, 3))], {}),
    ("Gemm", [("x", (5,)), ("p", (5, 7))], {}),
    ("Gemm", [("x", (1,)), ("p", (3, 1))], {"transB": 1}),
    ("Gemm", [("x", (33,)), ("p", (19, 33)), ("p", (19,))], {"transB": 1}),
    ("Gemm", [("x", (6,)), ("p", (6, 5)), ("p", (1, 5))], {"alpha": 0.7, "beta": -1.3}),
    ("Gemm", [("x", (6,)), ("p", (5, 6)), ("p", ())], {"alpha": 1.0, "beta": 0.1, "transB": 1}),
    ("Gemm", [("x", (6,)), ("p", (6, 4)), ("p", (1, 1))], {"alpha": -2.0}),
    ("MatMul", [("x", (5,)), ("p", (5, 3))], {}),
    ("MatMul", [("x", (4, 5)), ("p", (5, 3))], {}),
    ("MatMul", [("p", (4, 5)), ("x", (5, 3))], {}),
    ("MatMul", [("x", (2, 4, 5)), ("x", (2, 5, 3))], {}),
    ("MatMul", [("x", (2, 4, 5)), ("x", (1, 5, 1))], {}),
    ("MatMul", [("x", (1, 4, 5)), ("p", (3, 5, 2))], {}),
    ("MatMul", [("p", (1, 3, 4, 5)), ("x", (3, 5, 2))], {}),
    ("MatMul", [("x", (4, 5)), ("p", (1, 5, 3))], {}),
    ("Conv", [("x", (3, 8)), ("p", (4, 3, 3))], {}),
    ("Conv", [("x", (4, 9)), ("p", (6, 2, 3)), ("p", (6,))], {"group": 2, "pads": (2, 1), "strides": (2,), "dilations": (2,)}),
    ("Conv", [("x", (2, 6, 5)), ("p", (3, 2, 3, 3)), ("p", (3,))], {"pads": (1, 1, 1, 1)}),
    ("Conv", [("x", (5, 7, 4)), ("p", (7, 5, 1, 1))], {}),
    (
        "Conv",
        [("x", (4, 7, 9)), ("p", (4, 1, 3, 2))],
        {"group": 4, "strides": (2, 3), "pads": (0, 3, 2, 1), "dilations": (2, 1)},
    ),
    ("Conv", [("x", (1, 1, 5)), ("p", (2, 1, 1, 5)), ("p", (2,))], {"pads": (0, 2, 0, 2), "kernel_shape": (1, 5)}),
    ("Concat", [("x", (2, 3)), ("x", (1, 3)), ("x", (4, 3))], {"axis": 1}),
    ("Concat", [("x", (2, 3)), ("x", (2, 1))], {"axis": -1}),
    ("Slice", [("x", (7,))], {"starts": (1,), "ends": (6,), "axes": (1,), "steps": (2,)}),
    ("Slice", [("x", (4, 6))], {"starts": (-3, 1), "ends": (100, -1), "axes": (-1, 1)}),
    ("Reshape", [("x", (2, 6))], {"shape": (0, 3, -1)}),
    ("Transpose", [("x", (2, 6))], {"perm": (0, 2, 1)}),
    ("Transpose", [("x", (3, 1, 4, 5))], {"perm": (0, 4, 2, 3, 1)}),
    ("DFT", [("x", (6, 1))], {"axis": 1}),
    ("DFT", [("x", (2, 5, 6, 2))], {"axis": -3}),
    ("DFT", [("x", (2, 5, 6, 2))], {"axis": -2, "inverse": 1}),
    ("ReduceMean", [("x", (7,))], {"axes": (1,)}),
    ("ReduceMean", [("x", (3, 4, 5))], {"axes": (2, 3), "keepdims": 1}),
    ("ReduceMean", [("x", (3, 4, 5))], {"axes": (1, -1), "keepdims": 0}),
]


def run_both(case, dtype, batch, active, seed, special, threads, numbers):
    """Outputs of the reference and of the compiled operator, both on top of the same leftovers."""
    name, operands, given = case
    rng = np.random.default_rng(seed)
    op = OPS[name]
    attributes = op.complete(given)
    shapes = [shape if kind == "p" else (-1, *shape) for kind, shape in operands]
    out_shape = (batch, *op.infer(shapes, attributes)[1:])
    arrays = [numbers(rng, shape if kind == "p" else (batch, *shape), dtype, special) for kind, shape in operands]
    batched = [kind == "x" for kind, _ in operands]
    leftovers = numbers(rng, out_shape, dtype)
    results = []
    for kernels in (ReferenceKernels(), NumbaKernels(threads=threads)):
        out = leftovers.copy()
        with np.errstate(all="ignore"):
            kernels.ops[name](arrays, batched, attributes, active, out)
        results.append(out)
    return results


def test_the_table_is_complete():
    assert set(NumbaKernels().ops) == set(OPS) == {case[0] for case in CASES}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{'x'.join(str(s) for _, s in case[1])}")
def test_operators_have_the_bits_of_the_reference(case, dtype, assert_same_bits, numbers):
    rng = np.random.default_rng(3)
    for seed, batch in enumerate([0, 1, 2, 9]):
        masks = [np.ones(batch, dtype=bool), rng.random(batch) < 0.5, np.zeros(batch, dtype=bool)]
        for active in masks:
            for special in (0.0, 0.2):
                expected, got = run_both(case, dtype, batch, active, seed, special, 1, numbers)
                assert_same_bits(got, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [2, 3])
def test_bits_do_not_depend_on_threads(threads, dtype, assert_same_bits, numbers):
    """Large enough that the work is really shared out."""
    batch = 700
    active = np.random.default_rng(1).random(batch) < 0.9
    for case in [
        ("Gemm", [("x", (33,)), ("p", (33, 33)), ("p", (33,))], {"transB": 1}),
        ("MatMul", [("x", (11, 9)), ("x", (9, 13))], {}),
        ("Conv", [("x", (3, 9, 5)), ("p", (4, 3, 3, 3))], {"pads": (1, 1, 1, 1)}),
        ("Sin", [("x", (101,))], {}),
        ("ReduceMean", [("x", (3, 40))], {"axes": (2,)}),
    ]:
        expected, got = run_both(case, dtype, batch, active, 5, 0.01, threads, numbers)
        assert_same_bits(got, expected)
