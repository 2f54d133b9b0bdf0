"""What a workload hands to whoever times it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from refdeq_bench.baselines import threads_of_libraries
from refdeq_bench.measuring import Measured, Settings, measure

__all__ = ["Case", "Contender", "Quality", "Workload"]

Quality = Mapping[str, float | str]
"""Figures beside the time, so that a fast wrong result shows: see `Contender`."""


@dataclass(frozen=True)
class Contender:
    """One thing to time.

    Attributes
    ----------
    name : str
    run : callable
        One unit of the work, with the inputs it was built for.
    role : {"ours", "baseline", "other"}
        Ratios of all others are taken over the fastest baseline. "other" marks ablations and variants.
    quality : dict
        ``density`` (share of elements sent), ``macs`` (per call), ``saved`` (share of the dense MACs), ``err/bound`` (N-7),
        ``evaluations``, ``status``, and what the workload adds.
    """

    name: str
    run: Callable[[], object]
    role: str = "ours"
    quality: Quality = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One workload at one point for one backend: contenders whose results have been checked.

    Attributes
    ----------
    workload, backend, order : str
    threads : int
    point : dict
        Parameters it was built with.
    contenders : tuple of Contender
        The first one is entered twice when it is timed; baselines come first.
    skipped : dict of name to reason
        Baselines that cannot run here.
    """

    workload: str
    backend: str
    order: str
    threads: int
    point: Mapping[str, Any]
    contenders: tuple[Contender, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> Contender:
        """The backend's contender; where there are several (ablations), the first."""
        return next(contender for contender in self.contenders if contender.role == "ours")

    @property
    def baselines(self) -> tuple[Contender, ...]:
        """The dense paths; empty where nothing is divided."""
        return tuple(contender for contender in self.contenders if contender.role == "baseline")

    def measure(self, settings: Settings | None = None, **hooks: Any) -> Measured:
        """Time all contenders by turns; `hooks` are those of :func:`refdeq_bench.measuring.measure`."""
        with threads_of_libraries(self.threads):
            return measure({contender.name: contender.run for contender in self.contenders}, settings, **hooks)


Prepare = Callable[..., Case]
"""``prepare(backend, *, order, threads, **point)``: inputs and contenders, every result checked."""


@dataclass(frozen=True)
class Workload:
    """Something that is measured.

    Attributes
    ----------
    name, summary : str
    prepare : callable
        See the docstring of :mod:`refdeq_bench.workloads`.
    points : tuple of dict
        What ``refdeq bench`` runs when nothing is said.
    quick : dict
        A point as small as can be: whether it works, not how fast it is.
    """

    name: str
    summary: str
    prepare: Prepare
    points: tuple[Mapping[str, Any], ...]
    quick: Mapping[str, Any]
