"""The phases before anything of ours is timed: ceilings, the build, and the judge on the device."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.gpu.ceilings import measure_ceilings
from benchmarks.gpu.records import Measurement, Run
from benchmarks.gpu.setup import Setup

__all__ = ["build", "ceilings", "validate"]

CASE = "gemm/memory/dropped-by-bfloat16-f32-3d87919d"


def ceilings(setup: Setup, run: Run, seconds: float) -> None:
    """Measure what no kernel can beat; nothing on a simulated device."""
    if not setup.is_simulated and "cupy" in setup.devices:
        run.ceilings |= measure_ceilings(setup.clock, seconds)


def build(setup: Setup, run: Run, seconds: float) -> None:
    """Compile every kernel for sm_90 and note its resources; simulated devices leave that to a command of its own."""
    if setup.is_simulated:
        return
    command = [sys.executable, "-m", "benchmarks.gpu.resources", "--json", "--arch", "sm_90"]
    environment = {key: value for key, value in os.environ.items() if key not in ("NUMBA_ENABLE_CUDASIM", "REFDEQ_CUPY_SHIM")}
    done = _run(command, max(60.0, seconds), environment)
    if done.returncode != 0:
        raise RuntimeError(f"resources could not be had: {done.stderr.strip().splitlines()[-1:]}")
    run.build = json.loads(done.stdout)


def validate(setup: Setup, run: Run, seconds: float) -> None:
    """Let the judge loose on the device; its counts go to the file."""
    names, tier = list(setup.backends), ["--tier", "smoke"]
    if setup.is_simulated:  # one case, to show the way; `judged` has all
        names, tier = ["cupy:strict:op"], ["--case", CASE]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            sys.executable,
            "-c",
            "from refdeq.cli import main; main()",
            "validate",
            *names,
            *tier,
            "--report",
            str(report),
        ]
        try:
            done = _run(command, seconds)
        except subprocess.TimeoutExpired:
            run.add(Measurement("validate/smoke", "validate", "+".join(setup.backends), "smoke", notes="not finished in time"))
            raise
        counts = json.loads(report.read_text(encoding="utf-8"))["counts"] if report.is_file() else {}
    last = (done.stdout.strip().splitlines() or [""])[-1]
    error = {name: float(value) for name, value in counts.items()} | {"exit_code": float(done.returncode)}
    run.add(Measurement("validate/smoke", "validate", "+".join(setup.backends), "smoke", error=error, notes=last))
    if done.returncode != 0:
        raise RuntimeError(f"refdeq validate ended with {done.returncode}: {last}")


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
