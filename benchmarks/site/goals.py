"""The goals P1 to P11, and the latest figures that ``refdeq bench --goals --json`` has written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refdeq_bench.goals import GOALS

from refdeq.errors import FileFormatError

__all__ = ["COLUMNS", "GoalRow", "Goals", "load"]

SCHEMA = "refdeq-bench/1"
COLUMNS = ("threads", "point", "required", "measured", "interval", "baseline", "A/A", "verdict")
"""Of `GoalRow.points`."""
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (0.0, "ns"))


@dataclass(frozen=True)
class GoalRow:
    """One goal.

    Attributes
    ----------
    id, work, required : str
    verdict : {"met", "missed", "not all measured", "not measured"}
    figures : tuple of str
        A line per number of threads: how many points meet the goal, and the one nearest to missing it or farthest below.
    points : tuple of rows
        Every point, as text, in the order of `COLUMNS`.
    """

    id: str
    work: str
    required: str
    verdict: str
    figures: tuple[str, ...] = ()
    points: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Goals:
    """All goals, and where they were measured, in a sentence."""

    about: str
    rows: tuple[GoalRow, ...]


def load(path: Path) -> Goals:
    """Read figures of the goals; without a file no goal was measured.

    Raises
    ------
    FileFormatError
        The file is not one of ``refdeq bench --goals --json``.
    """
    if not path.exists():
        rows = tuple(GoalRow(goal.id, goal.work, goal.required, "not measured") for goal in GOALS)
        return Goals("No figures are stored; refdeq bench --goals --json measures them.", rows)
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
        if contents["schema"] != SCHEMA:
            raise FileFormatError(f"{path}: schema {contents['schema']!r}, expected {SCHEMA!r}")
        return Goals(_about(contents), tuple(_row(goal, contents["goals"]) for goal in GOALS))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{path}: not written by refdeq bench --goals --json ({error!r})") from error


def _about(contents: Mapping[str, Any]) -> str:
    facts = contents["facts"]
    libraries = ", ".join(f"{name} {facts[name]}" for name in ("numpy", "numba", "torch") if facts.get(name))
    absent = "" if facts.get("torch") else "; torch: not installed"
    spread = ", ".join(
        f"{noise['spread']:.1%} with {threads} thread{'s' * (threads != '1')}" for threads, noise in contents["noise"].items()
    )
    noisy = " The machine was too noisy to conclude anything." if contents["noisy"] else ""
    return (
        f"{facts['cpu']}, {facts['cores']} cores; Python {facts['python']}, {libraries}{absent}; {facts['blas']}. "
        f"Ratios over the fastest dense path, measured by turns; A/A spread {spread}.{noisy}"
    )


def _row(goal: Any, outcomes: Sequence[Mapping[str, Any]]) -> GoalRow:
    own = [outcome for outcome in outcomes if outcome["goal"] == goal.id]
    measured = [outcome for outcome in own if outcome["met"] is not None]
    if not measured:
        reasons = dict.fromkeys(outcome["reason"] for outcome in own if outcome["reason"])
        return GoalRow(goal.id, goal.work, goal.required, "not measured", tuple(reasons))
    if not all(outcome["met"] for outcome in measured):
        verdict = "missed"
    else:
        verdict = "met" if len(measured) == len(own) else "not all measured"
    threads = sorted({outcome["threads"] for outcome in measured})
    lines = tuple(_line(count, [outcome for outcome in own if outcome["threads"] == count]) for count in threads)
    return GoalRow(goal.id, goal.work, goal.required, verdict, lines, tuple(map(_point, own)))


def _line(threads: int, outcomes: Sequence[Mapping[str, Any]]) -> str:
    measured = [outcome for outcome in outcomes if outcome["met"] is not None]
    worst = min(measured, key=lambda outcome: outcome["margin"])
    met = sum(bool(outcome["met"]) for outcome in measured)
    word = "nearest" if worst["met"] else "farthest below"
    noise = max(outcome["noise"] for outcome in measured)
    return (
        f"{threads} thread{'s' * (threads != 1)}: {met} of {len(outcomes)} points; {word} {_value(worst)} where "
        f"{_required(worst)} is required; A/A up to {noise:.1%}"
    )


def _point(outcome: Mapping[str, Any]) -> tuple[str, ...]:
    point = " ".join(f"{name}={value}" for name, value in outcome["point"].items() if name != "bandwidth")
    start = (str(outcome["threads"]), f"{outcome['workload']} {point}", _required(outcome))
    if outcome["met"] is None:
        return (*start, outcome["reason"], "", "", "", "not measured")
    low, high = (_number(outcome, outcome[name]) for name in ("low", "high"))
    verdict = "met" if outcome["met"] else "missed"
    return (*start, _value(outcome), f"{low} to {high}", outcome["best"] or "", f"{outcome['noise']:.1%}", verdict)


def _number(outcome: Mapping[str, Any], value: float) -> str:
    if outcome["figure"] != "seconds":
        return f"{value:.3g}x"
    scale, unit = next((scale, unit) for scale, unit in UNITS if value >= scale)
    return f"{value / (scale or 1e-9):.3g} {unit}"


def _value(outcome: Mapping[str, Any]) -> str:
    share = "" if outcome["share"] is None else f" and {outcome['share']:.0%} of bandwidth"
    return _number(outcome, outcome["value"]) + share


def _required(outcome: Mapping[str, Any]) -> str:
    share = f" and {outcome['bandwidth']:.0%} of bandwidth" if outcome["bandwidth"] else ""
    return _number(outcome, outcome["required"]) + share
