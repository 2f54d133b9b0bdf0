"""The record of the CuPy backend: what it declares, whether it can run here, what it hands out."""

from __future__ import annotations

import functools
import importlib.util
import os
from typing import TYPE_CHECKING

from refdeq.registry import BackendInfo, Plan, PlanRequest, Refusal

if TYPE_CHECKING:
    from refdeq_gpu.device import Device
    from refdeq_gpu.kernels import GpuKernels

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


class CupyBackend:
    """CUDA C++ kernels through CuPy, which is imported by the first call that needs it.

    Attributes
    ----------
    info : BackendInfo
        What is declared; the summary says when the device is simulated.

    Examples
    --------
    >>> CupyBackend().info.orders
    ('strict', 'fast')
    """

    def __init__(self) -> None:
        summary = "CUDA C++ kernels through CuPy: every operator, fused plans for whole solves"
        self.info = BackendInfo(
            name="cupy",
            summary=f"{summary} (simulated on the CPU)" if is_simulated() else summary,
            orders=("strict", "fast"),
            dtypes=("float32", "float64"),
            determinism="R4",
            inactive_columns="skip",
            activation="strict",
            fused=True,
            simulated=is_simulated(),
        )

    @property
    def device(self) -> Device:
        """The device of all calls, opened by the first."""
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

    def kernels(self, *, order: str, threads: int) -> GpuKernels:
        """Return op-level primitives; `threads` has no effect on a device."""
        from refdeq_gpu.kernels import GpuKernels

        return GpuKernels(device(), order)

    def plan(self, request: PlanRequest) -> Plan | Refusal:
        """Return a fused plan for a whole solve, or say why there is none."""
        from refdeq_gpu.plans import make_plan

        return make_plan(request, device(), precision="float32")

    def describe(self) -> dict[str, str]:
        """Facts for ``refdeq info``."""
        return device().describe()


def offer() -> CupyBackend:
    """The record that the entry point returns."""
    return CupyBackend()
