"""What the backends of both languages offer in the same way, each on the devices of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

from refdeq.registry import BackendInfo, Plan, PlanRequest, Refusal

if TYPE_CHECKING:
    from refdeq_gpu.device import Device
    from refdeq_gpu.kernels import GpuKernels

__all__ = ["GpuBackend"]


class GpuBackend(ABC):
    """A GPU backend (see :class:`refdeq.registry.Backend`). Importing it is cheap; its first call opens the device.

    Parameters
    ----------
    name, summary : str
    is_simulated : bool
        Whether the device is simulated on the CPU.

    Attributes
    ----------
    info : BackendInfo
        What is declared; the summary says when the device is simulated.
    precision : str
        Declared arithmetic of products.
    """

    def __init__(self, name: str, summary: str, is_simulated: bool) -> None:
        self.precision = "float32"
        self.info = BackendInfo(
            name=name,
            summary=f"{summary} (simulated on the CPU)" if is_simulated else summary,
            orders=("strict", "fast"),
            dtypes=("float32", "float64"),
            determinism="R4",
            inactive_columns="skip",
            activation="strict",
            fused=True,
            simulated=is_simulated,
        )

    @abstractmethod
    def open(self) -> Device:
        """The device to compute on."""

    @abstractmethod
    def unavailable(self) -> tuple[str, str] | None:
        """Return None when it can run here, else (reason, hint)."""

    @cached_property
    def device(self) -> Device:
        """The device of all calls, opened by the first."""
        return self.open()

    def kernels(self, *, order: str, threads: int) -> GpuKernels:
        """Return op-level primitives in the declared precision; `threads` has no effect on a device."""
        from refdeq_gpu.kernels import GpuKernels

        return GpuKernels(self.device, order, precision=self.precision)

    def plan(self, request: PlanRequest) -> Plan | Refusal:
        """Return a fused plan in the declared precision for a whole solve, or say why there is none."""
        from refdeq_gpu.plans import make_plan

        return make_plan(request, self.device, precision=self.precision)

    def describe(self) -> dict[str, str]:
        """Facts for ``refdeq info``."""
        return self.device.describe()
