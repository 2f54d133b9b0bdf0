"""The record of the CuPy backend: what it declares, whether it can run here, what it hands out."""

from __future__ import annotations

import functools
import importlib.util
import os
from typing import TYPE_CHECKING

from refdeq_gpu.backend import GpuBackend

if TYPE_CHECKING:
    from refdeq_gpu.device import Device

__all__ = ["CupyBackend", "device", "is_simulated", "offer"]


def is_simulated() -> bool:
    """Whether kernels run on the CPU, because ``REFDEQ_CUPY_SHIM`` is set to something other than 0."""
    return os.environ.get("REFDEQ_CUPY_SHIM", "0") not in ("", "0")


@functools.cache
def device() -> Device:
    """The device of this process, real or simulated."""
    if is_simulated():
        from refdeq_cupy.simulated import ShimDevice

        return ShimDevice()
    from refdeq_cupy.device import CupyDevice

    return CupyDevice()


class CupyBackend(GpuBackend):
    """CUDA C++ kernels through CuPy, which is imported by the first call that needs it.

    Examples
    --------
    >>> CupyBackend().info.orders
    ('strict', 'fast')
    """

    def __init__(self) -> None:
        summary = "CUDA C++ kernels through CuPy: every operator, fused plans for whole solves"
        super().__init__("cupy", summary, is_simulated())

    def open(self) -> Device:
        """The device of this process, which the backends of all precisions share."""
        return device()

    def unavailable(self) -> tuple[str, str] | None:
        """Return None when it can run here, else (reason, hint)."""
        if is_simulated():
            from refdeq_cupy.loader import compiler

            return None if compiler() else ("REFDEQ_CUPY_SHIM is set, which needs Linux and the compiler g++", "install g++")
        if importlib.util.find_spec("cupy") is None:
            return "cupy is not installed", "pip install 'refdeq[cuda13]', or set REFDEQ_CUPY_SHIM=1 to simulate"
        from refdeq_cupy.device import problem

        return problem()


def offer() -> CupyBackend:
    """The record that the entry point returns."""
    return CupyBackend()
