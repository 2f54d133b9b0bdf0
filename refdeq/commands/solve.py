"""``refdeq solve``: solve a cell from a file and say how every sample ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from refdeq.commands.solve_input import Problem
    from refdeq.commands.solve_run import Outcome, Request

__all__ = ["solve"]

DEFAULT_RTOL = 1e-6
EXIT_UNCONVERGED = 1
"""Some sample did not converge."""

_CELL = typer.Argument(metavar="CELL", help="File written by refdeq.save_cell, or a shipped model (see refdeq info).")
_INPUT = typer.Argument(
    metavar="INPUT",
    help=".safetensors, .npz or .npy with one array per injection, and z0 under the states' names if wanted; "
    "- or nothing: the inputs stored with the cell, or --batch.",
)
_BATCH = typer.Option(help="Samples of a cell without injections, from z = 0.")
_SOLVER = typer.Option(
    metavar="NAME[:KEY=VALUE,...]", help="picard by default; as in km:alpha=0.9. A wrong name or key lists what there is."
)
_DIALECT = typer.Option(
    metavar="PEER/METHOD[:KEY=VALUE,...]",
    help="Solve as a peer does, as in torchdeq/anderson:max_iter=30. It brings its own solver, stop rule and returned point.",
)
_RTOL = typer.Option(help="Converged at this relative residual; 1e-6 if neither tolerance is given.")
_ATOL = typer.Option(help="Converged at this absolute residual.")
_MAX_EVAL = typer.Option(help="Evaluations of f per sample, at most; 100 by default.")
_NORM = typer.Option(help="Norm of the residual: l2 (the default) or linf.")
_EPS = typer.Option(help="Guard in the relative residual; 1e-9 by default.")
_DIVERGENCE = typer.Option(help="DIVERGED when the residual exceeds this many times the first.")
_STAGNATION = typer.Option(metavar="WINDOW,RATIO", help="STAGNATED when WINDOW evaluations do not improve below RATIO.")
_DELTA = typer.Option(
    metavar="RULE",
    help="Delta rule: a threshold, or PRESET:threshold=0.01,KEY=VALUE with a preset out of refdeq, paper, deltadeq-code, "
    "delta-network and any field of refdeq.DeltaRule.",
)
_BACKEND = typer.Option(help="By default numba, or the reference where numba cannot run.")
_ORDER = typer.Option(help="Order of sums: strict or fast.")
_EXECUTOR = typer.Option(help="auto, op or fused.")
_THREADS = typer.Option(help="By default all usable cores; results do not depend on it.")
_RETURNED = typer.Option(help="Returned point: last (the default) or lowest.")
_POLISH = typer.Option("--polish", help="Make one more dense evaluation and return its value.")
_VERIFY = typer.Option("--verify", help="Report the residual of the dense f as well.")
_HISTORY = typer.Option(help="Record the residual of every evaluation; by default where that is cheap.")
_PLOT = typer.Option(metavar="FILE", help="Draw the residuals into a .png or .svg file (needs the extra plot).")
_TRACE = typer.Option(metavar="FILE", help="Write everything that happened to a .safetensors file (refdeq.load_trace).")
_OUT = typer.Option(metavar="FILE", help="Write the returned point to a .safetensors or .npz file.")
_JSON = typer.Option("--json", help="Print one JSON object instead of tables.")


def solve(
    cell: Annotated[str, _CELL],
    input_file: Annotated[str | None, _INPUT] = None,
    batch: Annotated[int | None, _BATCH] = None,
    solver: Annotated[str | None, _SOLVER] = None,
    dialect: Annotated[str | None, _DIALECT] = None,
    rtol: Annotated[float | None, _RTOL] = None,
    atol: Annotated[float | None, _ATOL] = None,
    max_eval: Annotated[int | None, _MAX_EVAL] = None,
    norm: Annotated[str | None, _NORM] = None,
    eps: Annotated[float | None, _EPS] = None,
    divergence: Annotated[float | None, _DIVERGENCE] = None,
    stagnation: Annotated[str | None, _STAGNATION] = None,
    delta: Annotated[str | None, _DELTA] = None,
    backend: Annotated[str | None, _BACKEND] = None,
    order: Annotated[str, _ORDER] = "strict",
    executor: Annotated[str, _EXECUTOR] = "auto",
    threads: Annotated[int | None, _THREADS] = None,
    returned: Annotated[str | None, _RETURNED] = None,
    polish: Annotated[bool, _POLISH] = False,
    verify: Annotated[bool, _VERIFY] = False,
    history: Annotated[bool | None, _HISTORY] = None,
    plot: Annotated[Path | None, _PLOT] = None,
    trace: Annotated[Path | None, _TRACE] = None,
    out: Annotated[Path | None, _OUT] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Solve a cell from a file and say how every sample ended.

    Prints statuses, evaluations and residuals, the worst samples, a residual curve, and what a delta rule saved.

    Example: damped Picard with a delta rule on a shipped model; then a cell and an input of your own.

    \b
        refdeq solve sine --solver km:alpha=0.9 --delta 0.001 --rtol 1e-3
        refdeq solve cell.safetensors input.npz --plot residuals.png --out z.npz

    Exit codes: 0 every sample converged; 1 some sample did not (see its status); 2 usage or bad input; 3 the backend that was
    named cannot run here; 130 interrupted. Files appear whole or not at all.
    """  # noqa: D301 (the control character marks a paragraph that keeps its line breaks)
    from refdeq.commands.machine import choose_backend, usable_cores
    from refdeq.commands.solve_files import check_targets
    from refdeq.commands.solve_input import load_problem
    from refdeq.commands.solve_options import parse_delta
    from refdeq.commands.solve_run import Request
    from refdeq.errors import ArgumentError

    if plot is not None:
        from refdeq.commands.figures import require_matplotlib

        require_matplotlib()
        if history is False:
            raise ArgumentError("--plot", hint="a figure of the residuals needs them: leave out --no-history")
    stopping = {"rtol": rtol, "atol": atol, "max_eval": max_eval, "norm": norm, "eps": eps, "divergence": divergence}
    how = _method(dialect, {**stopping, "stagnation": stagnation, "solver": solver, "returned": returned})
    rule = None if delta is None else parse_delta(delta)
    problem = load_problem(cell, input_file, batch)
    check_targets({"--plot": plot, "--trace": trace, "--out": out}, [cell, *([input_file] if input_file else [])])
    chosen, why = choose_backend(backend)
    request = Request(
        **how,
        delta=rule,
        backend=chosen,
        order=order,
        executor=executor,
        threads=usable_cores() if threads is None else threads,
        polish=polish,
        verify=verify,
        history=True if plot is not None else history,
        trace=trace is not None,
    )
    _finish(problem, request, why, _run(problem, request), {"plot": plot, "trace": trace, "out": out}, as_json)


