"""The suite: every generator, and choices among the cases they make."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from typing import Any

from refdeq.errors import ArgumentError
from refdeq_validation.cases import (
    beyond,
    certificate,
    convolutions,
    determinism,
    exact,
    few_terms,
    gaps,
    gradient,
    histories,
    huge,
    many_terms,
    memory,
    negative,
    overrides,
    presets,
    regressions,
    sequences,
    shapes,
    solve_sequences,
    solver,
    solver_limits,
    special,
    storage,
    ties,
    variants,
    warm_solves,
    windows,
)
from refdeq_validation.cases.model import FAMILIES, Case
from refdeq_validation.cases.published import smoke_ids

__all__ = ["DTYPES", "GENERATORS", "TIERS", "all_cases", "by_id", "select", "tier_of"]

Generator = Callable[[str], Iterable[Case]]

DTYPES = ("float32", "float64")

TIERS = ("smoke", "core", "full")
"""Each contains those before it."""

GENERATORS: tuple[Generator, ...] = (
    exact.cases,
    ties.cases,
    few_terms.cases,
    many_terms.cases,
    special.cases,
    shapes.cases,
    memory.cases,
    sequences.cases,
    convolutions.cases,
    variants.cases,
    presets.cases,
    storage.cases,
    huge.cases,
    regressions.cases,
    determinism.cases,
    determinism.solve_cases,
    negative.cases,
    solver.cases,
    histories.cases,
    windows.cases,
    warm_solves.cases,
    solve_sequences.cases,
    certificate.cases,
    gradient.cases,
    gaps.cases,
    beyond.cases,
    solver_limits.cases,
    overrides.cases,
)
"""One per file: called with a dtype, each yields cases. A new family is one line here and its name in ``model.FAMILIES``."""


@cache
def all_cases() -> tuple[Case, ...]:
    """Every case of every generator in both dtypes, in the order of the generators, ids distinct.

    >>> len({case.id for case in all_cases()}) == len(all_cases())
    True
    """
    cases = tuple(_generated())
    seen: dict[str, Case] = {}
    for case in cases:
        if case.id in seen:
            raise ArgumentError("cases", expected="distinct ids", got=case.id, hint="two generators make the same case")
        seen[case.id] = case
    return cases


def _generated() -> Iterator[Case]:
    for generate in GENERATORS:
        for dtype in DTYPES:
            yield from generate(dtype)


@cache
def by_id() -> dict[str, Case]:
    """The cases by id."""
    return {case.id: case for case in all_cases()}


def tier_of(case: Case) -> str:
    """First tier that contains a case: cases flagged ``full`` are large; the smoke tier is a published list."""
    return "full" if "full" in case.flags else "smoke" if case.id in smoke_ids() else "core"


def select(
    profile: str | None = None,
    tier: str | None = None,
    families: Collection[str] | None = None,
    ids: Collection[str] | None = None,
) -> tuple[Case, ...]:
    """Cases that satisfy every choice given, in the order of the suite.

    Parameters
    ----------
    profile : str, optional
        Key of :data:`refdeq_validation.cases.profiles.PROFILES`.
    tier : {"smoke", "core", "full"}, optional
    families : collection of str, optional
    ids : collection of str, optional
        Exact ids.

    Raises
    ------
    ArgumentError
        For a name that does not exist: a choice never selects nothing by a spelling mistake.

    Examples
    --------
    >>> {case.problem.dtype for case in select(profile="core-f32", families=["tie"])}
    {'float32'}
    """
    cases: Iterable[Case] = all_cases()
    if profile is not None:
        from refdeq_validation.cases.profiles import PROFILES

        cases = [case for case in cases if case.id in set(_known("profile", [profile], PROFILES) and PROFILES[profile].ids)]
    if tier is not None:
        rank = TIERS.index(_known("tier", [tier], TIERS)[0])
        cases = [case for case in cases if TIERS.index(tier_of(case)) <= rank]
    if families is not None:
        wanted = _known("families", families, FAMILIES)
        cases = [case for case in cases if case.family in wanted]
    if ids is not None:
        wanted = _known("ids", ids, by_id())
        cases = [case for case in cases if case.id in wanted]
    return tuple(cases)


def _known(what: str, names: Collection[str], known: Collection[Any]) -> list[str]:
    for name in names:
        if name not in known:
            listed = ", ".join(sorted(known)) if len(known) < 40 else "an id of this suite"
            raise ArgumentError(what, expected=listed, got=name)
    return list(names)
