"""Profiles: published lists of required cases. One is granted only when every case of it ran and passed.

Which cases belong follows from what they are; the lists themselves are stored with the package (``profiles.json``), and a test
compares the two, so that no profile changes unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from refdeq.types import PRESETS
from refdeq_validation.cases.building import SHORT
from refdeq_validation.cases.model import Case
from refdeq_validation.cases.published import digest_of
from refdeq_validation.cases.suite import all_cases

__all__ = ["PROFILES", "Profile"]

CORE_LEVELS = ("L1", "L2")
"""Unit steps; solves have level L2 too, and require ``solve``."""


@dataclass(frozen=True)
class Profile:
    """A set of required cases.

    Attributes
    ----------
    name : str
    summary : str
        What an implementation that has it can be relied on for.
    accepts : callable
        Whether a case belongs.
    """

    name: str
    summary: str
    accepts: Callable[[Case], bool]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Ids of the required cases, in the order of the suite."""
        return tuple(case.id for case in all_cases() if self.accepts(case))

    @cached_property
    def digest(self) -> str:
        """Digest of the ids (:func:`refdeq_validation.cases.published.digest_of`)."""
        return digest_of(self.ids)


def _is_step(case: Case) -> bool:
    return case.level in CORE_LEVELS and set(case.requires) <= {"state"} and case.problem.storage is None


def _steps(op: str, dtype: str) -> Callable[[Case], bool]:
    return lambda case: _is_step(case) and (case.problem.op, case.problem.dtype) == (op, dtype) and "full" not in case.flags


def _preset(name: str, dtype: str) -> Callable[[Case], bool]:
    core = _steps("Gemm", dtype)

    def accepts(case: Case) -> bool:
        rule = case.problem.rule
        if not core(case) or rule is None or rule.granularity != "element" or rule.delta_dtype is not None:
            return False
        if any(gate.granularity not in (None, "element") for gate in rule.gates.values()):
            return False
        return all(getattr(rule, key) == value for key, value in PRESETS[name].items())

    return accepts


def _family(dtype: str, *families: str) -> Callable[[Case], bool]:
    return lambda case: case.family in families and case.problem.dtype == dtype and case.problem.storage is None


def _profiles() -> Mapping[str, Profile]:
    found: list[Profile] = []
    for dtype, short in SHORT.items():
        found += [
            Profile(f"core-{short}", "unit steps of a Gemm under every rule", _steps("Gemm", dtype)),
            Profile(f"conv-{short}", "unit steps of convolutions under every rule", _steps("Conv", dtype)),
            *(
                Profile(f"{name}-{short}", f"unit steps of a Gemm under the rule {name!r} alone", _preset(name, dtype))
                for name in PRESETS
            ),
            Profile(
                f"trace-{short}",
                "whole solves with their traces",
                lambda case, dtype=dtype: case.problem.dtype == dtype and "trace" in case.requires,  # type: ignore[misc]
            ),
            Profile(f"solver-{short}", "solvers and the points they return", _family(dtype, "solver", "certificate")),
            Profile(f"gradient-{short}", "implicit gradients", _family(dtype, "gradient")),
            Profile(f"det-batch{_suffix(short)}", "results that do not depend on batch or repetition", _deterministic(dtype)),
            Profile(f"exact{_suffix(short)}", "cases whose bits do not depend on any order", _exact(dtype)),
        ]
    for storage, short in (("float16", "f16"), ("bfloat16", "bf16")):
        found.append(
            Profile(
                f"storage-{short}",
                f"{storage} storage, sums in float32",
                lambda case, storage=storage: case.problem.storage == storage,  # type: ignore[misc]
            )
        )
    return {profile.name: profile for profile in found}


def _suffix(short: str) -> str:
    """Profiles without a dtype in their names are those of float32."""
    return "" if short == "f32" else f"-{short}"


def _deterministic(dtype: str) -> Callable[[Case], bool]:
    """What R1 to R3 ask for: the declared order (R4, R5) is what profiles of strict backends judge bit for bit anyway."""
    declared = {"R4", "R5"}

    def accepts(case: Case) -> bool:
        plain = case.problem.dtype == dtype and case.problem.storage is None
        return case.level == "L7" and plain and not declared & set(case.requires)

    return accepts


def _exact(dtype: str) -> Callable[[Case], bool]:
    def accepts(case: Case) -> bool:
        return _is_step(case) and case.problem.dtype == dtype and case.expect == "exact" and "full" not in case.flags

    return accepts


PROFILES: Mapping[str, Profile] = _profiles()
"""By name."""
