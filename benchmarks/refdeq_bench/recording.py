"""A measured case as plain data: one row of ``refdeq bench --json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from refdeq_bench.measuring import Measured, Ratio
from refdeq_bench.workloads import Case

__all__ = ["SCHEMA", "Row", "identity", "ours_of", "row_of"]

SCHEMA = "refdeq-bench/1"
Row = dict[str, Any]


def row_of(case: Case, measured: Measured) -> Row:
    """Everything that was found out about a case, in the types of JSON.

    ``best`` names the fastest baseline; the ratio of every contender is over it, round by round, and None without one.
    """
    names = [contender.name for contender in case.baselines]
    best = measured.fastest(names) if names else None
    noise = measured.noise()
    contenders = []
    for contender in case.contenders:
        q1, q3 = measured.quartiles(contender.name)
        contenders.append(
            {
                "name": contender.name,
                "role": contender.role,
                "median": measured.median(contender.name),
                "q1": q1,
                "q3": q3,
                "ratio": None if best is None else asdict(measured.ratio(best, contender.name)),
                "calls": measured.calls.get(contender.name, 1),
                "seconds": [float(value) for value in measured.seconds[contender.name]],
                "quality": _plain(contender.quality),
            }
        )
    return {
        "workload": case.workload,
        "backend": case.backend,
        "order": case.order,
        "threads": case.threads,
        "point": dict(case.point),
        "best": best,
        "rounds": measured.rounds,
        "noise": {**asdict(noise.ratio), "spread": noise.spread, "of_median": noise.of_median},
        "skipped": dict(case.skipped),
        "contenders": contenders,
    }


def _plain(quality: Mapping[str, float | str]) -> dict[str, float | str]:
    """JSON has no NaN and no infinities: they become their names."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value for name, value in quality.items()
    }


def ours_of(row: Row) -> Any:
    """The backend's contender of a row."""
    return next(contender for contender in row["contenders"] if contender["role"] == "ours")


def identity(row: Row) -> str:
    """What a row measures, as text: rows of two files that have it in common can be compared.

    >>> identity({"workload": "gemv", "backend": "numba", "order": "fast", "threads": 1, "point": {"n": 64, "density": 0.1}})
    'gemv numba fast threads=1 n=64 density=0.1'
    """
    point = " ".join(f"{name}={value}" for name, value in row["point"].items())
    return f"{row['workload']} {row['backend']} {row['order']} threads={row['threads']} {point}".strip()


def ratio_from(data: Mapping[str, float]) -> Ratio:
    """A ratio that was stored."""
    return Ratio(**data)
