"""Rules and their checks: every field, every wrong value (D-1 to D-12, N-3, S-3)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from refdeq.errors import ArgumentError, RefdeqError
from refdeq.types import PRESETS, DeltaRule, GateOverride, OpCount, Status, StopRule

BAD_THRESHOLDS = [
    -1.0,
    -5e-324,
    np.nan,
    None,
    "0.1",
    [],
    [0.1, -0.1],
    [0.1, np.nan],
    [[0.1]],
    [[0.1], [0.1, 0.2]],
    {"z": 0.1},
    1j,
]


@pytest.mark.parametrize("threshold", BAD_THRESHOLDS, ids=repr)
@pytest.mark.parametrize("make", [DeltaRule, GateOverride])
def test_bad_thresholds(threshold, make):
    if make is GateOverride and threshold is None:
        return  # None keeps the rule's
    with pytest.raises(ArgumentError, match="threshold") as caught:
        make(threshold=threshold)
    assert isinstance(caught.value, ValueError)  # N-3


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (0, 0.0),
        (0.5, 0.5),
        (np.float32(0.5), 0.5),
        (np.array(0.5), 0.5),
        (np.inf, np.inf),
        ([1, 2], (1.0, 2.0)),
        (np.ones(2), (1.0, 1.0)),
    ],
)
def test_thresholds_are_kept_as_floats(given, kept):
    for rule in (DeltaRule(threshold=given), GateOverride(threshold=given)):
        assert rule.threshold == kept
        assert type(rule.threshold) is type(kept)


@pytest.mark.parametrize(
    "field",
    [
        {"compare": ">"},
        {"compare": None},
        {"memory": "truncated"},
        {"memory": "feedback"},
        {"feedback_format": "float16"},
        {"memory": "feedback", "feedback_format": "float8"},
        {"start": "warm"},
        {"bias": "none"},
        {"granularity": "row"},
        {"granularity": "tile"},
        {"granularity": None},
        {"tile": (2, 2, 2)},
        {"granularity": "tile", "tile": (2, 2)},
        {"granularity": "tile", "tile": (2, 2, 0)},
        {"granularity": "tile", "tile": (2, 2, 1.5)},
        {"granularity": "tile", "tile": 4},
        {"delta_dtype": "float64"},
        {"delta_dtype": np.float16},
        {"refresh": -1},
        {"refresh": 1.5},
        {"refresh": True},
        {"refresh": None},
        {"gates": {"z": 0.1}},
        {"gates": {"z": {"threshold": 0.1}}},
        {"gates": [("z", GateOverride())]},
        {"gates": None},
        {"dense": "linear"},
        {"dense": None},
    ],
    ids=str,
)
def test_bad_fields_of_a_rule(field):
    with pytest.raises(ArgumentError, match="|".join([*field, "feedback_format", "tile"])):
        DeltaRule(threshold=0.1, **field)


def test_unknown_fields_and_positions_fail():
    with pytest.raises(TypeError):
        DeltaRule(threshold=0.1, treshold=0.2)
    with pytest.raises(TypeError):
        DeltaRule(0.1)
    with pytest.raises(TypeError):
        StopRule(1e-3)
    with pytest.raises(ArgumentError, match="preset"):
        DeltaRule.preset("best", threshold=0.1)
    with pytest.raises(TypeError):
        DeltaRule.preset("paper")


@pytest.mark.parametrize("field", [{"granularity": "row"}, {"tile": (1, 1, 1)}, {"granularity": "tile"}], ids=str)
def test_bad_overrides(field):
    with pytest.raises(ArgumentError):
        GateOverride(**field)


def test_presets_are_the_four_of_the_semantics():
    """(compare, memory, start, bias) of docs/semantics.md, section D."""
    table = {
        "paper": ("ge", "always", "dense", "separate"),
        "deltadeq-code": ("gt", "always", "dense", "folded"),
        "delta-network": ("ge", "sent", "zero", "separate"),
        "refdeq": ("gt", "sent", "dense", "separate"),
    }
    assert PRESETS.keys() == table.keys()
    for name, choices in table.items():
        rule = DeltaRule.preset(name, threshold=0.1)
        assert (rule.compare, rule.memory, rule.start, rule.bias) == choices
        assert (rule.granularity, rule.refresh, rule.dense, rule.gates) == ("element", 0, (), {})
    assert DeltaRule.preset("paper", threshold=0.1, compare="gt").compare == "gt"


def test_rules_are_frozen_and_own_their_parts():
    gates, dense = {"z": GateOverride(threshold=0.1)}, ["a"]
    rule = DeltaRule(threshold=0.1, gates=gates, dense=dense)
    gates.clear()
    dense.clear()
    assert list(rule.gates) == ["z"]
    assert rule.dense == ("a",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.threshold = 0.2
    assert DeltaRule(threshold=0.1, granularity="tile", tile=[1, 2, 3]).tile == (1, 2, 3)


@pytest.mark.parametrize(
    "field",
    [
        {"rtol": -1.0},
        {"rtol": np.nan},
        {"rtol": "1e-3"},
        {"rtol": True},
        {"atol": -0.1},
        {"atol": np.nan},
        {"atol": [0.1]},
        {"max_eval": 0},
        {"max_eval": -3},
        {"max_eval": 2.0},
        {"max_eval": True},
        {"max_eval": None},
        {"norm": "l1"},
        {"norm": None},
        {"eps": 0.0},
        {"eps": -1.0},
        {"eps": np.inf},
        {"eps": np.nan},
        {"divergence": 0.0},
        {"divergence": np.nan},
        {"stagnation": (0, 0.5)},
        {"stagnation": (2.5, 0.5)},
        {"stagnation": (2, 0.0)},
        {"stagnation": (2, np.nan)},
        {"stagnation": 3},
        {"stagnation": (1, 2, 3)},
    ],
    ids=str,
)
def test_bad_stop_rules(field):
    with pytest.raises(ArgumentError, match=next(iter(field))) as caught:
        StopRule(**field)
    assert isinstance(caught.value, ValueError)  # S-3
    assert isinstance(caught.value, RefdeqError)


def test_stop_rules_at_their_limits():
    for field in ({"rtol": 0}, {"atol": np.inf}, {"max_eval": np.int64(1)}, {"eps": 5e-324}, {"stagnation": (1, 1e9)}):
        StopRule(**field)


def test_statuses_are_numbers_of_record():
    """Backends and files carry them as integers."""
    names = ["RUNNING", "CONVERGED", "MAX_EVAL", "NONFINITE", "DIVERGED", "STAGNATED", "BREAKDOWN", "CANCELLED"]
    assert [Status(i).name for i in range(8)] == names


def test_counts_add():
    assert OpCount(1, 2, 3) + OpCount(10, 20, 30) == OpCount(11, 22, 33)
