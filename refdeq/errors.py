"""The one error tree of the project.

Every error a caller can meet derives from :class:`RefdeqError`. Errors are raised at the API edge and say what was wrong,
what was expected, what was got and what to do, so that a message can be acted on without reading the source.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ArgumentError",
    "BackendUnavailableError",
    "DTypeError",
    "DeviceError",
    "FileFormatError",
    "GraphError",
    "LaunchError",
    "MemoryMismatchError",
    "OutOfDeviceMemoryError",
    "RefdeqError",
    "ShapeError",
    "SolveError",
    "UnsupportedError",
]


class RefdeqError(Exception):
    """Base class of every error raised by refdeq and its backends."""


class ArgumentError(RefdeqError, ValueError):
    """An argument has a value the call does not accept.

    Parameters
    ----------
    what : str
        Name of the argument.
    expected, got : object, optional
        What the call accepts and what it received.
    hint : str, optional
        The way out.

    Examples
    --------
    >>> print(ArgumentError("threshold", expected="a number >= 0", got=-1.0))
    threshold: expected a number >= 0, got -1.0
    """

    def __init__(self, what: str, *, expected: Any = None, got: Any = None, hint: str = "") -> None:
        self.what, self.expected, self.got, self.hint = what, expected, got, hint
        text = what
        if expected is not None:
            text += f": expected {expected}, got {got}"
        if hint:
            text += f" ({hint})"
        super().__init__(text)


class ShapeError(ArgumentError):
    """An array has the wrong rank, shape or memory layout."""


class DTypeError(ArgumentError, TypeError):
    """Arrays of different or unsupported dtypes were mixed (clause E-2: nothing is promoted)."""


class GraphError(RefdeqError, ValueError):
    """A graph cannot be built: unknown operator or value, wrong attribute, shapes that do not fit."""


class MemoryMismatchError(ArgumentError):
    """Delta memory belongs to another cell, batch, dtype or rule (clause D-9: reset it first)."""


class FileFormatError(RefdeqError, ValueError):
    """A file is missing, truncated, corrupt, or not written by refdeq."""


class UnsupportedError(RefdeqError):
    """A backend does not offer what the call needs; the message names it."""


class BackendUnavailableError(RefdeqError):
    """A backend was asked for that cannot run here.

    Parameters
    ----------
    name : str
        The backend that was asked for.
    reason : str
        Why it cannot run.
    hint : str
        What would make it run.

    Examples
    --------
    >>> print(BackendUnavailableError("numba", "numba is not installed", "pip install numba"))
    backend 'numba' cannot run: numba is not installed (pip install numba)
    """

    def __init__(self, name: str, reason: str, hint: str = "") -> None:
        self.name, self.reason, self.hint = name, reason, hint
        super().__init__(f"backend {name!r} cannot run: {reason}" + (f" ({hint})" if hint else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.reason, self.hint)


class SolveError(RefdeqError):
    """At least one sample did not converge; raised only by ``Solution.raise_for_status``.

    The solution is attached as ``error.solution``.
    """

    def __init__(self, message: str, solution: Any) -> None:
        self.solution = solution
        super().__init__(message)


class DeviceError(RefdeqError):
    """A device failed; the subclasses say how."""


class OutOfDeviceMemoryError(DeviceError, MemoryError):
    """A device has no memory left for what was asked; the message names the bytes and the way out."""


class LaunchError(DeviceError):
    """A kernel could not be launched (more threads, blocks or shared memory than there are), or failed while it ran."""
