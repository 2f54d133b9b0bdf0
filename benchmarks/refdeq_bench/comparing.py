"""Two files of figures: for every row they share, whether something changed that the noise does not explain."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refdeq.errors import ArgumentError, FileFormatError
from refdeq_bench.facts import differences
from refdeq_bench.measuring import interval_of_median
from refdeq_bench.recording import SCHEMA, Row, identity, ours_of

__all__ = ["VERDICTS", "Change", "compare", "read_results", "refuse_if_different"]

VERDICTS = ("faster", "slower", "no difference", "other work", "noisy")
SAME_WORK = ("evaluations", "status", "macs", "cases")
"""Qualities that say how much was done: where they differ, times are not comparable."""


@dataclass(frozen=True)
class Change:
    """One row, then and now.

    Attributes
    ----------
    row : str
        What was measured.
    by : str
        Baseline both were divided by; "seconds" where there was none in common.
    factor, low, high : float
        How many times as fast as then, with the interval that both intervals and both A/A allow.
    verdict : str
        One of ``VERDICTS``.
    """

    row: str
    by: str
    factor: float
    low: float
    high: float
    verdict: str


def read_results(path: Path) -> dict[str, Any]:
    """A file that ``refdeq bench --json`` wrote.

    Raises
    ------
    FileFormatError
        It cannot be read, or is something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FileFormatError(f"{path}: {error}") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise FileFormatError(f"{path}: not a file of refdeq bench --json ({SCHEMA})")
    return data


def refuse_if_different(old: Mapping[str, Any], new_facts: Mapping[str, Any], threads: Sequence[int]) -> None:
    """Refuse figures from elsewhere.

    Raises
    ------
    ArgumentError
        Machine, processor, versions or numbers of threads differ.
    """
    found = differences(old["facts"], new_facts)
    there = sorted({row["threads"] for row in old["rows"]})
    if not set(threads) & set(there):
        found.append(f"threads: {', '.join(map(str, there))} there, {', '.join(map(str, threads))} here")
    if found:
        raise ArgumentError("--compare", hint=f"measured under other conditions: {'; '.join(found)}; --across compares anyway")


def compare(old: Sequence[Row], new: Sequence[Row], noise_limit: float) -> list[Change]:
    """Verdicts for the rows that both have, in the order of the new ones.

    A row is faster (slower) when the whole interval of the change is above (below) 1. The interval goes from the least new
    over the greatest old figure to the greatest new over the least old one, and is widened by what the A/A ratio of either run
    was off. Rows whose A/A spread is above `noise_limit` get no verdict but *noisy*.
    """
    then = {identity(row): row for row in old}
    return [_change(then[identity(row)], row, noise_limit) for row in new if identity(row) in then]


def _change(old: Row, new: Row, noise_limit: float) -> Change:
    before, after = ours_of(old), ours_of(new)
    by = _common_baseline(old, new)
    if by is None:
        factors, least, most = _by_seconds(before, after)
    else:
        factors, least, most = _by_ratio(_over(old, by, before), _over(new, by, after))
    widening = (1.0 + old["noise"]["of_median"]) * (1.0 + new["noise"]["of_median"])
    low, high = least / widening, most * widening
    if any(before["quality"].get(name) != after["quality"].get(name) for name in SAME_WORK):
        verdict = "other work"
    elif max(old["noise"]["spread"], new["noise"]["spread"]) > noise_limit:
        verdict = "noisy"
    else:
        verdict = "faster" if low > 1.0 else "slower" if high < 1.0 else "no difference"
    return Change(identity(new), by or "seconds", factors, low, high, verdict)


def _common_baseline(old: Row, new: Row) -> str | None:
    """The baseline that was best then, or else now, if both runs have it."""
    names = [{c["name"] for c in row["contenders"] if c["role"] == "baseline"} for row in (old, new)]
    return next((name for name in (old["best"], new["best"]) if name in names[0] & names[1]), None)


Interval = tuple[float, float, float]


def _over(row: Row, baseline: str, contender: Mapping[str, Any]) -> Interval:
    """Median and interval of the ratio, from the samples: the stored ratio may be over another baseline."""
    [seconds] = [c["seconds"] for c in row["contenders"] if c["name"] == baseline]
    ratios = sorted(b / c for b, c in zip(seconds, contender["seconds"], strict=True))
    low, high, _ = interval_of_median(ratios)
    return _median(ratios), low, high


def _by_ratio(before: Interval, after: Interval) -> Interval:
    return after[0] / before[0], after[1] / before[2], after[2] / before[1]


def _by_seconds(before: Mapping[str, Any], after: Mapping[str, Any]) -> Interval:
    (slow, least_then, most_then), (fast, least_now, most_now) = (
        (_median(c["seconds"]), *interval_of_median(c["seconds"])[:2]) for c in (before, after)
    )
    return slow / fast, least_then / most_now, most_then / least_now


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
