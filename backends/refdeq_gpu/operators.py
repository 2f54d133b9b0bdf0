"""One function per ONNX operator on a device, for nodes that no gate concerns: dense sums, elementwise operators, moves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from refdeq.kernels import OpFunction
from refdeq.ops import OPS
from refdeq_gpu import positions
from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.device import Device
from refdeq_gpu.launching import Launcher
from refdeq_gpu.sums import Sums
from refdeq_gpu.workspace import Workspace

if TYPE_CHECKING:
    from refdeq_gpu.kernels import GpuKernels

__all__ = ["Operators"]

Inputs = Sequence[DeviceArray]
Attributes = Mapping[str, Any]


class Operators:
    """The operator table of one :class:`refdeq_gpu.kernels.GpuKernels`; every method is an operator function of it."""

    def __init__(self, primitives: GpuKernels, device: Device, workspace: Workspace, sums: Sums) -> None:
        self._primitives, self._device, self._workspace, self._sums = primitives, device, workspace, sums
        self._launch = Launcher(device, workspace)

    def table(self) -> dict[str, OpFunction]:
        """ONNX operator name to function."""
        unary = {"Neg": "neg", "Relu": "relu", "Identity": "copy", "Reshape": "copy"}
        unary |= {name: name.lower() for name in ("Tanh", "Sigmoid", "Sin", "Cos", "Exp")}
        return {
            "Gemm": self._gemm,
            "MatMul": self._matmul,
            "Conv": self._conv,
            **{name: partial(self._binary, name.lower()) for name in ("Add", "Sub", "Mul")},
            **{name: partial(self._unary, kernel) for name, kernel in unary.items()},
            "LeakyRelu": self._leaky_relu,
            "Concat": self._concat,
            "Slice": partial(self._picked, "Slice"),
            "Transpose": partial(self._picked, "Transpose"),
            "DFT": self._dft,
            "ReduceMean": self._reduce_mean,
        }

    def _run(self, kernel: str, active: np.ndarray, out: DeviceArray, *arguments: DeviceArray | float) -> None:
        """Launch a flat kernel whose last argument is `out`."""
        self._launch.samples(kernel, active, _size(out), *arguments, out, dtype=out.dtype)

    # Sums --------------------------------------------------------------------------------------------------------------------

    def _gemm(
        self, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: np.ndarray, out: DeviceArray
    ) -> None:
        """Dense Gemm (N-6, N-7)."""
        self._primitives.fill(0.0, active, out)
        self._primitives.accumulate_gemm(inputs[0], None, inputs[1], attributes, active, out)
        bias = inputs[2] if len(inputs) == 3 else None
        self._primitives.add_bias(out, bias, attributes["alpha"], attributes["beta"], active, out)

    def _conv(
        self, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: np.ndarray, out: DeviceArray
    ) -> None:
        """Dense Conv (N-6, N-7)."""
        self._primitives.fill(0.0, active, out)
        self._primitives.accumulate_conv(inputs[0], None, inputs[1], attributes, active, out)
        if len(inputs) == 3:
            bias = inputs[2].reshape(-1, *(1,) * (out.ndim - 2))
            self._primitives.add_bias(out, bias, 1.0, 1.0, active, out)

    def _matmul(
        self, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: np.ndarray, out: DeviceArray
    ) -> None:
        """Matrix products with ONNX broadcasting of the leading axes (N-6, N-7)."""
        height = 1 if out.ndim == 2 else out.shape[-2]  # of two axes the first is the batch: one line per sample
        leading = out.shape[1:-2]
        operands = []
        for value, is_batched in zip(inputs, batched, strict=True):
            own = value.shape[1:] if is_batched else _sample_shape(value, max(out.ndim, 3))
            pick = self._pick(own[:-2], leading)
            operands.append((value, math.prod(own) if is_batched else 0, pick))
        sizes = math.prod(leading), height, inputs[0].shape[-1], out.shape[-1]
        self._sums.matmul(active, sizes, operands[0], operands[1], out)

    def _pick(self, own: tuple[int, ...], leading: tuple[int, ...]) -> DeviceArray:
        """Which matrix of an operand each product takes."""
        return self._workspace.constant(("pick", own, leading), lambda: positions.broadcast(own, leading))

    def _reduce_mean(
        self, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: np.ndarray, out: DeviceArray
    ) -> None:
        """Mean over given axes: one order only (N-6)."""
        x = inputs[0]
        axes = tuple(axis % x.ndim for axis in attributes["axes"])
        place = positions.reduced(x.shape[1:], axes)
        key = "mean", x.shape[1:], axes
        self._run("mean", active, out, place.shape[1], _size(x), x, self._workspace.constant(key, lambda: place))

    # Elementwise -------------------------------------------------------------------------------------------------------------

    def _unary(
        self,
        kernel: str,
        inputs: Inputs,
        batched: Sequence[bool],
        attributes: Attributes,
        active: np.ndarray,
        out: DeviceArray,
    ) -> None:
        self._run(kernel, active, out, inputs[0])

    def _leaky_relu(
        self, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: np.ndarray, out: DeviceArray
    ) -> None:
        self._run("leaky_relu", active, out, inputs[0], float(attributes["alpha"]))

    def _binary(
        self,
        kernel: str,
        inputs: Inputs,
        batched: Sequence[bool],
        attributes: Attributes,
        active: np.ndarray,
        out: DeviceArray,
    ) -> None:
        spread = [
            self._operand(f"operand {i}", value, is_batched, active, out)
            for i, (value, is_batched) in enumerate(zip(inputs, batched, strict=True))
        ]
        self._run(kernel, active, out, *spread[0], *spread[1])

    def _operand(
        self, name: str, value: DeviceArray, is_batched: bool, active: np.ndarray, out: DeviceArray
    ) -> tuple[DeviceArray, int]:
        """An operand of the size of `out`, and its step; one that is broadcast within a sample is written out first."""
        shape, size = out.shape[1:], _size(out)
        own = value.shape[1:] if is_batched else _sample_shape(value, out.ndim)
        if own == shape:
            return value, size if is_batched else 0
        place = self._workspace.constant(("spread", own, shape), lambda: positions.broadcast(own, shape))
        room = self._workspace.room(name, out.shape, out.dtype.name)
        self._run("gather", active, room, value, _size(value) if is_batched else 0, place)
        return room, size

    # Moves -------------------------------------------------------------------------------------------------------------------

    def _concat(
        self, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: np.ndarray, out: DeviceArray
    ) -> None:
        shapes = tuple(value.shape[1:] for value in inputs)
        parts = positions.concatenated(shapes, attributes)
        for i, (value, place) in enumerate(zip(inputs, parts, strict=True)):
            kept = self._workspace.constant(("concat", shapes, attributes["axis"], i), partial(np.asarray, place))
            self._launch.samples("scatter", active, _size(value), value, kept, out, _size(out), dtype=out.dtype)

    def _picked(
        self, op: str, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: np.ndarray, out: DeviceArray
    ) -> None:
        x = inputs[0]
        key = op, x.shape[1:], tuple(sorted((name, str(value)) for name, value in attributes.items()))
        place = self._workspace.constant(key, lambda: positions.picked(op, x.shape[1:], attributes))
        self._run("gather", active, out, x, _size(x), place)

    # Fourier -----------------------------------------------------------------------------------------------------------------

    def _dft(
        self, inputs: Inputs, batched: Sequence[bool], attributes: Attributes, active: np.ndarray, out: DeviceArray
    ) -> None:
        """DFT (N-6): on the host, by the very NumPy function of the reference, so that its bits are the reference's.

        A library transform on the device adds in an order of its own; this costs two copies and a wait instead.
        """
        host, found = self._device.download(inputs[0]), self._device.download(out)
        found[active] = OPS["DFT"].forward([host[active]], attributes)
        self._workspace.watch.launched("DFT", [out])  # a copy writes as a kernel does
        self._device.write(found, out)


def _size(array: DeviceArray) -> int:
    return math.prod(array.shape[1:])


def _sample_shape(array: DeviceArray, rank: int) -> tuple[int, ...]:
    """Per-sample shape of a parameter that broadcasts against values of `rank` axes, the batch included."""
    return array.shape[1:] if array.ndim == rank else array.shape
