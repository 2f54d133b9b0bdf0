"""Grids and blocks of the kernels of the op level, by the shapes that the table gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.device import Device
from refdeq_gpu.table import KERNELS, ROW_THREADS
from refdeq_gpu.workspace import Workspace

__all__ = ["Launcher", "flat_grid"]

FLAT_THREADS = 256
_MOST_BLOCKS = 1 << 20


def flat_grid(total: int, threads: int = FLAT_THREADS) -> int:
    """Blocks of a grid-stride kernel over `total` elements.

    >>> flat_grid(1000), flat_grid(1 << 40)
    (4, 1048576)
    """
    return max(1, min(_MOST_BLOCKS, -(-total // threads)))


class Launcher:
    """Launches kernels over the active samples of a batch.

    Parameters
    ----------
    device : Device
    workspace : Workspace
    """

    def __init__(self, device: Device, workspace: Workspace) -> None:
        self._device, self._workspace = device, workspace

    def samples(self, kernel: str, active: np.ndarray, n: int, *arguments: DeviceArray | float, dtype: Any = "float64") -> None:
        """Launch a flat, row or warp kernel whose first arguments are the active samples and their size; nothing for none."""
        rows, count = self._workspace.rows(active)
        if count == 0:
            return
        shape = KERNELS[kernel].shape
        takes_size = [argument.name for argument in KERNELS[kernel].arguments[:3]] == ["rows", "count", "n"]
        if takes_size and n == 0 and shape == "flat":
            return
        leading: list[DeviceArray | float] = [rows, count, *([n] if takes_size else [])]
        if shape == "flat":
            grid, block = flat_grid(count * n), FLAT_THREADS
        else:
            grid, block = count, ROW_THREADS if shape == "row" else 32
        self._workspace.watch.launched(kernel, arguments)
        self._device.launch(kernel, grid, block, [*leading, *arguments], dtype=dtype)

    def tiles(
        self, kernel: str, grid: Sequence[int] | int, block: Sequence[int] | int, *arguments: DeviceArray | float, dtype: Any
    ) -> None:
        """Launch a kernel with its own grid."""
        sizes = [part if isinstance(part, int) else tuple(part) for part in (grid, block)]
        self._workspace.watch.launched(kernel, arguments)
        self._device.launch(kernel, sizes[0], sizes[1], list(arguments), dtype=dtype)
