"""Conv (1-D and 2-D) in strict order (N-6), with strides, pads, dilations and groups as in ONNX."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from refdeq.errors import GraphError
from refdeq.ops.base import BATCH, Attributes, Op, Shape, Tangents, size
from refdeq.types import OpCount

__all__ = ["OPS", "accumulate_conv", "conv_fan_out", "conv_geometry", "conv_taps"]

Array = np.ndarray
Index = tuple[Any, ...]
"""Index of trailing (spatial) axes: behind an ellipsis."""


def conv_geometry(rank: int, attributes: Attributes, kernel: Shape) -> tuple[Shape, Shape, Shape, Shape]:
    """Strides, pads before, pads after, dilations of a Conv with `rank` spatial axes, defaults filled in."""
    strides = tuple(attributes["strides"] or (1,) * rank)
    pads = tuple(attributes["pads"] or (0,) * (2 * rank))
    dilations = tuple(attributes["dilations"] or (1,) * rank)
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
        raise GraphError(f"Conv: strides, dilations need {rank} and pads {2 * rank} entries")
    if min(strides) < 1 or min(dilations) < 1 or min(pads) < 0:
        raise GraphError("Conv: strides and dilations must be >= 1, pads >= 0")
    named = attributes["kernel_shape"]
    if named is not None and tuple(named) != tuple(kernel):
        raise GraphError(f"Conv: kernel_shape {tuple(named)} differs from the weight's {tuple(kernel)}")
    return strides, pads[:rank], pads[rank:], dilations


def _conv_infer(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, weight = shapes[0], shapes[1]
    if len(data) not in (3, 4) or data[0] != BATCH:
        raise GraphError(f"Conv: data must be (batch, channels, length) or (batch, channels, height, width), got {data}")
    if len(weight) != len(data) or weight[0] == BATCH:
        raise GraphError(f"Conv: weight must be a parameter of rank {len(data)}, got {weight}")
    group = attributes["group"]
    if group < 1 or data[1] != weight[1] * group or weight[0] % group:
        raise GraphError(f"Conv: channels of data {data} and weight {weight} do not fit group={group}")
    if len(shapes) == 3 and shapes[2] != (weight[0],):
        raise GraphError(f"Conv: bias must have shape ({weight[0]},), got {shapes[2]}")
    kernel = weight[2:]
    strides, before, after, dilations = conv_geometry(len(kernel), attributes, kernel)
    lengths = [
        (n + p + q - dilation * (k - 1) - 1) // stride + 1
        for n, p, q, k, dilation, stride in zip(data[2:], before, after, kernel, dilations, strides, strict=True)
    ]
    if min(lengths) < 1:
        raise GraphError(f"Conv: kernel {kernel} is larger than the padded data {data}")
    return (BATCH, weight[0], *lengths)


def conv_taps(data: Shape, out: Shape, kernel: Shape, attributes: Attributes) -> Iterator[tuple[Index, Index, Index]]:
    """Kernel positions in strict order, each with the input and output sites it joins (padded taps absent, N-6).

    Parameters
    ----------
    data, out, kernel : tuple of int
        Spatial lengths.

    Yields
    ------
    tap, input slices, output slices: indices of the spatial axes, to follow an ellipsis
    """
    strides, before, _, dilations = conv_geometry(len(kernel), attributes, kernel)
    for tap in itertools.product(*map(range, kernel)):
        sources, targets = [], []
        for t, n, m, stride, pad, dilation in zip(tap, data, out, strides, before, dilations, strict=True):
            shift = t * dilation - pad
            first = max(0, -(shift // stride))
            last = min(m - 1, (n - 1 - shift) // stride)
            if first > last:
                break
            sources.append(slice(first * stride + shift, last * stride + shift + 1, stride))
            targets.append(slice(first, last + 1))
        else:
            yield (..., *tap), (..., *sources), (..., *targets)


def accumulate_conv(d: Array, sent: Array | None, weight: Array, attributes: Attributes, a: Array) -> None:
    """Add ``Conv(d, weight)`` to `a` in place, in strict order: kernel position, then channel fastest (N-6, D-7).

    Parameters
    ----------
    d : (B, C, ...) array
        Gated differences, or values when `sent` is None.
    sent : (B, C, ...) bool or None
        What is not sent is not read; None reads all (dense evaluation).
    weight : (M, C / group, ...) array
    a : (B, M, ...) array, changed in place

    Examples
    --------
    >>> a = np.zeros((1, 1, 3))
    >>> padded = {"strides": None, "pads": (1, 1), "dilations": None, "group": 1, "kernel_shape": None}
    >>> accumulate_conv(np.array([[[1.0, 2.0, 4.0]]]), None, np.array([[[1.0, 0.0, 1.0]]]), padded, a)
    >>> a
    array([[[2., 5., 2.]]])
    """
    group = attributes["group"]
    outputs, inputs = weight.shape[0] // group, weight.shape[1]
    for tap, source, target in conv_taps(d.shape[2:], a.shape[2:], weight.shape[2:], attributes):
        for c in range(inputs):
            for g in range(group):
                mine = slice(g * outputs, (g + 1) * outputs)
                value = d[:, g * inputs + c, None][source]
                column = weight[mine, c][tap].reshape(-1, *(1,) * (d.ndim - 2))
                block = a[:, mine][target]
                added = block + value * column
                if sent is None:
                    block[...] = added
                else:
                    np.copyto(block, added, where=sent[:, g * inputs + c, None][source])


def conv_fan_out(data: Shape, out: Shape, weight: Shape, attributes: Attributes) -> Array:
    """Multiply-accumulates that one sent element of each site needs (C-1): border, stride, dilation and groups exact.

    Returns
    -------
    int64 array of shape (1, ...) over the spatial axes; every channel of a site has the same fan-out.
    """
    taps = np.zeros(data[2:], dtype=np.int64)
    for _, source, _ in conv_taps(data[2:], out[2:], weight[2:], attributes):
        taps[source] += 1
    fan_out: Array = taps[None] * (weight[0] // attributes["group"])
    return fan_out


def _conv(inputs: Sequence[Array], attributes: Attributes) -> Array:
    data, weight = inputs[0], inputs[1]
    shape = _conv_infer([(BATCH, *data.shape[1:]), weight.shape], attributes)
    a = np.zeros((len(data), *shape[1:]), dtype=weight.dtype)
    accumulate_conv(data, None, weight, attributes, a)
    if len(inputs) == 3:
        a = a + inputs[2].reshape(-1, *(1,) * (a.ndim - 2))
    return a


def _blocks(data: Shape, out: Shape, weight: Shape, attributes: Attributes) -> Iterator[tuple[Index, Index, Index]]:
    """Every tap of every group: indices into data, output and weight that one matrix of channels joins."""
    group = attributes["group"]
    outputs, channels = weight[0] // group, weight[1]
    for tap, source, target in conv_taps(data[2:], out[2:], weight[2:], attributes):
        for k in range(group):
            mine, theirs = slice(k * channels, (k + 1) * channels), slice(k * outputs, (k + 1) * outputs)
            yield (slice(None), mine, *source[1:]), (slice(None), theirs, *target[1:]), (theirs, slice(None), *tap[1:])


def _to_output(data: Array, weight: Array, out: Array, attributes: Attributes) -> Array:
    """Convolution without bias, in the order that is fastest here (derivatives have no pinned order)."""
    found = np.zeros_like(out)
    for source, target, tap in _blocks(data.shape, out.shape, weight.shape, attributes):
        found[target] += np.einsum("bc...,mc->bm...", data[source], weight[tap])
    return found


def _to_data(data: Array, weight: Array, g: Array, attributes: Attributes) -> Array:
    """Cotangent of the data (whose values are not read)."""
    found = np.zeros_like(data)
    for source, target, tap in _blocks(data.shape, g.shape, weight.shape, attributes):
        found[source] += np.einsum("bm...,mc->bc...", g[target], weight[tap])
    return found


def _to_weight(data: Array, weight: Array, g: Array, attributes: Attributes) -> Array:
    """Cotangent of the weight (whose values are not read)."""
    found = np.zeros_like(weight)
    sites = "hw"[: data.ndim - 2]
    for source, target, tap in _blocks(data.shape, g.shape, weight.shape, attributes):
        found[tap] += np.einsum(f"bm{sites},bc{sites}->mc", g[target], data[source])
    return found


def _conv_vjp(inputs: Sequence[Array], _out: Array, attributes: Attributes, g: Array) -> list[Array]:
    data, weight = inputs[0], inputs[1]
    gradients = [_to_data(data, weight, g, attributes), _to_weight(data, weight, g, attributes)]
    if len(inputs) == 3:
        gradients.append(g.sum(axis=(0, *range(2, g.ndim))))
    return gradients


def _conv_jvp(inputs: Sequence[Array], out: Array, attributes: Attributes, tangents: Tangents) -> Array:
    tangent = np.zeros_like(out)
    if tangents[0] is not None:
        tangent = tangent + _to_output(tangents[0], inputs[1], out, attributes)
    if tangents[1] is not None:
        tangent = tangent + _to_output(inputs[0], tangents[1], out, attributes)
    if len(tangents) == 3 and tangents[2] is not None:
        tangent = tangent + tangents[2].reshape(-1, *(1,) * (out.ndim - 2))
    return tangent


def _conv_curvature(
    inputs: Sequence[Array], _out: Array, attributes: Attributes, g: Array, tangents: Tangents
) -> list[Array | None]:
    """Conv is bilinear in data and weight, linear in the bias: its vjp with tangents in their places."""
    data, weight = inputs[0], inputs[1]
    found: list[Array | None] = [None] * len(inputs)
    if tangents[1] is not None:
        found[0] = _to_data(data, tangents[1], g, attributes)
    if tangents[0] is not None:
        found[1] = _to_weight(tangents[0], weight, g, attributes)
    return found


def _conv_cost(shapes: Sequence[Shape], out: Shape, attributes: Attributes) -> OpCount:
    data, weight = shapes[0], shapes[1]
    fan_out = conv_fan_out(data, out, weight, attributes)
    return OpCount(macs=int(fan_out.sum()) * data[1], elementwise=size(out) if len(shapes) == 3 else 0)


OPS: tuple[Op, ...] = (
    Op(
        name="Conv",
        arity=(2, 3),
        infer=_conv_infer,
        forward=_conv,
        vjp=_conv_vjp,
        jvp=_conv_jvp,
        curvature=_conv_curvature,
        cost=_conv_cost,
        attributes={"strides": None, "pads": None, "dilations": None, "group": 1, "kernel_shape": None},
        exact=False,
    ),
)
