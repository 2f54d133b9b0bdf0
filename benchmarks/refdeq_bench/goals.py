"""The goals P1 to P11 as data, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from refdeq_bench.recording import Row, ours_of
from refdeq_bench.running import Job

__all__ = ["GOALS", "Demand", "Goal", "Outcome", "ablations", "bandwidth_share", "evaluate", "jobs_of"]

SECONDS = 30.0
"""Measuring time of one goal for one number of threads, shared out among its demands; preparing comes on top."""


@dataclass(frozen=True)
class Demand:
    """One point of a goal.

    Attributes
    ----------
    workload : str
    point : dict
    required : float
        Least ratio over the best baseline; with ``figure="seconds"`` the most seconds per evaluation.
    figure : {"ratio", "seconds"}
    bandwidth : float
        Least share of the measured read bandwidth, 0 for none.
    order : str
    """

    workload: str
    point: Mapping[str, Any]
    required: float
    figure: str = "ratio"
    bandwidth: float = 0.0
    order: str = "fast"


@dataclass(frozen=True)
class Goal:
    """A goal of performance: all demands must be met."""

    id: str
    work: str
    required: str
    demands: tuple[Demand, ...]


@dataclass(frozen=True)
class Outcome:
    """A demand and what was measured.

    Attributes
    ----------
    goal : str
    threads : int
    demand : Demand
    met : bool or None
        None when it was not measured: see `reason`.
    value, low, high : float
        Ratio with its interval, or seconds per evaluation with quartiles.
    share : float or None
        Of the read bandwidth.
    best : str
        Baseline it was divided by.
    noise : float
        A/A spread of the row.
    reason : str
    """

    goal: str
    threads: int
    demand: Demand
    met: bool | None
    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    share: float | None = None
    best: str = ""
    noise: float = float("nan")
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def margin(self) -> float:
        """How many times as good as required; below 1 where it is missed. A demand on bandwidth counts as well."""
        if self.met is None:
            return float("nan")
        if self.demand.figure == "seconds":
            return self.demand.required / self.value
        margin = self.value / self.demand.required
        return margin if self.share is None else min(margin, self.share / self.demand.bandwidth)


def _gemv(n: int, dtype: str, density: float, factor: float, bandwidth: float) -> Demand:
    point = {"n": n, "dtype": dtype, "density": density}
    return Demand("gemv", {**point, "bandwidth": True} if bandwidth else point, factor / density, bandwidth=bandwidth)


def _gemm(pattern: str, required: Mapping[float, float], samples: int = 65536, dtype: str = "float32") -> tuple[Demand, ...]:
    point = {"samples": samples, "inputs": 256, "dtype": dtype, "pattern": pattern}
    return tuple(Demand("gemm", {**point, "density": density}, ratio) for density, ratio in required.items())


def _conv(pattern: str, required: Mapping[float, float]) -> tuple[Demand, ...]:
    return tuple(
        Demand("conv", {"kernel": kernel, "pattern": pattern, "density": density}, ratio)
        for kernel in ("1x5", "5x1", "3x3")
        for density, ratio in required.items()
    )


def _anywhere() -> tuple[Demand, ...]:
    """Shapes large, small, odd and lean, dense and sparse: the dispatcher must not lose anywhere (P9)."""
    gemm = ((1, 256, 256), (1, 1000, 777), (7, 130, 61), (333, 511, 77), (1000, 257, 129), (4096, 256, 256))
    densities = (1.0, 0.9, 0.7, 0.5, 0.3, 0.1)
    found = []
    for samples, inputs, outputs in gemm:
        shape = {"samples": samples, "inputs": inputs, "outputs": outputs}
        sent = [("none", 1.0), *(("random", density) for density in densities)]
        sent += [("rows", density) for density in densities[3:] if samples > 1]
        found += [Demand("gemm", {**shape, "density": density, "pattern": pattern}, 0.95) for pattern, density in sent]
    conv = (("3x3", 24, 24, 64, 64), ("1x5", 17, 13, 5, 7), ("5x1", 31, 40, 33, 50))
    return tuple(found) + tuple(
        Demand(
            "conv",
            {"kernel": kernel, "height": height, "width": width, "inputs": inputs, "outputs": outputs, "density": density},
            0.95,
        )
        for kernel, height, width, inputs, outputs in conv
        for density in (1.0, 0.5, 0.1)
    )


GOALS: tuple[Goal, ...] = (
    Goal(
        "P1",
        "GEMV, n >= 2048, density <= 0.5, float32 and float64",
        ">= 1.1/density and >= 85 % of read bandwidth",
        tuple(
            _gemv(n, dtype, density, 1.1, 0.85)
            for n in (2048, 4096, 8192)
            for dtype in ("float32", "float64")
            for density in (0.5, 0.1, 0.01)
        ),
    ),
    Goal(
        "P2",
        "GEMV, n = 1024",
        ">= 0.75/density",
        tuple(_gemv(1024, "float32", density, 0.75, 0.0) for density in (0.5, 0.3, 0.2, 0.1, 0.05, 0.01)),
    ),
    Goal(
        "P3",
        "batched 65,536 x 256 float32, random 0.3 / 0.2 / 0.1 / 0.05",
        ">= 1.6 / 2.1 / 3.3 / 5",
        _gemm("random", {0.3: 1.6, 0.2: 2.1, 0.1: 3.3, 0.05: 5.0}),
    ),
    Goal(
        "P4",
        "same, mixed 0.3 / 0.2 / 0.1 / 0.05; whole rows 0.3 / 0.1",
        ">= 1.9 / 2.5 / 4 / 6; >= 3 / 9",
        _gemm("mixed", {0.3: 1.9, 0.2: 2.5, 0.1: 4.0, 0.05: 6.0}) + _gemm("rows", {0.3: 3.0, 0.1: 9.0}),
    ),
    Goal(
        "P5",
        "batched 4,096 x 256 float64, random 0.2 / 0.1",
        ">= 2.8 / 4.5",
        _gemm("random", {0.2: 2.8, 0.1: 4.5}, 4096, "float64"),
    ),
    Goal(
        "P6",
        "conv 1x5, 5x1, 3x3: random 0.25 / 0.1 / 0.05; mixed 0.1; whole pixels 0.1",
        ">= 2.1 / 4 / 6; >= 4.5; >= 8",
        _conv("random", {0.25: 2.1, 0.1: 4.0, 0.05: 6.0}) + _conv("mixed", {0.1: 4.5}) + _conv("rows", {0.1: 8.0}),
    ),
    Goal(
        "P7",
        "fused step against tuned NumPy passes, tanh and sin, density 0.2 / 0.05",
        ">= 4.5 / 7",
        tuple(
            Demand("fused", {"activation": activation, "density": density}, ratio)
            for activation in ("Tanh", "Sin")
            for density, ratio in ((0.2, 4.5), (0.05, 7.0))
        ),
    ),
    Goal(
        "P8",
        "whole image solve, protocol (P), against dense Picard with the same freezing and activation code",
        ">= 3",
        (
            Demand("image", {"tau": 0.01, "rtol": 1e-6}, 3.0),
            Demand("image", {"tau": 0.01, "rtol": None}, 3.0),
        ),
    ),
    Goal("P9", "dispatcher at any density and shape", ">= 0.95", _anywhere()),
    Goal(
        "P10",
        "strict order against our own fast order",
        ">= 0.4",
        (
            Demand("orders", {"of": "gemv", "n": 2048, "density": 0.2}, 0.4, order="strict"),
            Demand("orders", {"of": "gemm", "samples": 65536, "density": 0.2}, 0.4, order="strict"),
            Demand("orders", {"of": "conv", "density": 0.25}, 0.4, order="strict"),
            Demand("orders", {"of": "fused", "density": 0.2}, 0.4, order="strict"),
            Demand("orders", {"of": "fused", "density": 0.2, "activation": "Sin"}, 0.4, order="strict"),
        ),
    ),
    Goal(
        "P11",
        "sine cell, batch 1, hidden 20: an evaluation of a fused solve",
        "<= 2 us",
        tuple(Demand("sine", {"tau": tau}, 2e-6, figure="seconds") for tau in (0.0, 0.01)),
    ),
)


def ablations(backend: str) -> Job:
    """What each part of the image solve brings: shown beside P8, on a quarter of the pixels, not required."""
    return Job("image", backend, "fast", {"tau": 0.01, "samples": 4096, "ablations": True}, {"budget_seconds": SECONDS})


def jobs_of(goal: Goal, backend: str) -> list[Job]:
    """A job per demand, each with its share of the goal's time."""
    settings = {"budget_seconds": SECONDS / len(goal.demands)}
    return [Job(demand.workload, backend, demand.order, demand.point, settings) for demand in goal.demands]


