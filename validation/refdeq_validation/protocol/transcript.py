"""What an implementation answered to the calls of a case: plain data, live or read from files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Answer", "Transcript", "Violation"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Violation:
    """A broken contract that no number shows.

    Attributes
    ----------
    kind : {"guard", "input_mutated", "alias", "nondeterminism", "timeout", "exception"}
    call : int
        Index of the call in the case.
    text : str
    """

    kind: str
    call: int
    text: str


@dataclass
class Answer:
    """Answer to one call.

    Attributes
    ----------
    name : str
        Name of the call.
    results : mapping of str to ndarray
        ``step``: mask, y; ``solve`` and ``gradient``: what they return; after a step or a solve under a delta rule also r, a
        where the state is offered.
    error : {"", "refused", "unsupported", "crash"}
        ``refused``: ValueError or TypeError; ``unsupported``: NotImplementedError; ``crash``: anything else.
    text : str
        The exception, in words.
    """

    name: str
    results: Mapping[str, Array] = field(default_factory=dict)
    error: str = ""
    text: str = ""


@dataclass
class Transcript:
    """All answers of one execution of a case, and the violations seen while it ran."""

    case: str
    answers: list[Answer] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    seconds: float = 0.0
