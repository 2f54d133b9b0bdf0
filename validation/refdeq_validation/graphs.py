"""Cells of the designed cases that need more than one linear node: convolutions, and a graph of every operator."""

from __future__ import annotations

import numpy as np

from refdeq.graph import Cell, GraphBuilder

__all__ = ["convolution_cell", "every_operator_cell"]


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
    b.output(y, b.node("Mul", smooth, weight("t", 1), name="next_y"))
    return b.build()
