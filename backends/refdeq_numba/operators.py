"""One function per ONNX operator, for nodes that no gate concerns: dense sums, elementwise operators, moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from refdeq.kernels import Kernels, OpFunction
from refdeq.ops import OPS
from refdeq_numba import elementwise, linear, positions
from refdeq_numba.activation_rows import STRICT, row_function
from refdeq_numba.shaping import active_rows, parameter_row, rows_of, sample_shape, sample_size
from refdeq_numba.workers import Workers

__all__ = ["Operators"]

Array = np.ndarray
Inputs = Sequence[Array]
Attributes = Mapping[str, Any]

_ACTIVATION_WORK = 8
"""An activation costs about as much as this many other elementwise operations."""


class Operators:
    """The operator table of one :class:`refdeq_numba.kernels.NumbaKernels`.

    Every method is an :class:`refdeq.kernels.OpFunction`, some with a compiled kernel in front.
    """

    def __init__(self, primitives: Kernels, workers: Workers, fused: bool) -> None:
        self._primitives, self._workers, self._fused = primitives, workers, fused

    def table(self) -> dict[str, OpFunction]:
        """ONNX operator name to function."""
        unary = {"Neg": elementwise.neg, "Relu": elementwise.relu, "Identity": elementwise.copy, "Reshape": elementwise.copy}
        return {
            "Gemm": self._gemm,
            "MatMul": self._matmul,
            "Conv": self._conv,
            **{name: partial(self._binary, kernel) for name, kernel in elementwise.BINARY.items()},
            **{name: partial(self._unary, kernel, 1) for name, kernel in unary.items()},
            "LeakyRelu": self._leaky_relu,
            **{name: partial(self._activation, name) for name in STRICT},
            "Concat": self._concat,
            "Slice": self._slice,
            "Transpose": self._transpose,
            "DFT": self._dft,
            "ReduceMean": self._reduce_mean,
        }

    def _run(self, kernel: Callable[..., None], active: Array, out: Array, work: int, *arguments: Any) -> None:
        """Run a kernel whose last argument is `out` as rows."""
        self._workers.run(kernel, active_rows(active), work * sample_size(out), *arguments, rows_of(out))

    # Sums --------------------------------------------------------------------------------------------------------------------

    def _gemm(self, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: Array, out: Array) -> None:
        """Dense Gemm (N-6, N-7)."""
        self._primitives.fill(0.0, active, out)
        self._primitives.accumulate_gemm(inputs[0], None, inputs[1], attributes, active, out)
        bias = inputs[2] if len(inputs) == 3 else None
        self._primitives.add_bias(out, bias, attributes["alpha"], attributes["beta"], active, out)

    def _conv(self, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: Array, out: Array) -> None:
        """Dense Conv (N-6, N-7)."""
        self._primitives.fill(0.0, active, out)
        self._primitives.accumulate_conv(inputs[0], None, inputs[1], attributes, active, out)
        if len(inputs) == 3:
            bias = inputs[2].reshape(-1, *(1,) * (out.ndim - 2))
            self._primitives.add_bias(out, bias, 1.0, 1.0, active, out)

    def _matmul(self, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: Array, out: Array) -> None:
        """Matrix products with ONNX broadcasting of the leading axes (N-6, N-7)."""
        matrix_rows = 1 if out.ndim == 2 else out.shape[-2]  # of two axes the first is the batch: one line per sample
        leading = out.shape[1:-2]
        left, left_leading = _matrices(inputs[0], batched[0], out.ndim, matrix_rows)
        right, right_leading = _matrices(inputs[1], batched[1], out.ndim, inputs[1].shape[-2])
        picks = [positions.broadcast(shape, leading) for shape in (left_leading, right_leading)]
        arguments = left, int(batched[0]), picks[0], right, int(batched[1]), picks[1], self._fused
        target = out.reshape(len(out), len(picks[0]), matrix_rows, out.shape[-1])
        self._workers.run(linear.matmul, active_rows(active), sample_size(out) * left.shape[-1], *arguments, target)

    def _reduce_mean(self, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: Array, out: Array) -> None:
        """Mean over given axes: one order only, it is cheap (N-6)."""
        x = inputs[0]
        position = positions.reduced(x.shape[1:], tuple(axis % x.ndim for axis in attributes["axes"]))
        scalar, number = x.dtype.type, position.shape[1]
        self._run(elementwise.mean, active, out, number, rows_of(x), position, scalar(0), scalar(number))

    # Elementwise -------------------------------------------------------------------------------------------------------------

    def _unary(
        self,
        kernel: Callable[..., None],
        work: int,
        inputs: Inputs,
        batched: Sequence[bool],
        attributes: Attributes,
        active: Array,
        out: Array,
    ) -> None:
        self._run(kernel, active, out, work, rows_of(inputs[0]))

    def _activation(
        self, name: str, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: Array, out: Array
    ) -> None:
        """Activation (N-8): the strict formula, or in fast order a native one."""
        loop = row_function("fast" if self._fused else "strict", name, out.dtype.name)
        self._run(elementwise.activate, active, out, _ACTIVATION_WORK, loop.address, rows_of(inputs[0]))

    def _leaky_relu(self, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: Array, out: Array) -> None:
        alpha = out.dtype.type(attributes["alpha"])
        self._run(elementwise.leaky_relu, active, out, 1, rows_of(inputs[0]), alpha)

    def _binary(
        self,
        kernel: Callable[..., None],
        inputs: Inputs,
        batched: Sequence[bool],
        attributes: Attributes,
        active: Array,
        out: Array,
    ) -> None:
        operands = [self._operand(v, b, active, out) for v, b in zip(inputs, batched, strict=True)]
        steps = [int(b) for b in batched]
        self._run(kernel, active, out, 1, operands[0], steps[0], operands[1], steps[1])

    def _operand(self, value: Array, is_batched: bool, active: Array, out: Array) -> Array:
        """An operand as rows of the size of `out`; one that is broadcast within a sample is written out first."""
        if not is_batched:
            return parameter_row(value, out.shape[1:])[None]
        if value.shape == out.shape:
            return rows_of(value)
        spread = np.empty_like(out)
        self._run(elementwise.gather, active, spread, 1, rows_of(value), positions.broadcast(value.shape[1:], out.shape[1:]))
        return rows_of(spread)

    # Moves -------------------------------------------------------------------------------------------------------------------

    def _concat(self, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: Array, out: Array) -> None:
        parts = positions.concatenated(tuple(value.shape[1:] for value in inputs), attributes["axis"])
        for value, position in zip(inputs, parts, strict=True):
            self._run(elementwise.scatter, active, out, 1, rows_of(value), position)

    def _slice(self, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: Array, out: Array) -> None:
        starts, ends = tuple(attributes["starts"]), tuple(attributes["ends"])
        axes = tuple(range(len(starts))) if attributes["axes"] is None else tuple(attributes["axes"])
        steps = (1,) * len(starts) if attributes["steps"] is None else tuple(attributes["steps"])
        position = positions.sliced(inputs[0].shape[1:], starts, ends, axes, steps)
        self._run(elementwise.gather, active, out, 1, rows_of(inputs[0]), position)

    def _transpose(self, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: Array, out: Array) -> None:
        position = positions.transposed(inputs[0].shape[1:], tuple(attributes["perm"]))
        self._run(elementwise.gather, active, out, 1, rows_of(inputs[0]), position)

    # Fourier -----------------------------------------------------------------------------------------------------------------

    def _dft(self, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: Array, out: Array) -> None:
        """DFT (N-6): the very NumPy function of the reference, on one thread; nothing of it is compiled here."""
        out[active] = OPS["DFT"].forward([inputs[0][active]], attributes)


def _matrices(value: Array, is_batched: bool, rank: int, matrix_rows: int) -> tuple[Array, tuple[int, ...]]:
    """An operand of MatMul as (B or 1, P, rows, columns), and its own leading axes (their product is P)."""
    shape = value.shape[1:] if is_batched else sample_shape(value, max(rank, 3))
    leading = shape[:-2]
    count = int(np.prod(leading))
    return value.reshape(len(value) if is_batched else 1, count, matrix_rows, value.shape[-1]), leading
