"""Gradients of one solution by every method; products with the Jacobian are the reference's, the solve is the backend's."""

from __future__ import annotations

from typing import Any, ClassVar

from suites.common import BACKENDS, Cache, Timed, Tracked

METHODS = ("ift", "neumann", "phantom", "jfb", "unrolled")


class Methods(Tracked):
    """32 samples of 32 units."""

    workload = "gradients"
    fixed: ClassVar = {"width": 32, "batch": 32}
    param_names: ClassVar = ["backend", "method"]
    params: ClassVar = (BACKENDS, METHODS)

    def setup_cache(self) -> Any:
        return self.measure()

    def track_cosine(self, cache: Cache, *point: Any) -> float:
        """Cosine of the angle to the exact gradient."""
        return cache[point].figures["cosine"]


class MethodsTime(Timed):
    """Seconds of the same."""

    param_names: ClassVar = Methods.param_names
    params: ClassVar = (BACKENDS, METHODS)

    def work(self) -> Methods:
        return Methods()
