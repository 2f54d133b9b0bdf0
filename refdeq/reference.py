"""The reference backend: NumPy, strict order, one obvious line per step, no speed tricks.

This file and :mod:`refdeq.ops` are what every other backend must equal bit for bit when it declares strict order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refdeq.formats import round_to_format
from refdeq.kernels import GateSpec, OpFunction
from refdeq.ops import OPS, Op
from refdeq.ops.conv import accumulate_conv
from refdeq.ops.linear import accumulate_gemm, add_scaled_bias, gemm_weight
from refdeq.registry import BackendInfo, Refusal

__all__ = ["ReferenceBackend", "ReferenceKernels", "backend"]

Array = np.ndarray


class ReferenceKernels:
    """Op-level primitives of clause-exact NumPy (see :class:`refdeq.kernels.Kernels` for what each must do)."""

    ops: Mapping[str, OpFunction]

    def __init__(self) -> None:
        self.ops = {name: _op_function(op) for name, op in OPS.items()}

    def upload(self, array: Array) -> Array:
        """Return a contiguous copy."""
        return np.array(array, order="C")

    def constant(self, array: Array) -> Array:
        """Return a contiguous copy."""
        return np.array(array, order="C")

    def download(self, array: Array) -> Array:
        """Return a copy."""
        return np.array(array)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return an array whose contents are undefined."""
        return np.empty(shape, dtype=dtype)

    def fill(self, value: float, active: Array, out: Array) -> None:
        """Set every element of the active samples to `value`."""
        out[active] = value

    def copy_active(self, source: Array, active: Array, out: Array) -> None:
        """Copy the active samples."""
        out[active] = source[active]

    def gate(self, u: Array, spec: GateSpec, active: Array, r: Array, mask: Array, d: Array) -> None:
        """Advance one gate (D-1, D-2, D-3, D-4, D-10)."""
        value, reference = u[active], r[active]
        delta = difference(value, reference, spec.delta_dtype)
        sent = decide(delta, spec.threshold, spec.compare)
        sent = group(sent, spec.granularity, spec.tile)
        gated = np.where(sent, delta, value.dtype.type(0))
        if spec.memory == "always":
            reference = value
        elif spec.memory == "sent":
            reference = np.where(sent, value, reference)
        else:
            gated = round_to_format(gated, str(spec.feedback_format))
            reference = np.where(sent, reference + gated, reference)
        r[active], mask[active], d[active] = reference, sent, gated

    def accumulate_gemm(
        self, d: Array, mask: Array | None, weight: Array, attributes: Mapping[str, Any], active: Array, a: Array
    ) -> None:
        """Strict accumulate of a Gemm (N-6, D-7)."""
        block = a[active]
        accumulate_gemm(d[active], None if mask is None else mask[active], gemm_weight(weight, attributes), block)
        a[active] = block

    def accumulate_conv(
        self, d: Array, mask: Array | None, weight: Array, attributes: Mapping[str, Any], active: Array, a: Array
    ) -> None:
        """Strict accumulate of a Conv (N-6, D-7)."""
        block = a[active]
        accumulate_conv(d[active], None if mask is None else mask[active], weight, attributes, block)
        a[active] = block

    def add_bias(self, a: Array, bias: Array | None, alpha: float, beta: float, active: Array, out: Array) -> None:
        """Output of a linear node from its accumulator (D-6, N-6)."""
        out[active] = add_scaled_bias(a[active], bias, alpha, beta)

    def fold_bias(self, s: Array, bias: Array, active: Array, a: Array) -> None:
        """Folded bias of the published code (D-6)."""
        a[active] = ((s[active] + bias) + a[active]) - bias

    def count_sent(self, mask: Array, fan_out: Array, active: Array, out: Array) -> None:
        """Exact multiply-accumulates of the sent elements (C-1)."""
        counts = np.where(mask[active], fan_out, 0)
        out[active] += counts.sum(axis=tuple(range(1, mask.ndim)), dtype=np.int64)

    def count_nonzero(self, values: Array, active: Array, out: Array) -> None:
        """Elements that are not zero (C-3)."""
        out[active] += np.count_nonzero(values[active], axis=tuple(range(1, values.ndim)))

    def residual(self, f: Sequence[Array], z: Sequence[Array], norm: str, active: Array, residual: Array, scale: Array) -> None:
        """Residual and scale by the pinned tree (S-2)."""
        values = np.concatenate([flat(part[active]) for part in f], axis=1)
        arguments = np.concatenate([flat(part[active]) for part in z], axis=1)
        residual[active] = norm_of(values - arguments, norm)
        scale[active] = norm_of(values, norm)

    def relax(self, z: Array, f: Array, alpha: float, active: Array, out: Array) -> None:
        """Krasnoselskii-Mann step (S-6)."""
        if alpha == 1.0:
            out[active] = f[active]
        else:
            scalar = z.dtype.type
            out[active] = scalar(1.0 - alpha) * z[active] + scalar(alpha) * f[active]

    def flatten(self, parts: Sequence[Array], active: Array, out: Array) -> None:
        """States of a sample in one row."""
        out[active] = np.concatenate([rows_of(part[active]) for part in parts], axis=1)

    def unflatten(self, rows: Array, active: Array, parts: Sequence[Array]) -> None:
        """States of a sample out of one row."""
        first = 0
        for part in parts:
            size = int(np.prod(part.shape[1:]))
            part[active] = rows[active, first : first + size].reshape(part[active].shape)
            first += size

    def inner(self, columns: Sequence[Array], row: Array, active: Array, out: Array) -> None:
        """Inner products by the pinned tree (S-7, S-8)."""
        wide = row[active].astype(np.float64)
        for i, column in enumerate(columns):
            out[active, i] = tree_sum(column[active].astype(np.float64) * wide)

    def combine(self, columns: Sequence[Array], weights: Array, active: Array, out: Array) -> None:
        """Linear combinations in float64, rounded once (S-7, S-8)."""
        total = np.zeros(out.shape, dtype=np.float64)
        for i, column in enumerate(columns):
            read = active & (weights[:, i] != 0.0)
            total[read] += weights[read, i, None] * column[read].astype(np.float64)
        out[active] = total[active].astype(out.dtype)


