"""Patterns of failing indices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refdeq_validation.reports.localise import pattern


def told(*selection, shape):
    bad = np.zeros(shape, bool)
    bad[selection] = True
    return pattern(np.flatnonzero(bad).tolist(), shape)


@pytest.mark.parametrize(
    ("selection", "shape", "expected"),
    [
        ((...,), (3, 5), "every element"),
        ((slice(None), -1), (3, 5), "the last index of axis 1"),
        ((slice(None), 0), (3, 5), "the first index of axis 1"),
        ((1,), (3, 5), "index 1 of axis 0"),
        ((-1, slice(0, None, 4)), (3, 16), "the last index of axis 0 and axis 1 = 0 mod 4"),
        ((slice(None), slice(3, None, 8)), (2, 32), "axis 1 = 3 mod 8"),
        ((slice(None), slice(29, None)), (2, 32), "the last 3 indices of axis 1"),
        ((slice(None), slice(0, 16)), (2, 32), "the first 16 indices of axis 1"),
        ((slice(None), slice(8, 16)), (2, 32), "indices 8 to 15 of axis 1"),
        ((slice(None), [1, 2, 7]), (2, 32), "indices 1, 2, 7 of axis 1"),
        ((slice(None), [1, 2, 7, 9, 20]), (2, 32), None),
        (([0, 1, 2], [0, 1, 2]), (4, 4), "within the first 3 indices of axis 0 and the first 3 indices of axis 1"),
        ((1, 2), (3, 5), None),
        ((1, 4), (3, 5), "the last index of axis 1"),
        ((0,), (1,), "every element"),
    ],
)
def test_patterns(selection, shape, expected):
    assert told(*selection, shape=shape) == expected


def test_nothing_known_gives_nothing():
    assert pattern((), (2, 3)) is None
    assert pattern((1,), ()) is None


@given(st.integers(1, 4), st.integers(1, 40), st.data())
def test_a_residue_class_is_what_fails(rows, columns, data):
    """Where a class is named, it is exactly the set of failing indices of that axis."""
    shape = (rows, columns)
    places = data.draw(st.lists(st.integers(0, rows * columns - 1), min_size=1, unique=True))
    text = pattern(places, shape)
    for part in (text or "").removeprefix("within ").split(" and "):
        if " mod " not in part:
            continue
        words = part.split()
        axis, residue, modulus = int(words[1]), int(words[3]), int(words[5])
        found = {int(np.unravel_index(place, shape)[axis]) for place in places}
        assert found == set(range(residue, shape[axis], modulus))


@given(st.integers(2, 3), st.integers(1, 12), st.data())
def test_only_a_whole_box_is_told_without_within(rows, columns, data):
    places = data.draw(st.lists(st.integers(0, rows * columns - 1), min_size=2, unique=True))
    text = pattern(places, (rows, columns))
    axes = [set(axis.tolist()) for axis in np.unravel_index(np.array(places), (rows, columns))]
    if text and not text.startswith("within"):
        assert len(places) == len(axes[0]) * len(axes[1])
