"""Which cases an implementation has to run: computed from its claims and the case, never by the implementation itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields

from refdeq_validation.cases.model import Case
from refdeq_validation.protocol.manifest import GROUPS, Claims

__all__ = ["IN_PROCESS", "LADDER", "claimed_values", "needs", "untested_claims", "why_not"]

IN_PROCESS = "in-process"
"""Flag of cases about arrays in memory."""

LADDER = ("R0", "R1", "R2", "R3", "R4", "R5")
"""Determinism: each level contains those before it."""


def why_not(case: Case, claims: Claims, in_process: bool = True) -> str:
    """Why a case does not apply, in words; empty when it does.

    Parameters
    ----------
    case : Case
    claims : Claims
    in_process : bool
        False where arrays travel: cases flagged ``in-process``, about arrays in memory, then mean nothing.

    Examples
    --------
    >>> from refdeq_validation.cases.suite import all_cases
    >>> conv = next(case for case in all_cases() if case.problem.op == "Conv" and case.problem.dtype == "float32")
    >>> why_not(conv, Claims(name="mine"))
    "ops: 'Conv' is not claimed"
    """
    for key, value in needs(case):
        if value not in getattr(claims, key):
            return f"{key}: {value!r} is not claimed"
    for need in case.requires:
        if need in LADDER and LADDER.index(claims.determinism) < LADDER.index(need):
            return f"determinism: {need} is not claimed, {claims.determinism} is"
    largest = max((array.size for call in case.calls for array in call.arrays.values()), default=0)
    if claims.largest and largest > claims.largest:
        return f"largest: the case has arrays of {largest} elements, {claims.largest} are claimed"
    if IN_PROCESS in case.flags and not in_process:
        return "the case is about arrays in memory, and the implementation runs in a process of its own"
    return ""


def needs(case: Case) -> Iterator[tuple[str, str]]:
    """The claims a case is about: pairs of a list of the manifest and a value that must be in it."""
    problem, rule = case.problem, case.problem.rule
    yield "ops", problem.op
    yield "dtypes", problem.dtype
    if problem.storage is not None:
        yield "storage", problem.storage
    for group in case.requires:
        if group in GROUPS:
            yield "offers", group
    names = {call.name for call in case.calls}
    if names & {"solve", "gradient"}:
        yield "activations", problem.activation
    if "solve" in names:
        yield "solvers", str(problem.solver["name"])
    if rule is not None:
        for key in ("compare", "memory", "start", "bias", "granularity"):
            yield key, str(getattr(rule, key))
        for gate in rule.gates.values():
            if gate.granularity is not None:
                yield "granularity", gate.granularity


def claimed_values(claims: Claims) -> set[tuple[str, str]]:
    """Everything the lists of a manifest claim, as pairs of list and value."""
    found = {(entry.name, value) for entry in fields(claims) for value in _listed(getattr(claims, entry.name))}
    # sums are tested by every case; solvers and activations only mean something where solves or gradients are offered
    idle = set() if {"solve", "gradient"} & set(claims.offers) else {"activations", "solvers"}
    return {(key, value) for key, value in found if key not in idle}


def untested_claims(claims: Claims, executed: Iterable[Case]) -> list[str]:
    """Claims that no executed case was about, as ``key: value``."""
    tested = {need for case in executed for need in needs(case)}
    return sorted(f"{key}: {value}" for key, value in claimed_values(claims) - tested)


def _listed(value: object) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()
