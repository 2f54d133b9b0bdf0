"""Store what a GPU run measured as asv results: ``python -m benchmarks.gpu.import_asv --machine NAME FILE``.

Needs the extra `bench`, not a GPU. The figures become results of ``suites/gpu.py`` under the commit that the file names, on a
machine of the name given, so that ``python -m benchmarks.site OUT`` publishes them beside the CPU's. A file of a simulated
device is refused: it holds no figures.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu.goals import GOALS, figure_of, is_evidence
from benchmarks.gpu.records import load
from benchmarks.tracking import HERE, asv, derived_config, describe_machine
from refdeq.errors import FileFormatError, RefdeqError, UnsupportedError

__all__ = ["figures", "import_run"]

BENCHMARK = "gpu.Goals.track_figure"


def figures(run: Mapping[str, Any]) -> dict[str, float]:
    """Goal and point to its figure, the worst of several measurements of one point.

    Raises
    ------
    UnsupportedError
        The run was simulated.
    """
    if not is_evidence(run["facts"]):
        raise UnsupportedError("this file was written by a simulated device, or as a try of tiny sizes: it holds no figures")
    found = {}
    for goal in GOALS:
        for point in goal.demands:
            value = figure_of(goal, point, run["measurements"])
            if value is not None:
                found[f"{goal.id}/{point}"] = value
    return found


def import_run(path: Path, machine: str, results: Path | None = None) -> Path:
    """Write asv's files for one run; return the file of its results.

    Raises
    ------
    UnsupportedError
        asv is not installed, or the run was simulated.
    FileFormatError
        The commit of the run is not in this repository.
    """
    run = load(path)
    values = figures(run)
    commit = run["facts"]["commit"]
    known = subprocess.run(["git", "-C", str(HERE), "show", "-s", "--format=%ct", commit], capture_output=True, text=True)
    if not commit or known.returncode != 0:
        raise FileFormatError(f"{path}: commit {commit!r} is not in this repository; only known commits can be published")
    with tempfile.TemporaryDirectory() as folder:
        changes = {} if results is None else {"results_dir": str(results)}
        return _store(derived_config(Path(folder), **changes), run, values, machine, 1000 * int(known.stdout))


def _store(config: Path, run: Mapping[str, Any], values: Mapping[str, float], machine: str, date: int) -> Path:
    from asv.benchmarks import Benchmarks
    from asv.config import Config
    from asv.results import Results
    from asv.runner import BenchmarkResult

    facts, settings = run["facts"], Config.load(str(config))
    listed = Path(settings.results_dir) / "benchmarks.json"
    if not listed.exists() or BENCHMARK not in json.loads(listed.read_text(encoding="utf-8")):
        _list_suites(config)
    benchmark = Benchmarks.load(settings)[BENCHMARK]
    about = _machine(machine, facts)
    requirements = {name: number for name, number in facts["versions"].items() if number and name in ("cupy-cuda13x", "torch")}
    stored = Results(
        {**about, "python": facts["python"], **requirements},
        requirements,
        facts["commit"],
        date,
        facts["python"],
        f"gpu-py{facts['python']}",
        {},
    )
    points = [point.strip("'\"") for point in benchmark["params"][0]]
    figures_in_order = [values.get(point, math.nan) for point in points]
    result = BenchmarkResult(
        result=figures_in_order, samples=[None] * len(points), number=[None] * len(points), errcode=0, stderr="", profile=None
    )
    stored.add_result(benchmark, result, started_at=datetime.datetime.fromisoformat(facts["started"]), duration=1.0)
    stored.save(settings.results_dir)
    folder = Path(settings.results_dir) / machine
    (folder / "machine.json").write_text(json.dumps({**about, "version": 1}, indent=4) + "\n", encoding="utf-8")
    return max(folder.glob(f"{facts['commit'][:8]}-*.json"), key=lambda found: found.stat().st_mtime)


def _list_suites(config: Path) -> None:
    """Let asv write down which benchmarks there are, and run none."""
    with tempfile.TemporaryDirectory() as home:  # asv asks people about their machine unless it finds an answer there
        about = {"lists": describe_machine("lists"), "version": 1}
        (Path(home) / ".asv-machine.json").write_text(json.dumps(about), encoding="utf-8")
        asv(config, "run", "--python=same", "--bench=just-discover", "--machine=lists", HOME=home)
    shutil.rmtree(Path(json.loads(config.read_text(encoding="utf-8"))["results_dir"]) / "lists", ignore_errors=True)


def _machine(name: str, facts: Mapping[str, Any]) -> dict[str, str]:
    device = facts["device"]
    memory = f"{device.get('memory_gb', 0.0):.0f} GB"
    return {
        "machine": name,
        "os": "Linux",
        "arch": "x86_64",
        "cpu": device["name"],
        "num_cpu": str(device.get("sms", "unknown")),
        "ram": memory,
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when the figures were stored, 2 when they cannot be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.import_asv", description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="what benchmarks/gpu/run.py wrote")
    parser.add_argument("--machine", required=True, help="a name for the kind of machine, such as h200")
    parser.add_argument("--results", type=Path, help="store there instead of benchmarks/results/asv")
    options = parser.parse_args(arguments)
    try:
        print(import_run(options.file, options.machine, options.results))
    except (RefdeqError, ValueError) as error:
        print(f"benchmarks.gpu.import_asv: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
