"""Solves that stay on the device, to be timed: what a plan launches is recorded once and launched again.

A plan takes host arrays and gives host arrays; on a GPU the copies would cost more than the solve. So it runs once on a device
that notes every launch and every read in between. A replay restores what the solve changed, by copies on the device, and
launches the same kernels with the same arguments; reads that the plan waits for are made again. Results are those of the plan.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.device import Device, Size
from refdeq_gpu.plans import rows_steps

__all__ = ["RecordingDevice", "Replay"]


class RecordingDevice:
    """A device that passes everything on and notes what a solve does.

    Parameters
    ----------
    device : Device
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self.events: list[tuple[str, Any]] = []
        self.uploaded: list[tuple[DeviceArray, np.ndarray]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def upload(self, array: np.ndarray) -> DeviceArray:
        """Upload, and remember what was there at first."""
        out = self._device.upload(array)
        self.uploaded.append((out, np.array(array)))
        return out

    def write(self, array: np.ndarray, out: DeviceArray) -> None:
        """Write, and remember what was there at first."""
        self._device.write(array, out)
        self.uploaded.append((out, np.array(array)))

    def download(self, array: DeviceArray) -> np.ndarray:
        """Read; the solve waits for it."""
        self.events.append(("read", array))
        return self._device.download(array)

    def launch(
        self, kernel: str, grid: Size, block: Size, arguments: Sequence[DeviceArray | int | float], **options: Any
    ) -> None:
        """Launch."""
        self.events.append(("launch", ((kernel, grid, block, list(arguments)), options)))
        self._device.launch(kernel, grid, block, arguments, **options)

    @contextlib.contextmanager
    def products(self) -> Iterator[None]:
        """Note products of the library too, which go past the device."""
        multiply: Any = rows_steps._library_product

        def noted(_: Device, *arguments: Any) -> None:
            self.events.append(("product", arguments))
            multiply(self._device, *arguments)

        rows_steps._library_product = noted  # type: ignore[assignment]
        try:
            yield
        finally:
            rows_steps._library_product = multiply


class Replay:
    """One recorded solve.

    Parameters
    ----------
    recorder : RecordingDevice
        After one run of a plan on it.

    Attributes
    ----------
    launches, reads : int
        Per solve.
    """

    def __init__(self, recorder: RecordingDevice) -> None:
        self._device = recorder._device
        last = max(i for i, (kind, _) in enumerate(recorder.events) if kind != "read")
        self._events = recorder.events[: last + 1]  # what is read after the last launch are the results
        self.reads = sum(kind == "read" for kind, _ in self._events)
        self.launches = len(self._events) - self.reads
        self._changed = [
            (array, self._device.upload(before))
            for array, before in recorder.uploaded
            if before.size and not _same_bits(self._device.download(array), before)
        ]

    def __call__(self) -> None:
        """Solve once more; nothing is waited for but what the plan reads."""
        for array, before in self._changed:
            _copy(self._device, before, array)
        for kind, event in self._events:
            if kind == "read":
                self._device.download(event)
            elif kind == "product":
                rows_steps._library_product(self._device, *event)
            else:
                arguments, options = event
                self._device.launch(*arguments, **options)


def _same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    return left.tobytes() == np.ascontiguousarray(right).tobytes()


def _copy(device: Device, source: DeviceArray, target: DeviceArray) -> None:
    """Copy on the device, in order on its stream."""
    size = source.size
    if device.is_simulated:
        device.write(device.download(source), target)
    elif device.language == "cupy":
        import cupy

        cupy.copyto(target.buffer[:size], source.buffer[:size])
    else:
        target.buffer[:size].copy_to_device(source.buffer[:size])
