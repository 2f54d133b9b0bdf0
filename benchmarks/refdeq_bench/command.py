"""``refdeq bench``: how fast the backends are here, against the fastest dense paths there are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from refdeq_bench.measuring import Settings
    from refdeq_bench.running import Findings, Job

__all__ = ["EXIT_NOISY", "EXIT_SLOWER", "bench"]

EXIT_SLOWER = 1
"""A result was wrong, a row became slower, or a goal was missed."""
EXIT_NOISY = 6
"""The machine is too noisy to conclude anything."""
NOISE_LIMIT = 0.1
"""A/A spread (quartiles) from which on a machine is too noisy."""

_WORKLOADS = typer.Argument(metavar="[WORKLOAD]...", help="What to measure (--list names all); one point of each by default.")
_BACKEND = typer.Option(help="Backend; may be given several times. numba by default.")
_THREADS = typer.Option(help="Threads of backends and baselines; may be given several times. 1 by default.")
_ORDER = typer.Option(help="Order of sums: fast (the default) or strict; may be given several times.")
_DTYPE = typer.Option(help="float32 or float64, where a workload has both.")
_TAU = typer.Option(help="Threshold of the delta rule, for whole solves; may be given several times.")
_DENSITY = typer.Option(help="Share of elements sent, for kernels; may be given several times.")
_SET = typer.Option("--set", metavar="NAME=VALUE", help="Any other parameter of a workload, as in n=4096 or pattern=rows.")
_ROUNDS = typer.Option(help="Interleaved rounds; 15 by default.")
_QUICK = typer.Option("--quick", help="Tiny points and few rounds: whether it works, not how fast it is.")
_GOALS = typer.Option("--goals", help="Measure the goals P1 to P11, on one and two threads; up to a quarter of an hour.")
_GOAL = typer.Option("--goal", metavar="P", help="Only this goal, as in P3; may be given several times.")
_LIST = typer.Option("--list", help="Name the workloads and their parameters, and measure nothing.")
_JSON = typer.Option("--json", metavar="FILE", help="Write everything that was measured, samples included; - is stdout.")
_COMPARE = typer.Option(metavar="FILE", help="Say for every row whether it is faster or slower than in this file of --json.")
_ACROSS = typer.Option("--across", help="Compare although machine, processor, versions or threads differ.")
_LIMIT = typer.Option(help="A/A spread from which on the machine is too noisy to conclude.")
_FORCE = typer.Option("--force", help="Measure on a noisy machine all the same; what is noisy is marked, and gets no verdict.")


def bench(
    workloads: Annotated[list[str] | None, _WORKLOADS] = None,
    backend: Annotated[list[str] | None, _BACKEND] = None,
    threads: Annotated[list[int] | None, _THREADS] = None,
    order: Annotated[list[str] | None, _ORDER] = None,
    dtype: Annotated[list[str] | None, _DTYPE] = None,
    tau: Annotated[list[float] | None, _TAU] = None,
    density: Annotated[list[float] | None, _DENSITY] = None,
    settings: Annotated[list[str] | None, _SET] = None,
    rounds: Annotated[int, _ROUNDS] = 15,
    quick: Annotated[bool, _QUICK] = False,
    goals: Annotated[bool, _GOALS] = False,
    goal: Annotated[list[str] | None, _GOAL] = None,
    list_all: Annotated[bool, _LIST] = False,
    json_file: Annotated[str | None, _JSON] = None,
    compare: Annotated[Path | None, _COMPARE] = None,
    across: Annotated[bool, _ACROSS] = False,
    noise_limit: Annotated[float, _LIMIT] = NOISE_LIMIT,
    force: Annotated[bool, _FORCE] = False,
) -> None:
    """Measure how fast backends are against the fastest dense paths here.

    Contenders are checked, then timed by turns; ratios are of the same round, medians with intervals. The machine's own noise
    (A/A: a product against itself) is measured first, and nothing is concluded from a noisy one.

    Example: one kernel at two densities; a run to compare with later; the goals.

    \b
        refdeq bench gemv --density 0.1 --density 0.5 --set n=4096
        refdeq bench gemm image --json before.json
        refdeq bench gemm image --compare before.json
        refdeq bench --goals --json goals.json

    Exit codes: 0 measured; 1 a result was wrong, a row is slower, or a goal was missed; 2 usage or bad input; 3 a backend that
    was named cannot run here; 6 too noisy to conclude; 130 interrupted.
    """  # noqa: D301 (the control character marks a paragraph that keeps its line breaks)
    from refdeq.errors import ArgumentError
    from refdeq.registry import load_backend
    from refdeq_bench.selection import read_settings, select_jobs

    if list_all:
        _list_workloads()
        return
    if rounds < 1 or not noise_limit > 0 or min(threads or [1]) < 1:
        raise ArgumentError(
            "--rounds, --noise-limit, --threads", expected="numbers above 0", got=(rounds, noise_limit, threads)
        )
    chosen = list(dict.fromkeys(backend or ["numba"]))
    for name in chosen:
        load_backend(name)
    if goals or goal:
        if workloads or quick or compare:
            raise ArgumentError("--goals", hint="goals have their own workloads, points and verdicts: leave out the others")
        _run_goals(goal or [], chosen, threads or [1, 2], rounds, json_file, noise_limit, force)
        return
    options = {"dtype": dtype, "tau": tau, "density": density}
    given = {name: list(values) for name, values in options.items() if values} | read_settings(settings or [])
    jobs = select_jobs(workloads or [], chosen, order or ["fast"], given, quick=quick)
    measuring = _settings(rounds, quick)
    _run_workloads(jobs, threads or [1], measuring, json_file, compare, across, noise_limit, force or quick)


def _list_workloads() -> None:
    from refdeq_bench.selection import parameters
    from refdeq_bench.workloads import WORKLOADS

    for workload in WORKLOADS.values():
        known = ", ".join(f"{name}={value}" for name, value in parameters(workload).items())
        print(f"{workload.name}: {workload.summary}\n    {known}")


def _settings(rounds: int, quick: bool) -> Settings:
    from refdeq_bench.measuring import Settings

    if quick:
        return Settings(rounds=5, sample_seconds=0.001)
    return Settings(rounds=rounds, budget_seconds=60.0)


def _measured(jobs: list[Job], threads: list[int], settings: Settings, noise_limit: float, force: bool) -> list[Findings]:
    """Run the jobs once per number of threads, with a progress bar; end early where nothing could be concluded."""
    from refdeq.commands.console import progress_bar
    from refdeq_bench.running import run_jobs

    def accept(noise: dict[str, float]) -> None:
        if noise["spread"] > noise_limit and not force:
            raise _Noisy(noise)

    findings = []
    with progress_bar() as progress:
        task = progress.add_task("preparing", total=len(jobs) * len(threads))
        for part, count in enumerate(threads):

            def advance(index: int, share: float, part: int = part, count: int = count) -> None:
                description = f"{jobs[index].title} threads={count}"
                progress.update(task, description=description[:100], completed=part * len(jobs) + index + share)

            findings.append(run_jobs(jobs, count, settings, advance=advance, accept=accept))
    return findings


class _Noisy(Exception):
    """A/A says that nothing can be concluded."""

    def __init__(self, noise: dict[str, float]) -> None:
        self.noise = noise
        super().__init__("noisy")


def _refuse(error: _Noisy, noise_limit: float) -> None:
    noise = error.noise
    print(
        f"refdeq: too noisy to conclude: a product against itself has quartiles {noise['q1']:.3f} and {noise['q3']:.3f}, "
        f"a spread of {noise['spread']:.0%} where at most {noise_limit:.0%} is allowed. Wait until the machine is quiet, or "
        "use --force for figures that are marked as noisy.",
        file=sys.stderr,
    )
    raise typer.Exit(EXIT_NOISY) from None


def _run_workloads(
    jobs: list[Job],
    threads: list[int],
    settings: Settings,
    json_file: str | None,
    compare: Path | None,
    across: bool,
    noise_limit: float,
    force: bool,
) -> None:
    from refdeq.commands.console import result_console
    from refdeq_bench.comparing import compare as compared
    from refdeq_bench.comparing import read_results, refuse_if_different
    from refdeq_bench.facts import collect_facts
    from refdeq_bench.report import print_changes, print_facts, print_findings
    from refdeq_bench.results import result_of, write_result

    facts = collect_facts()
    before = None if compare is None else read_results(compare)
    if before is not None and not across:
        refuse_if_different(before, facts, threads)
    try:
        findings = _measured(jobs, threads, settings, noise_limit, force)
    except _Noisy as error:
        _refuse(error, noise_limit)
        return
    rows = [row for found in findings for row in found.rows.values()]
    changes = [] if before is None else compared(before["rows"], rows, noise_limit)
    result = result_of(facts, findings, jobs, noise_limit)
    if before is not None:
        result["changes"] = [vars(change) for change in changes]
    write_result(json_file, result)
    if json_file != "-":
        print_facts(result_console(150), facts, findings, noise_limit)
        print_findings(findings, [job.title for job in jobs], noise_limit)
        if before is not None:
            print_changes(changes, len(rows) - len(changes))
    wrong = any(found.wrong for found in findings)
    if wrong or any(change.verdict == "slower" for change in changes):
        raise typer.Exit(EXIT_SLOWER)
    noisy = any(change.verdict == "noisy" for change in changes)
    if noisy and not force:
        raise typer.Exit(EXIT_NOISY)


def _run_goals(
    names: list[str],
    backends: list[str],
    threads: list[int],
    rounds: int,
    json_file: str | None,
    noise_limit: float,
    force: bool,
) -> None:
    from refdeq.commands.console import result_console
    from refdeq.errors import ArgumentError
    from refdeq_bench.facts import collect_facts
    from refdeq_bench.goals import GOALS, ablations, evaluate, jobs_of
    from refdeq_bench.report import print_facts, print_findings, print_goals
    from refdeq_bench.results import plain_outcome, result_of, write_result
    from refdeq_bench.running import Findings

    unknown = set(names) - {goal.id for goal in GOALS}
    if unknown:
        raise ArgumentError("--goal", expected=f"one of {', '.join(goal.id for goal in GOALS)}", got=repr(min(unknown)))
    if len(backends) > 1:
        raise ArgumentError("--backend", expected="one backend, with --goals", got=backends)
    chosen = [goal for goal in GOALS if not names or goal.id in names]
    jobs = [job for goal in chosen for job in jobs_of(goal, backends[0])]
    with_ablations = any(goal.id == "P8" for goal in chosen)
    jobs += [ablations(backends[0])] if with_ablations else []
    facts = collect_facts()
    try:
        findings = _measured(jobs, threads, _settings(rounds, False), noise_limit, force)
    except _Noisy as error:
        _refuse(error, noise_limit)
        return
    outcomes = []
    for found in findings:
        first, reasons = 0, {**found.skipped, **found.wrong}
        for goal in chosen:
            span = range(first, first + len(goal.demands))
            first = span.stop
            rows = {index - span.start: found.rows[index] for index in span if index in found.rows}
            named = {index - span.start: reasons[index] for index in span if index in reasons}
            outcomes += evaluate(goal, found.threads, rows, named)
    result = result_of(facts, findings, jobs, noise_limit)
    result["goals"] = [plain_outcome(outcome) for outcome in outcomes]
    write_result(json_file, result)
    if json_file != "-":
        print_facts(result_console(150), facts, findings, noise_limit)
        print_goals(outcomes, noise_limit)
        last = len(jobs) - 1
        shown = [Findings(f.threads, f.noise, {last: f.rows[last]}) for f in findings if with_ablations and last in f.rows]
        print_findings(shown, [job.title for job in jobs], noise_limit)
    if not all(outcome.met for outcome in outcomes):
        raise typer.Exit(EXIT_SLOWER)
