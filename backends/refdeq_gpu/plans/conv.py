"""K3: convolutions over lists of tiles: what is not sent is neither loaded nor multiplied, tile by tile (N-6, N-7, D-7).

A gate's result is packed with channels last, and for every strip of sites and every word of 32 channels one bit says whether
anything of it is sent. From these bits every tile of outputs gets the ascending list of (tap, word of channels) that may reach
it; tiles without any are left alone. Blocks then go through the listed tiles, each with its accumulators in registers from the
first word to the last. Every sum is formed by one thread in the order of the reference, so that strict order is bit-identical
whatever is listed: an empty word costs time and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError
from refdeq.registry import Plan, PlanRequest, Refusal
from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.device import Device
from refdeq_gpu.plans.conv_geometry import LEAST_CHANNELS, OUTPUTS, TILE_COLUMNS, TILE_ROWS, WORD, Geometry
from refdeq_gpu.plans.conv_lists import TileLists
from refdeq_gpu.watching import Watch

__all__ = ["Geometry", "TileConv", "offer"]

_THREADS = 256
_BLOCKS_PER_MULTIPROCESSOR = 2
_PARTS = {"float32": 0, "bfloat16": 1, "bfloat16x2": 2, "bfloat16x3": 3}
_LARGEST_BFLOAT16 = 2.0**127 * (2.0 - 2.0**-7)
_SITES = TILE_ROWS * TILE_COLUMNS


class TileConv:
    """Accumulates of Conv nodes over lists of tiles, on one device.

    Parameters
    ----------
    device : Device
    precision : {"float32", "bfloat16", "bfloat16x2", "bfloat16x3"}
        ``"bfloat16x3"``: in fast order and float32, differences that the caller knows to be bfloat16 numbers are multiplied on
        tensor cores, by weights that are sums of three such numbers (CUDA C++ only); of two with ``"bfloat16x2"``, of one with
        ``"bfloat16"``. All else is computed in its own dtype, as always with ``"float32"``.
    least_channels : int, optional
        Channels per group below which a convolution is not taken.
    everything : bool
        List every tile and word, whatever is sent: the dense ablation. Bits are the same.
    blocks : int, optional
        Grid of the accumulating kernel; results never depend on it.
    watch : Watch, optional
        Knows of every launch that may change what a gate wrote: what is packed and listed of it then serves every Conv that
        reads it in the same evaluation. Without it each packs and lists for itself: the ablation. Bits are the same.

    Attributes
    ----------
    lists : TileLists

    Examples
    --------
    ``TileConv(device).accumulate(rows, count, d, mask, weight, attributes, a, "strict")`` is False where the plain kernel has
    to do the work (see :meth:`Geometry.refusal`), and True when the work is under way.
    """

    def __init__(
        self,
        device: Device,
        *,
        precision: str = "float32",
        least_channels: int = LEAST_CHANNELS,
        everything: bool = False,
        blocks: int | None = None,
        watch: Watch | None = None,
    ) -> None:
        if precision not in _PARTS:
            raise ArgumentError("precision", expected=f"one of {', '.join(_PARTS)}", got=precision)
        self._device, self._parts, self._least_channels = device, _PARTS[precision], least_channels
        self.lists = TileLists(device, everything, watch)
        self._blocks = blocks or _BLOCKS_PER_MULTIPROCESSOR * device.multiprocessors
        self._packed: dict[tuple[int, int, bool], tuple[DeviceArray, DeviceArray]] = {}
        self._narrow: dict[int, tuple[DeviceArray, bool]] = {}

    def accumulate(
        self,
        rows: DeviceArray,
        count: int,
        d: DeviceArray,
        mask: DeviceArray | None,
        weight: DeviceArray,
        attributes: Mapping[str, Any],
        a: DeviceArray,
        order: str,
        *,
        is_narrow: bool = False,
    ) -> bool:
        """``a += Conv(d, weight)`` over the sent elements of the listed samples (N-6, N-7, D-7); False where it is not taken.

        Parameters
        ----------
        rows : (B,) int32
            The first `count` are the active samples, ascending.
        d, mask : (B, C, H, W)
            What a gate made; `d` is not read where `mask` is False. Without a mask everything is sent: a dense sum.
        weight : (M, C / group, kh, kw)
            A constant: another layout of it is kept as long as this object lives.
        attributes : mapping
            Of the Conv node.
        a : (B, M, oh, ow), changed in place
        order : {"strict", "fast"}
        is_narrow : bool
            The gate has feedback memory in bfloat16, so that `d` holds such numbers where something is sent (D-4). A dense sum
            is of the value itself, and is never narrow.
        """
        if d.ndim != 4:  # one spatial axis would fill an eighth of a tile
            return False
        geometry = Geometry.of(d.shape, weight.shape, a.shape, attributes)
        if geometry.refusal(self._least_channels) is not None or geometry.is_too_large(count):
            return False
        on_tensor_cores = is_narrow and mask is not None and self._may_narrow(weight, order)
        shared = self._shared(a.dtype, on_tensor_cores)
        if shared > self._device.max_shared:
            return False
        if count == 0:
            return True
        narrow = {1: "_bf16", 2: "_bf16x2", 3: "_bf16x3"}
        kind = narrow[self._parts] if on_tensor_cores else "_fma" if order == "fast" else ""
        delta, sent, lists = self.lists.of(rows, count, d, mask, geometry, on_tensor_cores)
        packed = self._weight(weight, geometry, on_tensor_cores)
        arguments = [rows, count, *astuple(geometry), delta, sent, packed, *lists, a]
        grid = min(self._blocks, count * geometry.tiles * geometry.group * geometry.blocks)
        self._device.launch(f"conv_tiles{kind}", grid, _THREADS, arguments, dtype=a.dtype, shared=shared)
        return True

    def listed_share(self) -> float:
        """Share of all (tile, tap, word) that the last call listed; waits for the device. 1.0 before the first call."""
        return self.lists.share()

    def _may_narrow(self, weight: DeviceArray, order: str) -> bool:
        """Whether tensor cores may multiply: by a weight whose parts are finite, because zeros are multiplied too (D-7)."""
        if self._parts == 0 or order != "fast" or weight.dtype != np.float32 or self._device.language != "cupy":
            return False
        kept = self._narrow.get(id(weight))
        if kept is None or kept[0] is not weight:
            kept = self._narrow[id(weight)] = weight, bool((np.abs(self._device.download(weight)) <= _LARGEST_BFLOAT16).all())
        return kept[1]

    def _weight(self, weight: DeviceArray, geometry: Geometry, is_narrow: bool) -> DeviceArray:
        """The weight with outputs together (or in three parts), in whole words and blocks; kept as long as the weight."""
        key = id(weight), geometry.group, is_narrow
        kept = self._packed.get(key)
        if kept is not None and kept[0] is weight:
            return kept[1]
        inputs, outputs = geometry.words * WORD, geometry.blocks * OUTPUTS
        sizes: tuple[int, ...] = geometry.outputs, geometry.inputs, geometry.taps, geometry.group, inputs, outputs
        if is_narrow:
            kernel, shape, dtype = (
                "tile_weight_bf16",
                (geometry.group * geometry.taps, inputs // 2, self._parts, outputs),
                "int32",
            )
            sizes = *sizes, self._parts
        else:
            kernel, shape, dtype = "tile_weight", (geometry.group * geometry.taps, inputs, 1, outputs), weight.dtype.name
        packed = self._device.empty(shape, dtype)
        self._launch(kernel, -(-packed.size // _THREADS), _THREADS, *sizes, weight, packed, dtype=weight.dtype)
        self._packed[key] = weight, packed
        return packed

    def _shared(self, dtype: np.dtype[Any], is_narrow: bool) -> int:
        """Bytes of dynamic shared memory of the accumulating kernel: its stages; those of Numba-CUDA have static memory only.

        A stage has rows of sites, 16 bytes longer than what they hold, weights, and one word of bits per site.
        """
        if self._device.language != "cupy":
            return 0
        if is_narrow:
            return 3 * (_SITES * (64 + 16) + self._parts * OUTPUTS * (64 + 16) + _SITES * 4)
        return 2 * (_SITES * (128 + 16) + 128 * OUTPUTS + _SITES * 4)

    def _launch(self, kernel: str, blocks: int, threads: int, *arguments: DeviceArray | int, dtype: Any) -> None:
        self._device.launch(kernel, min(blocks, 1 << 16), threads, list(arguments), dtype=dtype)


def offer(request: PlanRequest, device: Device, precision: str = "float32") -> Plan | Refusal:
    """There is no whole-solve plan of convolutions: they are reached node by node, through :class:`TileConv`.

    Parameters
    ----------
    request : PlanRequest
    device : Device
    precision : str
    """
    if any(node.op == "Conv" for node in request.graph.linear_nodes):
        return Refusal("convolutions are evaluated node by node, over lists of tiles")
    return Refusal("the graph has no convolutions")
