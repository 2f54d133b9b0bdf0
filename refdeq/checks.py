"""Checks of single arguments: each raises :class:`refdeq.errors.ArgumentError` that names the argument and what it accepts."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError

__all__ = ["check_choice", "check_integer", "check_number"]


def check_number(what: str, value: Any, expected: str, *, low: float, open_low: bool = False, high: float = math.inf) -> None:
    """Require a real number in ``[low, high]``, or ``(low, high]`` with `open_low`; NaN never is.

    >>> check_number("eps", 0.0, "a number > 0", low=0.0, open_low=True)
    Traceback (most recent call last):
    ...
    refdeq.errors.ArgumentError: eps: expected a number > 0, got 0.0
    """
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not is_number or not (low < value <= high if open_low else low <= value <= high):
        raise ArgumentError(what, expected=expected, got=value)


def check_integer(what: str, value: Any, *, low: int) -> None:
    """Require an integer of at least `low`; True and False are not integers here.

    >>> check_integer("threads", True, low=1)
    Traceback (most recent call last):
    ...
    refdeq.errors.ArgumentError: threads: expected an integer >= 1, got True
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise ArgumentError(what, expected=f"an integer >= {low}", got=value)


def check_choice(what: str, value: Any, choices: Collection[Any]) -> None:
    """Require one of a few values.

    >>> check_choice("norm", "l1", ("l2", "linf"))
    Traceback (most recent call last):
    ...
    refdeq.errors.ArgumentError: norm: expected one of ('l2', 'linf'), got 'l1'
    """
    if not isinstance(value, str | None) or value not in choices:
        raise ArgumentError(what, expected=f"one of {choices}", got=repr(value))
