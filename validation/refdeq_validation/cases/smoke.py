"""The smoke tier: a few cases of every family, chosen for what they kill; by slug, in one dtype and the other by turns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from refdeq.errors import ArgumentError
from refdeq_validation.cases.building import SHORT
from refdeq_validation.cases.model import Case

__all__ = ["SLUGS", "smoke_of"]

SLUGS: Mapping[str, tuple[str, ...]] = {
    "gemm/exact": (
        "integer-sums-gt-bias",
        "five-steps-sent-dense-folded",
        "five-steps-feedback-zero-separate",
        "one-column-of-33",
        "last-bit-of-accumulator",
        "cancels-to-one",
    ),
    "gemm/tie": (
        "rounded-threshold-tenth-gt",
        "rounded-threshold-seven-tenths-ge",
        "threshold-of-the-neighbour-gt",
        "square-of-small-threshold-gt",
    ),
    "gemm/bound_k1": (
        "narrow-operands-1-terms-onto-zero",
        "narrow-operands-3-terms-onto-full",
        "narrow-accumulator-2-terms",
    ),
    "gemm/bound": ("narrow-operands-64-terms",),
    "gemm/special": (
        "nan-swallowed-gt",
        "unsent-nan-column-read",
        "sign-of-zero-always",
        "infinite-then-again-ge",
        "subnormal-difference-flushed-gt",
    ),
    "gemm/shape": ("active-list-capacity", "edge-element-only", "remainder-at-7x9", "remainder-at-33x32"),
    "gemm/memory": (
        "reference-by-addition-sent",
        "dropped-by-float16",
        "away-and-back-always",
        "declared-gt-always-zero-folded-sample",
    ),
    "gemm/ramp": ("slow-ramp-lost-sent-ge",),
    "gemm/sequence": ("refresh-every-3-sent-folded", "mask-of-the-step-before"),
    "gemm/reset": ("another-batch-zero-folded", "two-sessions-dense-separate", "reset-forgets-zero-separate"),
    "gemm/warm": ("phase-of-refresh-dense", "state-set-midway"),
    "gemm/solver": ("picard-dense", "ends-budget-refdeq", "anderson-refdeq", "broyden-dense", "tie-rtol"),
    "conv/conv": (
        "everything-at-once-2d",
        "depthwise-stride-dilation-2d",
        "pads-all-differ-2d",
        "kernel-larger-than-input-1d",
        "one-site-at-corners",
        "granularity-tile-2x2x1-2d",
        "tie-per-channel-gt",
        "six-steps-always-dense-folded-0",
    ),
    "gemm/determinism": ("batch-order-gemm",),
    "conv/determinism": ("batch-order-conv",),
}
"""By operator and family. Of families that are not listed, the first case of each operator; but none of ``huge``, which takes
longer than all the others together."""


def smoke_of(cases: Iterable[Case]) -> list[str]:
    """Ids of the smoke tier out of a suite.

    Raises
    ------
    ArgumentError
        When a slug does not exist.
    """
    slugs = [f"{key}/{slug}" for key, named in SLUGS.items() for slug in named]
    wanted = {f"{slug}-{short}" for slug, short in zip(slugs, itertools.cycle(SHORT.values()), strict=False)}
    listed = {"huge", *(key.split("/")[1] for key in SLUGS)}
    found: dict[str, str] = {}
    firsts: dict[tuple[str, str], str] = {}
    for case in cases:
        name = case.id[:-9]
        if name in wanted:
            found[name] = case.id
        if case.family not in listed and "full" not in case.flags:
            firsts.setdefault((case.problem.op, case.family), case.id)
    for name in sorted(wanted - set(found)):
        raise ArgumentError("smoke slug", expected="a case of the suite", got=name)
    return sorted({*found.values(), *firsts.values()})
