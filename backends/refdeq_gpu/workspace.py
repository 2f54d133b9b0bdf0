"""Memory of a device that is used again and again: index lists of active samples, position arrays, scratch room."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.device import Device
from refdeq_gpu.watching import Watch

__all__ = ["Workspace"]

_MASKS_KEPT = 16
"""Active masks whose index lists stay on the device: a loop alternates between few of them."""


class Workspace:
    """What the op level keeps on a device between calls; none of it is ever visible in a result.

    Parameters
    ----------
    device : Device

    Attributes
    ----------
    watch : Watch
        Told of every launch of this workspace's launchers.
    """

    def __init__(self, device: Device) -> None:
        self._device, self.watch = device, Watch()
        self._rows: OrderedDict[bytes, tuple[DeviceArray, int]] = OrderedDict()
        self._constants: dict[Any, DeviceArray] = {}
        self._rooms: dict[tuple[str, str], DeviceArray] = {}

    def rows(self, active: np.ndarray) -> tuple[DeviceArray, int]:
        """Ascending indices of the active samples, int32, on the device, and how many there are."""
        key = active.tobytes()
        found = self._rows.get(key)
        if found is None:
            rows = np.flatnonzero(active).astype(np.int32)
            found = self._device.upload(rows if len(rows) else np.zeros(1, dtype=np.int32)), len(rows)
            self._rows[key] = found
            if len(self._rows) > _MASKS_KEPT:
                self._rows.popitem(last=False)
        self._rows.move_to_end(key)
        return found

    def constant(self, key: Any, make: Callable[[], np.ndarray]) -> DeviceArray:
        """An array made once on the host and kept on the device under a key that says all it depends on."""
        found = self._constants.get(key)
        if found is None:
            found = self._constants[key] = self._device.upload(np.ascontiguousarray(make()))
        return found

    def room(self, name: str, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        """Scratch room with undefined contents; the room of a name is used again, and grows when it must."""
        size = max(1, math.prod(shape))
        found = self._rooms.get((name, dtype))
        if found is None or found.size < size:
            found = self._rooms[name, dtype] = self._device.empty((size,), dtype)
        return DeviceArray(found.buffer, shape, dtype, found.stream)
