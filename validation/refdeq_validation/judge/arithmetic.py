"""The judge's own evaluation of exact operators, gates and residuals: written apart from the reference, on purpose.

Every operation here is one IEEE operation per element (E-1, D-1 to D-4, S-2), so a conforming backend must give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numba
import numpy as np

from refdeq_validation.judge.compiled import activation

__all__ = ["apply_exact", "decide_all", "next_reference", "norms", "or_over_groups", "same_bits"]

Array = np.ndarray[Any, Any]


def same_bits(left: Array, right: Array) -> Array:
    """Elementwise equality of bits; every NaN equals every NaN, +0 differs from -0.

    >>> same_bits(np.array([0.0, np.nan]), np.array([-0.0, np.nan]))
    array([False,  True])
    """
    if left.dtype == bool or left.dtype.kind in "iu":
        return np.asarray(left == right)
    integer = np.int32 if left.dtype == np.float32 else np.int64
    bits = np.ascontiguousarray(left).view(integer) == np.ascontiguousarray(right).view(integer)
    return np.asarray(bits | (np.isnan(left) & np.isnan(right)))


def apply_exact(op: str, inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    """Value of an operator whose bits every conforming backend shares (E-1, N-8)."""
    x = inputs[0]
    if op == "Add":
        return np.asarray(np.add(x, inputs[1]))
    if op == "Sub":
        return np.asarray(np.subtract(x, inputs[1]))
    if op == "Mul":
        return np.asarray(np.multiply(x, inputs[1]))
    if op == "Neg":
        return np.asarray(np.negative(x))
    if op == "Identity":
        return x
    if op == "Relu":
        return np.where(np.isnan(x), x, np.where(x > 0, x, np.zeros_like(x)))
    if op == "LeakyRelu":
        slope = x.dtype.type(attributes.get("alpha", 0.01))
        return np.where(np.signbit(x) & (x != 0) & ~np.isnan(x), slope * x, x)
    if op in ("Tanh", "Sigmoid", "Sin", "Cos", "Exp"):
        return activation(op, x)
    return _move(op, inputs, attributes)


def _move(op: str, inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    """Operators that only move values."""
    x = inputs[0]
    if op == "Concat":
        return np.concatenate(inputs, axis=attributes["axis"])
    if op == "Reshape":
        lengths = [x.shape[i] if n == 0 else n for i, n in enumerate(attributes["shape"])]
        return x.reshape(lengths)
    if op == "Slice":
        axes = attributes.get("axes") or range(len(attributes["starts"]))
        steps = attributes.get("steps") or [1] * len(attributes["starts"])
        picks = [slice(None)] * x.ndim
        for axis, start, end, step in zip(axes, attributes["starts"], attributes["ends"], steps, strict=True):
            picks[axis] = slice(start, end, step)
        return x[tuple(picks)]
    if op == "Transpose":
        return np.ascontiguousarray(np.transpose(x, attributes["perm"]))
    raise KeyError(f"the judge does not know operator {op!r}")


def decide_all(u: Array, r: Array, threshold: Array, compare: str, delta_dtype: str | None) -> tuple[Array, Array]:
    """Differences and elementwise decisions (D-1, D-2).

    >>> decide_all(np.array([1.0, np.nan]), np.zeros(2), np.array(1.0), "gt", None)[1]
    array([False,  True])
    """
    narrow = u.dtype if delta_dtype is None else np.dtype(delta_dtype)
    delta = np.subtract(u.astype(narrow), r.astype(narrow)).astype(u.dtype)
    size = np.abs(delta)
    below = size < threshold if compare == "ge" else size <= threshold
    return delta, np.logical_not(below)


def or_over_groups(sent: Array, granularity: str, tile: Sequence[int] | None) -> Array:
    """Decisions shared over groups (D-10), by labelling every element with its group and OR-ing per label."""
    if granularity == "element":
        return sent
    grid = np.indices(sent.shape[1:])
    if granularity == "sample":
        label = np.zeros(sent.shape[1:], dtype=np.int64)
    elif granularity == "channel":
        label = grid[0]
    else:
        steps = (sent.shape[1],) + (1,) * (sent.ndim - 2)
        if granularity == "tile" and tile is not None:
            steps = (tile[2], tile[0], tile[1])[: sent.ndim - 1] if sent.ndim == 4 else (tile[2], tile[1])
        counts = [-(-n // step) for n, step in zip(sent.shape[1:], steps, strict=True)]
        label = np.ravel_multi_index([axis // step for axis, step in zip(grid, steps, strict=True)], counts)
    flat, labels = sent.reshape(len(sent), -1), label.ravel()
    fired = np.zeros((len(sent), int(labels.max(initial=0)) + 1), dtype=bool)
    for column in range(flat.shape[1]):
        fired[:, labels[column]] |= flat[:, column]
    return fired[:, labels].reshape(sent.shape)


def round_narrow(values: Array, name: str) -> Array:
    """Round to float16 or bfloat16 (nearest even), by bits for bfloat16: the narrow format of the feedback rule (D-4)."""
    if name == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(values.dtype)
    single = values.astype(np.float32)
    odd = _round_to_odd(values, single) if values.dtype == np.float64 else single
    bits = odd.view(np.uint32).astype(np.uint64)
    kept = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
    out = (kept & 0xFFFFFFFF).astype(np.uint32).view(np.float32).astype(values.dtype)
    return np.where(np.isfinite(values), out, values)


def _round_to_odd(values: Array, single: Array) -> Array:
    """float64 to float32 by round-to-odd, so that a second rounding cannot double-round."""
    with np.errstate(over="ignore", invalid="ignore"):
        inexact = (single.astype(np.float64) != values) & np.isfinite(values)
        toward_zero = np.where(np.abs(single.astype(np.float64)) > np.abs(values), np.nextafter(single, np.float32(0)), single)
    bits = np.ascontiguousarray(np.where(inexact, toward_zero, single).astype(np.float32)).view(np.uint32)
    return np.where(inexact, bits | np.uint32(1), bits).astype(np.uint32).view(np.float32)


def next_reference(
    u: Array, r: Array, delta: Array, sent: Array, memory: str, feedback_format: str | None
) -> tuple[Array, Array]:
    """Gated difference and next reference (D-3, D-4)."""
    d = np.where(sent, delta, np.zeros_like(delta))
    if memory == "always":
        return d, u
    if memory == "sent":
        return d, np.where(sent, u, r)
    d = round_narrow(d, str(feedback_format))
    return d, np.where(sent, np.add(r, d), r)


def norms(f: Sequence[Array], z: Sequence[Array], norm: str) -> tuple[Array, Array]:
    """Residual and scale of each sample by the pinned tree (S-2)."""
    value = np.concatenate([part.reshape(len(part), -1).astype(np.float64) for part in f], axis=1)
    argument = np.concatenate([part.reshape(len(part), -1).astype(np.float64) for part in z], axis=1)
    return _norm(value - argument, norm), _norm(value, norm)


def _norm(rows: Array, norm: str) -> Array:
    if norm == "linf":
        largest = np.abs(rows).max(axis=1, initial=0.0)
        return np.where(np.isnan(rows).any(axis=1), np.nan, largest)
    total = np.empty(len(rows))
    _lane_by_lane(rows, total)
    return np.sqrt(total)


@numba.njit(nogil=True, cache=True)
def _lane_by_lane(rows: Array, total: Array) -> None:
    """Sum of squares of each row: each of 32 lanes in ascending stride, the lanes in ascending order (S-2)."""
    for b in range(rows.shape[0]):
        total[b] = 0.0
        for lane in range(32):
            partial = 0.0
            for column in range(lane, rows.shape[1], 32):
                partial = partial + rows[b, column] * rows[b, column]
            total[b] = total[b] + partial
