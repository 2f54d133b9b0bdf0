"""The ``refdeq`` command: finds subcommands by entry point, turns errors into one line and an exit code.

Subcommands live in the entry-point group ``refdeq.commands``; each entry is a plain function with typer annotations, and its
name is the entry's name. Only the subcommand that is asked for is imported (``--help`` imports all, to show their summaries):
a command module should import heavy packages inside its function.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from refdeq.errors import BackendUnavailableError, RefdeqError

__all__ = ["EXIT_BROKEN_PIPE", "EXIT_INTERNAL", "EXIT_INTERRUPTED", "EXIT_UNAVAILABLE", "EXIT_USAGE", "exit_code", "main"]

GROUP = "refdeq.commands"

EXIT_USAGE = 2
"""Bad option, bad input, unreadable file."""
EXIT_UNAVAILABLE = 3
"""A backend that was named cannot run here."""
EXIT_INTERNAL = 5
"""An error that refdeq did not foresee: shown with its traceback, because it is a bug."""
EXIT_INTERRUPTED = 130
"""Ctrl-C."""
EXIT_BROKEN_PIPE = 141
"""Whoever read the output stopped reading."""


def exit_code(error: BaseException) -> int:
    """Exit code of an error that ends a command.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    int

    Examples
    --------
    >>> from refdeq.errors import ArgumentError, BackendUnavailableError
    >>> exit_code(ArgumentError("threshold", hint="negative")), exit_code(BackendUnavailableError("cuda", "no GPU"))
    (2, 3)
    """
    if isinstance(error, BackendUnavailableError):
        return EXIT_UNAVAILABLE
    if isinstance(error, RefdeqError):
        return EXIT_USAGE
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return EXIT_BROKEN_PIPE
    return EXIT_INTERNAL


def _report(error: BaseException) -> None:
    """Say on stderr what ended the command: one line for a foreseen error, nothing for a closed pipe."""
    if isinstance(error, RefdeqError):
        print(f"refdeq: error: {' '.join(str(error).split())}", file=sys.stderr)
    elif isinstance(error, KeyboardInterrupt):
        print("refdeq: interrupted", file=sys.stderr)
    elif isinstance(error, BrokenPipeError):
        # The interpreter flushes stdout once more when it ends; give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    else:
        traceback.print_exception(error)
        print("refdeq: internal error, please report it with the lines above", file=sys.stderr)


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a subcommand so that every way it can end has its exit code."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            result = function(*args, **kwargs)
            sys.stdout.flush()
            return result
        except typer.Exit:
            raise
        except (Exception, KeyboardInterrupt) as error:
            _report(error)
            raise typer.Exit(exit_code(error)) from None

    return run


def _help_of(function: Callable[..., Any]) -> str:
    """Docstring of a subcommand without its numpydoc sections: the options document themselves."""
    text = inspect.getdoc(function) or ""
    for title in ("Parameters", "Examples", "Returns", "Raises"):
        text = text.split(f"\n{title}\n---")[0]
    return text.strip()


def _unimportable(entry: EntryPoint, error: Exception) -> Callable[[], None]:
    """Stand-in for a subcommand whose module cannot be imported: listed, and honest about why it cannot run."""
    reason = f"{type(error).__name__}: {error}"

    def fail() -> None:
        print(f"refdeq: error: command {entry.name!r} cannot be loaded from {entry.value}: {reason}", file=sys.stderr)
        raise typer.Exit(EXIT_INTERNAL)

    fail.__doc__ = f"(cannot be loaded: {reason})"
    return fail


class CommandGroup(TyperGroup):
    """The subcommands of the entry-point group, imported when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all registered subcommands, in alphabetical order."""
        return sorted({entry.name for entry in entry_points(group=GROUP)})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import one subcommand; None when there is none of that name."""
        entry = next((entry for entry in entry_points(group=GROUP) if entry.name == cmd_name), None)
        if entry is None:
            return None
        takes_anything: dict[str, Any] = {}
        try:
            function = entry.load()
        except Exception as error:
            function = _unimportable(entry, error)
            takes_anything = {"allow_extra_args": True, "ignore_unknown_options": True}
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        text = _help_of(function)
        summary = text.partition("\n")[0]
        single.command(cmd_name, help=text, short_help=summary, context_settings=takes_anything)(_guarded(function))
        return typer.main.get_command(single)


_HELP = """The executable specification of DeltaDEQ and of deep-equilibrium solvers.

Example: judge every backend that can run here on the shipped models.

\b
    refdeq validate --quick

Exit codes: 0 success; 1 a backend does not conform, a sample did not converge, or a figure is worse than it should be; 2
usage or bad input; 3 a named backend cannot run here, or something planned did not run; 4 the run is not valid (nothing was
judged); 5 internal error; 6 the machine is too noisy to conclude; 130 interrupted.
"""
# In help texts the control character \\b marks a paragraph that keeps its line breaks.

app = typer.Typer(cls=CommandGroup, add_completion=False, no_args_is_help=True, rich_markup_mode=None)


def _show_version(asked: bool) -> None:
    if asked:
        import refdeq
        from refdeq.types import SEMANTICS_VERSION

        print(f"refdeq {refdeq.__version__} (semantics {SEMANTICS_VERSION})")
        raise typer.Exit


@app.callback(help=_HELP)
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of ``refdeq`` itself."""


def main() -> None:
    """Entry point of the console script ``refdeq``."""
    app(prog_name="refdeq")
