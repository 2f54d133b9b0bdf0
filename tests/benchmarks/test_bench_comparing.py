"""Verdicts: what two runs may say about each other, and when they may not."""

from __future__ import annotations

import json

import pytest
from refdeq_bench.comparing import compare, read_results, refuse_if_different
from refdeq_bench.facts import MUST_AGREE
from refdeq_bench.recording import SCHEMA

from refdeq.errors import ArgumentError, FileFormatError

LIMIT = 0.1
FACTS = dict.fromkeys(MUST_AGREE, "same")


def row(ours, baseline=(1.0,), *, of_median=0.0, spread=0.0, quality=None, names=("numpy",), threads=1, n=64):
    """A row whose rounds took so many seconds; a single number is repeated for seven rounds."""
    ours, baseline = (list(v) * 7 if len(v) == 1 else list(v) for v in (ours, baseline))
    contenders = [{"name": name, "role": "baseline", "seconds": baseline, "quality": {}} for name in names]
    contenders.append({"name": "numba fast", "role": "ours", "seconds": ours, "quality": quality or {}})
    return {
        "workload": "gemv",
        "backend": "numba",
        "order": "fast",
        "threads": threads,
        "point": {"n": n},
        "best": names[0] if names else None,
        "noise": {"of_median": of_median, "spread": spread},
        "contenders": contenders,
    }


def verdict(old, new):
    [change] = compare([old], [new], LIMIT)
    return change


@pytest.mark.parametrize(("then", "now", "expected"), [(1.0, 0.5, "faster"), (0.5, 1.0, "slower"), (1.0, 1.0, "no difference")])
def test_a_clear_change_has_its_verdict(then, now, expected):
    change = verdict(row([then]), row([now]))
    assert change.verdict == expected
    assert change.factor == then / now
    assert change.by == "numpy"


def test_a_machine_that_became_slower_as_a_whole_changed_nothing():
    assert verdict(row([1.0], [4.0]), row([2.0], [8.0])).verdict == "no difference"


def test_without_a_baseline_seconds_count():
    change = verdict(row([1.0], names=()), row([0.5], names=()))
    assert (change.by, change.factor, change.verdict) == ("seconds", 2.0, "faster")


def test_a_baseline_that_only_one_run_has_is_not_used():
    change = verdict(row([1.0], names=("torch", "numpy")), row([0.5], names=("numpy",)))
    assert change.by == "numpy"
    assert verdict(row([1.0], names=("torch",)), row([0.5], names=("numpy",))).by == "seconds"


def test_overlapping_intervals_are_no_difference():
    wide = [0.5, 0.75, 1.0, 1.0, 1.0, 1.5, 2.0]  # seven rounds: from one extreme to the other
    change = verdict(row(wide), row([0.75]))
    assert change.verdict == "no difference"
    assert (change.low, change.high) == (0.5 / 0.75, 2.0 / 0.75)


@pytest.mark.parametrize(("noise", "expected"), [(0.0, "faster"), (0.125, "faster"), (0.25, "no difference")])
def test_noise_of_either_run_widens_the_interval(noise, expected):
    # 1.25 times as fast: 1.125 does not reach 1, 1.25 does
    old, new = row([1.25]), row([1.0])
    assert verdict({**old, "noise": {"of_median": noise, "spread": 0.0}}, new).verdict == expected
    assert verdict(old, {**new, "noise": {"of_median": noise, "spread": 0.0}}).verdict == expected


def test_noise_of_both_runs_adds_up():
    old, new = row([1.25], of_median=0.125), row([1.0], of_median=0.125)
    assert verdict(old, new).verdict == "no difference"


@pytest.mark.parametrize("which", ["old", "new"])
def test_a_noisy_row_gets_no_verdict(which):
    noisy, quiet = row([0.5], spread=0.11), row([1.0], spread=LIMIT)
    pair = (noisy, quiet) if which == "old" else (quiet, noisy)
    assert verdict(*pair).verdict == "noisy"


def test_noise_at_the_limit_is_accepted():
    assert verdict(row([1.0], spread=LIMIT), row([0.5], spread=LIMIT)).verdict == "faster"


@pytest.mark.parametrize("name", ["evaluations", "status", "macs", "cases"])
def test_a_run_that_did_other_work_is_neither_faster_nor_slower(name):
    assert verdict(row([1.0], quality={name: 10}), row([0.25], quality={name: 5})).verdict == "other work"


def test_rows_are_matched_by_what_they_measure():
    changes = compare([row([1.0], n=64), row([1.0], n=128)], [row([1.0], n=128), row([1.0], n=256)], LIMIT)
    assert [change.row for change in changes] == ["gemv numba fast threads=1 n=128"]


@pytest.mark.parametrize("fact", MUST_AGREE)
def test_other_conditions_are_named_and_refused(fact):
    old = {"facts": {**FACTS, fact: "other"}, "rows": [row([1.0])]}
    with pytest.raises(ArgumentError, match=f"{fact}: 'other' there, 'same' here.*--across"):
        refuse_if_different(old, FACTS, [1])


def test_other_threads_are_named_and_refused():
    old = {"facts": FACTS, "rows": [row([1.0], threads=2)]}
    with pytest.raises(ArgumentError, match="threads: 2 there, 1 here"):
        refuse_if_different(old, FACTS, [1])
    refuse_if_different(old, FACTS, [1, 2])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "refdeq-info/1"}', "\x00"])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=r"results\.json"):
        read_results(path)


def test_a_file_of_ours_is_read(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"schema": SCHEMA, "rows": []}))
    assert read_results(path)["rows"] == []
