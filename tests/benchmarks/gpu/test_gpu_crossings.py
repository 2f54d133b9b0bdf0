"""Crossovers are measured, fitted and written; without a clock nothing is."""

import numpy as np
import pytest
from refdeq_cupy import loader
from refdeq_cupy.simulated import ShimDevice
from refdeq_gpu.plans.crossovers import Cost, costs_of

from benchmarks.gpu import crossings
from benchmarks.gpu.records import Run
from benchmarks.gpu.setup import Setup
from benchmarks.gpu.timing import Settings, SimulatedClock
from refdeq.errors import UnsupportedError

pytestmark = pytest.mark.skipif(loader.compiler() is None, reason="the simulated device needs g++")


class Launches:
    """A clock by which a call takes a microsecond, and every launch another one."""

    is_simulated = False

    def __init__(self, device):
        self.device = device

    def microseconds(self, call, replays):
        before = self.device.launches
        call()
        return 1.0 + self.device.launches - before


class CountingDevice(ShimDevice):
    launches = 0

    def launch(self, *arguments, **options):
        type(self).launches += 1
        super().launch(*arguments, **options)


def test_costs_are_measured_next_to_the_dense_way(tmp_path, monkeypatch):
    monkeypatch.setenv("REFDEQ_GPU_CROSSOVERS", str(tmp_path / "record.json"))
    monkeypatch.setattr(crossings, "FULL", crossings.SMALL)
    monkeypatch.setattr(crossings, "SHARES", (0.0, 1.0))
    device = CountingDevice()
    setup = Setup(False, Launches(device), Settings(0, 1, 1, 0.0), devices={"cupy": device})
    run = Run(tmp_path / "found.json", {})
    crossings.measure_all(setup, run, np.inf)
    run.finish_phase("crossings", 1.0)
    assert crossings.install(tmp_path / "found.json") == tmp_path / "record.json"
    for dtype in ("float32", "float64"):
        costs = costs_of(device.describe()["device"], dtype)
        assert costs.source == f"the run of {run.facts['started']}, commit {run.facts['commit']}"
        # one launch is dense, for no rows there is none; two for lists, whatever is in them; a dense Conv goes over tiles too
        assert costs.ways == {"row": Cost(0.5, 0.5), "axpy": Cost(1.5, 0.0), "tile": Cost(1.0, 0.0)}


def test_there_are_no_costs_where_nothing_is_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(crossings, "SHARES", (0.0, 1.0))
    setup = Setup(True, SimulatedClock(), Settings(), devices={"cupy": ShimDevice()})
    run = Run(tmp_path / "found.json", {})
    crossings.measure_all(setup, run, np.inf)
    run.finish_phase("crossings", 1.0)
    with pytest.raises(UnsupportedError, match="nothing was timed for a record of crossovers"):
        crossings.install(tmp_path / "found.json")
