"""Which kernels ran: one line per kernel and dtype, for the test that no kernel goes unjudged."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

__all__ = ["LaunchLog"]

VARIABLE = "REFDEQ_GPU_LAUNCH_LOG"
"""Environment variable that names the file; nothing is written without it."""


class LaunchLog:
    """Appends to a file that many processes may share; every kernel and dtype once per process.

    >>> LaunchLog().note("gate", "float32")
    """

    def __init__(self) -> None:
        self._path = os.environ.get(VARIABLE)
        self._seen: set[tuple[str, str]] = set()

    def note(self, kernel: str, dtype: Any) -> None:
        """Note a launch."""
        if self._path is None:
            return
        entry = kernel, np.dtype(dtype).name
        if entry in self._seen:
            return
        self._seen.add(entry)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(f"{entry[0]} {entry[1]}\n")
