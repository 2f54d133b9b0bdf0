"""Throughput of the judge."""

from __future__ import annotations

from typing import Any, ClassVar

from suites.common import BACKENDS, Cache, Tracked


class Cases(Tracked):
    """Conformance cases of the smoke tier, evenly spread, in one process."""

    workload = "judge"
    fixed: ClassVar = {"tier": "smoke", "cases": 8}
    param_names: ClassVar = ["backend"]
    params: ClassVar = (BACKENDS,)

    def setup_cache(self) -> Any:
        return self.measure()

    def track_cases_per_second(self, cache: Cache, *point: Any) -> float:
        """All of a case: running it, replaying it, and its bounds."""
        figures = cache[point].figures
        return figures["cases"] / figures["seconds"]

    track_cases_per_second.unit = "cases/s"  # type: ignore[attr-defined]
