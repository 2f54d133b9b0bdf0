"""The primitives of :class:`refdeq.kernels.Kernels` on a device: shapes and choices here, arithmetic in the kernels.

Everything is launched in order on one stream. The host waits only where a result is handed to it: a download, the counters,
the residual and the inner products.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refdeq.errors import DTypeError
from refdeq.kernels import GateSpec, OpFunction
from refdeq_gpu import positions
from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.choices import COMPARE, DELTA_DTYPE, FEEDBACK_FORMAT, MEMORY
from refdeq_gpu.device import Device
from refdeq_gpu.launching import Launcher
from refdeq_gpu.operators import Operators
from refdeq_gpu.sums import Sums
from refdeq_gpu.workspace import Workspace

__all__ = ["GpuKernels"]

_LANES = 32


class GpuKernels:
    """Op-level primitives of both GPU backends.

    Strict order is the reference's, bit for bit (N-6); fast order adds the same terms in the same order by fused multiply-add
    (N-7). Everything else, activations included, is the same in both.

    Parameters
    ----------
    device : Device
    order : {"strict", "fast"}
    precision : {"float32", "bfloat16x3"}
        Fast order may multiply differences that are bfloat16 numbers (feedback memory, D-4) on tensor cores, by weights in
        three parts.
    """

    ops: Mapping[str, OpFunction]

    def __init__(self, device: Device, order: str = "strict", precision: str = "float32") -> None:
        self._device = device
        self._workspace = Workspace(device)
        self._launch = Launcher(device, self._workspace)
        self._sums = Sums(device, self._workspace, order, precision)
        self._narrow: dict[int, DeviceArray] = {}
        self.ops = Operators(self, device, self._workspace, self._sums).table()

    # Memory ------------------------------------------------------------------------------------------------------------------

    def upload(self, array: Any) -> DeviceArray:
        """A copy on the device; an array that lies there already, of whatever library, is copied there."""
        if isinstance(array, np.ndarray):
            return self._device.upload(array)
        source = self._device.adopt(array)
        if source.dtype.kind != "f":  # masks and counts: small, and rare
            return self._device.upload(self._device.download(source))
        out = self._device.empty(source.shape, source.dtype)
        everyone = np.ones(len(source), dtype=bool)
        self.copy_active(source, everyone, out)
        return out

    def constant(self, array: np.ndarray) -> DeviceArray:
        """A copy on the device, of which other layouts may be kept."""
        return self._device.upload(array)

    def download(self, array: DeviceArray) -> np.ndarray:
        """A host copy; waits for the device."""
        return self._device.download(array)

    def empty(self, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        """An array with undefined contents."""
        return self._device.empty(shape, dtype)

    # Moves -------------------------------------------------------------------------------------------------------------------

    def fill(self, value: float, active: np.ndarray, out: DeviceArray) -> None:
        """Set every element of the active samples."""
        if out.dtype == np.bool_:
            self._launch.samples("fill_flags", active, sample_size(out), int(bool(value)), out)
        else:
            self._launch.samples("fill", active, sample_size(out), float(value), out, dtype=out.dtype)

    def copy_active(self, source: DeviceArray, active: np.ndarray, out: DeviceArray) -> None:
        """Copy the active samples."""
        if out.dtype.kind != "f":
            raise DTypeError("out", expected="an array of real numbers", got=out.dtype, hint="masks are written by gates")
        self._launch.samples("copy", active, sample_size(out), source, out, dtype=out.dtype)

    def flatten(self, parts: Sequence[DeviceArray], active: np.ndarray, out: DeviceArray) -> None:
        """Copy the states of a sample into one row."""
        at, width = 0, out.shape[1]
        for part in parts:
            size = sample_size(part)
            self._launch.samples("move", active, size, part, size, 0, out, width, at, dtype=out.dtype)
            at += size

    def unflatten(self, rows: DeviceArray, active: np.ndarray, parts: Sequence[DeviceArray]) -> None:
        """Copy one row into the states of a sample."""
        at, width = 0, rows.shape[1]
        for part in parts:
            size = sample_size(part)
            self._launch.samples("move", active, size, rows, width, at, part, size, 0, dtype=part.dtype)
            at += size

    # Gates -------------------------------------------------------------------------------------------------------------------

    def gate(
        self, u: DeviceArray, spec: GateSpec, active: np.ndarray, r: DeviceArray, mask: DeviceArray, d: DeviceArray
    ) -> None:
        """Advance one gate (D-1, D-2, D-3, D-4, D-10)."""
        shape, n = u.shape[1:], sample_size(u)
        threshold = self._threshold(spec, shape, u.dtype)
        compare, memory = COMPARE[spec.compare], MEMORY[spec.memory]
        delta_dtype, narrow = DELTA_DTYPE[spec.delta_dtype], FEEDBACK_FORMAT[spec.feedback_format]
        if spec.memory == "feedback" and spec.feedback_format == "bfloat16":
            self._narrow[id(d)] = d  # kept, so that its id stays its own
        grouped = positions.groups(shape, spec.granularity, spec.tile)
        if grouped is None:
            choices = compare, memory, delta_dtype, narrow
            self._launch.samples("gate", active, n, u, threshold, *choices, r, mask, d, dtype=u.dtype)
            self._workspace.watch.begin(r, mask, d)
            return
        numbers, groups = grouped
        group = self._workspace.constant(("group", shape, spec.granularity, spec.tile), lambda: numbers)
        any_sent = self._workspace.room("any", (len(u), groups), "int32")
        self._launch.tiles(
            "clear_words", max(1, min(1024, -(-any_sent.size // 256))), 256, any_sent.size, any_sent, dtype=u.dtype
        )
        self._launch.samples(
            "gate_decide", active, n, groups, u, threshold, group, compare, delta_dtype, r, any_sent, d, dtype=u.dtype
        )
        self._launch.samples("gate_share", active, n, groups, u, group, any_sent, memory, narrow, r, mask, d, dtype=u.dtype)
        self._workspace.watch.begin(r, mask, d)

    def _threshold(self, spec: GateSpec, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceArray:
        values = np.asarray(spec.threshold, dtype=dtype)
        key = "threshold", values.tobytes(), values.shape, shape, dtype.name
        return self._workspace.constant(key, lambda: np.broadcast_to(values, shape).reshape(-1))

    def count_sent(self, mask: DeviceArray, fan_out: Any, active: np.ndarray, out: np.ndarray) -> None:
        """Add the exact multiply-accumulates of the sent elements to `out` (C-1); waits for the device."""
        each = np.atleast_1d(np.asarray(fan_out, dtype=np.int64))
        shape = mask.shape[1:]
        factors = self._workspace.constant(("fan out", each.tobytes(), each.shape), lambda: each.reshape(-1))
        place = self._workspace.constant(("sites", each.shape, shape), lambda: positions.broadcast(each.shape, shape))
        counts = self._workspace.room("counts", (len(mask),), "int64")
        self._launch.samples("count_sent", active, sample_size(mask), mask, int(each.size > 1), factors, place, counts)
        found = self._device.download(counts)
        out[active] += found[active]
        if each.size == 1 and each[0] > 0:
            self._sums.ways.remember(mask, active, found // each[0])  # on the host already: choosing by it waits for nothing

    def count_nonzero(self, values: DeviceArray, active: np.ndarray, out: np.ndarray) -> None:
        """Add the number of elements that are not zero to `out` (C-3); waits for the device."""
        counts = self._workspace.room("counts", (len(values),), "int64")
        self._launch.samples("count_nonzero", active, sample_size(values), values, counts, dtype=values.dtype)
        out[active] += self._device.download(counts)[active]

    def note(self) -> str:
        """What was chosen so far for gated Gemm nodes (K4), for ``Solution.executor``."""
        return self._sums.ways.note()

    # Linear nodes ------------------------------------------------------------------------------------------------------------

    def accumulate_gemm(
        self,
        d: DeviceArray,
        mask: DeviceArray | None,
        weight: DeviceArray,
        attributes: Mapping[str, Any],
        active: np.ndarray,
        a: DeviceArray,
    ) -> None:
        """Accumulate of a Gemm (N-6, N-7, D-7)."""
        self._sums.gemm(active, d, mask, weight, bool(attributes["transB"]), a)

    def accumulate_conv(
        self,
        d: DeviceArray,
        mask: DeviceArray | None,
        weight: DeviceArray,
        attributes: Mapping[str, Any],
        active: np.ndarray,
        a: DeviceArray,
    ) -> None:
        """Accumulate of a Conv (N-6, N-7, D-7)."""
        self._sums.conv(active, d, mask, weight, attributes, a, is_narrow=id(d) in self._narrow)

    def add_bias(
        self, a: DeviceArray, bias: DeviceArray | None, alpha: float, beta: float, active: np.ndarray, out: DeviceArray
    ) -> None:
        """Output of a linear node from its accumulator (D-6, N-6)."""
        row = a if bias is None else self.spread(bias, a.shape[1:])
        arguments = a, float(alpha), row, float(beta), int(bias is not None), out
        self._launch.samples("add_bias", active, sample_size(a), *arguments, dtype=a.dtype)

    def fold_bias(self, s: DeviceArray, bias: DeviceArray, active: np.ndarray, a: DeviceArray) -> None:
        """Folded bias of the published code (D-6)."""
        self._launch.samples("fold_bias", active, sample_size(a), s, self.spread(bias, a.shape[1:]), a, dtype=a.dtype)

    def spread(self, parameter: DeviceArray, shape: tuple[int, ...]) -> DeviceArray:
        """A parameter written out for one sample of `shape`, in scratch room that the next call uses again."""
        own = parameter.shape[1:] if parameter.ndim == len(shape) + 1 else parameter.shape
        if own == shape:
            return parameter
        place = self._workspace.constant(("spread", own, shape), lambda: positions.broadcast(own, shape))
        room = self._workspace.room("spread", (1, *shape), parameter.dtype.name)
        one = np.ones(1, dtype=bool)
        self._launch.samples("gather", one, math.prod(shape), parameter, 0, place, room, dtype=parameter.dtype)
        return room

    # Residual and solver steps -----------------------------------------------------------------------------------------------

    def residual(
        self,
        f: Sequence[DeviceArray],
        z: Sequence[DeviceArray],
        norm: str,
        active: np.ndarray,
        residual: np.ndarray,
        scale: np.ndarray,
    ) -> None:
        """Residual and scale by the pinned tree (S-2); waits for the device."""
        batch, everyone, offset = len(f[0]), np.ones(len(f[0]), dtype=bool), 0
        lanes = self._workspace.room("lanes", (batch, _LANES), "float64")
        lanes_of_f = self._workspace.room("lanes of f", (batch, _LANES), "float64")
        norms = self._workspace.room("norms", (batch, 2), "float64")
        for room in (lanes, lanes_of_f):
            self._launch.samples("fill", everyone, _LANES, 0.0, room)
        for value, point in zip(f, z, strict=True):
            size = sample_size(value)
            arguments = value, point, offset, int(norm == "linf"), lanes, lanes_of_f
            self._launch.samples("residual_part", active, size, *arguments, dtype=value.dtype)
            offset += size
        self._launch.samples("residual_finish", active, 2, int(norm == "linf"), lanes, lanes_of_f, norms)
        found = self._device.download(norms)
        residual[active], scale[active] = found[active, 0], found[active, 1]

    def relax(self, z: DeviceArray, f: DeviceArray, alpha: float, active: np.ndarray, out: DeviceArray) -> None:
        """Krasnoselskii-Mann step (S-6)."""
        if alpha == 1.0:
            self.copy_active(f, active, out)
            return
        arguments = 1.0 - alpha, z, alpha, f, out
        self._launch.samples("relax", active, sample_size(out), *arguments, dtype=out.dtype)

    def inner(self, columns: Sequence[DeviceArray], row: DeviceArray, active: np.ndarray, out: np.ndarray) -> None:
        """Inner products by the pinned tree (S-7, S-8); waits for the device."""
        products = self._workspace.room("products", (len(row), len(columns)), "float64")
        for i, column in enumerate(columns):
            arguments = len(columns), i, column, row, products
            self._launch.samples("inner", active, sample_size(row), *arguments, dtype=row.dtype)
        if len(columns):
            out[active] = self._device.download(products)[active]

    def combine(self, columns: Sequence[DeviceArray], weights: np.ndarray, active: np.ndarray, out: DeviceArray) -> None:
        """Linear combinations in float64, rounded once (S-7, S-8)."""
        size = sample_size(out)
        total = self._workspace.room("total", out.shape, "float64")
        factors = self._device.upload(np.array(weights, dtype=np.float64, order="C"))
        self._launch.samples("fill", active, size, 0.0, total)
        for i, column in enumerate(columns):
            self._launch.samples("combine_add", active, size, len(columns), i, column, factors, total, dtype=out.dtype)
        self._launch.samples("combine_round", active, size, total, out, dtype=out.dtype)


def sample_size(array: DeviceArray) -> int:
    """Elements per sample of a (B, ...) array."""
    return math.prod(array.shape[1:])
