"""Killing mutants of the judge: the first known verdict that a mutant gets wrong."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any, Protocol

from meta.mutating import Mutant, functions_of, in_place

LIMIT = 5.0
"""Seconds for one verdict: a mutant may loop for ever."""

SURVIVORS = Path(__file__).with_name("survivors.json")
"""Mutants that no verdict kills, each with the argument why it is equivalent."""

KILLERS: dict[str, str] = json.loads(Path(__file__).with_name("killers.json").read_text(encoding="utf-8"))
"""Which verdict killed a mistake, by its name, or an automatic mutant, by its key, when it was last looked for."""


class Known(Protocol):
    """Something with a known verdict."""

    name: str

    def holds(self) -> bool:
        """Whether the judge gives it."""


class _TooLongError(BaseException):
    """A verdict took longer than ``LIMIT``."""


def _too_long(*_: Any) -> None:
    raise _TooLongError


def survivor_arguments() -> dict[str, str]:
    """By key of the mutant."""
    arguments: dict[str, str] = json.loads(SURVIVORS.read_text(encoding="utf-8"))
    return arguments


def reached(modules: Iterable[ModuleType], known: list[Known]) -> dict[CodeType, list[Known]]:
    """Which verdicts run which function: a mutant of a function can be killed only by those that run it."""
    watched = {function.__code__ for module in modules for _, function in functions_of(module)}
    found: dict[CodeType, list[Known]] = {code: [] for code in watched}
    for one in known:
        seen: set[CodeType] = set()

        def note(frame: FrameType, event: str, _: Any, seen: set[CodeType] = seen) -> None:
            if event == "call" and frame.f_code in watched:
                seen.add(frame.f_code)

        sys.setprofile(note)
        try:
            held = one.holds()
        finally:
            sys.setprofile(None)
        assert held, f"the judge itself gets this one wrong: {one.name}"
        for code in seen:
            found[code].append(one)
    return found


def killer(mutant: Mutant, known: Iterable[Known]) -> str:
    """Name of the first verdict that the mutant gets wrong; empty when it gets all of them right."""
    previous = signal.signal(signal.SIGALRM, _too_long)
    try:
        with in_place(mutant):
            for one in known:
                signal.setitimer(signal.ITIMER_REAL, LIMIT)
                try:
                    if not one.holds():
                        return one.name
                except _TooLongError:
                    return f"{one.name} (no answer)"
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0.0)
    finally:
        signal.signal(signal.SIGALRM, previous)
    return ""


def spread(known: list[Known], key: str) -> list[Known]:
    """What killed this mistake or mutant before, then a few of every kind, then the rest: most die early."""
    front = [one for one in known if one.name == KILLERS.get(key)] + known[:: max(1, len(known) // 40)]
    chosen = {id(one) for one in front}
    return front + [one for one in known if id(one) not in chosen]


def survivors(
    modules: Iterable[ModuleType],
    mutants: Callable[[ModuleType], Iterator[Mutant]],
    by_code: dict[CodeType, list[Known]],
) -> tuple[int, list[Mutant]]:
    """Number of mutants of functions that some verdict runs, and those of them that no verdict kills."""
    total, left = 0, []
    for module in modules:
        codes = {name: function.__code__ for name, function in functions_of(module)}
        for mutant in mutants(module):
            if not by_code[codes[mutant.function]]:
                continue
            total += 1
            if not killer(mutant, spread(by_code[codes[mutant.function]], mutant.key)):
                left.append(mutant)
    return total, left
