"""Known outcomes of what runs cases and adds them up: exit codes, dispositions, grants, vacuity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
from refdeq_validation import suites, trials
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.judge.calls import has_arrays
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.verdicts import Failure, Findings
from refdeq_validation.lab.session import Lab, LabSession
from refdeq_validation.protocol import integrity
from refdeq_validation.suites import ProfileOutcome, SuiteRun
from refdeq_validation.trials import Result, run_case

from meta.step_runs import STRICT, case, gemm, walk


@dataclass(frozen=True)
class Check:
    """One thing that is known.

    Attributes
    ----------
    name : str
    outcome : callable
    expected : object
    """

    name: str
    outcome: Callable[[], object]
    expected: object

    def holds(self) -> bool:
        """Whether it comes out as known; what breaks does not."""
        try:
            return bool(self.outcome() == self.expected)
        except Exception:  # whatever a mutant breaks with
            return False


def checks() -> list[Check]:
    """All of them."""
    return [*_exit_codes(), *_trials(), *_grants(), *_findings(), *_structures()]


def _case(number: int = 0) -> Case:
    problem = gemm("float32")
    return case(f"run-{number}", problem, walk(problem, 1, 2))


def _run(*dispositions: str, planned: int | None = None, **changes: object) -> SuiteRun:
    """A run of so many cases with these dispositions."""
    made = [_case(number) for number in range(max(len(dispositions), planned or 0))]
    results = [Result(one, name) for one, name in zip(made, dispositions, strict=False)]
    names = tuple(one.id for one in (made if planned is None else made[:planned]))
    return SuiteRun("spec", STRICT, names, results, **changes)  # type: ignore[arg-type]


def _exit_codes() -> Iterator[Check]:
    refused = (ProfileOutcome("core-f32", False, "no"),)
    runs: dict[str, tuple[SuiteRun, int]] = {
        "all passed": (_run("passed", "passed"), 0),
        "one failed": (_run("passed", "failed"), 1),
        "one passed unexpectedly": (_run("passed", "xpassed"), 1),
        "one broke": (_run("failed", "error"), 5),
        "one is missing": (_run("passed", planned=2), 3),
        "one was skipped": (_run("passed", "skipped"), 3),
        "nothing passed": (_run("not_applicable"), 3),
        "nothing was planned": (_run(), 4),
        "one result too many": (_run("passed", "passed", planned=1), 4),
        "an unknown disposition": (_run("passed", "fine"), 4),
        "a canary survived": (_run("passed", canaries={"zeros": None, "dense": "x"}), 4),
        "all canaries died": (_run("passed", canaries={"zeros": "x"}), 0),
        "a vacuous case": (_run("passed", vacuous=("case",)), 4),
        "a profile refused": (_run("passed", profiles=refused, required=("core-f32",)), 3),
        "another profile refused": (_run("passed", profiles=refused), 0),
        "vacuous and failed": (_run("failed", vacuous=("case",)), 4),
    }
    for name, (run, code) in runs.items():
        yield Check(f"exit code: {name}", run.exit_code, code)
    for name, allowed in (("one was skipped", 0), ("nothing passed", 3), ("one failed", 1), ("one broke", 5)):
        yield Check(f"incomplete allowed: {name}", lambda run=runs[name][0]: run.exit_code(True), allowed)  # type: ignore[misc]
    twice = _run("passed", "passed")
    twice.results[1] = twice.results[0]
    yield Check("exit code: one result twice", twice.exit_code, 4)


class _Session(LabSession):
    calls = 0

    def step(self, u, mask, y):  # type: ignore[no-untyped-def]
        super().step(u, mask, y)
        self.disturb(y)

    def disturb(self, y):  # type: ignore[no-untyped-def]
        """Do something wrong."""


class _Crashing(_Session):
    def disturb(self, y):  # type: ignore[no-untyped-def]
        raise ZeroDivisionError


class _Changing(_Session):
    def disturb(self, y):  # type: ignore[no-untyped-def]
        _Changing.calls += 1
        y += _Changing.calls * 1e-7


class _Opening(Lab):
    def __init__(self, session: type) -> None:
        super().__init__()
        self.session = session

    def open(self, problem):  # type: ignore[no-untyped-def]
        return self.session(problem)


def _disposition(session: type) -> Callable[[], object]:
    return lambda: run_case(_case(), _Opening(session), STRICT).disposition


def _trials() -> Iterator[Check]:
    yield Check("a right session passes", _disposition(LabSession), "passed")
    yield Check("a crash is an error", _disposition(_Crashing), "error")
    yield Check("an output that changes fails", _disposition(_Changing), "failed")
    empty = Case("empty", "L1", "bound", gemm("float32"), (Call("reset", options={"batch": 1}),), ("VACUOUS",))
    still = gemm("float32", shift=False)
    still.weight[...] = 0.0
    idle = case("idle", still, walk(still, 1, 2))
    yield Check("nothing compared is no pass", lambda: run_case(empty, Lab(), STRICT).disposition == "passed", False)
    yield Check("not executed is missing", lambda: trials.Trial(_case(), STRICT).result().disposition, "missing")
    other = replace(STRICT, ops=("Conv",))
    yield Check("not claimed does not apply", lambda: run_case(_case(), Lab(), other).disposition, "not_applicable")
    yield Check("two executions that differ", _two_executions, ["nondeterminism"])
    yield Check("exchanged functions are noticed", _exchanged, ["guard"])
    yield Check("a case that cannot fail is told", lambda: ["idle" in said for said in suites.check_cases([idle])], [True])


def _two_executions() -> list[str]:
    """The second execution is right by itself, and is not the first: the kept transcript is another's."""
    trial = trials.Trial(_case(), STRICT)
    first, second = trials.PLACEMENTS
    trial.execute(Lab(), first)
    kept = trial._first
    assert kept is not None
    changed = dict(kept.answers[1].results)
    changed["y"] = changed["y"] + 1
    kept.answers[1] = replace(kept.answers[1], results=changed)
    trial.execute(Lab(), second)
    return [failure.kind for failure in trial.findings.failures]