def _op_function(op: Op) -> OpFunction:
    """Wrap an operator's forward so that it touches active samples only."""

    def run(inputs: Sequence[Array], batched: Sequence[bool], attributes: Mapping[str, Any], active: Array, out: Array) -> None:
        out[active] = op.forward([v[active] if b else v for v, b in zip(inputs, batched, strict=True)], attributes)

    return run


def difference(u: Array, r: Array, delta_dtype: str | None) -> Array:
    """Difference in the dtype of `u`, or formed in the declared narrower dtype (D-1).

    >>> difference(np.array([1.5]), np.array([1.0]), None)
    array([0.5])
    """
    dtype = u.dtype if delta_dtype is None else np.dtype(delta_dtype)
    delta: Array = u.astype(dtype) - r.astype(dtype)
    return delta.astype(u.dtype)


def decide(delta: Array, threshold: Array, compare: str) -> Array:
    """Elementwise decisions (D-2); NaN is always sent.

    >>> decide(np.array([0.5, np.nan, 0.1]), np.array(0.5), "ge")
    array([ True,  True, False])
    """
    below: Array = np.abs(delta) < threshold if compare == "ge" else np.abs(delta) <= threshold
    return ~below


def group(sent: Array, granularity: str, tile: tuple[int, int, int] | None) -> Array:
    """Share decisions over a group by OR (D-10).

    Parameters
    ----------
    sent : (B, K) or (B, C, ...) bool
    granularity : {"element", "sample", "channel", "pixel", "tile"}
    tile : (height, width, channels), for ``tile`` only; ragged edges allowed

    Examples
    --------
    >>> group(np.array([[True, False]]), "sample", None)
    array([[ True,  True]])
    """
    if granularity == "element" or (granularity == "channel" and sent.ndim == 2):
        return sent
    if granularity == "sample":
        axes: tuple[int, ...] = tuple(range(1, sent.ndim))
    elif granularity == "channel":
        axes = tuple(range(2, sent.ndim))
    elif granularity == "pixel":
        axes = (1,)
    else:
        return _group_tiles(sent, tile if tile is not None else (1, 1, 1))
    return np.broadcast_to(sent.any(axis=axes, keepdims=True), sent.shape)


def _group_tiles(sent: Array, tile: tuple[int, int, int]) -> Array:
    out = np.empty_like(sent)
    height, width, channels = tile
    steps = (channels, width) if sent.ndim == 3 else (channels, height, width)
    for corner in np.ndindex(*(-(-n // step) for n, step in zip(sent.shape[1:], steps, strict=True))):
        block = (slice(None), *(slice(i * step, (i + 1) * step) for i, step in zip(corner, steps, strict=True)))
        out[block] = sent[block].any(axis=tuple(range(1, sent.ndim)), keepdims=True)
    return out


def rows_of(values: Array) -> Array:
    """One row per sample, also of a batch of no samples."""
    rows: Array = values.reshape(len(values), int(np.prod(values.shape[1:])))
    return rows


def flat(values: Array) -> Array:
    """Rows of float64, one per sample."""
    return rows_of(values).astype(np.float64)


def norm_of(rows: Array, norm: str) -> Array:
    """Norm of each row by the pinned tree (S-2): 32 lanes of ascending stride, added in ascending order; linf: NaN wins.

    >>> norm_of(np.array([[3.0, 4.0]]), "l2")
    array([5.])
    """
    if norm == "linf":
        largest: Array = np.max(np.abs(rows), axis=1, initial=0.0)
        return largest
    length: Array = np.sqrt(tree_sum(rows * rows))
    return length


def tree_sum(terms: Array) -> Array:
    """Sum of each row of float64 by the pinned tree (S-2): 32 lanes of ascending stride, added in ascending order.

    >>> tree_sum(np.ones((1, 40)))
    array([40.])
    """
    padded = np.pad(terms, ((0, 0), (0, -terms.shape[1] % 32)))
    lanes = np.zeros((len(padded), 32))
    for first in range(0, padded.shape[1], 32):
        lanes = lanes + padded[:, first : first + 32]
    total = np.zeros(len(padded))
    for lane in range(32):
        total = total + lanes[:, lane]
    return total


class ReferenceBackend:
    """The backend record of the reference: always available, strict order only, no fused plans."""

    info = BackendInfo(
        name="reference",
        summary="NumPy, strict order, one obvious line per step: the executable specification",
        orders=("strict",),
        dtypes=("float32", "float64"),
        determinism="R4",
        inactive_columns="skip",
        activation="strict",
    )

    def unavailable(self) -> None:
        """Return None: the reference runs wherever NumPy does."""

    def kernels(self, *, order: str, threads: int) -> ReferenceKernels:
        """Return the primitives; `threads` has no effect on the reference."""
        return ReferenceKernels()

    def plan(self, request: Any) -> Refusal:
        """Refuse: the reference has no fused plans."""
        return Refusal("the reference evaluates operator by operator")

    def describe(self) -> dict[str, str]:
        """Facts for ``refdeq info``."""
        return {"numpy": np.__version__}


def backend() -> ReferenceBackend:
    """Entry point ``refdeq.backends``."""
    return ReferenceBackend()
