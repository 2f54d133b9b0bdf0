"""No kernel goes unjudged: ``python -m benchmarks.gpu.judged`` validates both backends in simulation and looks at what ran.

Every command below must end with 0, and together they must have launched every kernel of the table, of each language. The
devices write down what they launch (:mod:`refdeq_gpu.launch_log`). In simulation, kernels of CUDA C++ are also watched for
races in shared memory, which end a launch with an error. A machine with a GPU runs the same with ``--device``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from refdeq_gpu.table import kernel_names

__all__ = ["COMMANDS", "unjudged"]

_V = "benchmarks.gpu.variants"
COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "cupy": (
        ("cupy", "--tier", "smoke"),
        ("cupy", "--quick", "--cell", "designed"),
        ("cupy", "--cell", "sine", "--samples", "70"),
        ("cupy-bf16", "cupy-bf16x2", "cupy-bf16x3", "--tier", "smoke"),
        # tiles serve one rule: rows of the presets, which get no plan, are missing there
        ("cupy-bf16", "cupy-bf16x2", "cupy-bf16x3", "--cell", "designed", "--preset", "refdeq", "--allow-incomplete"),
        (f"{_V}:pairs_cupy", f"{_V}:lists_cupy", f"{_V}:lists_cupy_fast", f"{_V}:library_cupy", "--tier", "smoke"),
    ),
    "cuda": (
        ("cuda", "--tier", "smoke"),
        ("cuda:strict:op", "cuda:fast:op", "--quick", "--cell", "designed", "--preset", "paper", "--preset", "delta-network"),
        ("cuda:strict:fused", "cuda:fast:fused", "--cell", "sine", "--samples", "70", "--preset", "refdeq"),
        (f"{_V}:pairs_cuda", f"{_V}:library_cuda", "--tier", "smoke"),  # lists run in the solves of 70 rows above
    ),
}
"""Arguments of ``refdeq validate`` for each language."""

SIMULATED = {"cupy": {"REFDEQ_CUPY_SHIM": "1", "REFDEQ_SHIM_RACES": "1"}, "cuda": {"NUMBA_ENABLE_CUDASIM": "1"}}
"""Environment in which each is simulated; kernels of CUDA C++ are also watched for races in shared memory."""


def unjudged(language: str, log: Path) -> list[str]:
    """Kernels of a language that a log does not have."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return sorted(set(kernel_names(language)) - {line.split()[0] for line in lines})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when all was granted and every kernel ran, 1 with what was not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.judged", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("language", nargs="*", default=list(COMMANDS), help="cupy, cuda, or both (default)")
    parser.add_argument("--device", action="store_true", help="on the device that is there, not simulated")
    options = parser.parse_args(arguments)
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for language in options.language:
            log = Path(folder) / f"{language}.log"
            environment = dict(os.environ, REFDEQ_GPU_LAUNCH_LOG=str(log))
            if not options.device:
                environment |= SIMULATED[language]
            for command in COMMANDS[language]:
                wrong += _validate(command, environment, folder)
            missing = unjudged(language, log)
            print(f"{language}: {len(kernel_names(language)) - len(missing)} of {len(kernel_names(language))} kernels judged")
            wrong += [f"{language}: kernel {name} was never judged" for name in missing]
    for problem in wrong:
        print(f"benchmarks.gpu.judged: {problem}", file=sys.stderr)
    return int(bool(wrong))


def _validate(command: Sequence[str], environment: dict[str, str], folder: str) -> list[str]:
    start = time.monotonic()
    report = ["--report", str(Path(folder) / "report.json")]
    run = [sys.executable, "-c", "from refdeq.cli import main; main()", "validate", *command, *report]
    done = subprocess.run(run, capture_output=True, text=True, env=environment)
    last = (done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["nothing was said"])[-1]
    print(f"{' '.join(command)}: {last} ({time.monotonic() - start:.0f} s)", flush=True)
    if done.returncode == 0:
        return []
    print(done.stdout[-4000:], done.stderr[-2000:], file=sys.stderr)
    return [f"{' '.join(command)} ended with {done.returncode}"]


if __name__ == "__main__":
    sys.exit(main())
