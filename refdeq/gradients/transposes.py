"""Transposes of the operators, as nodes: one rule per operator, used by :mod:`refdeq.gradients.adjoint_cell`.

A rule gets the walk, the forward node, which of its inputs is asked for, and the value that holds the cotangent of its output;
it appends nodes and returns the value that holds the cotangent of that input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from refdeq.gradients.transposer import Transposer
from refdeq.graph import Node
from refdeq.ops import OPS
from refdeq.ops.conv import conv_geometry
from refdeq.ops.linear import gemm_weight

__all__ = ["TRANSPOSES"]

Rule = Callable[[Transposer, Node, int, str], str]


def _attributes(node: Node) -> dict[str, Any]:
    return OPS[node.op].complete(node.attributes)


# linear nodes -------------------------------------------------------------------------------------------------------------


def _gemm(walk: Transposer, node: Node, _i: int, y: str) -> str:
    """``alpha y W^T``; the bias has no part in it."""
    attributes = _attributes(node)
    weight = gemm_weight(walk.cell.parameters[node.inputs[1]], attributes)
    stem = f"{node.inputs[1]} as (K, N), transB={attributes['transB']}"
    return walk.linear(node, y, walk.parameter(stem, weight), transB=1, alpha=attributes["alpha"])


def _conv(walk: Transposer, node: Node, _i: int, y: str) -> str:
    """Conv with the flipped kernel, in and out channels exchanged per group, and complementary padding."""
    weight, attributes = walk.cell.parameters[node.inputs[1]], _attributes(node)
    kernel, group = weight.shape[2:], attributes["group"]
    strides, before, after, dilations = conv_geometry(len(kernel), attributes, kernel)
    if max(strides) > 1:
        raise walk.unsupported(node, f"a Conv of strides {strides} has no transpose among the operators")
    outputs, channels = weight.shape[0] // group, weight.shape[1]
    grouped = weight.reshape(group, outputs, channels, *kernel).swapaxes(1, 2)
    flipped = np.flip(grouped, axis=tuple(range(3, grouped.ndim))).reshape(group * channels, outputs, *kernel)
    reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    pads = [r - p for r, p in zip(reach * 2, (*before, *after), strict=True)]
    return walk.linear(
        node,
        _cropped(walk, node, y, pads),
        walk.parameter(f"{node.inputs[1]} transposed, {group} groups", flipped),
        pads=tuple(max(p, 0) for p in pads),
        dilations=dilations,
        group=group,
    )


def _cropped(walk: Transposer, node: Node, y: str, pads: Sequence[int]) -> str:
    """Drop what only padding reached: where the forward padding exceeds the kernel's reach, the complement is negative."""
    rank = len(pads) // 2
    sites = walk.shape(node.name)[1:]
    starts = [max(-p, 0) for p in pads[:rank]]
    ends = [n - max(-p, 0) for n, p in zip(sites, pads[rank:], strict=True)]
    if starts == [0] * rank and ends == list(sites):
        return y
    axes = tuple(range(2, 2 + rank))
    return walk.node("Slice", y, stem=f"cropped {node.name}", starts=tuple(starts), ends=tuple(ends), axes=axes)


def _matmul(walk: Transposer, node: Node, i: int, y: str) -> str:
    """``y R^T`` for the left operand, ``L^T y`` for the right one."""
    other = node.inputs[1 - i]
    shape = walk.shape(other)
    if other in walk.cell.parameters:
        factor = walk.parameter(f"{other} swapped", np.swapaxes(walk.cell.parameters[other], -1, -2))
    elif len(shape) < 2:
        raise walk.unsupported(node, "a MatMul whose matrix axes include the batch has no transpose")
    else:
        swapped = (*shape[:-2], shape[-1], shape[-2])
        factor = walk.injection(f"value of {other} swapped", swapped, lambda values: np.swapaxes(values[other], -1, -2))
    pair = (y, factor) if i == 0 else (factor, y)
    back = walk.node("MatMul", *pair, stem=f"{node.name} to {node.inputs[i]}")
    lengths = (*np.broadcast_shapes(walk.shape(node.name)[:-2], shape[:-2]), *walk.shape(node.inputs[i])[-2:])
    return _unbroadcast(walk, node, i, back, lengths)


# elementwise --------------------------------------------------------------------------------------------------------------


def _unbroadcast(walk: Transposer, node: Node, i: int, y: str, lengths: Sequence[int]) -> str:
    """Sum over the axes along which the input was broadcast: the mean, times the number of terms."""
    wanted = walk.shape(node.inputs[i])
    axes = tuple(axis for axis, (n, m) in enumerate(zip(wanted, lengths, strict=True), start=1) if n == 1 and m != 1)
    if not axes:
        return y
    count = math.prod(lengths[axis - 1] for axis in axes)
    mean = walk.node("ReduceMean", y, stem=f"mean of {node.name}", axes=axes, keepdims=1)
    factor = walk.parameter(f"{count} terms", np.full((1,) * len(wanted), count, dtype=walk.cell.dtype))
    return walk.node("Mul", mean, factor, stem=f"{node.name} to {node.inputs[i]}")


def _pass(walk: Transposer, node: Node, i: int, y: str) -> str:
    return _unbroadcast(walk, node, i, y, walk.shape(node.name))


def _sub(walk: Transposer, node: Node, i: int, y: str) -> str:
    signed = y if i == 0 else walk.node("Neg", y, stem=f"minus {node.name}")
    return _pass(walk, node, i, signed)


def _mul(walk: Transposer, node: Node, i: int, y: str) -> str:
    product = walk.node("Mul", y, walk.value(node.inputs[1 - i]), stem=f"{node.name} by {node.inputs[1 - i]}")
    return _pass(walk, node, i, product)


