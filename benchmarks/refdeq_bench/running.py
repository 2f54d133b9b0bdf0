"""Runs measurements in processes of their own: BLAS reads its number of threads when it is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from refdeq.errors import ArgumentError
from refdeq_bench.baselines import THREAD_VARIABLES, has_avx512
from refdeq_bench.measuring import Settings
from refdeq_bench.recording import Row

__all__ = ["Findings", "Job", "environment", "run_jobs"]


@dataclass(frozen=True)
class Job:
    """One case to measure.

    Attributes
    ----------
    workload, backend, order : str
    point : dict
        Parameters of the workload.
    settings : dict
        Changes to the settings of the run.
    """

    workload: str
    backend: str
    order: str
    point: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """For progress and messages."""
        return " ".join([self.workload, self.backend, self.order, *(f"{name}={value}" for name, value in self.point.items())])


@dataclass
class Findings:
    """What came of the jobs of one number of threads.

    Attributes
    ----------
    threads : int
    noise : dict
        A/A before the first job.
    rows : dict of job index to row
    skipped, wrong : dict of job index to reason
    """

    threads: int
    noise: dict[str, float] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    wrong: dict[int, str] = field(default_factory=dict)


def environment(threads: int) -> dict[str, str]:
    """Environment of a process in which BLAS has that many threads and spins only shortly after its work is done."""
    variables = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    variables.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")
    if has_avx512():  # OpenBLAS takes AVX2 kernels on some processors that have AVX-512
        variables.setdefault("OPENBLAS_CORETYPE", "SkylakeX")
    return variables


def run_jobs(
    jobs: Sequence[Job],
    threads: int,
    settings: Settings,
    *,
    advance: Callable[[int, float], None] = lambda job, share: None,
    accept: Callable[[dict[str, float]], None] = lambda noise: None,
) -> Findings:
    """Measure jobs one after the other in one fresh process.

    Parameters
    ----------
    jobs : sequence of Job
    threads : int
        Of the backends and of the baselines.
    settings : Settings
    advance : callable
        Told the job and the share of its rounds that is done.
    accept : callable
        Told A/A before anything is measured; it may raise to end the run.

    Returns
    -------
    Findings

    Raises
    ------
    ArgumentError
        A parameter has a value that the workload does not take.
    RuntimeError
        The process broke down.
    """
    request = {"threads": threads, "settings": _finite(asdict(settings)), "jobs": [_job(job) for job in jobs]}
    found = Findings(threads)
    for event in _events(request, threads):
        kind, index = event.pop("event"), event.get("job", -1)
        if kind == "noise":
            found.noise = event
            accept(event)
        elif kind == "rounds":
            advance(index, event["done"] / event["rounds"])
        elif kind == "refused":
            raise ArgumentError(jobs[index].title, hint=event["reason"])
        else:
            if kind == "row":
                found.rows[index] = event["row"]
            else:
                {"skipped": found.skipped, "wrong": found.wrong}[kind][index] = event["reason"]
            advance(index, 1.0)
    return found


def _job(job: Job) -> dict[str, Any]:
    return {**asdict(job), "point": dict(job.point), "settings": dict(job.settings)}


def _finite(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value != float("inf")}


def _events(request: dict[str, Any], threads: int) -> Iterator[dict[str, Any]]:
    """Start the worker, hand it its request, and read what it tells until it ends."""
    command = [sys.executable, "-m", "refdeq_bench.worker"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment(threads), text=True, **pipes) as process:  # type: ignore[call-overload]
        complaints: list[str] = []
        listener = threading.Thread(target=lambda: complaints.extend(process.stderr), daemon=True)
        listener.start()
        try:
            process.stdin.write(json.dumps(request))
            process.stdin.close()
            for line in process.stdout:
                yield json.loads(line)
        except BaseException:  # nobody listens any more: it must not go on measuring
            process.terminate()
            raise
        code = process.wait()
        listener.join()
    if code:
        raise RuntimeError(f"the measuring process ended with {code}:\n{''.join(complaints[-30:])}")
