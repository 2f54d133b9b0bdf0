"""What becomes of a file of a GPU run: goals judged, results stored for asv, nothing made of simulated runs."""

import json
import math
import subprocess

import pytest

from benchmarks.gpu import goals, import_asv
from benchmarks.gpu.comparing import Variant, compare
from benchmarks.gpu.records import Measurement, Run, load
from benchmarks.gpu.setup import Setup
from benchmarks.gpu.timing import Settings, SimulatedClock
from benchmarks.suites.gpu import POINTS
from refdeq.errors import UnsupportedError


def stored(path, *, simulated=False, commit=None, **changes):
    """A file with one baseline and one ratio of G3."""
    facts = {
        "simulated": simulated,
        "python": "3.12.3",
        "versions": {"torch": "2.11.0"},
        "device": {"name": "made up", "sms": 8},
    }
    run = Run(path, facts)
    if commit is not None:
        run.facts["commit"] = commit
    baseline = run.add(Measurement("G3/d0.10/graph", "batch 1", "torch", "graph", time_us={"median": 9.0}))
    ratio = {"median": 4.0, "low": 3.9, "high": 4.1}
    known = {"goal": "G3", "baseline_id": baseline.id, "ratio": ratio, "spread": 0.1}
    run.add(Measurement("G3/d0.10/k1", "batch 1", "cupy", "k1", **{**known, **changes}))
    run.finish_phase("batch 1", 1.0)
    return load(path)


def state(run, goal="G3"):
    [outcome] = [outcome for outcome in goals.evaluate([run]) if outcome.goal.id == goal]
    return outcome.state, outcome.figures


def test_a_ratio_meets_its_goal_or_misses_it(tmp_path):
    assert state(stored(tmp_path / "a.json")) == ("met", "d0.10: 4")
    assert state(stored(tmp_path / "b.json", ratio={"median": 3.1, "low": 3, "high": 3.2}))[0] == "missed"


def test_a_ratio_within_its_noise_is_no_figure(tmp_path):
    # 4 is a gain of 3, a third of it is 1
    assert state(stored(tmp_path / "a.json", spread=1.01)) == ("not run", "d0.10: not run")
    assert state(stored(tmp_path / "b.json", spread=0.99))[0] == "met"


def test_simulated_runs_say_nothing(tmp_path):
    run = stored(tmp_path / "a.json", simulated=True)
    assert state(run) == ("not measured", "")
    with pytest.raises(UnsupportedError, match="simulated"):
        import_asv.figures(run)


def test_without_runs_every_goal_is_not_measured():
    outcomes = goals.evaluate([])
    assert [outcome.goal.id for outcome in outcomes] == [f"G{i}" for i in range(1, 18)]
    assert {(outcome.state, outcome.figures) for outcome in outcomes} == {("not measured", "")}


def test_the_places_in_the_suite_are_the_points_of_the_goals():
    assert list(POINTS) == [f"{goal.id}/{point}" for goal in goals.GOALS for point in goal.demands]


def test_ids_are_unique_and_a_file_is_never_half_written(tmp_path):
    stored(tmp_path / "a.json")
    run = Run(tmp_path / "b.json", {"simulated": True})
    run.add(Measurement("x", "w", "cupy", "v"))
    with pytest.raises(ValueError, match="'x' is there already"):
        run.add(Measurement("x", "w", "cupy", "v"))
    run.finish_phase("one", 1.0)
    run.facts["bad"] = object()
    with pytest.raises(TypeError, match="JSON"):
        run.finish_phase("two", 1.0)
    assert [phase["name"] for phase in load(tmp_path / "b.json")["phases"]] == ["one"]


def test_a_number_that_json_lacks_costs_no_file_and_meets_no_goal(tmp_path):
    run = Run(tmp_path / "a.json", {"simulated": False})
    run.add(Measurement("x/error", "w", "cupy", "v", goal="G17", error={"figure": float("nan")}))
    run.finish_phase("one", 1.0)
    stored_run = load(tmp_path / "a.json")
    assert stored_run["measurements"][0]["error"] == {"figure": None}
    [outcome] = [outcome for outcome in goals.evaluate([stored_run]) if outcome.goal.id == "G17"]
    assert outcome.state == "not run"


def test_what_fails_within_a_phase_is_its_problem_and_takes_nothing_with_it(tmp_path):
    setup, run = Setup(True, SimulatedClock(), Settings()), Run(tmp_path / "a.json", {"simulated": True})

    def broken():
        raise RuntimeError("an illegal address")

    variants = [Variant("baseline", "torch", broken), Variant("one", "cupy", int), Variant("two", "cuda", int)]
    samples = compare(setup, run, "here", "w", variants, "vs_graph_dense", {})
    run.finish_phase("one", 1.0)
    found = load(tmp_path / "a.json")
    assert set(samples) == {"one", "two", "again"}
    assert found["phases"][0]["problem"] == "here/baseline: RuntimeError: an illegal address"
    assert [(entry["id"], entry["baseline_id"], entry["ratio_kind"]) for entry in found["measurements"]] == [
        ("here/one", "", ""),
        ("here/two", "", ""),
    ]


def test_figures_become_results_of_asv(tmp_path):
    root = import_asv.HERE.parent
    head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    if not head:
        pytest.skip("not a git repository: asv needs commits")
    stored(tmp_path / "a.json", commit=head)
    results = tmp_path / "results"
    results.mkdir()
    path = import_asv.import_run(tmp_path / "a.json", "made-up", results)
    entry = json.loads(path.read_text())["results"][import_asv.BENCHMARK]
    values = dict(zip(POINTS, entry[0], strict=True))
    assert values["G3/d0.10"] == 4.0
    assert all(math.isnan(value) for point, value in values.items() if point != "G3/d0.10")
    assert import_asv.BENCHMARK in json.loads((results / "benchmarks.json").read_text())
    assert json.loads((results / "made-up" / "machine.json").read_text())["cpu"] == "made up"


def test_an_unknown_commit_is_refused(tmp_path, capsys):
    stored(tmp_path / "a.json", commit="0" * 40)
    assert import_asv.main([str(tmp_path / "a.json"), "--machine", "made-up", "--results", str(tmp_path)]) == 2
    assert "is not in this repository" in capsys.readouterr().err


def test_the_page_shows_the_table_of_the_stored_runs():
    root = import_asv.HERE.parent
    runs = [load(path) for path in sorted((root / "benchmarks/results/gpu").glob("*.json"))]
    page = (root / "docs/performance-gpu.md").read_text(encoding="utf-8")
    shown = page.partition("<!-- goals")[2].partition("-->")[2].partition("<!--")[0].strip()
    assert shown == goals.table(goals.evaluate(runs))
