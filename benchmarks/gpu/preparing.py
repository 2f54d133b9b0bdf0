"""The phases before anything of ours is timed: ceilings, the build, and the judge on the device."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.gpu.ceilings import FULL, SMALL, measure_ceilings
from benchmarks.gpu.records import Measurement, Run
from benchmarks.gpu.setup import Setup

__all__ = ["build", "ceilings", "validate"]

LEAST_BUILD = 150.0
"""Seconds that compiling may take: without it no phase would get far."""
CASE = "gemm/memory/dropped-by-bfloat16-f32-3d87919d"


def ceilings(setup: Setup, run: Run, seconds: float) -> None:
    """Measure what no kernel can beat; nothing on a simulated device."""
    if not setup.is_simulated and "cupy" in setup.devices:
        measure_ceilings(setup.clock, run, seconds, SMALL if setup.is_small else FULL)


def build(setup: Setup, run: Run, seconds: float) -> None:
    """Compile every kernel for sm_90 and note its resources; simulated devices leave that to a command of its own.

    The phases after it load what is made here: a module of tiles takes the compiler a minute, all others together take less.
    """
    if setup.is_simulated:
        return
    command = [sys.executable, "-m", "benchmarks.gpu.resources", "--json", "--arch", "sm_90"]
    environment = {key: value for key, value in os.environ.items() if key not in ("NUMBA_ENABLE_CUDASIM", "REFDEQ_CUPY_SHIM")}
    done = _run(command, max(LEAST_BUILD, seconds), environment)
    if done.returncode != 0:
        raise RuntimeError(f"resources could not be had: {done.stderr.strip().splitlines()[-1:]}")
    run.build = json.loads(done.stdout)


def validate(setup: Setup, run: Run, seconds: float) -> None:
    """Let the judge loose on the device, backend by backend; its counts go to the file."""
    start, names = time.monotonic(), list(setup.backends)
    for i, name in enumerate(names[:1] if setup.is_simulated else names):
        left = seconds - (time.monotonic() - start)
        try:
            _judge(run, name, setup.is_small, max(1.0, left) if i + 1 == len(names) else max(1.0, left / 2))
        except Exception as error:
            run.failed(f"validate/smoke/{name}", error)


def _judge(run: Run, name: str, is_small: bool, seconds: float) -> None:
    """Validate one backend; a try has one case, to show the way (`judged` has all)."""
    chosen = [f"{name}:strict:op", "--case", CASE] if is_small else [name, "--tier", "smoke"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        main = "from refdeq.cli import main; main()"
        command = [sys.executable, "-c", main, "validate", *chosen, "--report", str(report)]
        try:
            done = _run(command, seconds)
        except subprocess.TimeoutExpired:
            run.add(Measurement(f"validate/smoke/{name}", "validate", name, "smoke", notes="not finished in time"))
            raise
        counts = json.loads(report.read_text(encoding="utf-8"))["counts"] if report.is_file() else {}
    last = (done.stdout.strip().splitlines() or [""])[-1]
    error = {key: float(value) for key, value in counts.items()} | {"exit_code": float(done.returncode)}
    run.add(Measurement(f"validate/smoke/{name}", "validate", name, "smoke", error=error, notes=last))
    if done.returncode != 0:
        raise RuntimeError(f"refdeq validate ended with {done.returncode}: {last} {done.stderr.strip()[-300:]}")


def _run(command: list[str], seconds: float, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command with a limit; when it is over, everything that the command started ends too."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)
