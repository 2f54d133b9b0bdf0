"""What the phases share: devices, a clock, sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.gpu.timing import FEW, Clock, CupyClock, Settings, SimulatedClock
from refdeq.errors import RefdeqError
from refdeq.registry import load_backend

__all__ = ["Setup"]


@dataclass
class Setup:
    """Devices of both backends where they can run, and how to time on them.

    Attributes
    ----------
    is_simulated : bool
        Nothing is timed.
    clock : Clock
    settings : Settings
    backends : dict of name to Backend
    devices : dict of name to Device
    problems : list of str
        Backends that cannot run, with reasons.
    is_small : bool
        Tiny sizes, few samples: a try, whose figures mean nothing. Simulated devices have no other.
    """

    is_simulated: bool
    clock: Clock
    settings: Settings
    backends: dict[str, Any] = field(default_factory=dict)
    devices: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    is_small: bool = False

    def __post_init__(self) -> None:
        self.is_small |= self.is_simulated

    @classmethod
    def open(cls, is_simulated: bool, is_small: bool = False) -> Setup:
        """Open what there is; nothing is an error here."""
        backends, devices, problems = {}, {}, []
        for name in ("cupy", "cuda"):
            try:
                backends[name] = load_backend(name)
                devices[name] = backends[name].device  # type: ignore[attr-defined]  # both GPU backends have one
            except Exception as error:  # one backend that does not open leaves the other one
                backends.pop(name, None)
                problems.append(str(error) if isinstance(error, RefdeqError) else f"{name}: {type(error).__name__}: {error}")
        real = not is_simulated and "cupy" in devices
        clock: Clock = CupyClock() if real else SimulatedClock()
        settings = FEW if is_small else Settings()
        return cls(is_simulated, clock, settings, backends, devices, problems, is_small)

    def described(self) -> dict[str, dict[str, str]]:
        """What the backends say of themselves."""
        found = {}
        for name, backend in self.backends.items():
            try:
                found[name] = backend.describe()
            except Exception as error:
                self.problems.append(f"{name}: {type(error).__name__}: {error}")
        return found

    def answers(self) -> bool:
        """Whether the devices still work: after a fault of a kernel nothing runs in this process any more."""
        try:
            for device in self.devices.values():
                device.download(device.upload(np.zeros(1)))
        except Exception:
            return False
        return True

    @property
    def has_torch(self) -> bool:
        """Whether torch can compute on the device."""
        if self.is_simulated:
            return False
        try:
            import torch
        except ImportError:
            return False
        return bool(torch.cuda.is_available())
