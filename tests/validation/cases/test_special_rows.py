"""Every row of the table of special values is a required case in both dtypes, and in the storage formats where it differs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from refdeq_validation.cases.profiles import PROFILES
from refdeq_validation.cases.suite import by_id
from refdeq_validation.cases.witness import golden_transcript

ROWS = {
    "a NaN difference is sent": ("nan-swallowed-gt", "nan-swallowed-ge"),
    "infinite, then Inf - Inf": ("infinite-then-again-gt", "infinite-then-again-ge"),
    "the difference equals the threshold": ("rounded-threshold-tenth-gt", "rounded-threshold-tenth-ge"),
    "threshold zero": ("zero-threshold-gt", "zero-threshold-ge", "zero-threshold-of-a-channel-ge"),
    "-0 against +0": ("sign-of-zero-sent", "sign-of-zero-always"),
    "NaN or Inf in columns that are not sent": ("unsent-nan-column-read", "unsent-infinite-column-read"),
    "subnormal differences": ("subnormal-difference-flushed-gt", "subnormal-difference-flushed-ge"),
    "threshold +Inf": ("infinite-threshold-gt", "infinite-threshold-ge"),
    "the difference overflows": ("difference-overflows-sent", "difference-overflows-always"),
    "the threshold is not representable": ("rounded-threshold-third-gt", "threshold-rounded-once"),
}
"""Invalid thresholds cannot be written as a rule; the family ``negative`` has what a session must refuse."""

NARROW = (
    "nan-and-inf",
    "difference-overflows",
    "subnormals",
    "sign-of-zero",
    "extreme-thresholds",
    "threshold-not-rounded-tenth-gt",
    "threshold-not-rounded-tenth-ge",
    "unsent-nan-column",
)


def required(profile, slug):
    """The required case of a slug."""
    (found,) = [by_id()[name] for name in PROFILES[profile].ids if by_id()[name].slug == slug]
    return found


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("short", ["f32", "f64"])
def test_every_row_is_required(row, short):
    for slug in ROWS[row]:
        case = required(f"core-{short}", f"{slug}-{short}")
        assert case.family in ("special", "tie")


@pytest.mark.parametrize("short", ["f16", "bf16"])
def test_rows_of_narrow_storage_are_required(short):
    for slug in NARROW:
        assert required(f"storage-{short}", f"{slug}-{short}").problem.storage


def steps_of(slug, short="f32"):
    """Inputs and golden answers of the steps of a case."""
    case = required(f"core-{short}", f"{slug}-{short}")
    answers = golden_transcript(case).answers
    return [(call.arrays["u"], answer.results) for call, answer in zip(case.calls, answers, strict=True) if call.name == "step"]


@pytest.mark.parametrize("short", ["f32", "f64"])
@pytest.mark.parametrize("compare", ["gt", "ge"])
def test_what_the_table_says_by_hand(compare, short):
    ((u, nan),) = steps_of(f"nan-swallowed-{compare}", short)
    assert nan["mask"][np.isnan(u)].all()
    assert np.isnan(nan["y"][0]).all()
    assert np.isfinite(nan["y"][1:]).all()
    (_, first), (_, second), _ = steps_of(f"infinite-then-again-{compare}", short)
    assert first["mask"][0, :2].all()
    assert np.isinf(first["r"][0, :2]).all()
    assert second["mask"][0, :2].all(), "Inf - Inf is NaN, which is sent"
    ((_, zero),) = steps_of(f"zero-threshold-{compare}", short)
    assert zero["mask"].all() == (compare == "ge")
    infinite = steps_of(f"infinite-threshold-{compare}", short)
    for (_, before), (u, answer) in itertools.pairwise(infinite):
        assert answer["mask"][np.isnan(u)].all()
        assert not answer["mask"][np.isfinite(u) & np.isfinite(before["r"])].any()
        assert answer["mask"][np.isinf(u) & np.isfinite(before["r"])].all() == (compare == "ge") or not np.isinf(u).any()
    assert any(answer["mask"].any() for _, answer in infinite[1:])


@pytest.mark.parametrize("short", ["f32", "f64"])
def test_zeros_columns_and_overflow_by_hand(short):
    for memory in ("sent", "always"):
        (u, answer), *_ = steps_of(f"sign-of-zero-{memory}", short)
        minus_against_plus = 0
        assert u[0, minus_against_plus] == 0.0
        assert np.signbit(u[0, minus_against_plus])
        assert not answer["mask"][0, minus_against_plus]
        assert np.signbit(answer["r"][0, minus_against_plus]) == (memory == "always")
    for name in ("nan", "infinite"):
        ((_, answer),) = steps_of(f"unsent-{name}-column-read", short)
        assert np.isfinite(answer["y"][:2]).all()
        assert not np.isfinite(answer["y"][2]).any()
    ((_, answer),) = steps_of("difference-overflows-sent", short)
    assert answer["mask"][0, :3].all()
    assert not np.isfinite(answer["a"][0]).any()
