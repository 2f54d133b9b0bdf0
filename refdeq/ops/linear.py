"""Gemm and MatMul in strict order (N-6).

``accumulate_gemm`` (and its twin in :mod:`refdeq.ops.conv`) is the heart of the reference: ``a <- fl(a + fl(A_ij * d_j))`` for
sent j in ascending order. It loops in Python over the summed index and works on whole arrays of outputs, so that each output
sees one operation at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refdeq.errors import GraphError
from refdeq.ops.base import BATCH, Attributes, Op, Shape, Tangents, broadcast, size, unbroadcast
from refdeq.types import OpCount

__all__ = ["OPS", "accumulate_gemm", "add_scaled_bias", "gemm_weight"]

Array = np.ndarray


# Gemm ---------------------------------------------------------------------------------------------------------------------


def gemm_weight(weight: Array, attributes: Attributes) -> Array:
    """Weight of a Gemm as (K, N), whatever ``transB`` says."""
    return np.ascontiguousarray(weight.T) if attributes["transB"] else weight


def accumulate_gemm(d: Array, sent: Array | None, weight: Array, a: Array) -> None:
    """Add ``d @ weight`` to `a` in place, in strict order (N-6, D-7).

    Parameters
    ----------
    d : (B, K) array
        Gated differences, or values when `sent` is None.
    sent : (B, K) bool or None
        Columns not sent are not read, even if they hold NaN; None reads all, zeros included (dense evaluation).
    weight : (K, N) array
    a : (B, N) array, changed in place

    Examples
    --------
    >>> a = np.zeros((1, 2))
    >>> accumulate_gemm(np.array([[2.0, 9.0]]), np.array([[True, False]]), np.array([[1.0, 3.0], [np.nan, 1.0]]), a)
    >>> a
    array([[2., 6.]])
    """
    for j in range(d.shape[1]):
        if sent is None:
            a += d[:, j, None] * weight[j]
        else:
            rows = np.flatnonzero(sent[:, j])
            a[rows] += d[rows, j, None] * weight[j]


def _gemm_infer(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, weight = shapes[0], shapes[1]
    if len(data) != 2 or data[0] != BATCH:
        raise GraphError(f"Gemm: data must be a value of rank 2 (batch, features), got {data}")
    if attributes["transA"]:
        raise GraphError("Gemm: transA would move the batch axis; transpose the parameter instead")
    if len(weight) != 2 or weight[0] == BATCH:
        raise GraphError(f"Gemm: B must be a parameter of rank 2, got {weight}")
    k, n = (weight[1], weight[0]) if attributes["transB"] else weight
    if data[1] != k:
        raise GraphError(f"Gemm: data {data} does not fit B {weight} (transB={attributes['transB']})")
    out = (BATCH, n)
    if len(shapes) == 3 and (BATCH in shapes[2] or broadcast("Gemm", [shapes[2], out]) != out):
        raise GraphError(f"Gemm: C must be a parameter that broadcasts to {out}, got {shapes[2]}; add other values with Add")
    return out


def add_scaled_bias(a: Array, bias: Array | None, alpha: float, beta: float) -> Array:
    """Output of a linear node from its accumulator (D-6, N-6): ``fl(fl(alpha a) + fl(beta b))``, one rounding each."""
    scalar = a.dtype.type
    scaled: Array = a if alpha == 1.0 else scalar(alpha) * a
    if bias is None:
        return scaled
    out: Array = scaled + (bias if beta == 1.0 else scalar(beta) * bias)
    return out


def _gemm(inputs: Sequence[Array], attributes: Attributes) -> Array:
    weight = gemm_weight(inputs[1], attributes)
    a = np.zeros((len(inputs[0]), weight.shape[1]), dtype=weight.dtype)
    accumulate_gemm(inputs[0], None, weight, a)
    return add_scaled_bias(a, inputs[2] if len(inputs) == 3 else None, attributes["alpha"], attributes["beta"])


def _as_read(weight: Array, attributes: Attributes) -> Array:
    """Weight as (K, N) without the copy that :func:`gemm_weight` makes: a product of derivatives reads it once."""
    return weight.T if attributes["transB"] else weight


def _gemm_vjp(inputs: Sequence[Array], _out: Array, attributes: Attributes, g: Array) -> list[Array]:
    data, weight = inputs[0], _as_read(inputs[1], attributes)
    alpha = g.dtype.type(attributes["alpha"])
    to_weight = alpha * (data.T @ g)
    gradients = [alpha * (g @ weight.T), to_weight.T if attributes["transB"] else to_weight]
    if len(inputs) == 3:
        gradients.append(unbroadcast(g.dtype.type(attributes["beta"]) * g, inputs[2].shape))
    return gradients


def _gemm_jvp(inputs: Sequence[Array], out: Array, attributes: Attributes, tangents: Tangents) -> Array:
    alpha, beta = out.dtype.type(attributes["alpha"]), out.dtype.type(attributes["beta"])
    tangent = np.zeros_like(out)
    if tangents[0] is not None:
        tangent = tangent + alpha * (tangents[0] @ _as_read(inputs[1], attributes))
    if tangents[1] is not None:
        tangent = tangent + alpha * (inputs[0] @ _as_read(tangents[1], attributes))
    if len(tangents) == 3 and tangents[2] is not None:
        tangent = tangent + beta * tangents[2]
    return tangent


def _gemm_curvature(
    inputs: Sequence[Array], _out: Array, attributes: Attributes, g: Array, tangents: Tangents
) -> list[Array | None]:
    """Gemm is bilinear in data and weight, linear in the bias: its vjp with tangents in their places."""
    alpha = g.dtype.type(attributes["alpha"])
    found: list[Array | None] = [None] * len(inputs)
    if tangents[1] is not None:
        found[0] = alpha * (g @ _as_read(tangents[1], attributes).T)
    if tangents[0] is not None:
        to_weight = alpha * (tangents[0].T @ g)
        found[1] = to_weight.T if attributes["transB"] else to_weight
    return found


# MatMul -------------------------------------------------------------------------------------------------------------------


def _matmul_infer(shapes: Sequence[Shape], _attributes: Attributes) -> Shape:
    left, right = shapes
    misfit = f"MatMul: shapes {left} and {right} do not fit (both of rank 2 or more, batch on axis 0)"
    if len(left) < 2 or len(right) < 2 or left[-1] != right[-2] or left[-1] == BATCH:
        raise GraphError(misfit)
    leading = broadcast("MatMul", [left[:-2], right[:-2]]) if left[:-2] or right[:-2] else ()
    out = (*leading, left[-2], right[-1])
    if BATCH in out[1:]:
        raise GraphError(misfit)
    return out


def _matmul(inputs: Sequence[Array], _attributes: Attributes) -> Array:
    """Strict matrix product (N-6): ascending inner index, from +0."""
    left, right = inputs
    shape = (*np.broadcast_shapes(left.shape[:-2], right.shape[:-2]), left.shape[-2], right.shape[-1])
    out = np.zeros(shape, dtype=left.dtype)
    for k in range(left.shape[-1]):
        out = out + left[..., :, k, None] * right[..., None, k, :]
    return out


def _matmul_vjp(inputs: Sequence[Array], _out: Array, _attributes: Attributes, g: Array) -> list[Array]:
    left, right = inputs
    to_left = unbroadcast(g @ np.swapaxes(right, -1, -2), left.shape)
    to_right = unbroadcast(np.swapaxes(left, -1, -2) @ g, right.shape)
    return [to_left, to_right]


def _matmul_jvp(inputs: Sequence[Array], out: Array, _attributes: Attributes, tangents: Tangents) -> Array:
    tangent = np.zeros_like(out)
    if tangents[0] is not None:
        tangent = tangent + tangents[0] @ inputs[1]
    if tangents[1] is not None:
        tangent = tangent + inputs[0] @ tangents[1]
    return tangent


def _matmul_curvature(
    inputs: Sequence[Array], _out: Array, _attributes: Attributes, g: Array, tangents: Tangents
) -> list[Array | None]:
    left, right = tangents
    to_left = None if right is None else unbroadcast(g @ np.swapaxes(right, -1, -2), inputs[0].shape)
    to_right = None if left is None else unbroadcast(np.swapaxes(left, -1, -2) @ g, inputs[1].shape)
    return [to_left, to_right]


OPS: tuple[Op, ...] = (
    Op(
        name="Gemm",
        arity=(2, 3),
        infer=_gemm_infer,
        forward=_gemm,
        vjp=_gemm_vjp,
        jvp=_gemm_jvp,
        curvature=_gemm_curvature,
        cost=lambda shapes, out, attrs: OpCount(macs=shapes[0][1] * out[1], elementwise=size(out) if len(shapes) == 3 else 0),
        attributes={"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0},
        exact=False,
    ),
    Op(
        name="MatMul",
        arity=(2, 2),
        infer=_matmul_infer,
        forward=_matmul,
        vjp=_matmul_vjp,
        jvp=_matmul_jvp,
        curvature=_matmul_curvature,
        cost=lambda shapes, out, attrs: OpCount(macs=size(out) * shapes[0][-1]),
        exact=False,
    ),
)
