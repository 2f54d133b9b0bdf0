"""The goals are the table of docs/performance.md as data, and outcomes follow from rows."""

from __future__ import annotations

import inspect

import pytest
from refdeq_bench.goals import GOALS, SECONDS, Demand, Goal, ablations, bandwidth_share, evaluate, jobs_of
from refdeq_bench.report import print_goals
from refdeq_bench.workloads import WORKLOADS

BY_ID = {goal.id: goal for goal in GOALS}


def row(ratio, *, median=1.0, quality=None, spread=0.01, others=()):
    figures = {"median": ratio, "low": 0.9 * ratio, "high": 1.1 * ratio}
    ours = {"name": "numba fast", "role": "ours", "median": median, "q1": median, "q3": median, "ratio": figures}
    return {"best": "numpy", "noise": {"spread": spread}, "contenders": [{**ours, "quality": quality or {}}, *others]}


def read(seconds, size):
    return {"name": "read (sum)", "role": "other", "median": seconds, "quality": {"bytes": size}}


def goal(*demands):
    return Goal("P0", "work", "required", demands)


def test_there_are_eleven_goals_in_order():
    assert [goal.id for goal in GOALS] == [f"P{n}" for n in range(1, 12)]


@pytest.mark.parametrize(
    ("name", "point", "required"),
    [
        ("P1", {"n": 8192, "dtype": "float64", "density": 0.1}, 11.0),
        ("P2", {"n": 1024, "density": 0.05}, 15.0),
        ("P3", {"samples": 65536, "pattern": "random", "density": 0.2}, 2.1),
        ("P4", {"pattern": "mixed", "density": 0.05}, 6.0),
        ("P4", {"pattern": "rows", "density": 0.1}, 9.0),
        ("P5", {"samples": 4096, "dtype": "float64", "density": 0.1}, 4.5),
        ("P6", {"kernel": "5x1", "pattern": "rows", "density": 0.1}, 8.0),
        ("P7", {"activation": "Sin", "density": 0.05}, 7.0),
        ("P8", {"rtol": None}, 3.0),
        ("P10", {"of": "conv"}, 0.4),
        ("P11", {"tau": 0.0}, 2e-6),
    ],
)
def test_requirements_are_those_of_the_table(name, point, required):
    [found] = (
        [d for d in BY_ID[name].demands if point.items() <= d.point.items()]
        if name != "P2"
        else [d for d in BY_ID[name].demands if d.point["density"] == point["density"]]
    )
    assert found.required == pytest.approx(required, rel=2.0**-52)  # 1.1 / 0.1 is rounded once
    assert bool(found.bandwidth) == (name == "P1")


def test_the_dispatcher_is_asked_at_every_density_and_at_odd_shapes():
    demands = BY_ID["P9"].demands
    assert {d.required for d in demands} == {0.95}
    assert {1.0, 0.9, 0.5, 0.1} <= {d.point["density"] for d in demands}
    assert any(d.point.get("inputs", 0) % 2 for d in demands)
    assert {d.workload for d in demands} == {"gemm", "conv"}
    assert "none" in {d.point.get("pattern") for d in demands}


@pytest.mark.parametrize("name", BY_ID)
def test_every_demand_is_a_point_that_its_workload_takes(name):
    for job in [*jobs_of(BY_ID[name], "numba"), ablations("numba")]:
        of = job.point.get("of", job.workload)
        known = set(inspect.signature(WORKLOADS[of].prepare).parameters) | {"of"}
        assert set(job.point) <= known
    budgets = [job.settings["budget_seconds"] for job in jobs_of(BY_ID[name], "numba")]
    assert sum(budgets) == pytest.approx(SECONDS, rel=len(budgets) * 2.0**-52)


def test_a_ratio_is_met_at_its_limit_and_missed_below():
    two = goal(Demand("gemm", {}, 2.0), Demand("gemm", {}, 2.0))
    first, second = evaluate(two, 1, {0: row(2.0), 1: row(1.999)}, {})
    assert (first.met, second.met) == (True, False)
    assert second.margin == 1.999 / 2.0
    assert (second.low, second.high, second.best) == (0.9 * 1.999, 1.1 * 1.999, "numpy")


def test_bandwidth_is_the_share_of_the_fastest_read():
    found = row(100.0, median=2.0, quality={"bytes": 8.0}, others=(read(4.0, 16.0), read(2.0, 10.0)))
    assert bandwidth_share(found) == 4.0 / 5.0
    wants = goal(Demand("gemv", {}, 1.0, bandwidth=0.8), Demand("gemv", {}, 1.0, bandwidth=0.85))
    met, missed = evaluate(wants, 1, {0: found, 1: found}, {})
    assert (met.met, missed.met) == (True, False)
    assert missed.margin == 0.8 / 0.85


def test_seconds_are_per_evaluation():
    python = {"name": "Python loop", "role": "baseline", "median": 5.0, "quality": {}}
    found = row(1.0, median=2.0, quality={"evaluations": 4.0}, others=(python,))
    fast, slow = evaluate(
        goal(Demand("sine", {}, 0.5, "seconds"), Demand("sine", {}, 0.4, "seconds")), 1, {0: found, 1: found}, {}
    )
    assert (fast.met, fast.value, fast.margin, slow.met) == (True, 0.5, 1.0, False)
    assert fast.details == {"Python loop": 1.25}


def test_what_was_not_measured_is_not_met_and_says_why():
    [outcome] = evaluate(goal(Demand("gemm", {}, 1.0)), 2, {}, {0: "no fused plan"})
    assert (outcome.met, outcome.reason, outcome.threads) == (None, "no fused plan", 2)


def test_the_table_says_met_missed_noisy_and_not_measured(capsys):
    by_name = {name: BY_ID[name] for name in ("P2", "P3", "P5", "P7")}
    rows = {name: [row(99.0, spread=0.5 if name == "P5" else 0.01) for _ in found.demands] for name, found in by_name.items()}
    rows["P3"][2] = row(0.5)
    outcomes = []
    for name, found in by_name.items():
        kept = {} if name == "P7" else dict(enumerate(rows[name]))
        outcomes += evaluate(found, 1, kept, dict.fromkeys(range(9), "no such plan"))
    print_goals(outcomes, 0.1)
    lines = capsys.readouterr().out.splitlines()
    last = {name: next(line for line in lines if line.startswith(f"│ {name} ")).split("│")[-2].strip() for name in by_name}
    assert last == {"P2": "met", "P3": "missed", "P5": "met, noisy", "P7": "not measured"}
    assert any("0.50x" in line and "3.3x" in line for line in lines)
