"""Read what asv has stored: runs of commits on machines, and what the benchmarks are."""

from __future__ import annotations

import ast
import itertools
import json
import math
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refdeq.errors import FileFormatError

__all__ = ["Benchmark", "Run", "Stored", "load"]


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: `name` is ``module.Class.method``; `params` are representations, as asv keeps them."""

    name: str
    unit: str
    param_names: tuple[str, ...]
    params: tuple[tuple[str, ...], ...]

    @property
    def suite(self) -> str:
        """Module of the benchmark."""
        return self.name.partition(".")[0]

    @property
    def metric(self) -> str:
        """Name of the method without asv's prefix, in words."""
        return self.name.rpartition(".")[2].partition("_")[2].replace("_", " ")

    @property
    def kind(self) -> str:
        """First word of the method, which tells asv what to do: time, track, peakmem."""
        return self.name.rpartition(".")[2].partition("_")[0]

    def points(self) -> Iterator[tuple[str, ...]]:
        """All combinations of parameters, in the order of the results."""
        return itertools.product(*self.params)


@dataclass(frozen=True)
class Run:
    """One commit on one machine.

    `results` maps a benchmark to its values by parameters: a number, NaN where it was skipped, None where it failed.
    """

    commit: str
    subject: str
    date: int
    machine: str
    environment: str
    python: str
    results: dict[str, dict[tuple[str, ...], float | None]]

    def value(self, name: str, point: tuple[str, ...]) -> float | None:
        """Value of a benchmark at a point; NaN also where the run knows nothing of it."""
        return self.results.get(name, {}).get(point, math.nan)

    def count(self) -> tuple[int, int, int]:
        """How many values there are, how many were skipped, and how many failed."""
        values = [value for by_point in self.results.values() for value in by_point.values()]
        failed = sum(value is None for value in values)
        skipped = sum(value is not None and math.isnan(value) for value in values)
        return len(values) - failed - skipped, skipped, failed


@dataclass(frozen=True)
class Stored:
    """Everything stored: `runs` in the order of their commits' dates, `suites` maps modules to what they say of themselves."""

    folder: Path
    runs: list[Run]
    benchmarks: dict[str, Benchmark]
    machines: dict[str, dict[str, str]]
    suites: dict[str, str]


def load(config: Path) -> Stored:
    """Load the results that a configuration of asv names.

    Raises
    ------
    FileFormatError
        A file is missing or not written by asv.
    """
    from asv.config import Config

    conf = Config.load(str(config))
    here = config.parent
    folder = here / conf.results_dir
    runs, machines = [], {}
    for path in sorted(folder.glob("*/machine.json")):
        described = _read(path)
        machines[described["machine"]] = {key: str(value) for key, value in described.items() if key != "version"}
        for file in sorted(set(path.parent.glob("*.json")) - {path}):
            runs.append(_run(_read(file), here / conf.repo))
    benchmarks = {}
    if runs:
        listed = _read(folder / "benchmarks.json")
        benchmarks = {name: _benchmark(entry) for name, entry in listed.items() if isinstance(entry, dict)}
    suites = {path.stem: _docstring(path) for path in sorted((here / conf.benchmark_dir).glob("*.py"))}
    return Stored(folder, sorted(runs, key=lambda run: (run.date, run.commit)), benchmarks, machines, suites)


def _read(path: Path) -> dict[str, Any]:
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path}: {error}") from error
    if not isinstance(contents, dict):
        raise FileFormatError(f"{path}: not written by asv")
    return contents


def _run(contents: dict[str, Any], repository: Path) -> Run:
    columns = {name: at for at, name in enumerate(contents["result_columns"])}
    results = {}
    for name, row in contents["results"].items():
        params = row[columns["params"]] or []
        points = list(itertools.product(*params))
        values = row[columns["result"]]
        values = [None] * len(points) if values is None else values
        results[name] = dict(zip(points, values, strict=True))
    commit = contents["commit_hash"]
    return Run(
        commit,
        _subject(commit, repository),
        contents["date"],
        contents["params"]["machine"],
        contents["env_name"],
        contents["python"],
        results,
    )


def _subject(commit: str, repository: Path) -> str:
    command = ["git", "-C", str(repository), "log", "-1", "--format=%s", commit]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise FileFormatError(f"results of commit {commit[:8]}, which is not in the history here: {done.stderr.strip()}")
    return done.stdout.strip()


def _benchmark(entry: dict[str, Any]) -> Benchmark:
    params = tuple(tuple(values) for values in entry["params"])
    return Benchmark(entry["name"], entry["unit"], tuple(entry["param_names"]), params)


def _docstring(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