def evaluate(goal: Goal, threads: int, rows: Mapping[int, Row], reasons: Mapping[int, str]) -> list[Outcome]:
    """Outcomes of a goal's demands; `rows` and `reasons` (why there is no row) by the index of the demand."""
    return [
        _evaluated(goal.id, threads, demand, rows[index])
        if index in rows
        else Outcome(goal.id, threads, demand, None, reason=reasons.get(index, "not measured"))
        for index, demand in enumerate(goal.demands)
    ]


def _evaluated(goal: str, threads: int, demand: Demand, row: Row) -> Outcome:
    ours, noise = ours_of(row), row["noise"]["spread"]
    if demand.figure == "seconds":
        evaluations = ours["quality"]["evaluations"]
        value, low, high = (ours[name] / evaluations for name in ("median", "q1", "q3"))
        others = {c["name"]: c["median"] / evaluations for c in row["contenders"] if c["role"] == "baseline"}
        return Outcome(
            goal, threads, demand, value <= demand.required, value, low, high, None, row["best"], noise, details=others
        )
    ratio, share = ours["ratio"], None
    met = ratio["median"] >= demand.required
    if demand.bandwidth:
        share = bandwidth_share(row)
        met = met and share >= demand.bandwidth
    return Outcome(goal, threads, demand, met, ratio["median"], ratio["low"], ratio["high"], share, row["best"], noise)


def bandwidth_share(row: Row) -> float:
    """Bytes per second that ours reads, over those of the fastest plain read of the same array."""
    read = [c["quality"]["bytes"] / c["median"] for c in row["contenders"] if c["name"].startswith("read (")]
    ours = ours_of(row)
    return float(ours["quality"]["bytes"] / ours["median"] / max(read))
