"""What breaks when a case fails: the vocabulary that cases, mutants and diagnoses share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["BUG_TYPES", "BugType"]


@dataclass(frozen=True)
class BugType:
    """One kind of mistake.

    Attributes
    ----------
    description : str
        The mistake.
    effect : str
        What users would see.
    """

    description: str
    effect: str


BUG_TYPES: Mapping[str, BugType] = {
    "TIE_RULE": BugType("|delta| = tau is treated as the other comparator does", "masks differ on quantised data"),
    "THRESHOLD": BugType("tau is rounded, scaled, squared or read from the wrong place", "more or less is sent than asked"),
    "MASK": BugType("the mask is reused, shared over the wrong group, or not what was sent", "wrong costs, wrong columns"),
    "SPECIAL_VALUES": BugType("NaN, infinities, signed zeros or subnormals are swallowed or invented", "failures stay hidden"),
    "MEMORY_RULE": BugType("the reference follows another rule than declared", "drift that grows with every dropped step"),
    "ALIASING": BugType(
        "a buffer of the caller is kept, or one of the implementation handed out", "states change behind a back"
    ),
    "INDEXING": BugType("an active list, column or row index is off", "other weights than meant"),
    "TAIL": BugType("the remainder of a vector, tile or block is skipped or done twice", "wrong at odd sizes"),
    "CAPACITY": BugType("an active list overflows or is cut", "wrong when much is sent"),
    "PRECISION_DOWNGRADE": BugType("operands or sums are narrower than declared", "errors of 1e-3 that tolerances hide"),
    "ACCUMULATE": BugType("the accumulator is overwritten, scaled, added twice or to the wrong row", "wrong sums"),
    "ORDER": BugType("strict order is declared, another is used", "bits differ between machines"),
    "BIAS": BugType("the bias is left out, doubled, or folded where it should not be", "offset or drift"),
    "RACE": BugType("results depend on scheduling", "answers that change from run to run"),
    "STATE_LEAK": BugType("state of another session, sample or solve is visible", "first run right, later ones wrong"),
    "RESET": BugType("reset forgets too little or too much", "the first evaluation after a reset is wrong"),
    "START": BugType("the first evaluation follows the other start rule", "first evaluation wrong"),
    "REFRESH": BugType("the dense refresh comes at the wrong index or from the wrong values", "drift is not removed"),
    "GRANULARITY": BugType("decisions are shared over the wrong group", "more or less is sent than asked"),
    "CONTRACT": BugType("inputs changed, buffers overrun, bad arguments accepted", "memory corruption, silent nonsense"),
    "CONV_GEOMETRY": BugType("stride, pad, dilation, kernel order or layout is confused", "images shifted or mixed"),
    "CONV_GROUPS": BugType("groups read or write each other's channels", "channels mixed"),
    "CONV_HALO": BugType("borders of tiles or images are wrong", "artefacts at the borders"),
    "SOLVER_STEP": BugType("the step of the solver is not the declared one", "slower convergence, another point"),
    "STOP_RULE": BugType("residual, tolerance, norm, order of decisions or budget is wrong", "stops too early or late"),
    "RETURNED": BugType("iterate, count or status are not those of the decision", "the accuracy reported is not that of z"),
    "FREEZING": BugType("a finished sample goes on, or a running one stops", "batch changes results"),
    "WARM_START": BugType("state or memory is lost, stale or half reused", "frames of a video interfere"),
    "GRADIENT": BugType("the adjoint equation, its assembly or its mask is wrong", "training goes wrong quietly"),
    "DETERMINISM": BugType("bits depend on batch, position, threads or repetition", "runs cannot be compared"),
    "OVERFLOW": BugType("an index or size overflows its integer type", "wrong beyond 2^15, 2^31 elements"),
    "VACUOUS": BugType("nothing is computed: zeros, copies, stale or dense results", "no saving, or no answer"),
}
"""By name, as cases and mutants cite them."""
