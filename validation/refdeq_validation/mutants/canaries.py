"""Broken implementations that every run first tries its own cases on: if one passes, the cases have lost their teeth.

Most are mutants of the catalogue; a few are wrong in ways no patch of a working kernel would be. Which cases a canary applies
to follows from what a case contains (a NaN, a second reset, a gradient), never from who selected it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from refdeq_validation.cases.model import Case
from refdeq_validation.lab.roundings import operand
from refdeq_validation.lab.session import CLAIMS, LabSession
from refdeq_validation.mutants.catalogue import MUTANTS
from refdeq_validation.mutants.planting import load
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.protocol.session import Implementation, Session

__all__ = ["CANARIES", "Canary"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Canary:
    """One broken implementation.

    Attributes
    ----------
    name, summary : str
    bug_type : str
        Key of :data:`refdeq_validation.cases.bug_types.BUG_TYPES`.
    applies : callable
        Whether a case contains what it is broken at.
    build : callable
        Makes the implementation.
    """

    name: str
    summary: str
    bug_type: str
    applies: Callable[[Case], bool]
    build: Callable[[], Implementation]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_made", self.build())

    def manifest(self) -> Mapping[str, Any]:
        """What it claims."""
        return self._made.manifest()  # type: ignore[attr-defined, no-any-return]

    def open(self, problem: Problem) -> Session:
        """Open a problem."""
        return self._made.open(problem)  # type: ignore[attr-defined, no-any-return]


class _Zeros(LabSession):
    """Answers with zeros."""

    def step(self, u: Array, mask: Array, y: Array) -> None:
        mask[...], y[...] = False, 0

    def get_state(self, r: Array, a: Array) -> None:
        r[...], a[...] = 0, 0

    def solve(self, x: Array, z0: Array, *, keep: bool, trace: bool) -> Mapping[str, Array]:
        found = super().solve(x, z0, keep=keep, trace=trace)
        return {name: np.zeros_like(values) for name, values in found.items()}

    def gradient(self, x: Array, z: Array, cotangent: Array, *, jacobian: str) -> Mapping[str, Array]:
        found = super().gradient(x, z, cotangent, jacobian=jacobian)
        return {name: np.zeros_like(values) for name, values in found.items()}


class _Stale(LabSession):
    """Answers a step with the output of the step before it."""

    def step(self, u: Array, mask: Array, y: Array) -> None:
        before = getattr(self, "last", None)
        super().step(u, mask, y)
        self.last = y.copy()
        y[...] = before if before is not None and before.shape == y.shape else 0


class _Dense(LabSession):
    """Sends everything, whatever the threshold."""

    def step(self, u: Array, mask: Array, y: Array) -> None:
        node = self.ready()
        super().step(u, mask, y)
        everyone = np.arange(len(u))
        node.r[...], mask[...] = u, True
        _, y[...] = node.dense(u, everyone)


class _Narrow(LabSession):
    """Rounds weights and inputs to TF32."""

    def __init__(self, problem: Problem) -> None:
        weight = operand(problem.weight, "tf32")
        super().__init__(Problem(**{**vars(problem), "weight": weight}))


class _Made:
    """An implementation whose sessions are of another class."""

    def __init__(self, session: Callable[[Problem], Session]) -> None:
        self._session = session

    def manifest(self) -> Mapping[str, Any]:
        return CLAIMS.manifest()

    def open(self, problem: Problem) -> Session:
        return self._session(problem)


def _calls(case: Case, *names: str) -> int:
    return sum(call.name in names and not call.refused for call in case.calls)


def _delta_steps(case: Case) -> bool:
    """Whether a step meets a reference: it is not the dense start of a session."""
    if case.problem.rule is None or case.level not in ("L1", "L2"):
        return False
    resets = 0 if case.problem.rule.start == "zero" else _calls(case, "reset")
    return _calls(case, "step") > resets


def _second_reset(case: Case) -> bool:
    """Whether a session that has made steps is reset to the same batch, and what it kept would matter.

    A dense start overwrites the reference.
    """
    if case.problem.rule is None or case.problem.rule.start != "zero" or case.level not in ("L1", "L2"):
        return False
    stepped: Counter[int] = Counter()
    batches: dict[int, int] = {}
    for call in case.calls:
        session = int(call.options.get("session", 0))
        if call.name == "reset" and not call.refused:
            batch = int(call.options["batch"])
            if stepped[session] and batches.get(session) == batch:
                return True
            batches[session] = batch
        stepped[session] += call.name == "step"
    return False


def _meets_nan(case: Case) -> bool:
    arrays = [array for call in case.calls for name, array in call.arrays.items() if name == "u" and array.size < 1 << 20]
    gt = case.problem.rule is not None and case.problem.rule.compare == "gt"
    return gt and _delta_steps(case) and any(array.dtype.kind == "f" and np.isnan(array).any() for array in arrays)


def _full_mantissas(case: Case) -> bool:
    problem = case.problem
    if problem.dtype != "float32" or problem.storage is not None or problem.weight.size > 1 << 20:
        return False
    rounded = operand(problem.weight, "tf32")
    return (
        _calls(case, "step") > 0 and case.level in ("L1", "L2") and not np.array_equal(rounded, problem.weight, equal_nan=True)
    )


def _ruled(case: Case, **values: str) -> bool:
    rule = case.problem.rule
    return _delta_steps(case) and rule is not None and all(getattr(rule, name) == value for name, value in values.items())


def _columns(case: Case) -> bool:
    return case.level in ("L1", "L2") and case.problem.op == "Gemm" and case.problem.shape[0] > 1 and _calls(case, "step") > 0


def _repeats(case: Case) -> bool:
    return case.level == "L7" and "R1" in case.requires and case.problem.op == "Gemm" and case.problem.dtype == "float32"


def _mutant(name: str) -> Callable[[], Implementation]:
    return lambda: load(MUTANTS[name])


def _made(session: Callable[[Problem], Session]) -> Callable[[], Implementation]:
    return lambda: _Made(session)


_ALL = (
    ("zeros", "Answers with zeros.", "VACUOUS", lambda case: _calls(case, "step", "solve", "gradient") > 0, _made(_Zeros)),
    ("stale", "Answers with the output before.", "VACUOUS", lambda case: _calls(case, "step") > 1, _made(_Stale)),
    ("dense", "Sends everything.", "VACUOUS", _delta_steps, _made(_Dense)),
    ("always-for-sent", "The other memory rule.", "MEMORY_RULE", partial(_ruled, memory="sent"), _mutant("always for sent")),
    (
        "ge-for-gt",
        "The other comparator.",
        "TIE_RULE",
        lambda case: case.family == "tie" and _ruled(case, compare="gt"),
        _mutant("strictly above"),
    ),
    ("tail-drop", "The last column is left out.", "TAIL", _columns, _mutant("last column dropped")),
    ("tf32", "Weights in TF32.", "PRECISION_DOWNGRADE", _full_mantissas, _made(_Narrow)),
    ("no-reset", "A reset keeps the reference.", "RESET", _second_reset, _mutant("reset keeps the reference")),
    ("swallows-nan", "NaN differences are not sent.", "SPECIAL_VALUES", _meets_nan, _mutant("gt without negation")),
    ("next-column", "Columns are counted from one.", "INDEXING", _columns, _mutant("next column")),
    ("nondeterministic", "Another order in each call.", "DETERMINISM", _repeats, _mutant("order by arrival")),
    (
        "wrong-adjoint",
        "The Jacobian is not transposed.",
        "GRADIENT",
        lambda case: _calls(case, "gradient") > 0 and case.level == "L6",
        _mutant("Jacobian not transposed"),
    ),
    (
        "one-too-many",
        "The budget counts steps.",
        "STOP_RULE",
        lambda case: _calls(case, "solve") > 0 and "trace" in case.requires,
        _mutant("one evaluation too many"),
    ),
)

CANARIES: Mapping[str, Callable[[], Canary]] = {entry[0]: partial(Canary, *entry) for entry in _ALL}
"""By name: called, each gives a fresh canary."""
