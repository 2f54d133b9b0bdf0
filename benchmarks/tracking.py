"""What `run_commits` and `smoke` share: configurations of asv, machines without a host's name, a look at what asv really did.

asv's exit code does not tell whether anything was measured, so results are read back from its files.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.site.stored import Run, Stored, load
from refdeq.errors import UnsupportedError

__all__ = ["CONFIG", "asv", "derived_config", "describe_machine", "failures", "traces_of_the_host"]

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "asv.conf.json"
ONE_THREAD = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
ONE_THREAD["NUMBA_THREADING_LAYER"] = "omp"
"""What is measured is kernels, not scheduling; libraries read these when they are loaded."""
_PATHS = re.compile(r"(?:/(?:home|root|tmp|Users|work|opt|mnt|var)/|[A-Z]:\\\\)[^\s\"']*")


def derived_config(folder: Path, **changes: Any) -> Path:
    """Write a copy of asv's configuration into `folder`, with absolute paths and some entries changed.

    Raises
    ------
    UnsupportedError
        asv is not installed.
    """
    try:
        from asv.util import load_json
    except ImportError as error:
        raise UnsupportedError("asv is not installed (pip install '.[bench]')") from error
    entries = load_json(str(CONFIG), js_comments=True)
    for name in ("repo", "benchmark_dir", "results_dir", "env_dir", "html_dir"):
        entries[name] = str((HERE / entries[name]).resolve())
    path = folder / "asv.conf.json"
    path.write_text(json.dumps({"version": 1, **entries, **changes}, indent=1), encoding="utf-8")
    return path


def asv(config: Path, *arguments: str, **environment: str) -> int:
    """Run a command of asv, its output shown as it comes; return its exit code."""
    command = [sys.executable, "-m", "asv", arguments[0], "--config", str(config), *arguments[1:]]
    env = {**os.environ, **ONE_THREAD, **environment}
    return subprocess.run(command, env=env, stdin=subprocess.DEVNULL).returncode


def describe_machine(name: str) -> dict[str, str]:
    """What asv is told about this machine: the processor, no name that anybody gave it, no release of its kernel."""
    cpu = platform.processor() or platform.machine()
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        models = re.findall(r"^model name\s*:\s*(.+)$", listed.read_text(encoding="utf-8"), flags=re.MULTILINE)
        cpu = models[0] if models else cpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    about = {"machine": name, "os": platform.system(), "arch": platform.machine(), "cpu": cpu, "num_cpu": str(cores)}
    pages = ("SC_PAGE_SIZE", "SC_PHYS_PAGES")
    known = hasattr(os, "sysconf") and set(pages) <= set(os.sysconf_names)
    return {**about, "ram": f"{math.prod(map(os.sysconf, pages)) / 2**30:.0f} GB" if known else "unknown"}


def failures(stored: Stored, must_run: tuple[str, ...]) -> list[str]:
    """Say what is wrong with results, in sentences; none when all is well.

    Parameters
    ----------
    stored : Stored
    must_run : tuple of str
        Backends of which every benchmark must have a value at some point of its parameters. Others may be skipped.

    Returns
    -------
    list of str
        Nothing ran, everything of a run was skipped, a benchmark failed, or a backend is missing from one.
    """
    if not stored.runs:
        return ["nothing ran: asv stored no results"]
    return [problem for run in stored.runs for problem in _failures_of(run, must_run)]


def _failures_of(run: Run, must_run: tuple[str, ...]) -> list[str]:
    there, skipped, failed = run.count()
    if there + failed == 0:
        return [f"{run.commit[:8]}: nothing ran, {skipped} values were skipped"]
    found = []
    for name, values in run.results.items():
        found += [f"{run.commit[:8]}: {name}({', '.join(point)}) failed" for point, value in values.items() if value is None]
        for backend in must_run:
            own = [value for point, value in values.items() if point and point[0] == repr(backend)]
            if own and all(value is not None and math.isnan(value) for value in own):
                found.append(f"{run.commit[:8]}: {name} was skipped for {backend}, which must run")
    return found


def traces_of_the_host(place: Path) -> list[str]:
    """Paths, host names and user names in stored results (a file, or a folder of them): there must be none."""
    names = {name for name in (platform.node(), os.environ.get("USER"), os.environ.get("LOGNAME")) if name}
    words = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(names)))})\b") if names else re.compile(r"(?!)")
    found = []
    for path in sorted(place.rglob("*.json")) if place.is_dir() else [place] * place.exists():
        text = path.read_text(encoding="utf-8")
        contents = json.loads(text)
        about = ("params", "env_name", "env_vars", "machine", "os", "cpu", "facts")
        told = json.dumps({key: contents.get(key) for key in about})
        found += [f"{path.name}: {match[0]}" for match in [*_PATHS.finditer(text), *words.finditer(told)]]
    return found


def read(config: Path) -> Stored:
    """Read the results of a configuration."""
    return load(config)
