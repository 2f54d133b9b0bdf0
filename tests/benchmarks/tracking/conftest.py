"""A small history with stored results, as asv would have them, and the benchmarks importable: they are not installed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/browsing")]

NAMES = ("backend", "density")
PARAMS = (("'reference'", "'numba'", "'torch'"), ("0.1", "0.5"))
UNITS = {"time_solve": "seconds", "track_ratio": "times the best dense path", "track_macs_saved": "%", "track_seen": "unit"}
MACHINE = {"arch": "x86_64", "cpu": "AMD EPYC", "machine": "zen3", "num_cpu": "2", "os": "Linux", "ram": "8 GB"}
COLUMNS = ["result", "params", "version", "started_at", "duration"]


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """Three empty commits; nobody writes here."""
    folder = tmp_path_factory.mktemp("repository")
    git = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "init.defaultBranch=main"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    for at in range(3):
        date = f"2026-01-0{at + 1}T12:00:00+00:00"
        dated = {**os.environ, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", f"Step {at} & more"], check=True, env=dated)
    return folder


class History:
    """A repository, a configuration of asv, and results that tests fill in."""

    def __init__(self, folder, repository):
        self.folder, self.config, self.repository = folder, folder / "asv.conf.json", repository
        self.results = folder / "results"
        entries = {"version": 1, "project": "refdeq", "project_url": "../index.html", "show_commit_url": "../index.html#"}
        entries |= {"repo": str(repository), "dvcs": "git", "branches": ["main"], "benchmark_dir": "suites"}
        self.config.write_text(json.dumps(entries | {"results_dir": "results", "html_dir": "html"}))
        (folder / "suites").mkdir()
        (folder / "suites/solves.py").write_text('"""Whole solves <of cells>."""\n')
        command = ["git", "-C", repository, "rev-list", "--reverse", "HEAD"]
        self.commits = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    def store(self, values, commits=None):
        """Write runs: `values` maps a name of a benchmark to numbers by parameters, NaN for skipped, None for failed."""
        (self.results / "zen3").mkdir(parents=True)
        (self.results / "zen3/machine.json").write_text(json.dumps({**MACHINE, "version": 1}))
        listed = {
            name: {"code": "", "name": name, "param_names": NAMES, "params": PARAMS, "timeout": 60, "version": "1"}
            | {"type": name.rpartition(".")[2].partition("_")[0], "unit": UNITS[name.rpartition(".")[2]]}
            for name in values
        }
        (self.results / "benchmarks.json").write_text(json.dumps({**listed, "version": 2}))
        for day, commit in enumerate(self.commits if commits is None else commits):
            rows = {name: [numbers, PARAMS, "1", 0, 1.0] for name, numbers in values.items()}
            run = {"commit_hash": commit, "date": 1767268800000 + 86400000 * day, "results": rows, "durations": {}}
            run |= {"env_name": "virtualenv-py3.11", "python": "3.11", "requirements": {}, "env_vars": {}}
            run |= {"params": {**MACHINE, "python": "3.11"}}
            path = self.results / f"zen3/{commit[:8]}-virtualenv-py3.11.json"
            path.write_text(json.dumps(run | {"result_columns": COLUMNS, "version": 2}))
        return self.config


@pytest.fixture
def history(tmp_path, repository):
    return History(tmp_path, repository)


@pytest.fixture(scope="session")
def usual_values():
    """Values of the benchmarks: torch is missing, and the reference has no ratio."""
    nan = math.nan
    return {
        "solves.Sine.time_solve": [0.1, 0.2, 0.01, 0.02, nan, nan],
        "solves.Sine.track_ratio": [nan, nan, 4.25, 2.5, nan, nan],
        "solves.Sine.track_macs_saved": [90.0, 50.0, 90.0, 50.0, nan, nan],
    }


@pytest.fixture(scope="session")
def site(tmp_path_factory, usual_values, repository):
    """Start page of a published site, and the history it shows."""
    pytest.importorskip("asv", reason="asv is not installed: the site of benchmarks was not made")
    from benchmarks.site import publishing

    past = History(tmp_path_factory.mktemp("history"), repository)
    goals = past.folder / "goals.json"
    return publishing.publish(past.folder / "site", past.store(usual_values), goals), past
