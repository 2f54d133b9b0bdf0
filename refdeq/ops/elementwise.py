"""Elementwise operators: one rounding per element each (E-1), strict activations (N-8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from refdeq.activations import strict
from refdeq.ops.base import Attributes, Op, Shape, broadcast, size, unbroadcast
from refdeq.types import OpCount

__all__ = ["OPS"]

Array = np.ndarray


def _one_shape(name: str) -> Callable[[Sequence[Shape], Attributes], Shape]:
    return lambda shapes, _attributes: shapes[0]


def _elementwise_cost(_shapes: Sequence[Shape], out: Shape, _attributes: Attributes) -> OpCount:
    return OpCount(elementwise=size(out))


def _nonlinear_cost(_shapes: Sequence[Shape], out: Shape, _attributes: Attributes) -> OpCount:
    return OpCount(nonlinear=size(out))


def _no_cost(_shapes: Sequence[Shape], _out: Shape, _attributes: Attributes) -> OpCount:
    return OpCount()


def _unary(
    name: str,
    forward: Callable[[Array, Attributes], Array],
    derivative: Callable[[Array, Array, Attributes], Array],
    *,
    cost: Callable[[Sequence[Shape], Shape, Attributes], OpCount] = _elementwise_cost,
    attributes: dict[str, object] | None = None,
    activation: bool = False,
) -> Op:
    """Operator of one input; `derivative` gets input, output and attributes."""
    return Op(
        name=name,
        arity=(1, 1),
        infer=_one_shape(name),
        forward=lambda inputs, attrs: forward(inputs[0], attrs),
        vjp=lambda inputs, out, attrs, g: [g * derivative(inputs[0], out, attrs)],
        cost=cost,
        attributes=attributes or {},
        activation=activation,
    )


def _binary(
    name: str,
    forward: Callable[[Array, Array], Array],
    vjp: Callable[[Array, Array, Array], tuple[Array, Array]],
) -> Op:
    """Operator of two inputs under ONNX broadcasting; `vjp` gets both inputs and the cotangent."""

    def backward(inputs: Sequence[Array], _out: Array, _attributes: Attributes, g: Array) -> list[Array]:
        left, right = vjp(inputs[0], inputs[1], g)
        return [unbroadcast(left, inputs[0].shape), unbroadcast(right, inputs[1].shape)]

    return Op(
        name=name,
        arity=(2, 2),
        infer=lambda shapes, _attributes: broadcast(name, shapes),
        forward=lambda inputs, _attributes: forward(inputs[0], inputs[1]),
        vjp=backward,
        cost=_elementwise_cost,
    )


def _activation(name: str, derivative: Callable[[Array, Array, Attributes], Array]) -> Op:
    return _unary(name, lambda x, _: strict(name, x), derivative, cost=_nonlinear_cost, activation=True)


def _relu(x: Array, _attributes: Attributes) -> Array:
    """Relu as ``max(x, 0)``: NaN stays NaN, -0 and negative numbers give +0."""
    return np.where(x <= 0, x.dtype.type(0), x)


def _leaky_relu(x: Array, attributes: Attributes) -> Array:
    return np.where(x < 0, x.dtype.type(attributes["alpha"]) * x, x)


def _leaky_slope(x: Array, _out: Array, attributes: Attributes) -> Array:
    slope: Array = np.where(x < 0, x.dtype.type(attributes["alpha"]), x.dtype.type(1))
    return slope


OPS: tuple[Op, ...] = (
    _binary("Add", lambda a, b: a + b, lambda a, b, g: (g, g)),
    _binary("Sub", lambda a, b: a - b, lambda a, b, g: (g, -g)),
    _binary("Mul", lambda a, b: a * b, lambda a, b, g: (g * b, g * a)),
    _unary("Neg", lambda x, _: -x, lambda x, y, _: np.full_like(x, -1)),
    _unary("Identity", lambda x, _: x, lambda x, y, _: np.ones_like(x), cost=_no_cost),
    _unary("Relu", _relu, lambda x, y, _: (x > 0).astype(x.dtype), cost=_nonlinear_cost),
    _unary("LeakyRelu", _leaky_relu, _leaky_slope, cost=_nonlinear_cost, attributes={"alpha": 0.01}),
    _activation("Tanh", lambda x, y, _: 1 - y * y),
    _activation("Sigmoid", lambda x, y, _: y * (1 - y)),
    _activation("Sin", lambda x, y, _: strict("Cos", x)),
    _activation("Cos", lambda x, y, _: -strict("Sin", x)),
    _activation("Exp", lambda x, y, _: y),
)
