"""What asv did is read back from its results; and commits are chosen, machines described, configurations derived."""

from __future__ import annotations

import json
import math
import platform
import shutil
import subprocess

import pytest

pytest.importorskip("asv", reason="asv is not installed: benchmarks are not tracked")

from benchmarks import run_commits, smoke, tracking
from benchmarks.site.stored import load
from refdeq.errors import ArgumentError

NAN = math.nan
OWN = ("reference", "numba")


def problems(history, values):
    return tracking.failures(load(history.store({"solves.Sine.track_ratio": values})), OWN)


def test_values_of_all_our_backends_are_no_problem(history):
    assert problems(history, [NAN, 1.0, 2.0, NAN, NAN, NAN]) == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([NAN] * 6, "nothing ran"),
        ([1.0, 1.0, NAN, NAN, 3.0, 3.0], "skipped for numba"),
        ([NAN, NAN, 2.0, 2.0, NAN, NAN], "skipped for reference"),
        ([1.0, 1.0, 2.0, None, NAN, NAN], "('numba', 0.5) failed"),
        (None, "('reference', 0.1) failed"),
    ],
)
def test_what_did_not_run_is_a_problem(history, values, said):
    found = problems(history, values)
    assert len(found) >= 3  # in every one of three runs
    assert all(any(commit[:8] in line and said in line for line in found) for commit in history.commits)


def test_no_results_are_a_problem(history):
    [said] = tracking.failures(load(history.config), OWN)
    assert "nothing ran" in said


@pytest.mark.parametrize(
    ("check", "values", "said"),
    [
        (1, [1.0] * 6, "asv check"),
        (0, None, "nothing ran"),
        (0, [NAN] * 6, "nothing ran"),
        (0, [1.0, 1.0, NAN, NAN, 1.0, 1.0], "skipped for numba"),
        (0, [1.0, 1.0, 1.0, 1.0, NAN, NAN], ""),
    ],
)
def test_a_smoke_run_looks_at_results_and_not_at_exit_codes(monkeypatch, history, check, values, said):
    """asv ends with 0 when everything was skipped; here it always does, and stores what the case says."""
    folder = history.folder / "smoke"
    folder.mkdir()

    def asv(config, command, *arguments, **environment):
        if command == "check":
            return check
        assert environment["REFDEQ_BENCH_QUICK"]
        if values is not None:
            head = ["git", "-C", folder / "repository", "rev-parse", "HEAD"]
            commit = subprocess.run(head, check=True, capture_output=True, text=True).stdout.strip()
            history.results = folder / "results"
            history.store({"solves.Sine.track_ratio": values}, commits=[commit])
        return 0

    monkeypatch.setattr(smoke, "asv", asv)
    found = smoke.run(folder, ("^solves",))
    assert bool(found) == bool(said)
    assert said in " ".join(found)


def test_a_machine_is_described_without_its_name(monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "blue-whale")
    about = tracking.describe_machine("zen3")
    assert set(about) == {"machine", "os", "arch", "cpu", "num_cpu", "ram"}
    assert about["machine"] == "zen3"
    assert "blue-whale" not in json.dumps(about)
    assert platform.release() not in json.dumps(about)


def test_a_derived_configuration_differs_only_where_asked(tmp_path):
    from asv.config import Config

    config = Config.load(str(tracking.derived_config(tmp_path, results_dir="elsewhere")))
    ours = Config.load(str(tracking.CONFIG))
    assert config.results_dir == "elsewhere"
    for name in ("repo", "benchmark_dir", "env_dir", "html_dir"):
        assert getattr(config, name) == str((tracking.HERE / getattr(ours, name)).resolve())
    assert (tracking.HERE / ours.benchmark_dir / "__init__.py").is_file()
    assert (config.build_command, config.matrix, config.project) == (ours.build_command, ours.matrix, ours.project)


def test_commits_are_named_by_file_by_argument_and_once(monkeypatch, history):
    own = shutil.copytree(history.repository, history.folder / "repository")
    monkeypatch.setattr(run_commits, "HERE", own)
    first, second, last = history.commits
    (own / "commits.txt").write_text(f"# oldest first\n{first[:7]} the first one\n{second}\n\n")
    assert run_commits.commits([]) == [first, second, last]
    assert run_commits.commits([second[:9], "HEAD~1", "main"]) == [second, last]
    with pytest.raises(ArgumentError, match="nonsense"):
        run_commits.commits(["nonsense"])
