"""What all suites share: names of backends and baselines, interleaved measurements, and skipping by name."""

from __future__ import annotations

import itertools
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from suites.budget import settings

BACKENDS = ("reference", "numba")
"""First parameter of every benchmark. A name is never taken away: results of old commits are stored under it."""

BLAS, TORCH, PYTHON = BASELINES = ("dense BLAS", "torch", "Python loop")
"""Dense paths, as backends of their own where the work has them: the fastest on BLAS, torch, and a loop over NumPy calls."""

COMPILED = "numba"
"""The backend that a baseline stands beside when it is timed alone."""

PACKAGES = ("refdeq", "refdeq_numba", "refdeq_validation")


@contextmanager
def skipping() -> Iterator[None]:
    """Turn what the installed refdeq lacks into asv's word for a skipped benchmark, naming it; let mistakes through.

    Raises
    ------
    NotImplementedError
        A backend cannot run here, or a module, name or argument of refdeq is not there.
    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in PACKAGES:
            raise
        raise NotImplementedError(f"not in this version of refdeq: {error}") from error
    except AttributeError as error:
        if _home(error.obj) not in PACKAGES:
            raise
        raise NotImplementedError(f"not in this version of refdeq: {error}") from error
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise NotImplementedError(f"not in this version of refdeq: {error}") from error
    except Exception as error:
        if type(error).__name__ not in ("BackendUnavailableError", "UnsupportedError"):
            raise
        raise NotImplementedError(str(error)) from error


def _home(thing: object) -> str:
    """Top package of a module, or of the type of anything else."""
    name = getattr(thing, "__name__", None) if type(thing).__name__ in ("module", "type") else type(thing).__module__
    owner = thing.__module__ if isinstance(thing, type) else name
    return (owner or "").partition(".")[0]


def require_backend(name: str) -> Any:
    """Load a backend, or skip by its name.

    Raises
    ------
    NotImplementedError
    """
    with skipping():
        from refdeq.registry import load_backend

        return load_backend(name)


def order_of(backend: str) -> str:
    """The faster of the orders that a backend offers."""
    return "fast" if "fast" in require_backend(backend).info.orders else "strict"


@dataclass(frozen=True)
class Outcome:
    """What one interleaved measurement found, or why there is none.

    Attributes
    ----------
    figures : dict of str to float
        See `_figures`.
    skipped, failed : str
        Reasons; empty where there are figures.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    skipped: str = ""
    failed: str = ""


Cache = Mapping[tuple[Any, ...], Outcome]
"""What asv hands from `setup_cache` to every metric: outcomes by point."""


class Tracked(ABC):
    """Figures of one workload: all points are measured once, by turns with the baselines, and then read out.

    A subclass names the workload and its parameters, inherits the metrics below that the workload has figures for, and
    defines `setup_cache` (asv tells caches apart by the line where they are defined). It is abstract until then, which hides
    it from asv.

    Attributes
    ----------
    workload : str
        Key of ``refdeq_bench.workloads.WORKLOADS``.
    fixed : dict
        Parameters of the workload that are the same at every point.
    not_with : dict of backend to reason
        Backends that are not measured on this work.
    param_names, params
        As asv wants them; the backend first.
    """

    workload: ClassVar[str]
    fixed: ClassVar[dict[str, Any]] = {}
    not_with: ClassVar[dict[str, str]] = {}
    param_names: ClassVar[list[str]]
    params: ClassVar[tuple[tuple[Any, ...], ...]]

    @abstractmethod
    def setup_cache(self) -> Cache:
        """Return ``self.measure()``."""

    def setup(self, cache: Cache, *point: Any) -> None:
        """Skip or fail as the measurement did."""
        outcome = cache[point]
        if outcome.skipped:
            raise NotImplementedError(outcome.skipped)
        if outcome.failed:
            raise RuntimeError(outcome.failed)

    def measure(self) -> Cache:
        """Measure every point of the parameters."""
        return {point: self._outcome(*point) for point in itertools.product(*self.params)}

    def _outcome(self, backend: str, *point: Any) -> Outcome:
        try:
            case = prepare(self, backend, point)
            with skipping():
                return Outcome(_figures(case, case.measure(settings())))
        except NotImplementedError as error:
            return Outcome(skipped=str(error))
        except Exception as error:  # one wrong point must not take the others with it; `setup` raises it again
            return Outcome(failed=f"{type(error).__name__}: {error}")


