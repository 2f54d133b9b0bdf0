"""Import and cold start: processes that have not run yet, and kernels that are not compiled yet."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import Any, ClassVar

from suites.common import BACKENDS, Cache, Tracked, order_of

SOLVE = """
import refdeq as rd
model = rd.models.load_trained("sine")
rule, stop = rd.DeltaRule(threshold=0.01), rd.StopRule(max_eval=31)
rd.solve(model.cell, model.x, delta=rule, stop=stop, backend={backend!r}, order={order!r})
"""


class Import(Tracked):
    """Whole processes, interpreter included: a bare one, what refdeq needs, refdeq, and refdeq with a backend."""

    workload = "start"
    fixed: ClassVar = {"what": "import"}
    param_names: ClassVar = ["backend"]
    params: ClassVar = (BACKENDS,)

    def setup_cache(self) -> Any:
        return self.measure()

    def track_import(self, cache: Cache, backend: str) -> float:
        """``import refdeq``, less the bare interpreter."""
        figures = cache[(backend,)].figures
        return figures["seconds of import refdeq"] - figures["seconds of python"]

    def track_needs(self, cache: Cache, backend: str) -> float:
        """What of it are NumPy and SciPy."""
        figures = cache[(backend,)].figures
        return figures["seconds of numpy and scipy"] - figures["seconds of python"]

    def track_with_backend(self, cache: Cache, backend: str) -> float:
        """The same with the backend loaded."""
        figures = cache[(backend,)].figures
        return figures[f"seconds of with {backend}"] - figures["seconds of python"]

    track_import.unit = track_needs.unit = track_with_backend.unit = "seconds"  # type: ignore[attr-defined]


class FirstSolve:
    """From nothing to the first solution (the sine cell, 200 samples), in a process of its own."""

    param_names: ClassVar = ["backend"]
    params: ClassVar = (BACKENDS,)
    timeout = 600

    def setup_cache(self) -> dict[str, tuple[float, float]]:
        """Run twice with an empty folder for compiled code: the first time compiles, the second time loads."""
        found = {}
        for backend in BACKENDS:
            try:
                code = SOLVE.format(backend=backend, order=order_of(backend))
            except NotImplementedError:
                continue
            with tempfile.TemporaryDirectory() as folder:
                found[backend] = _seconds(code, folder), _seconds(code, folder)
        return found

    setup_cache.timeout = 600  # type: ignore[attr-defined]

    def setup(self, cache: dict[str, tuple[float, float]], backend: str) -> None:
        """Skip a backend that cannot run."""
        order_of(backend)

    def track_cold(self, cache: dict[str, tuple[float, float]], backend: str) -> float:
        """Nothing compiled."""
        return cache[backend][0]

    def track_warm(self, cache: dict[str, tuple[float, float]], backend: str) -> float:
        """Compiled code on disk."""
        return cache[backend][1]

    track_cold.unit = track_warm.unit = "seconds"  # type: ignore[attr-defined]


def _seconds(code: str, folder: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder, env={**os.environ, "NUMBA_CACHE_DIR": folder})
    return time.perf_counter() - begin
