"""What a session runs, in which order: one task per declaration and cell, longest first, timings last."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from refdeq.models import TrainedModel, load_trained
from refdeq.registry import load_backend
from refdeq_validation.designed.families import PRESET_NAMES, Case, designed_cases
from refdeq_validation.processes import Workers, tell
from refdeq_validation.session import TIMED, Declaration, Row, inputs_judged, judge_designed, judge_trained, time_rows

__all__ = ["Selection", "planned_ids", "run"]

QUICK_SAMPLES = 128
"""Inputs per trained cell of a quick session."""

QUICK_STRIDE = 7
"""Every how many designed cases a quick session takes: not a divisor of the presets, through which the cases cycle."""

QUICK_TIMED = 32
"""Inputs of a timed solve of a quick session."""

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


def run(
    selection: Selection, begin: Callable[[int], None], advance: Callable[[int], None], workers: Workers | None = None
) -> list[Row]:
    """Run a session.

    Judging runs several tasks at a time, the longest first, so that kernels compile while others compute. Times are taken
    afterwards, one solve at a time.

    Parameters
    ----------
    begin : callable
        Told the total number of steps.
    advance : callable
        Told how many steps are done; called from several threads.
    workers : Workers, optional
        Processes for the tasks, which then name backends instead of holding them; threads of this process without.

    Returns
    -------
    list of Row, in the order of :func:`planned_ids` by declaration and cell
    """
    count = len(selection.cases()) if "designed" in selection.cells else 0
    models = {name: _model(name) for name in selection.cells if name != "designed"}
    tasks = [(declaration, cell) for declaration in selection.declared for cell in selection.cells]

    def steps(task: tuple[Declaration, str]) -> int:
        declaration, cell = task
        if cell == "designed":
            return count
        return inputs_judged(declaration, models[cell], selection.taken) * (1 + len(selection.presets))

    begin(sum(map(steps, tasks)))
    longest_first = sorted(tasks, key=lambda task: -steps(task) * (1 if task[0].backend.info.fused else SLOWNESS))
    futures: dict[tuple[Declaration, str], Future[Any]] = {}
    if workers is None:
        with ThreadPoolExecutor(selection.threads) as pool:
            futures = {task: pool.submit(_judge, selection, *task, advance) for task in longest_first}
    else:
        named = replace(selection, declared=[])
        for task in longest_first:
            declaration, cell = task
            parts = (declaration.backend.info.name, declaration.order, declaration.executor)
            futures[task] = workers.submit(_judge_named, named, parts, cell)
        workers.follow(futures.values(), advance)
    found = {task: future.result() for task, future in futures.items()}
    _take_times(found, models, selection)
    return [row for task in tasks for row in found[task]]


@cache
def _model(name: str) -> TrainedModel:
    return load_trained(name)


def _judge(selection: Selection, declaration: Declaration, cell: str, advance: Callable[[int], None]) -> list[Row]:
    if cell == "designed":
        return judge_designed(declaration, selection.cases(), advance)
    presets, taken = selection.presets, selection.taken
    return judge_trained(declaration, _model(cell), presets, advance, samples=taken, threshold=selection.threshold)


def _judge_named(selection: Selection, parts: tuple[str, str, str], cell: str) -> list[Row]:
    """A task of another process."""
    name, order, executor = parts
    return _judge(selection, Declaration(load_backend(name), order, executor), cell, tell)


def _take_times(found: dict[tuple[Declaration, str], list[Row]], models: dict[str, TrainedModel], selection: Selection) -> None:
    for (declaration, cell), rows in found.items():
        if cell != "designed":
            time_rows(declaration, models[cell], rows, selection.threshold, QUICK_TIMED if selection.quick else TIMED)
