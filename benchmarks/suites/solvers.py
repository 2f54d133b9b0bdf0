"""Every solver on one recurrent cell, to one tolerance."""

from __future__ import annotations

from typing import Any, ClassVar

from suites.common import BACKENDS, Solves, Timed

SOLVERS = ("picard", "km", "anderson", "anderson(5)", "broyden")


class Recurrent(Solves):
    """64 samples of 64 units, dense, to a relative residual of 1e-3."""

    workload = "solvers"
    fixed: ClassVar = {"width": 64, "batch": 64}
    param_names: ClassVar = ["backend", "solver"]
    params: ClassVar = (BACKENDS, SOLVERS)

    def setup_cache(self) -> Any:
        return self.measure()


class RecurrentTime(Timed):
    """Seconds of the same."""

    param_names: ClassVar = Recurrent.param_names
    params: ClassVar = (BACKENDS, SOLVERS)

    def work(self) -> Recurrent:
        return Recurrent()
