"""What of ``cupy.cuda`` is used: the device, the runtime, the driver."""

from __future__ import annotations

import types

from ._memory import MemoryPool, OutOfMemoryError, alloc_pinned_memory
from ._raw import MAX_SHARED, MULTIPROCESSORS, CUDADriverError, occupancy
from ._streams import CUDARuntimeError, Event, Stream, get_current_stream, get_elapsed_time, synchronize_device

__all__ = ["Device", "Event", "MemoryPool", "Stream", "alloc_pinned_memory", "driver", "get_current_stream", "get_elapsed_time"]

memory = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError)


class Device:
    def __init__(self, device=None):
        self.id = 0 if device is None else int(device)
        self.compute_capability = "90"

    def synchronize(self):
        synchronize_device()


def _properties(device):
    return {
        "name": b"stand-in",
        "multiProcessorCount": MULTIPROCESSORS,
        "l2CacheSize": 50 << 20,
        "totalGlobalMem": 1 << 32,
    }


_ATTRIBUTES = {97: MAX_SHARED, 16: MULTIPROCESSORS}

runtime = types.SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    cudaDevAttrMaxSharedMemoryPerBlockOptin=97,
    cudaDevAttrMultiProcessorCount=16,
    getDeviceCount=lambda: 1,
    getDevice=lambda: 0,
    deviceGetAttribute=lambda attrib, device: _ATTRIBUTES[attrib],
    getDeviceProperties=_properties,
    driverGetVersion=lambda: 13000,
    runtimeGetVersion=lambda: 13000,
)
driver = types.SimpleNamespace(CUDADriverError=CUDADriverError, occupancyMaxActiveBlocksPerMultiprocessor=occupancy)
