"""How many conformance cases the judge gets through per second, on the backend's own kernels (*judge*)."""

from __future__ import annotations

from typing import Any

from refdeq.registry import load_backend
from refdeq_bench.checking import WrongResultError
from refdeq_bench.workloads.case import Case, Contender, Workload
from refdeq_bench.workloads.kernels import kernels_of, label

__all__ = ["JUDGE", "prepare_judge"]


def prepare_judge(backend: str, *, order: str = "strict", threads: int = 1, tier: str = "smoke", cases: int = 40) -> Case:
    """Evenly spread cases of a tier, judged one after the other in this process, canaries left out.

    A call judges all of them: cases per second are `cases` over the median.
    """
    from refdeq_validation.cases.suite import select
    from refdeq_validation.protocol.adapter import BackendImplementation
    from refdeq_validation.suites import judge_cases
    from refdeq_validation.waivers import Waivers

    kernels_of(backend, order, threads)
    every = select(tier=tier)
    chosen = every[:: max(1, len(every) // cases)][:cases]
    implementation = BackendImplementation(load_backend(backend), order, "op", threads)

    def run() -> list[Any]:
        return judge_cases(chosen, implementation, implementation.claims, Waivers(), lambda steps: None)

    verdicts: dict[str, int] = {}
    for result in run():
        verdicts[result.disposition] = verdicts.get(result.disposition, 0) + 1
    name = label(backend, order)
    if not verdicts.get("passed") or set(verdicts) & {"failed", "error"}:
        raise WrongResultError(f"{name}: cases ended as {verdicts}; only a conforming backend is timed")
    status = ", ".join(f"{kind} {count}" for kind, count in sorted(verdicts.items()))
    quality: dict[str, float | str] = {"cases": float(len(chosen)), "status": status}
    point = {"tier": tier, "cases": cases}
    return Case("judge", backend, order, threads, point, (Contender(name, run, "ours", quality),))


JUDGE = Workload(
    "judge",
    "conformance cases judged per second",
    prepare_judge,
    ({"tier": "smoke", "cases": 40}, {"tier": "full", "cases": 200}),
    {"tier": "smoke", "cases": 4},
)
