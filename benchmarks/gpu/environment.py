"""What a run ran on: device, driver, clocks, versions, precision flags."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["facts", "sm_clock"]

PACKAGES = ("numpy", "scipy", "numba", "numba-cuda", "cupy-cuda13x", "torch", "torchdeq", "triton")


def facts(is_simulated: bool, is_small: bool = False) -> dict[str, Any]:
    """Facts for the head of the file."""
    found: dict[str, Any] = {
        "simulated": is_simulated,
        "small": is_small or is_simulated,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in PACKAGES},
    }
    if is_simulated:
        return found | {"device": {"name": "simulated on the CPU"}, "precision_flags": {}}
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    found["device"] = {
        "name": properties["name"].decode(),
        "sms": properties["multiProcessorCount"],
        "l2_mb": properties["l2CacheSize"] / 2**20,
        "memory_gb": properties["totalGlobalMem"] / 2**30,
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "sm_clock_before": sm_clock(),
    }
    found["precision_flags"] = _precision_flags()
    return found


def _precision_flags() -> dict[str, Any]:
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch

    return {
        "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def sm_clock() -> int | None:
    """Clock of the multiprocessors in MHz, as the driver tells; None where it does not."""
    command = ["nvidia-smi", "--query-gpu=clocks.sm", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = done.stdout.strip().splitlines()
    return int(text[0]) if done.returncode == 0 and text and text[0].strip().isdigit() else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
