"""The judge's view of a graph given as plain data: which nodes run when, and what a linear node computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq.types import DeltaRule
from refdeq_validation.judge import sums

__all__ = ["LinearNode", "classify", "linear_node"]

Array = np.ndarray[Any, Any]
NodeData = Mapping[str, Any]


def classify(graph: Mapping[str, Any], rule: DeltaRule | None) -> tuple[list[NodeData], list[NodeData], set[str]]:
    """Split the nodes into x-only and loop nodes (E-1), and name those a rule gates (D-11)."""
    dependent = set(graph["states"])
    hoisted, loop, gated = [], [], set()
    for node in graph["nodes"]:
        if not dependent.intersection(node["inputs"]):
            hoisted.append(node)
            continue
        dependent.add(node["name"])
        loop.append(node)
        constant = all(name in graph["parameters"] for name in node["inputs"][1:])
        if rule is not None and node["op"] in ("Gemm", "Conv") and constant and node["name"] not in rule.dense:
            gated.add(node["name"])
    return hoisted, loop, gated


@dataclass(frozen=True)
class LinearNode:
    """A Gemm or Conv with constant weights, as data; a Conv is held as 2-D (a 1-D one has height 1).

    Attributes
    ----------
    data : str
        Name of the value it reads.
    weight : (K, N) or (M, C / group, kh, kw) array
    bias : array or None
        Shaped to broadcast against the output.
    alpha, beta : float
    conv : tuple or None
        group, strides, pads before, dilations.
    """

    data: str
    weight: Array
    bias: Array | None
    alpha: float
    beta: float
    conv: tuple[int, tuple[int, int], tuple[int, int], tuple[int, int]] | None

    @property
    def bias_array(self) -> Array:
        """The bias, where there is one."""
        assert self.bias is not None
        return self.bias

    def output(self, a: Array) -> Array:
        """Output from the accumulator (D-6): factors of 1 round nothing."""
        scalar = a.dtype.type
        scaled = a if self.alpha == 1.0 else np.asarray(np.multiply(scalar(self.alpha), a))
        if self.bias is None:
            return scaled
        return np.asarray(np.add(scaled, self.bias if self.beta == 1.0 else np.multiply(scalar(self.beta), self.bias)))

    def strict(self, d: Array, sent: Array, base: Array) -> Array:
        """Accumulator in strict order (N-6), from `base`."""
        a = np.ascontiguousarray(base).copy()
        if self.conv is None:
            sums.strict_gemm(np.ascontiguousarray(d), np.ascontiguousarray(sent), self.weight, a)
            return a
        shape = a.shape
        a = _planar(a)
        sums.strict_conv(_planar(d), _planar(sent), self.weight, *self.conv, a)
        return a.reshape(shape)

    def exact(self, d: Array, sent: Array, base: Array, got: Array) -> tuple[Array, Array, Array, Array]:
        """Error of `got`, gauge ``|a| + P``, number of terms, and exact sum; all float64 (N-7)."""
        wide = self.weight.dtype == np.float64
        weight = self.weight.astype(np.float64)
        parts = [np.ascontiguousarray(array, dtype=np.float64) for array in (d, base, got)]
        if self.conv is None:
            return sums.exact_gemm(parts[0], np.ascontiguousarray(sent), weight, parts[1], parts[2], wide)
        d2, base2, got2 = (_planar(part) for part in parts)
        error, gauge, k, total = sums.exact_conv(d2, _planar(sent), weight, *self.conv, base2, got2)
        shape = got.shape
        return error.reshape(shape), gauge.reshape(shape), k.reshape(shape), total.reshape(shape)

    def macs(self, sent: Array, out: tuple[int, ...]) -> int:
        """Multiply-accumulates of what was sent, counted tap by tap (C-1)."""
        if self.conv is None:
            return int(sent.sum()) * int(self.weight.shape[1])
        group, stride, pad, dilation = self.conv
        plane = _planar(sent)
        height, width = (out[2], out[3]) if len(out) == 4 else (1, out[2])
        total = 0
        for ky in range(self.weight.shape[2]):
            rows = np.arange(height) * stride[0] - pad[0] + ky * dilation[0]
            for kx in range(self.weight.shape[3]):
                columns = np.arange(width) * stride[1] - pad[1] + kx * dilation[1]
                ys, xs = rows[(rows >= 0) & (rows < plane.shape[2])], columns[(columns >= 0) & (columns < plane.shape[3])]
                total += int(plane[:, :, ys][..., xs].sum())
        return total * int(self.weight.shape[0] // group)


def linear_node(node: NodeData, parameters: Mapping[str, Array]) -> LinearNode:
    """Build the judge's view of a Gemm or Conv node."""
    attributes = node["attributes"]
    weight = parameters[node["inputs"][1]]
    bias = parameters[node["inputs"][2]] if len(node["inputs"]) == 3 else None
    if node["op"] == "Gemm":
        columns = np.ascontiguousarray(weight.T if attributes.get("transB", 0) else weight)
        factors = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
        return LinearNode(node["inputs"][0], columns, bias, *factors, None)
    rank = weight.ndim - 2
    strides = tuple(attributes.get("strides") or (1,) * rank)
    pads = tuple(attributes.get("pads") or (0,) * (2 * rank))[:rank]
    dilations = tuple(attributes.get("dilations") or (1,) * rank)
    if rank == 1:
        strides, pads, dilations = (1, *strides), (0, *pads), (1, *dilations)
    if bias is not None:
        bias = bias.reshape(-1, *(1,) * rank)
    geometry = (int(attributes.get("group", 1)), strides, pads, dilations)
    return LinearNode(node["inputs"][0], _planar(weight), bias, 1.0, 1.0, geometry)


def _planar(array: Array) -> Array:
    """Give a 1-D convolution's array a height of 1."""
    array = np.ascontiguousarray(array)
    return array.reshape(*array.shape[:2], 1, array.shape[2]) if array.ndim == 3 else array
