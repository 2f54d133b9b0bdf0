"""The primitives of :class:`refdeq.kernels.Kernels` on top of compiled code: shapes and choices here, arithmetic there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refdeq.kernels import GateSpec, OpFunction
from refdeq_numba import elementwise, gate, history, linear, positions
from refdeq_numba import residual as tree
from refdeq_numba.layouts import Layouts
from refdeq_numba.machine import has_fused_multiply_add
from refdeq_numba.node_sums import NodeSums
from refdeq_numba.operators import Operators
from refdeq_numba.shaping import active_rows, bias_row, rows_of, sample_size
from refdeq_numba.workers import Workers

__all__ = ["NumbaKernels"]

Array = np.ndarray


class NumbaKernels:
    """Op-level primitives, compiled on first use.

    The strict order is the reference's, bit for bit (N-6). The fast order, on processors with fused multiply-add, adds the same
    terms in the same order with it (N-7) and has native activations (N-8); everything else is the same code in both (E-1).

    Parameters
    ----------
    order : {"strict", "fast"}
    threads : int
        Samples are shared out among this many threads; results never depend on it.
    """

    ops: Mapping[str, OpFunction]

    def __init__(self, order: str = "strict", threads: int = 1) -> None:
        self._workers = Workers(threads)
        self._fused = order == "fast" and has_fused_multiply_add()
        self._layouts = Layouts()
        self._sums = NodeSums(self._workers, self._layouts, self._fused)
        self.ops = Operators(self, self._workers, self._fused).table()

    def upload(self, array: Array) -> Array:
        """Return a contiguous copy."""
        return np.array(array, order="C")

    def constant(self, array: Array) -> Array:
        """Return a contiguous copy, of which layouts are kept."""
        return self._layouts.register(np.array(array, order="C"))

    def download(self, array: Array) -> Array:
        """Return a copy."""
        return np.array(array)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return an array with undefined contents."""
        return np.empty(shape, dtype=dtype)

    def fill(self, value: float, active: Array, out: Array) -> None:
        """Set every element of the active samples."""
        target = rows_of(out)
        self._workers.run(elementwise.fill, active_rows(active), target.shape[1], out.dtype.type(value), target)

    def copy_active(self, source: Array, active: Array, out: Array) -> None:
        """Copy the active samples."""
        target = rows_of(out)
        self._workers.run(elementwise.copy, active_rows(active), target.shape[1], rows_of(source), target)

    def gate(self, u: Array, spec: GateSpec, active: Array, r: Array, mask: Array, d: Array) -> None:
        """Advance one gate (D-1, D-2, D-3, D-4, D-10)."""
        shape = u.shape[1:]
        threshold = np.ascontiguousarray(np.broadcast_to(spec.threshold, shape), dtype=u.dtype).reshape(-1)
        group, group_count = positions.groups(shape, spec.granularity, spec.tile)
        choices = (
            gate.COMPARE[spec.compare],
            gate.MEMORY[spec.memory],
            gate.DELTA_DTYPE[spec.delta_dtype],
            gate.FEEDBACK_FORMAT[spec.feedback_format],
        )
        arrays = rows_of(u), threshold, group, group_count, choices, rows_of(r), rows_of(mask), rows_of(d)
        self._workers.run(gate.gate, active_rows(active), 4 * sample_size(u), *arrays)

    def accumulate_gemm(
        self, d: Array, mask: Array | None, weight: Array, attributes: Mapping[str, Any], active: Array, a: Array
    ) -> None:
        """Accumulate of a Gemm (N-6, N-7, D-7)."""
        self._sums.gemm(active_rows(active), d, mask, weight, bool(attributes["transB"]), a)

    def accumulate_conv(
        self, d: Array, mask: Array | None, weight: Array, attributes: Mapping[str, Any], active: Array, a: Array
    ) -> None:
        """Accumulate of a Conv (N-6, N-7, D-7); one spatial axis is treated as an image of height 1."""
        self._sums.conv(active_rows(active), d, mask, weight, attributes, a)

    def add_bias(self, a: Array, bias: Array | None, alpha: float, beta: float, active: Array, out: Array) -> None:
        """Output of a linear node from its accumulator (D-6, N-6)."""
        scalar, values = a.dtype.type, rows_of(a)
        row = bias_row(bias, a.shape[1:], a.dtype)
        arguments = values, scalar(alpha), row, scalar(beta), bias is not None, rows_of(out)
        self._workers.run(linear.add_bias, active_rows(active), values.shape[1], *arguments)

    def fold_bias(self, s: Array, bias: Array, active: Array, a: Array) -> None:
        """Folded bias of the published code (D-6)."""
        row = bias_row(bias, a.shape[1:], a.dtype)
        self._workers.run(linear.fold_bias, active_rows(active), row.size, rows_of(s), row, rows_of(a))

    def count_sent(self, mask: Array, fan_out: Array, active: Array, out: Array) -> None:
        """Exact multiply-accumulates of the sent elements (C-1)."""
        each = np.atleast_1d(np.asarray(fan_out, dtype=np.int64))
        position = positions.broadcast(each.shape, mask.shape[1:])
        arguments = rows_of(mask), each.reshape(-1), position, out
        self._workers.run(gate.count_sent, active_rows(active), sample_size(mask), *arguments)

    def count_nonzero(self, values: Array, active: Array, out: Array) -> None:
        """Elements that are not zero (C-3)."""
        self._workers.run(gate.count_nonzero, active_rows(active), sample_size(values), rows_of(values), out)

    def residual(self, f: Sequence[Array], z: Sequence[Array], norm: str, active: Array, residual: Array, scale: Array) -> None:
        """Residual and scale by the pinned tree (S-2)."""
        rows, offset = active_rows(active), 0
        lanes, lanes_of_f = np.zeros((2, len(active), tree.LANES))
        for value, point in zip(f, z, strict=True):
            size = sample_size(value)
            arguments = rows_of(value), rows_of(point), offset, norm == "linf", lanes, lanes_of_f
            self._workers.run(tree.add_part, rows, 4 * size, *arguments)
            offset += size
        finish = tree.finish_linf if norm == "linf" else tree.finish_l2
        self._workers.run(finish, rows, 2 * tree.LANES, lanes, lanes_of_f, residual, scale)

    def relax(self, z: Array, f: Array, alpha: float, active: Array, out: Array) -> None:
        """Krasnoselskii-Mann step (S-6)."""
        if alpha == 1.0:
            self.copy_active(f, active, out)
            return
        scalar, target = z.dtype.type, rows_of(out)
        arguments = rows_of(z), scalar(1.0 - alpha), rows_of(f), scalar(alpha), target
        self._workers.run(elementwise.relax, active_rows(active), 2 * target.shape[1], *arguments)

    def flatten(self, parts: Sequence[Array], active: Array, out: Array) -> None:
        """Copy the states of a sample into one row."""
        rows, at = active_rows(active), 0
        for part in parts:
            self._workers.run(history.flatten, rows, sample_size(part), rows_of(part), at, out)
            at += sample_size(part)

    def unflatten(self, rows: Array, active: Array, parts: Sequence[Array]) -> None:
        """Copy one row into the states of a sample."""
        samples, at = active_rows(active), 0
        for part in parts:
            self._workers.run(history.unflatten, samples, sample_size(part), rows, at, rows_of(part))
            at += sample_size(part)

    def inner(self, columns: Sequence[Array], row: Array, active: Array, out: Array) -> None:
        """Inner products by the pinned tree (S-7, S-8): the same in both orders, as the residual is."""
        samples, products = active_rows(active), np.zeros((len(row), len(columns)))
        work = 2 * len(columns) * sample_size(row)
        self._workers.run(history.inner, samples, work, _addresses(columns, row), rows_of(row), products)
        out[samples] = products[samples]

    def combine(self, columns: Sequence[Array], weights: Array, active: Array, out: Array) -> None:
        """Linear combinations in float64, rounded once (S-7, S-8): the same in both orders."""
        work, factors = 2 * len(columns) * sample_size(out), np.array(weights, dtype=np.float64, order="C")
        self._workers.run(history.combine, active_rows(active), work, _addresses(columns, out), factors, rows_of(out))


def _addresses(columns: Sequence[Array], like: Array) -> Array:
    """Addresses of columns, for compiled code that takes any number of them; each must be laid out as `like`."""
    for column in columns:
        layout = column.shape, column.dtype, column.flags.c_contiguous
        assert layout == (like.shape, like.dtype, True), "read by address"
    return np.array([history.address_of(column) for column in columns], dtype=np.int64)
