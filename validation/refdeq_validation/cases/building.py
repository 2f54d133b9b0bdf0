"""Parts that generators of unit steps share: named numbers, problems, calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq.types import DeltaRule
from refdeq_validation.cases import draw
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.judge.arithmetic import round_narrow
from refdeq_validation.protocol.problem import Problem

__all__ = ["SHORT", "Numbers", "conv", "gemm", "prepared", "ruled", "started", "unit"]

Array = np.ndarray[Any, Any]

SHORT = {"float32": "f32", "float64": "f64"}
"""Dtypes, as slugs name them."""

SEED = 1
"""One seed for all cases: what differs from tensor to tensor is its name."""


@dataclass(frozen=True)
class Numbers:
    """Numbers of one case, by tensor name.

    >>> Numbers("demo", "float32").integers("u", (2, 2), 1, 1)
    array([[1., 1.],
           [1., 1.]], dtype=float32)
    """

    slug: str
    dtype: str

    def integers(self, name: str, shape: tuple[int, ...], low: int, high: int, unit: float = 1.0) -> Array:
        """Integers in [low, high], times a power of two."""
        drawn = draw.integers(SEED, f"{self.slug}/{name}", shape, low, high, self.dtype)
        return np.asarray(drawn * np.dtype(self.dtype).type(unit))

    def signed(self, name: str, shape: tuple[int, ...], low: int, high: int, unit: float = 1.0) -> Array:
        """Integers of either sign whose size is in [low, high], times a power of two: never zero for low > 0."""
        size = self.integers(name, shape, low, high, unit)
        minus = draw.integers(SEED, f"{self.slug}/{name}/sign", shape, 0, 1, self.dtype) == 0
        return np.where(minus, -size, size)

    def full(self, name: str, shape: tuple[int, ...]) -> Array:
        """Full-mantissa numbers in [-1, 1)."""
        return draw.uniform(SEED, f"{self.slug}/{name}", shape, self.dtype)

    def narrow(self, name: str, shape: tuple[int, ...], storage: str) -> Array:
        """Full-mantissa numbers of a storage format in [-1, 1]."""
        return round_narrow(self.full(name, shape), storage)

    def array(self, values: Any) -> Array:
        """Given numbers, in the dtype of the case."""
        return np.asarray(values, dtype=self.dtype)


def ruled(threshold: float | Sequence[float], **changes: Any) -> DeltaRule:
    """A rule: ``refdeq``'s choices (gt, sent, dense, separate) but for these changes.

    >>> ruled(0.5, compare="ge").memory
    'sent'
    """
    return DeltaRule(threshold=threshold if isinstance(threshold, float) else tuple(threshold), **changes)


def gemm(weight: Array, bias: Array | None, rule: DeltaRule, storage: str | None = None) -> Problem:
    """A Gemm of this weight (N, K) behind a gate."""
    return Problem("Gemm", weight.dtype.name, (weight.shape[1],), weight, bias, rule, storage=storage)


def conv(
    weight: Array, bias: Array | None, rule: DeltaRule, shape: tuple[int, ...], storage: str | None = None, **attributes: Any
) -> Problem:
    """A Conv of this weight (M, C / group, *kernel) on samples of `shape` behind a gate."""
    return Problem("Conv", weight.dtype.name, shape, weight, bias, rule, attributes=attributes, storage=storage)


def started(*steps: Array, session: int = 0) -> tuple[Call, ...]:
    """A reset and these steps."""
    options = {"session": session} if session else {}
    calls = [Call("reset", options={"batch": len(steps[0]), **options})]
    return (*calls, *(Call("step", {"u": u}, options) for u in steps))


def prepared(r: Array, a: Array, *steps: Array, count: int | Sequence[int] = 1, session: int = 0) -> tuple[Call, ...]:
    """A given state, `count` evaluations after its reset, and these steps."""
    options = {"session": session} if session else {}
    counts = np.array([count] * len(r) if isinstance(count, int) else count, dtype=np.int64)
    first = Call("set_state", {"r": r, "a": a, "count": counts}, options)
    return (first, *(Call("step", {"u": u}, options) for u in steps))


def unit(
    family: str,
    slug: str,
    title: str,
    bug_types: Sequence[str],
    problem: Problem,
    calls: Sequence[Call],
    *,
    exact: bool = True,
    flags: Sequence[str] = (),
) -> Case:
    """A case of unit steps: level L1 for one step, L2 for more; what it needs of the state follows from its calls.

    Parameters
    ----------
    family, slug, title : str
    bug_types : sequence of str
    problem : Problem
    calls : sequence of Call
    exact : bool
        Whether every sum is representable in every order, which the witness proves; then bits are asked of everyone.
    flags : sequence of str
    """
    steps = sum(call.name == "step" for call in calls)
    needs: Mapping[bool, tuple[str, ...]] = {True: ("state",), False: ()}
    return Case(
        slug=slug,
        level="L1" if steps == 1 else "L2",
        family=family,
        problem=problem,
        calls=tuple(calls),
        bug_types=tuple(bug_types),
        expect="exact" if exact else "replay",
        requires=needs[any(call.name == "set_state" for call in calls)],
        title=title,
        flags=tuple(flags),
    )
