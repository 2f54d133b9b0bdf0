"""Sums of linear nodes on a device: lists of sent columns, dense products, convolutions (N-6, N-7, D-7)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from refdeq.ops.conv import conv_geometry
from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.device import Device
from refdeq_gpu.launching import Launcher, flat_grid
from refdeq_gpu.plans.conv import TileConv
from refdeq_gpu.ways import GemmWays
from refdeq_gpu.workspace import Workspace

__all__ = ["Sums"]

_LISTED_OUTPUTS, _DENSE_OUTPUTS, _DENSE_ROWS = 128, 32, 8
_MOST_BLOCKS_Y = 65535
"""Limit of CUDA; blocks go on to further entries of `rows`."""


class Sums:
    """Accumulates of Gemm, Conv and MatMul.

    Parameters
    ----------
    device : Device
    workspace : Workspace
    order : {"strict", "fast"}
        Strict order rounds every product and every sum; fast order has one fused multiply-add per term, in the same order.
    precision : {"float32", "bfloat16x3"}
        Of products on tensor cores, see :class:`refdeq_gpu.plans.conv.TileConv`.

    Attributes
    ----------
    ways : GemmWays
        Chooses how a gated Gemm is added (K4).
    """

    def __init__(self, device: Device, workspace: Workspace, order: str, precision: str = "float32") -> None:
        self._device, self._workspace, self._order = device, workspace, order
        self._tiles = TileConv(device, precision=precision, watch=workspace.watch)
        self._launch = Launcher(device, workspace)
        self.ways = GemmWays(device)
        self._suffix = "_fma" if order == "fast" else ""
        self._by_input: dict[int, tuple[DeviceArray, DeviceArray]] = {}

    def gemm(
        self, active: np.ndarray, d: DeviceArray, mask: DeviceArray | None, weight: DeviceArray, by_output: bool, a: DeviceArray
    ) -> None:
        """``a += d @ B`` over the sent columns; `by_output` says that the weight is stored as (N, K).

        Counts choose between two ways, which have the same bits.
        """
        if not active.any() or d.shape[1] == 0 or a.shape[1] == 0:
            return
        columns = self._stored_by_input(weight) if by_output else weight
        if mask is None or self.ways.choose(mask, active, a.dtype) == "dense":
            self.gemm_dense(active, d, mask, columns, a)
        else:
            self.gemm_listed(active, d, mask, columns, a)

    def gemm_dense(
        self, active: np.ndarray, d: DeviceArray, mask: DeviceArray | None, columns: DeviceArray, a: DeviceArray
    ) -> None:
        """The way over all columns; where there is a mask, a product is added only for what was sent. `columns` is (K, N)."""
        rows, count = self._workspace.rows(active)
        inner, n = columns.shape
        grid = -(-n // _DENSE_OUTPUTS), min(-(-count // _DENSE_ROWS), _MOST_BLOCKS_Y)
        flags = self._workspace.room("flags", (1,), "bool") if mask is None else mask
        arguments = rows, count, inner, n, d, int(mask is not None), flags, columns, a
        self._launch.tiles(f"gemm_dense{self._suffix}", grid, (_DENSE_OUTPUTS, _DENSE_ROWS), *arguments, dtype=a.dtype)

    def gemm_listed(self, active: np.ndarray, d: DeviceArray, mask: DeviceArray, columns: DeviceArray, a: DeviceArray) -> None:
        """The way over a list of each sample's sent columns. `columns` is (K, N)."""
        rows, count = self._workspace.rows(active)
        inner, n = columns.shape
        index = self._workspace.room("index", (len(d), inner), "int32")
        length = self._workspace.room("length", (len(d),), "int32")
        self._launch.samples("list_sent", active, inner, mask, index, length)
        grid = -(-n // _LISTED_OUTPUTS), min(count, _MOST_BLOCKS_Y)
        arguments = rows, count, inner, n, d, index, length, columns, a
        self._launch.tiles(f"gemm_listed{self._suffix}", grid, _LISTED_OUTPUTS, *arguments, dtype=a.dtype)

    def _stored_by_input(self, weight: DeviceArray) -> DeviceArray:
        """The (N, K) weight as (K, N): whole columns lie together. Kept as long as the weight, which nobody writes to."""
        kept = self._by_input.get(id(weight))
        if kept is not None and kept[0] is weight:
            return kept[1]
        height, width = weight.shape
        turned = self._device.empty((width, height), weight.dtype)
        grid = -(-width // 32), -(-height // 32)
        self._launch.tiles("transpose", grid, (32, 8), height, width, weight, turned, dtype=weight.dtype)
        self._by_input[id(weight)] = weight, turned
        return turned

    def conv(
        self,
        active: np.ndarray,
        d: DeviceArray,
        mask: DeviceArray | None,
        weight: DeviceArray,
        attributes: Mapping[str, Any],
        a: DeviceArray,
        is_narrow: bool = False,
    ) -> None:
        """``a += Conv(d, W)`` over the sent elements; one spatial axis is treated as an image of height 1.

        Images go over lists of tiles (K3), signals and convolutions of few channels over outputs, one after the other. Both add
        the same terms in the same order; only `is_narrow` (`d` holds bfloat16 numbers) may lead to tensor cores, where the
        precision says so.
        """
        rows, count = self._workspace.rows(active)
        if count == 0:
            return
        if self._tiles.accumulate(rows, count, d, mask, weight, attributes, a, self._order, is_narrow=is_narrow):
            return
        strides, before, _, dilations = conv_geometry(d.ndim - 2, attributes, weight.shape[2:])
        flat = d.ndim == 3
        image, target, taps = ((1, *x.shape[2:]) if flat else x.shape[2:] for x in (d, a, weight))
        steps, pads, spread = ((1, *strides), (0, *before), (1, *dilations)) if flat else (strides, before, dilations)
        geometry = d.shape[1], *image, a.shape[1], *target, *taps, *steps, *pads, *spread, attributes["group"]
        total = count * math.prod(a.shape[1:])
        sent = d if mask is None else mask
        masked = 0 if mask is None else 1
        flags = self._workspace.room("flags", (1,), "bool") if mask is None else sent
        arguments = rows, count, *geometry, masked, d, flags, weight, a
        self._launch.tiles(f"conv{self._suffix}", flat_grid(total), 256, *arguments, dtype=a.dtype)

    def matmul(
        self,
        active: np.ndarray,
        sizes: tuple[int, int, int, int],
        left: tuple[DeviceArray, int, DeviceArray],
        right: tuple[DeviceArray, int, DeviceArray],
        out: DeviceArray,
    ) -> None:
        """Matrix products of every sample: (products, height, inner, width); operands as (array, step, picks)."""
        rows, count = self._workspace.rows(active)
        total = count * sizes[0] * sizes[1] * sizes[3]
        if total == 0:
            return
        arguments = rows, count, *sizes, left[1], left[2], left[0], right[1], right[2], right[0], out
        self._launch.tiles(f"matmul{self._suffix}", flat_grid(total), 256, *arguments, dtype=out.dtype)
