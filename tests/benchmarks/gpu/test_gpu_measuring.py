"""All that a run on a device measures, on simulated devices with a clock that has made-up times: which goals get figures."""

import json

import numpy as np
import pytest
from refdeq_cupy import loader
from refdeq_cupy.simulated import ShimDevice

from benchmarks.gpu import baselines, batch, convolutions, goals, single
from benchmarks.gpu.records import Run, load
from benchmarks.gpu.setup import Setup
from benchmarks.gpu.timing import AGAIN, Settings, measure, ratio_of, spread_of

pytestmark = pytest.mark.skipif(loader.compiler() is None, reason="the simulated device needs g++")

LIBRARY, OURS = 8.0, 2.0


class Made:
    """A clock by which what the library does takes 8 microseconds, and everything else 2; everything is called once."""

    is_simulated = False

    def __init__(self):
        self.called = set()

    def microseconds(self, call, replays):
        if call not in self.called:
            call()
            self.called.add(call)
        return getattr(call, "made_up", OURS)


def of_library(*arguments):
    def call():
        pass

    call.made_up = LIBRARY
    return call


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The file of a whole run of small sizes, as on a device with both backends and the library."""
    path = tmp_path_factory.mktemp("run") / "measured.json"
    devices = {"cupy": ShimDevice(), "cuda": ShimDevice()}
    setup = Setup(False, Made(), Settings(0, 1, 1, 0.0), devices=devices, is_small=True)
    run = Run(path, {"simulated": False})
    run.ceilings["read_gbs"] = 1.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Setup, "has_torch", True)
        for name in ("Dense", "graph_solve", "eager_solve", "convolution"):
            patch.setattr(baselines, name, of_library)
        for phase in (single.measure_all, batch.measure_all, convolutions.measure_all, single.repeat_headlines):
            phase(setup, run, np.inf)
            run.finish_phase(phase.__name__, 1.0)
    return load(path)


def test_nothing_fails(measured):
    assert [phase["problem"] for phase in measured["phases"]] == [""] * 4


def test_every_point_of_every_goal_is_measured(measured):
    there = {
        f"{goal.id}/{point}"
        for goal in goals.GOALS
        for point in goal.demands
        if any(entry["goal"] == goal.id and point in entry["id"].split("/") for entry in measured["measurements"])
    }
    asked = {f"{goal.id}/{point}" for goal in goals.GOALS for point in goal.demands}
    assert asked - there == {
        f"{goal.id}/{point}" for goal in goals.GOALS for point in goal.demands if goal.id in goals.UNMEASURED
    }


def test_ratios_are_of_the_baseline_that_the_goal_names(measured):
    known = {entry["id"]: entry for entry in measured["measurements"]}
    names = {"G7": "graph tf32", "G8": "graph float32", "G11": "graph float32", "G12": "cudnn tf32", "G13": "cudnn float32"}
    names |= {"G1": "graph", "G2": "graph", "G3": "graph", "G15": "graph"}
    ratios = [entry for entry in known.values() if entry["ratio"] is not None]
    assert {entry["goal"] for entry in ratios} == {*names, "G4", ""}
    for entry in ratios:
        baseline = known[entry["baseline_id"]]
        assert entry["ratio_kind"] in ("vs_graph_dense", "vs_eager", "vs_own_dense", "vs_library")
        assert entry["goal"] == "G4" or baseline["variant"] == names.get(entry["goal"], baseline["variant"])
        expected = LIBRARY / OURS if baseline["backend"] == "torch" and entry["backend"] != "torch" else 1.0
        assert entry["ratio"]["median"] == expected


def test_figures_that_are_no_ratios(measured):
    figures = {entry["id"]: entry["error"] for entry in measured["measurements"] if "figure" in entry["error"]}
    budget = 3
    assert figures["single/n16384/d0.00/cuda/fixed"]["figure"] == OURS / budget
    assert figures["conv/gru/crossing"]["figure"] == 1.0  # faster than the library at every share
    assert figures["single/equal/K1"]["figure"] == 1.0
    n = 16384 // single.SHRINK
    sent = round(0.25 * n) * (budget - 1)  # from zero, so that nothing is sent at first
    assert figures["single/n16384/d0.25/bandwidth"]["figure"] == 4 * n * sent / OURS / 1e3


def test_what_is_fast_and_wrong_meets_no_goal(measured):
    entries = json.loads(json.dumps(measured["measurements"]))
    [goal] = [goal for goal in goals.GOALS if goal.id == "G8"]
    for entry in entries:
        if entry["goal"] == "G8":
            entry["error"]["vs_f64_fixedpoint"] = goal.limits["bf16x3"]
    assert goals.figure_of(goal, "bf16x3", entries) == LIBRARY / OURS
    for entry in entries:
        entry["error"]["vs_f64_fixedpoint"] = 1.01 * goal.limits["bf16x3"]
    assert goals.figure_of(goal, "bf16x3", entries) is None


def test_a_baseline_is_next_to_itself():
    times = iter([10.0] * 3 + [10.0, 5.0, 12.0])  # rounds of the first, the second, the first again

    class Clock:
        is_simulated = False

        def microseconds(self, call, replays):
            return next(times)

    samples = measure(Clock(), {"graph": int, "ours": int}, Settings(0, 1, 1, 0.0))
    assert list(samples) == ["graph", "ours", AGAIN]
    assert ratio_of(samples, "graph", "ours")["median"] == 2.0
    assert spread_of(samples) == 12.0 / 10.0 - 1.0
