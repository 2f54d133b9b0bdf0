"""``refdeq demo``: solve a trained model and show its heterogeneous convergence in figures and numbers."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from refdeq.commands.convergence import Run
    from refdeq.commands.demo_report import Summary
    from refdeq.models import TrainedModel
    from refdeq.registry import Backend
    from refdeq.types import DeltaRule

__all__ = ["Kind", "demo"]


class Kind(StrEnum):
    """The two demonstrations."""

    sine = "sine"
    image = "image"


_MODEL = typer.Option(help="A shipped model (see refdeq info), or a cell file with the same extra tensors.")
_THRESHOLD = typer.Option(help="Threshold of the delta rule.")
_PRESET = typer.Option(help="Delta rule: refdeq, paper, deltadeq-code or delta-network.")
_EVALUATIONS = typer.Option(help="Evaluations per sample, from z = 0, without a stop test; at least 3.")
_OUT = typer.Option(help="Folder for the figures; made if it does not exist.")
_BACKEND = typer.Option(help="Backend; by default numba, or the reference where numba cannot run.")
_THREADS = typer.Option(help="Threads; by default all usable cores. Results do not depend on it.")
_JSON = typer.Option("--json", help="Print one JSON object instead of tables.")


def demo(
    kind: Annotated[Kind, typer.Argument(help="A curve of 200 points, or a picture of 128 x 128 pixels.")],
    model: Annotated[str | None, _MODEL] = None,
    threshold: Annotated[float, _THRESHOLD] = 0.01,
    preset: Annotated[str, _PRESET] = "refdeq",
    evaluations: Annotated[int, _EVALUATIONS] = 31,
    out: Annotated[Path, _OUT] = Path("refdeq-demo"),
    backend: Annotated[str | None, _BACKEND] = None,
    threads: Annotated[int | None, _THREADS] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Solve a trained model and draw how unevenly its dimensions converge.

    Solves the model densely, with the delta rule at threshold 0 and at the threshold given; writes PNG figures, and prints
    evaluations, multiply-accumulates and errors.
    """
    from refdeq.commands.demo_models import load_model
    from refdeq.commands.demo_report import print_json, print_tables
    from refdeq.commands.figures import prepare_folder, require_matplotlib, write_files
    from refdeq.commands.machine import choose_backend, usable_cores
    from refdeq.types import DeltaRule

    require_matplotlib()
    rule = DeltaRule.preset(preset, threshold=threshold)
    _check_counts(evaluations, threads)
    trained = load_model(kind.value, model)
    chosen, why = choose_backend(backend)
    prepare_folder(out)
    threads = usable_cores() if threads is None else threads
    summary, figures = _work(kind.value, trained, rule, preset, evaluations, chosen, why, threads)
    files = write_files(out, figures)
    (print_json if as_json else print_tables)(summary, files)


def _check_counts(evaluations: int, threads: int | None) -> None:
    from refdeq.errors import ArgumentError

    if evaluations < 3:
        raise ArgumentError("--evaluations", expected="an integer >= 3", got=evaluations)
    if threads is not None and threads < 1:
        raise ArgumentError("--threads", expected="an integer >= 1", got=threads)


def _work(
    kind: str, model: TrainedModel, rule: DeltaRule, preset: str, evaluations: int, backend: Backend, why: str, threads: int
) -> tuple[Summary, dict[str, bytes]]:
    """Solve densely, at threshold 0 and at the threshold asked for; then draw."""
    from refdeq.commands.console import progress_bar
    from refdeq.commands.convergence import run
    from refdeq.commands.demo_figures import draw, pick_samples, trace_samples
    from refdeq.commands.demo_report import Summary

    with progress_bar() as progress:

        def solved(label: str, rule: DeltaRule | None, *, watch: bool) -> Run:
            task = progress.add_task(f"{label}, {backend.info.name}", total=len(model.x))
            return run(
                model, rule, evaluations, backend, threads=threads, watch=watch, advance=lambda n: progress.advance(task, n)
            )

        dense = solved("dense solve", None, watch=True)
        exact = solved("threshold 0", replace(rule, threshold=0.0), watch=False)
        delta = solved(f"threshold {rule.threshold:g}", rule, watch=True)
        summary = Summary(kind, model, preset, backend.info.name, why, evaluations, dense, exact, delta)
        picked = trace_samples(summary, pick_samples(dense), backend)
        return summary, draw(summary, picked, lambda steps: progress.track(steps, description="figures"))
