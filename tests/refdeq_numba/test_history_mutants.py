"""Every planted bug of the primitives of solvers with a memory changes a bit of their results; what breaks nothing does not."""

import numpy as np
import pytest
from planting.catalogue import HISTORY_BUGS, HISTORY_EQUIVALENT
from planting.copies import load_copy
from refdeq_numba.machine import has_fused_multiply_add

from refdeq.reference import ReferenceKernels

ACTIVE = np.array([False, True, True, False, True])
SHAPES = [(3,), (2, 5), (64,)]
WIDTH = 1100  # more than two blocks of a row, and no multiple of 32


def computed(kernels, dtype, numbers):
    """What the four primitives make of one set of numbers, under a name each; entries that are not written stay 7."""
    rng = np.random.default_rng(23)
    batch = len(ACTIVE)
    parts = [numbers(rng, (batch, *shape), dtype) for shape in SHAPES]
    rows, back = np.full((batch, 77), 7, dtype=dtype), [np.full_like(part, 7) for part in parts]
    kernels.flatten(parts, ACTIVE, rows)
    kernels.unflatten(numbers(rng, rows.shape, dtype), ACTIVE, back)
    yield from [("flatten", rows), *((f"unflatten {part.shape}", part) for part in back)]
    for width, count in ((77, 7), (64, 3)):
        products = np.full((batch, count), 7.0)
        columns = [numbers(rng, (batch, width), dtype) for _ in range(count)]
        kernels.inner(columns, numbers(rng, (batch, width), dtype), ACTIVE, products)
        yield f"inner of {count} columns of {width}", products
    columns = [numbers(rng, (batch, WIDTH), dtype) for _ in range(11)]
    weights = rng.standard_normal((batch, 11))
    weights[1, 2], weights[2, 5], weights[4, :3] = 0.0, -0.0, 0.0
    for column, unused in zip(columns, weights.T == 0.0, strict=True):
        column[unused] = np.nan
    sums = np.full((batch, WIDTH), 7, dtype=dtype)
    kernels.combine(columns, weights, ACTIVE, sums)
    yield "combine", sums
    for count in (2, 4):
        negative = np.full((batch, 9), -0.0, dtype=dtype)
        kernels.combine([negative] * count, np.ones((batch, count)), ACTIVE, negative)
        yield f"combine of {count} negative zeros", negative
    undefined = np.ones((batch, 2))
    undefined[1, 1] = np.nan
    kernels.combine(columns[:2], undefined, ACTIVE, columns[0])
    yield "combine in place of a column", columns[0]


def first_difference(kernels, numbers, same_bits):
    """Name of the first result that differs from the reference; None if none does."""
    for dtype in ("float64", "float32"):
        pairs = zip(computed(kernels, dtype, numbers), computed(ReferenceKernels(), dtype, numbers), strict=True)
        for (name, got), (_, expected) in pairs:
            try:
                same_bits(got, expected)
            except AssertionError:
                return f"{name}, {dtype}"
    return None


def names(patches):
    return [patch.name.replace(" ", "-") for patch in patches]


@pytest.mark.parametrize("bug", HISTORY_BUGS, ids=names(HISTORY_BUGS))
def test_bug_changes_a_bit(bug, tmp_path, numbers, assert_same_bits):
    if bug.name == "products contracted" and not has_fused_multiply_add():
        pytest.skip("this processor has no fused multiply-add: nothing is contracted")
    kernels = load_copy(bug, tmp_path).kernels(order="strict", threads=1)
    assert first_difference(kernels, numbers, assert_same_bits), f"{bug.name} survives: {bug.breaks}"


@pytest.mark.parametrize("same", [None, *HISTORY_EQUIVALENT], ids=["unchanged", *names(HISTORY_EQUIVALENT)])
def test_what_is_not_broken_changes_none(same, tmp_path, numbers, assert_same_bits):
    kernels = load_copy(same, tmp_path).kernels(order="strict", threads=1)
    assert first_difference(kernels, numbers, assert_same_bits) is None