def _method(dialect: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Solver, stop rule and returned point: those of the options, or those of a dialect, which suffers no other."""
    from refdeq.commands.solve_options import parse_dialect, parse_solver, parse_stagnation
    from refdeq.errors import ArgumentError
    from refdeq.types import StopRule

    given = {name: value for name, value in given.items() if value is not None}
    if dialect is not None:
        built = parse_dialect(dialect)
        if given:
            option = f"--{next(iter(given)).replace('_', '-')}"
            hint = f"a dialect brings its own; what it takes goes into --dialect {built.label}:key=value"
            raise ArgumentError(option, hint=hint)
        return {"solver": built.solver, "stop": built.stop, "returned": "last", "dialect": built}
    solver, returned = parse_solver(given.pop("solver", "picard")), given.pop("returned", "last")
    if "stagnation" in given:
        given["stagnation"] = parse_stagnation(given["stagnation"])
    if "rtol" not in given and "atol" not in given:
        given["rtol"] = DEFAULT_RTOL
    return {"solver": solver, "stop": StopRule(**given), "returned": returned}


def _run(problem: Problem, request: Request) -> Outcome:
    """Solve behind a progress bar, which is shown on a terminal only."""
    from refdeq.commands.console import progress_bar
    from refdeq.commands.solve_run import run
    from refdeq.loop import Progress

    with progress_bar() as progress:
        if progress.disable:
            return run(problem, request)
        task = progress.add_task(f"{request.solver.name}, {request.backend.info.name}", total=problem.samples)

        def advance(finished: int, inside: Progress | None) -> None:
            progress.update(task, completed=finished)
            if inside is not None:
                progress.update(task, description=f"evaluation {inside.evaluation}, worst residual {inside.worst:.1e}")

        return run(problem, request, advance)


def _finish(
    problem: Problem, request: Request, why: str, outcome: Outcome, targets: dict[str, Path | None], as_json: bool
) -> None:
    """Write the files, print the report, and end with the exit code of the statuses."""
    from dataclasses import replace

    from refdeq.commands.solve_files import write_solution, write_trace
    from refdeq.commands.solve_report import Report, to_json
    from refdeq.commands.solve_tables import print_report
    from refdeq.io import write_whole

    report = Report(problem, request, why, outcome, {})
    plot, trace, out = targets["plot"], targets["trace"], targets["out"]
    if plot is not None:
        from refdeq.commands.solve_figure import render

        write_whole(plot, render(report, plot.suffix))
    if trace is not None and outcome.solution.trace is not None:
        write_trace(trace, outcome.solution.trace, problem, request)
    if out is not None:
        write_solution(out, outcome.solution.states, problem, request)
    report = replace(report, files={name: str(path) for name, path in targets.items() if path is not None})
    if as_json:
        print(to_json(report))
    else:
        print_report(report)
    if not outcome.solution.converged:
        raise typer.Exit(EXIT_UNCONVERGED)
