"""What ``refdeq solve`` prints: what was solved, how the samples ended, the worst of them, the residual curve, the cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from refdeq.commands.console import result_console
from refdeq.commands.solve_curve import curve
from refdeq.commands.solve_report import Report, cost_data, measures, status_rows, worst_samples
from refdeq.commands.solve_run import Request
from refdeq.cost_official import OFFICIAL_NOTE
from refdeq.solution import Solution
from refdeq.types import DeltaRule, Status

__all__ = ["print_report"]


def print_report(report: Report) -> None:
    """Print a report on stdout."""
    console = result_console()
    for line in _head(report):
        console.print(Text(line), soft_wrap=True)
    console.print()
    solution = report.outcome.solution
    if report.problem.samples:
        console.print(_status_table(report))
    if report.problem.samples > 1:
        console.print()
        console.print(_worst_table(report))
    console.print()
    for line in [*_curves(report), *_dialect_lines(solution), *_cost_lines(report)]:
        console.print(Text(line), soft_wrap=True)
    for sentence in solution.warnings:
        console.print(Text(f"warning: {sentence}"), soft_wrap=True)
    for path in report.files.values():
        console.print(Text(f"wrote {path}"), soft_wrap=True)


def _head(report: Report) -> Iterator[str]:
    problem, request, outcome = report.problem, report.request, report.outcome
    yield f"{problem.source}: {problem.cell!r}; {problem.samples} samples from {problem.input_source}"
    rule = "" if request.delta is None else f"; delta rule {_rule(request.delta)}"
    yield f"{_method(request)}{rule}"
    backend = f"backend {request.backend.info.name} ({report.backend_reason}), {request.order} order"
    yield f"{backend}; {outcome.solution.executor}; {outcome.seconds:.3g} s"


def _method(request: Request) -> str:
    """Solver and stop rule, or the dialect that brings both."""
    if request.dialect is not None:
        options = ", ".join(f"{name}={value}" for name, value in request.dialect.options)
        return f"dialect {request.dialect.label}: {options}"
    stop = request.stop
    words = [f"{name} {value:g}" for name, value in (("rtol", stop.rtol), ("atol", stop.atol)) if value is not None]
    words += [f"at most {stop.max_eval} evaluations", stop.norm]
    if stop.divergence is not None:
        words.append(f"divergence {stop.divergence:g}")
    if stop.stagnation is not None:
        words.append(f"stagnation {stop.stagnation[0]}, {stop.stagnation[1]:g}")
    return f"solver {request.solver.name}; {', '.join(words)}"


def _rule(rule: DeltaRule) -> str:
    """The choices of a delta rule, those at their default left out."""
    default = DeltaRule(threshold=rule.threshold)
    threshold = rule.threshold if isinstance(rule.threshold, tuple) else (rule.threshold,)
    changed = [f"{name} {value}" for name, value in vars(rule).items() if value != getattr(default, name)]
    return ", ".join([f"threshold {'/'.join(f'{number:g}' for number in threshold)}", *changed])


def _number(value: Any) -> str:
    return f"{float(value):.3g}"


def _status_table(report: Report) -> Table:
    table = Table("status", title="How the samples ended", title_justify="left")
    for title in ("samples", "evaluations", "residual", "relative"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("meaning")
    for row in status_rows(report.outcome.solution):
        counts = row["evaluations"]
        table.add_row(
            row["status"],
            f"{row['samples']:,}",
            f"{counts['min']} / {counts['median']} / {counts['max']}",
            *(f"{_number(row[name]['min'])} to {_number(row[name]['max'])}" for name in ("residual", "residual_rel")),
            Text(row["sentence"]),
        )
    table.caption = "evaluations: least / median / most per sample"
    table.caption_justify = "left"
    return table


def _worst_table(report: Report) -> Table:
    solution = report.outcome.solution
    table = Table(title="Worst samples", title_justify="left")
    for title in ("sample", "status", "evaluations", "residual", "relative"):
        table.add_column(title, justify="right")
    if solution.residual_dense is not None:
        table.add_column("residual of the dense f", justify="right")
    for index in worst_samples(solution):
        cells = [str(index), Status(int(solution.status[index])).name, str(solution.n_eval[index])]
        cells += [_number(solution.residual[index]), _number(solution.residual_rel[index])]
        if solution.residual_dense is not None:
            cells.append(_number(solution.residual_dense[index]))
        table.add_row(*cells)
    return table


def _curves(report: Report) -> Iterator[str]:
    history = report.outcome.history
    if history is None:
        reason = "switched off" if report.request.history is False else "so many would be slow to record; --history does it"
        yield f"no residual curve: {reason}"
    elif history.active.size:
        yield from curve(measures(report.request, history)[0])
    yield ""


def _dialect_lines(solution: Solution) -> Iterator[str]:
    """What the peer says of itself (S-9)."""
    report = solution.dialect
    if report is None or report.lowest.size == 0:
        return
    lowest = f"{_number(np.min(report.lowest))} to {_number(np.max(report.lowest))}" if report.lowest.size > 1 else ""
    words = [f"lowest {report.dialect.rules.mode} residual {lowest or _number(report.lowest)}"]
    steps = np.unique(report.nstep)
    words.append(f"{steps[0]} to {steps[-1]} steps" if len(steps) > 1 else f"{steps[0]} steps")
    if report.prot_break:
        words.append("ended by its protective break")
    yield f"{report.dialect.label} reports: {', '.join(words)}"


def _cost_lines(report: Report) -> Iterator[str]:
    """Cost with a delta rule, and the dense residual where it was asked for."""
    solution, cost = report.outcome.solution, cost_data(report)
    if cost is not None and report.request.delta is not None:
        share = f"{100 * cost['saved']:.1f} % saved"
        yield f"MACs: {cost['macs']:,} of {cost['macs_dense']:,} ({share}), the first evaluation included"
        for gate, counts in cost["by_gate"].items():
            part = f" ({100 * counts['sent'] / counts['elements']:.1f} %)" if counts["elements"] else ""
            yield f"gate {gate}: {counts['sent']:,} of {counts['elements']:,} elements sent{part}"
        official = cost["official"]
        if official is not None and official["flops_dense"]:
            saved = 100 * (1 - official["flops"] / official["flops_dense"])
            yield f"official FLOPs: {official['flops']:,.0f} of {official['flops_dense']:,.0f} ({saved:.1f} % saved)"
            yield OFFICIAL_NOTE
    if solution.residual_dense is not None and len(solution.residual_dense):
        yield f"residual of the dense f at the returned points: at most {_number(np.max(solution.residual_dense))}"
