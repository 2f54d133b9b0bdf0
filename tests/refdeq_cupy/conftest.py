"""Kernels of a test, compiled for the CPU."""

from __future__ import annotations

import ctypes
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from refdeq_cupy import loader

sys.path.insert(0, str(Path(__file__).parent))
collect_ignore_glob = ["stand_in/*"]  # run in processes of their own
if loader.compiler() is None:
    collect_ignore_glob.append("test_*.py")


class Kernels:
    """Kernels of one source, launched with arrays and numbers of NumPy types."""

    def __init__(self, folder, source, looks_for_races):
        for header in loader.SOURCES.glob("*.cuh"):
            shutil.copy(header, folder)
        (folder / "tried.cu").write_text(source, encoding="utf-8")
        self._library = loader.load(folder, "tried", "float", looks_for_races)

    def run(self, kernel, *arguments, grid=1, block=32, shared=0, is_cooperative=False, seed=0):
        """Run it and return what went wrong, or None."""
        values = []
        for value in arguments:
            is_array = isinstance(value, np.ndarray)
            values.append(ctypes.c_void_p(value.ctypes.data) if is_array else np.ctypeslib.as_ctypes_type(value.dtype)(value))
        sizes = [(size, 1, 1) if isinstance(size, int) else size for size in (grid, block)]
        return self._library.launch(kernel, *sizes, shared, values, is_cooperative, seed)


@pytest.fixture(scope="module")
def kernels(request, tmp_path_factory):
    """The kernels of ``SOURCE`` of a test module."""
    looks_for_races = getattr(request.module, "LOOKS_FOR_RACES", False)
    return Kernels(tmp_path_factory.mktemp("source"), request.module.SOURCE, looks_for_races)
