"""The machine and the software a report was made on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["environment"]


def environment(seconds: float, threads: int | None = None) -> dict[str, Any]:
    """Operating system, processor, Python, NumPy and its BLAS.

    Parameters
    ----------
    seconds : float
        How long the run took.
    threads : int, optional
        Tasks that were judged at the same time.

    Returns
    -------
    dict
        JSON-able; what the machine does not tell is null.

    Examples
    --------
    >>> environment(1.0)["seconds"]
    1.0
    """
    return {
        "os": platform.platform(),
        "machine": platform.machine(),
        "cpu": _processor(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": _blas(),
        "threads": threads,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(float(seconds), 2),
    }


def _processor(listing: Path = Path("/proc/cpuinfo")) -> str | None:
    """Model of the processor; ``platform.processor()`` is empty on Linux."""
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or None


def _blas() -> str | None:
    """The BLAS NumPy was built with: dense products of the reference go through it."""
    built = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    text = f"{built.get('name', '')} {built.get('version', '')}".strip()
    return text or None