def _figures(case: Any, measured: Any) -> dict[str, float]:
    """Everything that a metric may ask for; ``seconds of X`` for every contender X."""
    quality = case.ours.quality
    figures = {name: float(value) for name, value in quality.items() if isinstance(value, int | float)}
    figures |= {f"seconds of {contender.name}": measured.median(contender.name) for contender in case.contenders}
    figures["seconds"] = measured.median(case.ours.name)
    figures["noise"] = 100.0 * measured.noise().spread
    if "status" in quality:
        counts = {kind: int(count) for kind, count in re.findall(r"(\w+) (\d+)", str(quality["status"]))}
        figures["converged"] = 100.0 * counts.get("CONVERGED", 0) / max(1, sum(counts.values()))
    if case.baselines:
        best = measured.fastest([contender.name for contender in case.baselines])
        figures["ratio"] = measured.ratio(best, case.ours.name).median
    return figures


class Ratio(Tracked):
    """The metrics of a comparison."""

    def track_ratio(self, cache: Cache, *point: Any) -> float:
        """How many times as fast as the best baseline, in the same rounds."""
        return cache[point].figures["ratio"]

    def track_noise(self, cache: Cache, *point: Any) -> float:
        """By how much the quartiles of a contender's ratio to itself are off 1."""
        return cache[point].figures["noise"]

    track_ratio.unit = "times the baseline"  # type: ignore[attr-defined]
    track_noise.unit = "%"  # type: ignore[attr-defined]


class Saved(Tracked):
    """The metric of work that was left out."""

    def track_macs_saved(self, cache: Cache, *point: Any) -> float:
        """Multiply-accumulates saved of those of the dense work (C-1)."""
        return 100.0 * cache[point].figures["saved"]

    track_macs_saved.unit = "%"  # type: ignore[attr-defined]


class Error(Tracked):
    """The metric of a single product."""

    def track_error_over_bound(self, cache: Cache, *point: Any) -> float:
        """Largest error over what is allowed (N-7); above 1 nothing is timed."""
        return cache[point].figures["err/bound"]

    track_error_over_bound.unit = "of the bound"  # type: ignore[attr-defined]


class Evaluations(Tracked):
    """The metric of any solve."""

    def track_evaluations(self, cache: Cache, *point: Any) -> float:
        """Evaluations of f per sample, on average."""
        return cache[point].figures["evaluations"]

    track_evaluations.unit = "evaluations"  # type: ignore[attr-defined]


class Solves(Evaluations):
    """The metrics of solves to a tolerance."""

    def track_converged(self, cache: Cache, *point: Any) -> float:
        """Samples that met their tolerance."""
        return cache[point].figures["converged"]

    track_converged.unit = "% of the samples"  # type: ignore[attr-defined]


class Timed(ABC):
    """Seconds of one workload, for backends and for the baselines beside them; asv takes the samples.

    A subclass says which workload, and is abstract until then.
    """

    repeat = (2, 7, 0.6)
    warmup_time = 0.05
    rounds = 1
    param_names: ClassVar[list[str]]
    params: ClassVar[tuple[tuple[Any, ...], ...]]

    @abstractmethod
    def work(self) -> Tracked:
        """Return the workload, with the same parameters."""

    def setup(self, backend: str, *point: Any) -> None:
        """Build the contender; a baseline needs some backend to stand beside, and takes the compiled one."""
        case = prepare(self.work(), COMPILED if backend in BASELINES else backend, point)
        self.run = _baseline(case, backend) if backend in BASELINES else case.ours.run

    def time_run(self, *point: Any) -> None:
        """One unit of the work."""
        self.run()


def prepare(suite: Tracked, backend: str, point: tuple[Any, ...]) -> Any:
    """Build the case of a workload at one point.

    Raises
    ------
    NotImplementedError
        The backend cannot run here, is not measured on this work, or the version of refdeq lacks something.
    """
    if backend in suite.not_with:
        raise NotImplementedError(f"{backend}: {suite.not_with[backend]}")
    order = order_of(backend)
    given = dict(zip(suite.param_names[1:], point, strict=True))
    with skipping():
        from refdeq_bench.workloads import WORKLOADS

        if suite.workload not in WORKLOADS:
            raise NotImplementedError(f"no workload {suite.workload!r}")
        return WORKLOADS[suite.workload].prepare(backend, order=order, threads=1, **suite.fixed, **given)


def _baseline(case: Any, name: str) -> Any:
    """What to call for a baseline: of several paths on BLAS the fastest here.

    Raises
    ------
    NotImplementedError
        There is none.
    """
    kinds = {contender.name: _kind(contender.name) for contender in case.baselines}
    found = {contender.name: contender.run for contender in case.baselines if kinds[contender.name] == name}
    if not found:
        raise NotImplementedError(f"{name}: {case.skipped.get(name, f'not a baseline of {case.workload}')}")
    if len(found) == 1:
        return next(iter(found.values()))
    from refdeq_bench.measuring import measure

    return found[measure(found, settings()).fastest(list(found))]


def _kind(path: str) -> str:
    if path == PYTHON:
        return PYTHON
    return TORCH if path.partition(",")[0] == TORCH else BLAS
