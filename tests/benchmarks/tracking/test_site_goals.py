"""Goals on the start page: figures as ``refdeq bench --goals --json`` writes them, or that there are none."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("asv", reason="asv is not installed: the site of benchmarks was not made")

from refdeq_bench.facts import collect_facts
from refdeq_bench.goals import GOALS, Outcome
from refdeq_bench.results import plain_outcome, result_of
from refdeq_bench.running import Findings

from benchmarks.site import goals, start
from benchmarks.site.stored import load
from refdeq.errors import FileFormatError

P1, P2, P3, P11 = (next(goal for goal in GOALS if goal.id == name) for name in ("P1", "P2", "P3", "P11"))
NOISE = {"median": 1.0, "q1": 0.99, "q3": 1.02, "spread": 0.02}


def outcomes_of(goal, threads, factors, **given):
    """One outcome per demand, as many times as good as required as `factors` say; None was not measured."""
    found = []
    for demand, factor in zip(goal.demands, factors, strict=True):
        if factor is None:
            found.append(Outcome(goal.id, threads, demand, None, reason="no time was left"))
            continue
        value = demand.required / factor if demand.figure == "seconds" else demand.required * factor
        found.append(
            Outcome(goal.id, threads, demand, factor >= 1, value, 0.9 * value, 1.1 * value, best="numpy", noise=0.03, **given)
        )
    return found


@pytest.fixture(scope="module")
def stored_goals(tmp_path_factory):
    outcomes = outcomes_of(P1, 1, [1.25] * len(P1.demands), share=0.9)
    outcomes += outcomes_of(P1, 2, [1.5] * len(P1.demands), share=0.95)
    outcomes += outcomes_of(P2, 1, [1.5, 0.5] + [2.0] * (len(P2.demands) - 2))
    outcomes += outcomes_of(P3, 1, [1.0, None] + [1.0] * (len(P3.demands) - 2))
    outcomes += outcomes_of(P11, 1, [2.0] * len(P11.demands))
    result = result_of(collect_facts(), [Findings(1, NOISE), Findings(2, NOISE)], [], 0.1)
    path = tmp_path_factory.mktemp("goals") / "goals.json"
    path.write_text(json.dumps({**result, "goals": list(map(plain_outcome, outcomes))}))
    return path


def row(stored_goals, name):
    return next(row for row in goals.load(stored_goals).rows if row.id == name)


def test_every_goal_has_a_row(stored_goals):
    assert [row.id for row in goals.load(stored_goals).rows] == [f"P{n}" for n in range(1, 12)]


@pytest.mark.parametrize(
    ("name", "verdict"), [("P1", "met"), ("P2", "missed"), ("P3", "not all measured"), ("P4", "not measured"), ("P11", "met")]
)
def test_verdicts(stored_goals, name, verdict):
    assert row(stored_goals, name).verdict == verdict


def test_the_worst_point_is_told_for_every_number_of_threads(stored_goals):
    one, two = row(stored_goals, "P1").figures
    assert one.startswith(f"1 thread: {len(P1.demands)} of {len(P1.demands)} points; nearest ")
    assert two.startswith("2 threads: ")
    assert "90% of bandwidth where" in one
    [line] = row(stored_goals, "P2").figures
    required = P2.demands[1].required
    assert f"{len(P2.demands) - 1} of {len(P2.demands)} points; farthest below {0.5 * required:.3g}x where" in line


def test_seconds_are_shown_as_such(stored_goals):
    assert "nearest 1 us where 2 us is required" in row(stored_goals, "P11").figures[0]


def test_every_point_is_listed(stored_goals):
    points = row(stored_goals, "P3").points
    assert [point[-1] for point in points] == ["met", "not measured"] + ["met"] * (len(P3.demands) - 2)
    assert points[1][goals.COLUMNS.index("measured")] == "no time was left"
    assert "density=0.3" in points[0][goals.COLUMNS.index("point")]


def test_the_page_shows_them(stored_goals, history, usual_values):
    page = start.render(load(history.store(usual_values)), goals.load(stored_goals))
    assert page.count('<span class="verdict missed">') == 1 + 1  # the goal and its point
    assert "torch" in page
    assert f"<summary>{2 * len(P1.demands)} points</summary>" in page


@pytest.mark.parametrize("text", ["{}", "[]", "no json", '{"schema": "refdeq-bench/2"}', '{"schema": "refdeq-bench/1"}'])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "goals.json").write_text(text)
    with pytest.raises(FileFormatError, match=r"goals\.json"):
        goals.load(tmp_path / "goals.json")
