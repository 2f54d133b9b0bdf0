"""Cells of the designed cases: one linear node, convolutions, and a graph of every operator."""

from __future__ import annotations

import numpy as np

from refdeq.graph import Cell, GraphBuilder

__all__ = ["convolution_cell", "every_operator_cell", "injected_cell", "linear_cell", "scalar_cell", "skewed_cell"]


def linear_cell(n: int, dtype: str, *, bias: bool = False, activation: str | None = None, scale: float = 0.9) -> Cell:
    """Cell ``z <- phi(W z + b + x)`` with an asymmetric W of spectral norm `scale` and full mantissas."""
    rng = np.random.default_rng(1000 + n)
    w = rng.standard_normal((n, n))
    w = (w * (scale / np.linalg.norm(w, 2))).astype(dtype)
    builder = GraphBuilder(dtype)
    z, x = builder.state("z", (n,)), builder.injection("x", (n,))
    inputs = [z, builder.parameter("W", w)]
    if bias:
        inputs.append(builder.parameter("b", rng.standard_normal(n).astype(dtype)))
    linear = builder.node("Gemm", *inputs, transB=1, name="linear")
    total = builder.node("Add", linear, x, name="total")
    builder.output(z, total if activation is None else builder.node(activation, total, name="f"))
    return builder.build()


def scalar_cell(activation: str, dtype: str, weight: float = 0.5) -> Cell:
    """Return the cell ``z <- phi(weight z + x)`` of one number."""
    builder = GraphBuilder(dtype)
    z, x = builder.state("z", (1,)), builder.injection("x", (1,))
    linear = builder.node("Gemm", z, builder.parameter("W", np.array([[weight]], dtype)), name="linear")
    builder.output(z, builder.node(activation, builder.node("Add", linear, x, name="total"), name="f"))
    return builder.build()


def injected_cell(activation: str, dtype: str) -> Cell:
    """Return the cell ``z <- z / 2 + phi(x)`` of one number: an activation of any bits, -0 too, which no sum from +0 makes."""
    builder = GraphBuilder(dtype)
    z, x = builder.state("z", (1,)), builder.injection("x", (1,))
    linear = builder.node("Gemm", z, builder.parameter("W", np.array([[0.5]], dtype)), name="linear")
    builder.output(z, builder.node("Add", linear, builder.node(activation, x, name="given"), name="f"))
    return builder.build()


def convolution_cell(rank: int, dtype: str) -> Cell:
    """Two convolutions that share a gate, one grouped and dilated, and a third, strided one that is summed back.

    Parameters
    ----------
    rank : {1, 2}
        Spatial axes.
    dtype : {"float32", "float64"}
    """
    rng = np.random.default_rng(rank)
    sites = (7,) if rank == 1 else (5, 7)
    kernel = (3,) if rank == 1 else (3, 3)

    def weights(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.12).astype(dtype)

    builder = GraphBuilder(dtype)
    z, x = builder.state("z", (4, *sites)), builder.injection("x", (4, *sites))
    same, spread = (1,) * 2 * rank, (2,) * 2 * rank
    plain = builder.node("Conv", z, builder.parameter("W1", weights(4, 4, *kernel)), pads=same, name="plain")
    bias = builder.parameter("b2", weights(4))
    grouped = builder.node(
        "Conv",
        z,
        builder.parameter("W2", weights(4, 2, *kernel)),
        bias,
        pads=spread,
        dilations=(2,) * rank,
        group=2,
        name="grouped",
    )
    inner = builder.node("Tanh", builder.node("Add", plain, grouped, name="sum"), name="inner")
    strided = builder.node(
        "Conv", inner, builder.parameter("W3", weights(4, 4, *kernel)), strides=(2,) * rank, pads=same, name="strided"
    )
    mean = builder.node("ReduceMean", strided, axes=tuple(range(2, 2 + rank)), name="mean")
    total = builder.node("Add", builder.node("Add", inner, mean, name="mixed"), x, name="total")
    builder.output(z, builder.node("Mul", total, builder.parameter("half", np.array([0.5], dtype)), name="f"))
    return builder.build()


def skewed_cell(dtype: str) -> Cell:
    """Return a cell with one convolution whose every number differs between the two axes and between the two ends of one."""
    rng = np.random.default_rng(31)
    builder = GraphBuilder(dtype)
    z, x = builder.state("z", (2, 5, 8)), builder.injection("x", (2, 5, 8))
    weight = builder.parameter("W", (rng.standard_normal((2, 2, 3, 2)) * 0.3).astype(dtype))
    geometry = {"strides": (1, 3), "pads": (2, 1, 0, 3), "dilations": (1, 2)}
    conv = builder.node("Conv", z, weight, builder.parameter("b", np.array([0.1, -0.2], dtype)), **geometry, name="conv")
    mean = builder.node("ReduceMean", conv, axes=(2, 3), name="mean")
    builder.output(z, builder.node("Tanh", builder.node("Add", mean, x, name="total"), name="f"))
    return builder.build()


def every_operator_cell(dtype: str) -> Cell:
    """Return a cell of two states that uses every operator of the set at least once."""
    rng = np.random.default_rng(5)
    b = GraphBuilder(dtype)
    z, y, x = b.state("z", (6,)), b.state("y", (2, 3)), b.injection("x", (6,))

    def weight(name: str, *shape: int) -> str:
        return b.parameter(name, (rng.standard_normal(shape) * 0.3).astype(dtype))

    flat = b.node("Reshape", y, shape=(0, 6), name="flat")
    both = b.node("Concat", z, flat, axis=1, name="both")
    gemm = b.node("Gemm", both, weight("A", 12, 6), weight("c", 6), alpha=0.5, beta=0.25, name="gemm")
    squared = b.node("MatMul", y, weight("M", 3, 3), name="product")
    kernel = b.node("Conv", squared, weight("K", 2, 2, 3), weight("k", 2), pads=(1, 1), name="conv")
    smooth = b.node("Sigmoid", b.node("Neg", kernel, name="neg"), name="smooth")
    waves = b.node("Sub", b.node("Sin", gemm, name="sin"), b.node("Cos", b.node("Relu", x, name="relu"), name="cos"), name="w")
    head = b.node("Slice", waves, starts=(0,), ends=(3,), axes=(1,), name="head")
    small = b.node("Exp", b.node("Neg", b.node("LeakyRelu", head, alpha=0.1, name="leaky"), name="neg2"), name="exp")
    mean = b.node("ReduceMean", small, axes=(1,), keepdims=1, name="mean")
    damped = b.node("Mul", b.node("Tanh", b.node("Add", waves, mean, name="add"), name="tanh"), weight("s", 6), name="damped")
    b.output(z, b.node("Identity", damped, name="next_z"))
    waves = b.node("DFT", b.node("Reshape", smooth, shape=(0, 2, 3, 1), name="real"), axis=2, name="wave_rows")
    back = b.node("DFT", waves, axis=2, inverse=1, name="back")
    parts = b.node("Slice", b.node("Transpose", back, perm=(0, 3, 1, 2), name="turned"), starts=(0,), ends=(1,), axes=(1,))
    b.output(y, b.node("Mul", b.node("Reshape", parts, shape=(0, 2, 3), name="flat_parts"), weight("t", 1), name="next_y"))
    return b.build()
