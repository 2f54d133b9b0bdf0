"""Real runs to report on: the plain implementation and broken copies of it, judged on a handful of cases."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from refdeq_validation.cases.draw import uniform
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.lab.session import Lab, LabSession
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.reports.data import report_data
from refdeq_validation.running import ProfileOutcome, Result, SuiteRun, run_case

from refdeq.types import DeltaRule

sys.path.insert(0, str(Path(__file__).parents[2] / "browsing"))


def sequence(family, dtype, preset, bugs, level="L2"):
    """Three samples, four steps, seven inputs, five outputs."""
    rule = DeltaRule.preset(preset, threshold=0.5)
    problem = Problem("Gemm", dtype, (7,), uniform(1, "W", (5, 7), dtype), uniform(1, "b", (5,), dtype), rule)
    steps = [Call("step", {"u": uniform(2, f"u{i}", (3, 7), dtype)}) for i in range(4)]
    return Case(f"{preset}-{level.lower()}", level, family, problem, (Call("reset", {}, {"batch": 3}), *steps), bugs)


CASES = (
    *(
        sequence("sequence", dtype, preset, ("TAIL", "ACCUMULATE"))
        for dtype in ("float32", "float64")
        for preset in ("paper", "refdeq")
    ),
    sequence("memory", "float32", "delta-network", ("MEMORY_RULE", "ALIASING")),
    sequence("shape", "float64", "paper", ("TAIL", "INDEXING"), "L1"),
    sequence("bound", "float32", "refdeq", ("PRECISION_DOWNGRADE",), "L1"),
)


class Tail(LabSession):
    """Gets the last output wrong in its last bit."""

    def step(self, u, mask, y):
        super().step(u, mask, y)
        y[:, -1] = np.nextafter(y[:, -1], np.inf)


class Coarse(LabSession):
    """Keeps its accumulator in too narrow a format."""

    def reset(self, batch):
        super().reset(batch)
        self.evaluations = 0

    def step(self, u, mask, y):
        super().step(u, mask, y)
        r, a = np.empty_like(u), np.empty_like(y)
        self.get_state(r, a)
        shift, a = y - a, a.astype(np.float16).astype(a.dtype)
        self.evaluations += 1
        self.set_state(r, a, np.full(len(u), self.evaluations))
        y[...] = a + shift


class Crash(LabSession):
    """Breaks."""

    def step(self, u, mask, y):
        raise ZeroDivisionError("the device <b>fell</b> off & rolled \x07away")


class Implementation(Lab):
    """The lab with another session."""

    def __init__(self, session, **claims):
        super().__init__()
        self.session, self.changed = session, claims

    def manifest(self):
        manifest = super().manifest()
        return {**manifest, "claims": {**manifest["claims"], **self.changed}}

    def open(self, problem):
        return self.session(problem)


def judged(session, spec, **claims):
    """Judge one implementation on all cases."""
    implementation = Implementation(session, **claims)
    read = Claims.from_manifest(implementation.manifest())
    results = [run_case(case, implementation, read) for case in CASES]
    ids = tuple(case.id for case in CASES)
    failed = sum(result.disposition != "passed" for result in results)
    reason = f"{failed} of {len(ids)} required cases did not pass" if failed else ""
    profile = ProfileOutcome("core-f32", not failed, reason, ids, "sha256:" + 64 * "0")
    canaries = {"zeros": ids[0], "stale": ids[1]}
    return SuiteRun(spec, read, ids, results, (profile,), ("core-f32",), canaries, seconds=0.5)


def granted():
    return report_data([judged(LabSession, "lab"), judged(LabSession, "lab:fast", order="fast")], 0, seconds=1.5, threads=2)


def nonconformant():
    suites = [judged(Tail, "tail"), judged(Coarse, "coarse:fast", order="fast")]
    return report_data(suites, 1, seconds=1.5, rows=[CELL], planned_rows=[CELL["id"]])


def incomplete():
    suite = judged(LabSession, "lab")
    suite.results = [
        *suite.results[:-3],
        Result(CASES[-3], "skipped", reason="no such device here"),
        Result(CASES[-2], "not_applicable", reason="float64 is not claimed"),
    ]
    suite.profiles = (ProfileOutcome("core-f32", False, "3 required cases did not run", suite.planned),)
    return report_data([suite], 3, seconds=0.5, unavailable=[("cuda", "no device <here>")])


def broken():
    suite = judged(Crash, "crash")
    suite.results = [Result(r.case, "error", r.findings, r.seconds, r.findings.failures[0].actual) for r in suite.results]
    return report_data([suite], 5, seconds=0.5)


CELL = {
    "id": "numba strict fused/sine/refdeq",
    "disposition": "passed",
    "runs": 1,
    "inputs": 3000,
    "decisions": 123456,
    "values": 99,
    "worst_error_over_bound": 0.0,
    "failed_checks": 0,
    "failures": [],
    "error": None,
    "macs_saved": 0.61,
    "worst_dense_residual": 1e-3,
    "quality": "mse 0.001 (+0.1 %)",
    "seconds": 0.2,
    "seconds_dense": 0.4,
}

MAKERS = {"granted": granted, "nonconformant": nonconformant, "incomplete": incomplete, "backend error": broken}


@pytest.fixture(scope="session")
def reports():
    """One report per verdict that a run with results can have."""
    return {verdict: make() for verdict, make in MAKERS.items()}


@pytest.fixture
def granted_suite():
    """A run that may be changed."""
    return judged(LabSession, "lab")
