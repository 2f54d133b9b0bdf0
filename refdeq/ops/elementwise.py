"""Elementwise operators: one rounding per element each (E-1), strict activations (N-8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from refdeq.activations import strict
from refdeq.ops.base import Attributes, Op, Shape, Tangents, broadcast, no_curvature, size, unbroadcast
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
    second: Callable[[Array, Array], Array] | None = None,
    *,
    cost: Callable[[Sequence[Shape], Shape, Attributes], OpCount] = _elementwise_cost,
    attributes: dict[str, object] | None = None,
    activation: bool = False,
) -> Op:
    """Operator of one input; `derivative` gets input, output and attributes, `second` (None is zero) input and output."""

    def jvp(inputs: Sequence[Array], out: Array, attrs: Attributes, tangents: Tangents) -> Array:
        tangent: Array = tangents[0] * derivative(inputs[0], out, attrs)
        return tangent

    def curvature(inputs: Sequence[Array], out: Array, attrs: Attributes, g: Array, tangents: Tangents) -> list[Array | None]:
        if second is None:
            return no_curvature(inputs, out, attrs, g, tangents)
        return [g * second(inputs[0], out) * tangents[0]]

    return Op(
        name=name,
        arity=(1, 1),
        infer=_one_shape(name),
        forward=lambda inputs, attrs: forward(inputs[0], attrs),
        vjp=lambda inputs, out, attrs, g: [g * derivative(inputs[0], out, attrs)],
        jvp=jvp,
        curvature=curvature,
        cost=cost,
        attributes=attributes or {},
        activation=activation,
    )


def _binary(
    name: str,
    forward: Callable[[Array, Array], Array],
    vjp: Callable[[Array, Array, Array], tuple[Array, Array]],
    jvp: Callable[[Array, Array, Array | None, Array | None], Array],
    *,
    bilinear: bool = False,
) -> Op:
    """Operator of two inputs under ONNX broadcasting.

    `vjp` gets both inputs and the cotangent; `jvp` both inputs and their tangents, not both None. A `bilinear` operator's
    curvature is its vjp with the inputs replaced by their tangents; any other is linear in both inputs together.
    """

    def backward(inputs: Sequence[Array], _out: Array, _attributes: Attributes, g: Array) -> list[Array]:
        left, right = vjp(inputs[0], inputs[1], g)
        return [unbroadcast(left, inputs[0].shape), unbroadcast(right, inputs[1].shape)]

    def forward_derivative(inputs: Sequence[Array], out: Array, _attributes: Attributes, tangents: Tangents) -> Array:
        return np.broadcast_to(jvp(inputs[0], inputs[1], tangents[0], tangents[1]), out.shape)

    def curvature(
        inputs: Sequence[Array], out: Array, attributes: Attributes, g: Array, tangents: Tangents
    ) -> list[Array | None]:
        moved = [np.zeros_like(value) if tangent is None else tangent for value, tangent in zip(inputs, tangents, strict=True)]
        to_left, to_right = backward(moved, out, attributes, g)
        return [None if tangents[1] is None else to_left, None if tangents[0] is None else to_right]

    return Op(
        name=name,
        arity=(2, 2),
        infer=lambda shapes, _attributes: broadcast(name, shapes),
        forward=lambda inputs, _attributes: forward(inputs[0], inputs[1]),
        vjp=backward,
        jvp=forward_derivative,
        curvature=curvature if bilinear else no_curvature,
        cost=_elementwise_cost,
    )


def _total(*tangents: Array | None) -> Array:
    """Sum of two tangents of which at least one is there."""
    first, *rest = (tangent for tangent in tangents if tangent is not None)
    total: Array = first + rest[0] if rest else first
    return total


def _activation(
    name: str, derivative: Callable[[Array, Array, Attributes], Array], second: Callable[[Array, Array], Array]
) -> Op:
    return _unary(name, lambda x, _: strict(name, x), derivative, second, cost=_nonlinear_cost, activation=True)


def _relu(x: Array, _attributes: Attributes) -> Array:
    """Relu as ``max(x, 0)``: NaN stays NaN, -0 and negative numbers give +0."""
    return np.where(x <= 0, x.dtype.type(0), x)


def _leaky_relu(x: Array, attributes: Attributes) -> Array:
    return np.where(x < 0, x.dtype.type(attributes["alpha"]) * x, x)


def _leaky_slope(x: Array, _out: Array, attributes: Attributes) -> Array:
    slope: Array = np.where(x < 0, x.dtype.type(attributes["alpha"]), x.dtype.type(1))
    return slope


OPS: tuple[Op, ...] = (
    _binary("Add", lambda a, b: a + b, lambda a, b, g: (g, g), lambda a, b, s, t: _total(s, t)),
    _binary("Sub", lambda a, b: a - b, lambda a, b, g: (g, -g), lambda a, b, s, t: _total(s, None if t is None else -t)),
    _binary(
        "Mul",
        lambda a, b: a * b,
        lambda a, b, g: (g * b, g * a),
        lambda a, b, s, t: _total(None if s is None else s * b, None if t is None else a * t),
        bilinear=True,
    ),
    _unary("Neg", lambda x, _: -x, lambda x, y, _: np.full_like(x, -1)),
    _unary("Identity", lambda x, _: x, lambda x, y, _: np.ones_like(x), cost=_no_cost),
    _unary("Relu", _relu, lambda x, y, _: (x > 0).astype(x.dtype), cost=_nonlinear_cost),
    _unary("LeakyRelu", _leaky_relu, _leaky_slope, cost=_nonlinear_cost, attributes={"alpha": 0.01}),
    _activation("Tanh", lambda x, y, _: 1 - y * y, lambda x, y: -2 * y * (1 - y * y)),
    _activation("Sigmoid", lambda x, y, _: y * (1 - y), lambda x, y: y * (1 - y) * (1 - 2 * y)),
    _activation("Sin", lambda x, y, _: strict("Cos", x), lambda x, y: -y),
    _activation("Cos", lambda x, y, _: -strict("Sin", x), lambda x, y: -y),
    _activation("Exp", lambda x, y, _: y, lambda x, y: y),
)
