"""The consoles of the subcommands: results on stdout, progress on stderr, and a closed pipe is no accident."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["ResultConsole", "progress_bar", "result_console"]


class ResultConsole(Console):
    """A console that leaves a closed pipe to :mod:`refdeq.cli`, which ends quietly; rich's own would exit with code 1."""

    def on_broken_pipe(self) -> None:
        """Pass the error on instead of ending the process here."""
        raise BrokenPipeError


def result_console(width: int = 120) -> ResultConsole:
    """Console on stdout; `width` columns where the output is not a terminal, so that tables in logs are not cut.

    Names hold colons (``module:x:y``), which must not become emoji.
    """
    return ResultConsole(width=None if sys.stdout.isatty() else width, highlight=False, soft_wrap=False, emoji=False)


def progress_bar() -> Progress:
    """Progress bar on stderr, shown on a terminal only."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
