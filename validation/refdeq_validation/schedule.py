"""What a session runs, in which order: one task per declaration and cell, longest first, timings last."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from refdeq.models import TrainedModel, load_trained
from refdeq_validation.designed.families import PRESET_NAMES, Case, designed_cases
from refdeq_validation.session import Declaration, Row, inputs_judged, judge_designed, judge_trained, time_rows

__all__ = ["Selection", "planned_ids", "run"]

QUICK_SAMPLES = 128
"""Inputs per trained cell of a quick session."""

QUICK_STRIDE = 7
"""Every how many designed cases a quick session takes: not a divisor of the presets, through which the cases cycle."""

SLOWNESS = 20
"""How many times longer a sample takes on a path without compiled whole solves; only the order of tasks depends on it."""


@dataclass(frozen=True)
class Selection:
    """What was asked for, validated.

    Attributes
    ----------
    declared : list of Declaration
    cells : list of str
        ``designed`` and names of trained models.
    presets : list of str
    quick : bool
    samples : int or None
        Inputs per trained cell; None for all.
    threads : int
        Tasks run at the same time.
    threshold : float or None
    """

    declared: list[Declaration]
    cells: list[str]
    presets: list[str]
    quick: bool
    samples: int | None
    threads: int
    threshold: float | None

    @property
    def taken(self) -> int | None:
        """Inputs per trained cell, quick or as asked for."""
        return QUICK_SAMPLES if self.quick and self.samples is None else self.samples

    def cases(self) -> list[Case]:
        """Designed cases of the chosen presets, and those that belong to none."""
        dropped = set(PRESET_NAMES) - set(self.presets)
        cases = [case for case in designed_cases() if not any(f"-{name}-" in case.name for name in dropped)]
        return cases[::QUICK_STRIDE] if self.quick else cases


def planned_ids(selection: Selection) -> list[str]:
    """Ids of every row that must come out of a session."""
    return [
        f"{declaration.name}/{cell}/{preset}"
        for declaration in selection.declared
        for cell in selection.cells
        for preset in (*selection.presets, "other rules" if cell == "designed" else "dense")
    ]


def run(selection: Selection, begin: Callable[[int], None], advance: Callable[[int], None]) -> list[Row]:
    """Run a session.

    Judging runs `threads` tasks at a time, the longest first, so that kernels compile while others compute. Times are taken
    afterwards, one solve at a time.

    Parameters
    ----------
    begin : callable
        Told the total number of steps.
    advance : callable
        Told how many steps are done; called from several threads.

    Returns
    -------
    list of Row, in the order of :func:`planned_ids` by declaration and cell
    """
    cases = selection.cases() if "designed" in selection.cells else []
    models = {name: load_trained(name) for name in selection.cells if name != "designed"}
    tasks = [(declaration, cell) for declaration in selection.declared for cell in selection.cells]

    def steps(task: tuple[Declaration, str]) -> int:
        declaration, cell = task
        if cell == "designed":
            return len(cases)
        return inputs_judged(declaration, models[cell], selection.taken) * (1 + len(selection.presets))

    def judge(task: tuple[Declaration, str]) -> list[Row]:
        declaration, cell = task
        if cell == "designed":
            return judge_designed(declaration, cases, advance)
        model, presets, taken = models[cell], selection.presets, selection.taken
        return judge_trained(declaration, model, presets, advance, samples=taken, threshold=selection.threshold)

    begin(sum(map(steps, tasks)))
    longest_first = sorted(tasks, key=lambda task: -steps(task) * (1 if task[0].backend.info.fused else SLOWNESS))
    with ThreadPoolExecutor(selection.threads) as pool:
        futures = {task: pool.submit(judge, task) for task in longest_first}
        found = {task: future.result() for task, future in futures.items()}
    _take_times(found, models, selection)
    return [row for task in tasks for row in found[task]]


def _take_times(found: dict[tuple[Declaration, str], list[Row]], models: dict[str, TrainedModel], selection: Selection) -> None:
    for (declaration, cell), rows in found.items():
        if cell != "designed":
            time_rows(declaration, models[cell], rows, selection.threshold)