def _exchanged() -> list[str]:
    implementation, seen = Lab(), integrity._names[:]
    integrity._names[:] = [({"f": len}, "f", max, "module.f")]
    integrity.watch(implementation)
    try:
        trial = trials.Trial(_case(), STRICT)
        trial.execute(implementation, trials.PLACEMENTS[0])
    finally:
        integrity._names[:] = seen
        integrity._watched.remove(implementation)
    return [failure.kind for failure in trial.findings.failures]


def _grants() -> Iterator[Check]:
    made = [_case(number) for number in range(3)]
    profile = SimpleNamespace(ids=tuple(one.id for one in made[:2]), digest="")
    known = {"full": profile, "none": SimpleNamespace(ids=(), digest="")}

    def granted(name: str, *dispositions: str, power: float | None = None) -> Callable[[], object]:
        results = [Result(one, kind) for one, kind in zip(made, dispositions, strict=False)]

        def outcome() -> object:
            kept = suites.PROFILES
            suites.PROFILES = known  # type: ignore[assignment]
            try:
                return suites.grant(name, results, power).granted
            finally:
                suites.PROFILES = kept

        return outcome

    yield Check("granted: all passed", granted("full", "passed", "passed", "failed"), True)
    for kind in ("failed", "error", "skipped", "xfailed", "xpassed", "not_applicable", "missing"):
        yield Check(f"granted: one {kind}", granted("full", "passed", kind), False)
    yield Check("granted: one did not run", granted("full", "passed"), False)
    yield Check("granted: nothing required", granted("none", "passed"), False)
    yield Check("granted: a canary survived", granted("full", "passed", "passed", power=0.5), False)
    yield Check("granted: no canary survived", granted("full", "passed", "passed", power=1.0), True)


def _findings() -> Iterator[Check]:
    def merged(*parts: Findings) -> Findings:
        whole = Findings()
        for part in parts:
            whole.merge(part)
        return whole

    good, bad = Findings(values=1), Findings(values=1)
    bad.add(Failure("value", 0, "a", (), "1", "2"))
    bad.add(Failure("value", 0, "a", (), "1", "2"))
    yield Check("findings: nothing compared", lambda: Findings().passed, False)
    yield Check("findings: something compared", lambda: good.passed, True)
    yield Check("findings: a failure after a pass", lambda: merged(good, bad).passed, False)
    yield Check("findings: a failure before a pass", lambda: merged(bad, good).failed, 2)
    yield Check("findings: all failures count", lambda: merged(bad, bad).failed, 4)
    yield Check("findings: added after the fact", _added, (False, 30))


def _added() -> tuple[bool, int]:
    findings = Findings(values=1)
    for number in range(30):
        findings.add(Failure("value", number, "a", (), "1", "2"))
    return findings.passed, findings.failed


def _structures() -> Iterator[Check]:
    """Results as they should be, and not: whether all are there, and how many are wrong."""
    whole, real, small = np.zeros(2, np.int32), np.zeros(2, np.float32), np.zeros(1, np.float32)
    wanted = {"n": ((2,), "integer"), "x": ((2,), "float32")}
    cases = {
        "all right": ({"n": whole, "x": real}, (True, 0)),
        "wide integers": ({"n": whole.astype(np.int64), "x": real}, (True, 0)),
        "numbers for integers": ({"n": real, "x": real}, (False, 1)),
        "integers for numbers": ({"n": whole, "x": whole}, (False, 1)),
        "the first missing": ({"x": real}, (False, 1)),
        "the first a list": ({"n": [0, 0], "x": real}, (False, 1)),
        "the first missing, the second wrong": ({"x": small}, (False, 2)),
        "the first wrong": ({"n": small, "x": real}, (False, 1)),
        "the second wrong": ({"n": whole, "x": small}, (False, 1)),
        "nothing": ({}, (False, 2)),
    }
    for name, (results, outcome) in cases.items():

        def looked_at(results: dict[str, object] = results) -> tuple[bool, int]:
            findings = Findings()
            return has_arrays(Comparer(findings), 0, results, wanted), findings.failed  # type: ignore[arg-type]

        yield Check(f"structure: {name}", looked_at, outcome)
