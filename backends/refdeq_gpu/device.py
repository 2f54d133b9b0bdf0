"""What a device must offer to the host side of both GPU backends: memory, copies, launches.

Two backends implement it, each on the real device and simulated on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from refdeq_gpu.arrays import DeviceArray

__all__ = ["Device", "Size"]

Size = int | tuple[int, ...]
"""Blocks of a grid, or threads of a block: one to three numbers, x first."""


class Device(Protocol):
    """Memory, copies and launches of one device; all of it in order on one stream.

    Attributes
    ----------
    language : {"cuda", "cupy"}
        Column of :data:`refdeq_gpu.table.KERNELS`.
    is_simulated : bool
    max_shared : int
        Bytes of dynamic shared memory that one block may have.
    multiprocessors : int
        Of the device; results never depend on it.
    """

    language: str
    is_simulated: bool
    max_shared: int
    multiprocessors: int

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Memory with undefined contents; OutOfDeviceMemoryError when there is none left."""

    def upload(self, array: np.ndarray) -> DeviceArray:
        """A copy on the device of a host array."""

    def write(self, array: np.ndarray, out: DeviceArray) -> None:
        """Copy a host array of equal dtype and size into memory that is there."""

    def download(self, array: DeviceArray) -> np.ndarray:
        """A host copy; waits for everything launched before (the one synchronisation there is)."""

    def adopt(self, array: Any) -> DeviceArray:
        """An array of another library, without a copy where it lies on this device (CUDA array interface, then DLPack)."""

    def launch(
        self,
        kernel: str,
        grid: Size,
        block: Size,
        arguments: Sequence[DeviceArray | int | float],
        *,
        dtype: Any = "float64",
        shared: int = 0,
        is_cooperative: bool = False,
    ) -> None:
        """Launch a kernel of the table; scalars are converted as it says, `dtype` is its real type T.

        Raises
        ------
        LaunchError
            More threads, blocks or shared memory than the device has, or the kernel failed.
        """

    def resident_blocks(self, kernel: str, block: Size, *, dtype: Any = "float64", shared: int = 0) -> int:
        """Blocks of a cooperative kernel that fit on the device at once."""

    def synchronize(self) -> None:
        """Wait for everything launched before; LaunchError when some of it failed."""

    def describe(self) -> dict[str, str]:
        """Facts for ``refdeq info``: device, driver, versions; or what simulates it."""
