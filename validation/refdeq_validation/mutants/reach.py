"""Which cases can enter what a patch touches: a mutant need not be run where the two do not meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from refdeq_validation.cases.model import Case
from refdeq_validation.lab.variants import VARIANTS
from refdeq_validation.mutants.catalogue import Mutant
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.transcript import Transcript

__all__ = ["clean_run", "reaches"]


def _calls(case: Case, *names: str) -> bool:
    return any(call.name in names for call in case.calls)


def _solves_by(name: str) -> Callable[[Case], bool]:
    return lambda case: _calls(case, "solve") and case.problem.solver["name"] == name


_NEEDS: Mapping[str, Callable[[Case], bool]] = {
    "anderson": _solves_by("anderson"),
    "least_squares": _solves_by("anderson"),
    "broyden": _solves_by("broyden"),
    "rows": lambda case: _calls(case, "solve"),
    "solve": lambda case: _calls(case, "solve"),
    "steppers": lambda case: _calls(case, "solve"),
    "stopping": lambda case: _calls(case, "solve"),
    "activations": lambda case: _calls(case, "solve", "gradient"),
    "gradient": lambda case: _calls(case, "gradient"),
    "kernel_conv": lambda case: case.problem.op == "Conv",
}
"""Modules of the plain implementation whose code runs for some calls only."""


def reaches(mutant: Mutant, case: Case) -> bool:
    """Whether a case enters a module that a mutant patches: false only where it certainly does not."""
    return any(module not in _NEEDS or _NEEDS[module](case) for module in mutant.modules)


_RUNS: dict[tuple[str, str], Transcript] = {}


def clean_run(variant: str, case: Case) -> Transcript:
    """Transcript of a legal variant on a case, made once per process."""
    key = (variant, case.id)
    if key not in _RUNS:
        original = VARIANTS[variant]
        _RUNS[key] = execute(case, original.implementation(), original.claims)
    return _RUNS[key]
