"""One generator of cases for every operator: shapes, attributes, inputs. Used by every test of operators."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from refdeq.ops import OPS


@dataclass
class Case:
    op: str
    shapes: list  # of every input; the first axis of those in `batched` is the batch
    attributes: dict = field(default_factory=dict)
    tensors: dict = field(default_factory=dict)  # attributes that ONNX passes as integer tensors
    batched: tuple = (0,)

    def __str__(self):
        tags = [f"{k}={v}" for k, v in (self.attributes | self.tensors).items()]
        return "-".join([self.op, *("x".join(map(str, s)) for s in self.shapes), *tags]).replace(" ", "")


CASES = [
    Case("Gemm", [(3, 4), (4, 5)]),
    Case("Gemm", [(3, 4), (5, 4)], {"transB": 1}),
    Case("Gemm", [(3, 4), (5, 4), (5,)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case("Gemm", [(3, 4), (4, 5), (1, 5)], {"beta": -0.25}),
    Case("Gemm", [(3, 4), (4, 5), (1,)]),
    Case("Gemm", [(3, 1), (1, 1), ()], {"alpha": 4.0}),
    Case("MatMul", [(3, 4), (4, 2)]),
    Case("MatMul", [(3, 2, 4), (4, 5)]),
    Case("MatMul", [(3, 2, 4), (3, 4, 2)], batched=(0, 1)),
    Case("MatMul", [(5, 4), (3, 4, 2)], batched=(1,)),
    Case("MatMul", [(3, 1, 2, 4), (3, 2, 4, 1)], batched=(0, 1)),
    Case("Conv", [(2, 3, 7), (4, 3, 3)]),
    Case("Conv", [(2, 4, 9), (6, 2, 3), (6,)], {"group": 2, "strides": (2,), "pads": (1, 2), "dilations": (2,)}),
    Case("Conv", [(2, 3, 5, 6), (4, 3, 3, 2), (4,)]),
    Case("Conv", [(2, 3, 5, 6), (4, 3, 3, 3)], {"pads": (1, 0, 2, 1), "strides": (2, 1), "kernel_shape": (3, 3)}),
    Case("Conv", [(1, 4, 6, 7), (4, 1, 2, 3), (4,)], {"group": 4, "dilations": (1, 2), "pads": (1, 1, 1, 1)}),
    Case("Conv", [(2, 2, 3, 3), (2, 2, 1, 1)], {"strides": (3, 2), "pads": (3, 3, 0, 0)}),  # taps that see padding only
    Case("Add", [(3, 4), (3, 4)], batched=(0, 1)),
    Case("Add", [(3, 4, 5), (4, 1)]),
    Case("Sub", [(3, 4), (4,)]),
    Case("Sub", [(1, 4), (3, 4)], batched=(1,)),
    Case("Mul", [(3, 4), (3, 4)], batched=(0, 1)),
    Case("Mul", [(3, 2, 4), (1, 2, 1)]),
    Case("Mul", [(3, 4), ()]),
    Case("Neg", [(3, 4)]),
    Case("Identity", [(3, 4)]),
    Case("Concat", [(3, 2), (3, 1), (3, 4)], {"axis": 1}, batched=(0, 1, 2)),
    Case("Concat", [(3, 2, 2), (3, 2, 3)], {"axis": -1}, batched=(0, 1)),
    Case("Slice", [(3, 8)], tensors={"starts": (2,), "ends": (7,), "axes": (1,)}),
    Case("Slice", [(3, 8, 5)], tensors={"starts": (-6, 0), "ends": (2**31, -1), "axes": (1, -1), "steps": (2, 3)}),
    Case("Reshape", [(3, 4, 2)], tensors={"shape": (0, -1)}),
    Case("Reshape", [(3, 8)], tensors={"shape": (0, 2, 2, 2)}),
    Case("Reshape", [(3, 2, 6)], tensors={"shape": (0, 0, 3, -1)}),
    Case("Transpose", [(3, 4)], {"perm": (0, 1)}),
    Case("Transpose", [(3, 2, 5, 4)], {"perm": (0, 3, 1, 2)}),
    # whole quarter turns only, so that integers stay integers; other lengths are in test_fourier
    Case("DFT", [(3, 4, 1)], {"axis": 1}),
    Case("DFT", [(3, 2, 4, 2)], {"axis": -2}),
    Case("DFT", [(3, 4, 2, 2)], {"axis": 1, "inverse": 1}),
    Case("DFT", [(3, 1, 2)], {"axis": 1, "inverse": 1}),
    Case("Relu", [(3, 4)]),
    Case("LeakyRelu", [(3, 4)], {"alpha": 0.25}),
    Case("ReduceMean", [(3, 4, 2)], {"keepdims": 0}, {"axes": (1,)}),
    Case("ReduceMean", [(3, 2, 4, 2)], {}, {"axes": (-1, 1)}),
]
ACTIVATIONS = ["Tanh", "Sigmoid", "Sin", "Cos", "Exp"]


def forward(case, inputs):
    op = OPS[case.op]
    return op.forward(inputs, op.complete(case.attributes | case.tensors))


def integers(case, rng, dtype=np.float64):
    """Small integers: every sum and product is exact, so every order of summation gives the same bits."""
    return [rng.integers(-4, 5, shape).astype(dtype) for shape in case.shapes]


def attributes(case):
    """All attributes, as the operator's functions get them."""
    return OPS[case.op].complete(case.attributes | case.tensors)


def differentiable_point(case, rng, dtype=np.float64):
    """Inputs and tangents of small integers and halves at which differences of the operator are exact.

    Central differences of a polynomial of degree two are its derivative, whatever the step; a piecewise linear operator is
    linear as far as the tangents reach.
    """
    if "Relu" in case.op:
        x = rng.choice([-3.0, -1.0, 2.0, 5.0], case.shapes[0]).astype(dtype)
        return [x], [rng.choice([-0.5, 0.5], x.shape).astype(dtype)]
    return integers(case, rng, dtype), integers(case, rng, dtype)