def _neg(walk: Transposer, node: Node, _i: int, y: str) -> str:
    return walk.node("Neg", y, stem=f"minus {node.name}")


def _slope(walk: Transposer, node: Node, _i: int, y: str) -> str:
    """Slope of an elementwise function, times y; the slope is an injection."""
    op, attributes, name = OPS[node.op], _attributes(node), node.inputs[0]

    def make(values: Any) -> np.ndarray:
        out = values[node.name]
        slope: np.ndarray = op.vjp([values[name]], out, attributes, np.ones_like(out))[0]
        return slope

    slope = walk.injection(f"slope of {node.name}", walk.shape(node.name), make)
    return walk.node("Mul", y, slope, stem=f"{node.name} to {name}")


# layout -------------------------------------------------------------------------------------------------------------------


def _concat(walk: Transposer, node: Node, i: int, y: str) -> str:
    axis = _attributes(node)["axis"] % (len(walk.shape(node.name)) + 1)
    ends = np.cumsum([walk.shape(name)[axis - 1] for name in node.inputs])
    start = int(ends[i]) - walk.shape(node.inputs[i])[axis - 1]
    return walk.node("Slice", y, stem=f"part {i} of {node.name}", starts=(start,), ends=(int(ends[i]),), axes=(axis,))


def _slice(walk: Transposer, node: Node, _i: int, y: str) -> str:
    """Zeros around: Concat with injected zeros, axis by axis."""
    attributes, shape = _attributes(node), walk.shape(node.inputs[0])
    starts, ends = attributes["starts"], attributes["ends"]
    axes = attributes["axes"] if attributes["axes"] is not None else tuple(range(len(starts)))
    steps = attributes["steps"] if attributes["steps"] is not None else (1,) * len(starts)
    lengths = list(walk.shape(node.name))
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= len(shape) + 1
        n = shape[axis - 1]
        first, last, _ = slice(start, end).indices(n)
        if step != 1:
            raise walk.unsupported(node, f"a Slice of step {step} has no transpose among the operators")
        parts = []
        for count in (first, n - last):
            around = (*lengths[: axis - 1], count, *lengths[axis:])
            parts.append(_zeros(walk, around, node.inputs[0]) if count else None)
        pieces = [part for part in (parts[0], y, parts[1]) if part is not None]
        y = walk.node("Concat", *pieces, stem=f"{node.name} in place", axis=axis) if len(pieces) > 1 else y
        lengths[axis - 1] = n
    return y


def _zeros(walk: Transposer, shape: tuple[int, ...], like: str) -> str:
    """Zeros for every sample: parameters have no batch axis and cannot be concatenated."""
    stem = f"zeros {' '.join(map(str, shape))}"
    return walk.injection(stem, shape, lambda values: np.zeros((len(values[like]), *shape), dtype=values[like].dtype))


def _reshape(walk: Transposer, node: Node, _i: int, y: str) -> str:
    return walk.node("Reshape", y, stem=f"{node.name} to {node.inputs[0]}", shape=(0, *walk.shape(node.inputs[0])))


def _mean(walk: Transposer, node: Node, _i: int, y: str) -> str:
    """``y / n`` at each of the n elements: one product with an array of 1 / n spreads and divides."""
    attributes, shape = _attributes(node), walk.shape(node.inputs[0])
    axes = {axis % (len(shape) + 1) for axis in attributes["axes"]}
    kept = tuple(1 if axis in axes else n for axis, n in enumerate(shape, start=1))
    if not attributes["keepdims"]:
        y = walk.node("Reshape", y, stem=f"kept {node.name}", shape=(0, *kept))
    count = math.prod(shape[axis - 1] for axis in axes)
    share = np.full(shape, 1.0 / count, dtype=walk.cell.dtype)
    stem = f"share {count} of {' '.join(map(str, shape))}"
    return walk.node("Mul", y, walk.parameter(stem, share), stem=f"{node.name} to {node.inputs[0]}")


def _transpose(walk: Transposer, node: Node, _i: int, y: str) -> str:
    inverse = tuple(int(axis) for axis in np.argsort(_attributes(node)["perm"]))
    return walk.node("Transpose", y, stem=f"{node.name} to {node.inputs[0]}", perm=inverse)


def _dft(walk: Transposer, node: Node, _i: int, y: str) -> str:
    """The transform of the other sign, scaled; of a real input the real part."""
    attributes, shape = _attributes(node), walk.shape(node.inputs[0])
    axis = attributes["axis"] % (len(shape) + 1)
    back = walk.node("DFT", y, stem=f"{node.name} back", axis=axis, inverse=1 - attributes["inverse"])
    scale = 1.0 / shape[axis - 1] if attributes["inverse"] else float(shape[axis - 1])
    factor = walk.parameter(f"scale {scale}", np.full((1,) * len(shape), scale, dtype=walk.cell.dtype))
    scaled = walk.node("Mul", back, factor, stem=f"{node.name} scaled")
    if shape[-1] == 2:
        return scaled
    return walk.node("Slice", scaled, stem=f"{node.name} real", starts=(0,), ends=(1,), axes=(len(shape),))


TRANSPOSES: dict[str, Rule] = {
    "Gemm": _gemm,
    "Conv": _conv,
    "MatMul": _matmul,
    "Add": _pass,
    "Sub": _sub,
    "Mul": _mul,
    "Neg": _neg,
    "Identity": lambda walk, node, i, y: y,
    "Concat": _concat,
    "Slice": _slice,
    "Reshape": _reshape,
    "ReduceMean": _mean,
    "Transpose": _transpose,
    "DFT": _dft,
    **{name: _slope for name in ("Relu", "LeakyRelu", "Tanh", "Sigmoid", "Sin", "Cos", "Exp")},
}
"""ONNX operator name to the rule of its transpose."""
