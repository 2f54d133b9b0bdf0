"""What convolutions over tiles read: differences packed with channels last, and lists of what reaches which tile (K3).

Convolutions that read one value share its gate (D-10), so their differences are the same arrays: the update and the reset gate
of a ConvGRU, say. What is packed of them is kept for the next call. It is used again exactly if

- the call reads the same arrays, of the same samples (the same list of rows), packed in the same way: groups and precision;
- the arrays are those of the gate that advanced last: differences and decisions, or its references, which a start or a refresh
  adds densely;
- since then no kernel was launched that may have written to them (:class:`refdeq_gpu.watching.Watch`), be it one that fills or
  copies; of a kernel that is not known to read only this is assumed.

The lists depend on the taps too; they are kept for calls whose geometry is the same but for the outputs. Samples that are final
are no rows, so that freezing changes the list of rows and everything is packed anew. Nothing is decided here: decisions,
accumulators and counts are those of each edge.
"""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.device import Device
from refdeq_gpu.plans.conv_geometry import WORD, Geometry
from refdeq_gpu.watching import Watch
from refdeq_gpu.workspace import Workspace

__all__ = ["TileLists"]

_THREADS, _LISTERS, _MOST_BLOCKS = 256, 128, 1 << 16


class TileLists:
    """Packs differences and lists what reaches which tile, in scratch room of its own.

    Parameters
    ----------
    device : Device
    everything : bool
        List every tile and word, whatever is sent.
    watch : Watch or None
        None packs and lists anew in every call.
    """

    def __init__(self, device: Device, everything: bool, watch: Watch | None) -> None:
        self._device, self._workspace, self._everything, self._watch = device, Workspace(device), everything, watch
        self._sources: tuple[object, ...] = (None,) * 4  # held, so that nothing else can be taken for one of them
        self._way: tuple[int, int, bool] | None = None
        self._packed: tuple[DeviceArray, DeviceArray, DeviceArray] | None = None
        self._listed: tuple[Geometry, tuple[DeviceArray, ...]] | None = None
        self._number: DeviceArray | None = None
        self._possible = 0

    def of(
        self, rows: DeviceArray, count: int, d: DeviceArray, mask: DeviceArray | None, geometry: Geometry, is_narrow: bool
    ) -> tuple[DeviceArray, DeviceArray, tuple[DeviceArray, ...]]:
        """Packed differences, bits of what is sent, and (codes, lengths, jobs, numbers); valid until the next call.

        Parameters are those of :meth:`refdeq_gpu.plans.conv.TileConv.accumulate`; `is_narrow` packs pairs of bfloat16 numbers.
        """
        token = None if self._watch is None else self._watch.token(d, mask)
        sources, way = (rows, d, mask, token), (count, geometry.group, is_narrow)
        is_same = token is not None and all(one is other for one, other in zip(sources, self._sources, strict=True))
        if not is_same or way != self._way:
            self._packed = self._listed = None
            self._sources, self._way = sources, way
        if self._packed is None:
            self._packed = self._pack(rows, count, d, mask, geometry, is_narrow)
        delta, sent, strips = self._packed
        reached = replace(geometry, outputs=0)
        if self._listed is None or self._listed[0] != reached:
            self._listed = None
            self._listed = reached, self._list(count, strips, geometry, d.dtype)
        return delta, sent, self._listed[1]

    def share(self) -> float:
        """Share of all (tile, tap, word) that the last call listed; waits for the device. 1.0 before the first call."""
        if self._number is None or self._possible == 0:
            return 1.0
        return float(self._device.download(self._number)[1]) / self._possible

    def _pack(
        self, rows: DeviceArray, count: int, d: DeviceArray, mask: DeviceArray | None, geometry: Geometry, is_narrow: bool
    ) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
        room, words, sites = self._workspace.room, geometry.words * geometry.group, geometry.height * geometry.width
        sent = room("sent", (count, sites, words), "int32")
        strips = room("strips", (count, geometry.in_tiles, words), "int32")
        if is_narrow:
            kernel, delta = "tile_pack_bf16", room("pairs", (count, sites, words * WORD // 2), "int32")
        else:
            kernel, delta = "tile_pack", room("delta", (count, sites, words * WORD), d.dtype.name)
        flags = room("flags", (1,), "bool") if mask is None else mask
        arguments = rows, count, *astuple(geometry), int(mask is not None), d, flags, delta, sent, strips
        self._launch(kernel, count * geometry.in_tiles * words, _THREADS, *arguments, dtype=d.dtype)
        return delta, sent, strips

    def _list(self, count: int, strips: DeviceArray, geometry: Geometry, dtype: Any) -> tuple[DeviceArray, ...]:
        room, jobs = self._workspace.room, count * geometry.tiles * geometry.group
        codes, length = room("list", (jobs, geometry.codes), "int32"), room("length", (jobs,), "int32")
        arguments = count, *astuple(geometry), int(self._everything), strips, codes, length
        self._launch("tile_list", jobs, _LISTERS, *arguments, dtype=dtype)
        job, number = room("job", (jobs,), "int32"), room("number", (2,), "int64")
        self._launch("tile_jobs", 1, _LISTERS, jobs, length, job, number, dtype=dtype)
        self._number, self._possible = number, jobs * geometry.codes
        return codes, length, job, number

    def _launch(self, kernel: str, blocks: int, threads: int, *arguments: DeviceArray | int, dtype: Any) -> None:
        self._device.launch(kernel, min(blocks, _MOST_BLOCKS), threads, list(arguments), dtype=dtype)
