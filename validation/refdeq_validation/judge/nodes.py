"""The judge's view of a graph given as plain data: which nodes run when, and what a linear node computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
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

    def strict(self, d: Array, sent: Array, base: Array, least: float = 0.0, daz: float = 0.0) -> Array:
        """Accumulator in strict order (N-6) from `base`; results below `least`, `d` and `a` below `daz` are zeros (N-5)."""
        a = np.ascontiguousarray(base).copy()
        if self.conv is None:
            data, mask = np.ascontiguousarray(d), np.ascontiguousarray(sent)
            if least:
                sums.flushing_gemm(data, mask, self.weight, a, least, daz)
            else:
                sums.strict_gemm(data, mask, self.weight, a)
            return a
        shape = a.shape
        a = _planar(a)
        if least:
            self._flushing_conv(_planar(d), _planar(sent), a, least, daz)
        else:
            sums.strict_conv(_planar(d), _planar(sent), self.weight, *self.conv, a)
        return a.reshape(shape)

    def _flushing_conv(self, d: Array, sent: Array, a: Array, least: float, daz: float) -> None:
        """A convolution as one matrix product per group and site, taps in the order of N-6; absent ones are not there."""
        assert self.conv is not None
        group, stride, pad, dilation = self.conv
        outputs, per_group = len(self.weight) // group, self.weight.shape[1]
        taps = list(np.ndindex(*self.weight.shape[2:]))
        for oy, ox in np.ndindex(*a.shape[2:]):
            at = [(oy * stride[0] - pad[0] + i * dilation[0], ox * stride[1] - pad[1] + j * dilation[1]) for i, j in taps]
            there = [(tap, y, x) for tap, (y, x) in zip(taps, at, strict=True) if 0 <= y < d.shape[2] and 0 <= x < d.shape[3]]
            for g in range(group if there else 0):
                inputs, rows = slice(g * per_group, (g + 1) * per_group), slice(g * outputs, (g + 1) * outputs)
                data = np.concatenate([d[:, inputs, y, x] for _, y, x in there], axis=1)
                mask = np.concatenate([sent[:, inputs, y, x] for _, y, x in there], axis=1)
                weight = np.concatenate([self.weight[(rows, slice(None), *tap)].T for tap, _, _ in there])
                part = a[:, rows, oy, ox].copy()
                sums.flushing_gemm(data, mask, np.ascontiguousarray(weight), part, least, daz)
                a[:, rows, oy, ox] = part

    def sizes(self, d: Array, sent: Array, like: Array) -> Array:
        """``sum |A_ij| + |d_j|`` over the sent terms, shaped as `like`: what underflow of re-rounded operands multiplies."""
        base = np.zeros(like.shape)
        ones = np.ones_like(d)
        light = replace(self, weight=np.abs(self.weight))
        unit = replace(self, weight=np.ones_like(self.weight))
        return light.exact(ones, sent, base, base)[3] + unit.exact(np.abs(d), sent, base, base)[3]

    def exact(self, d: Array, sent: Array, base: Array, got: Array) -> tuple[Array, Array, Array, Array]:
        """Error of `got`, gauge ``|a| + P``, number of terms, and exact sum; all float64 (N-7)."""
        wide = self.weight.dtype == np.float64
        parts = [np.ascontiguousarray(array, dtype=np.float64) for array in (d, base, got)]
        heavy = float(np.abs(parts[0]).max(initial=0.0))
        reach = heavy * self._heaviest * self.weight.size + float(np.abs(parts[1]).max(initial=0.0))
        if not wide or (heavy < 2.0**960 and self._heaviest < 2.0**960 and reach < 2.0**1020):
            return self._exact(self._wide_weight, parts, sent, wide)
        # Sums that may overflow on the way, numbers whose splitting does: scaled down by powers of two.
        down = 2.0**-64
        error, gauge, k, total = self._exact(
            self._wide_weight * down, [parts[0] * down, parts[1] * down**2, parts[2] * down**2], sent, wide
        )
        return error / down**2, gauge / down**2, k, total / down**2

    def _exact(self, weight: Array, parts: list[Array], sent: Array, wide: bool) -> tuple[Array, Array, Array, Array]:
        if self.conv is None:
            return sums.exact_gemm(parts[0], np.ascontiguousarray(sent), weight, parts[1], parts[2], wide)
        shape = parts[2].shape
        d2, base2, got2 = (_planar(part) for part in parts)
        error, gauge, k, total = sums.exact_conv(d2, _planar(sent), weight, *self.conv, base2, got2)
        return error.reshape(shape), gauge.reshape(shape), k.reshape(shape), total.reshape(shape)

    @cached_property
    def _wide_weight(self) -> Array:
        return self.weight.astype(np.float64)

    @cached_property
    def _heaviest(self) -> float:
        return float(np.abs(self._wide_weight).max(initial=0.0))

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
