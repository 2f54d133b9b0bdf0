"""The record of the Numba-CUDA backend: what it declares, whether it can run here, what it hands out."""

from __future__ import annotations

import importlib.util
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from refdeq_gpu.backend import GpuBackend

from refdeq_cuda.device import is_simulation_asked_for, open_device

if TYPE_CHECKING:
    from refdeq_gpu.device import Device

__all__ = ["CudaBackend", "offer"]

_HINT = "NUMBA_ENABLE_CUDASIM=1 simulates a device on the CPU"
_OLDEST_DRIVER = 12, 0


class CudaBackend(GpuBackend):
    """Kernels in Python for NVIDIA GPUs. Numba itself is imported by the first call that needs it.

    Examples
    --------
    >>> CudaBackend().info.orders
    ('strict', 'fast')
    """

    def __init__(self) -> None:
        summary = "Numba-CUDA: kernels in Python for every operator, fused plans for whole solves"
        super().__init__("cuda", summary, is_simulation_asked_for())

    def open(self) -> Device:
        """The current device of Numba, or the simulated one."""
        return open_device()

    def unavailable(self) -> tuple[str, str] | None:
        """Return None when it can run here, else (reason, hint)."""
        if importlib.util.find_spec("numba_cuda") is None:
            return "numba-cuda is not installed", "pip install 'refdeq[cuda13]'"
        if is_simulation_asked_for():
            missing = importlib.util.find_spec("greenlet") is None
            return ("the simulator needs greenlet", "pip install greenlet") if missing else None
        return _device_problem()


def _device_problem() -> tuple[str, str] | None:
    """Why there is no device, and what would help."""
    from numba import cuda
    from numba.cuda.cudadrv.driver import driver

    is_available: bool = cuda.is_available()
    if not is_available:
        error = getattr(driver, "initialization_error", None)
        reason = " ".join(str(error).split()) if error else "no CUDA device"
        return f"there is no CUDA device: {reason}", _HINT
    return _driver_problem(tuple(driver.get_version()), _toolkit_version())


def _toolkit_version() -> tuple[int, int]:
    """Version of the compiler that is installed; what it makes needs a driver as new."""
    try:
        major, minor = version("nvidia-nvvm").split(".")[:2]
    except PackageNotFoundError:
        return _OLDEST_DRIVER
    return int(major), int(minor)


def _driver_problem(driver: tuple[int, ...], needed: tuple[int, int]) -> tuple[str, str] | None:
    """Why a driver is too old, or None.

    >>> _driver_problem((12, 4), (13, 0))[0]
    'the driver is too old: it is for CUDA 12.4, and the toolkit is that of CUDA 13.0'
    """
    if driver >= needed:
        return None
    has, wants = f"CUDA {driver[0]}.{driver[1]}", f"CUDA {needed[0]}.{needed[1]}"
    reason = f"the driver is too old: it is for {has}, and the toolkit is that of {wants}"
    return reason, f"install a driver for {wants}, or an older toolkit; {_HINT}"


def offer() -> CudaBackend:
    """The backend's record."""
    return CudaBackend()
