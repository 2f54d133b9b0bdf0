"""The asv suites: asv finds them, the backend comes first, and what is missing is skipped by its name."""

from __future__ import annotations

import inspect
import itertools
import math
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from suites import common
from suites.common import BACKENDS, BASELINES, Outcome, Timed, Tracked, skipping

from refdeq.errors import BackendUnavailableError

ROOT = Path(__file__).resolve().parents[3]
SUITES = sorted(
    path.stem for path in (ROOT / "benchmarks/suites").glob("*.py") if path.stem not in ("__init__", "budget", "gpu")
)
CLASSES = [
    pytest.param(found, id=f"{name}.{found.__name__}")
    for name in SUITES
    for _, found in inspect.getmembers(import_module(f"suites.{name}"), inspect.isclass)
    if found.__module__ == f"suites.{name}" and not inspect.isabstract(found) and hasattr(found, "params")
]
NOWHERE = "nowhere"


def benchmarks_of(found):
    return [name for name, _ in inspect.getmembers(found, callable) if name.partition("_")[0] in ("time", "track", "peakmem")]


def test_asv_finds_exactly_these():
    discovery = pytest.importorskip("asv_runner.discovery", reason="asv is not installed: it did not look for the suites")
    names = {benchmark.name for benchmark in discovery.disc_benchmarks(str(ROOT / "benchmarks/suites"))}
    classes = [parameter.values[0] for parameter in CLASSES]
    expected = {
        f"{found.__module__.partition('.')[2]}.{found.__name__}.{name}" for found in classes for name in benchmarks_of(found)
    }
    places = {"gpu.Goals.track_figure"}  # filled by imports, see tests/benchmarks/gpu
    assert names == expected | places
    assert {name.partition(".")[0] for name in names - places} == {
        "kernels",
        "solves",
        "solvers",
        "gradients",
        "judge",
        "startup",
    }


def test_importing_the_suites_compiles_and_loads_nothing():
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n"
    code += "\n".join(f"import suites.{name}" for name in SUITES) + "\nprint(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert {name.partition(".")[0] for name in out.stdout.split()} & {
        "refdeq",
        "refdeq_numba",
        "numba",
        "refdeq_bench",
    } == set()


def test_workloads_are_those_beside_the_suites(tmp_path):
    """asv installs old commits, with workloads of their own; they are not what is to be measured."""
    (tmp_path / "refdeq_bench").mkdir()
    (tmp_path / "refdeq_bench/__init__.py").write_text("raise AssertionError('the installed one')")
    code = (
        f"import sys; sys.path.append({str(ROOT / 'benchmarks')!r})\nimport suites, refdeq_bench; print(refdeq_bench.__file__)"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env)
    assert Path(out.stdout.strip()) == ROOT / "benchmarks/refdeq_bench/__init__.py"


@pytest.mark.parametrize("found", CLASSES)
def test_the_backend_is_the_first_parameter(found):
    assert found.param_names[0] == "backend"
    assert len(found.param_names) == len(found.params)
    assert found.params[0][: len(BACKENDS)] == BACKENDS
    assert set(found.params[0]) <= {*BACKENDS, *BASELINES}
    assert found.__doc__
    assert benchmarks_of(found)


@pytest.mark.parametrize("found", CLASSES)
def test_a_backend_that_is_not_there_is_skipped_by_name(found):
    point = (NOWHERE, *(values[0] for values in found.params[1:]))
    suite = found()
    if issubclass(found, Tracked):
        outcome = suite._outcome(*point)
        assert NOWHERE in outcome.skipped
        with pytest.raises(NotImplementedError, match=NOWHERE):
            suite.setup({point: outcome}, *point)
    elif hasattr(suite, "setup"):
        with pytest.raises(NotImplementedError, match=NOWHERE):
            suite.setup(*point) if isinstance(suite, Timed) else suite.setup({}, *point)
    else:
        with pytest.raises(NotImplementedError, match=NOWHERE):
            suite.peakmem_solve(None, *point)


class Small(common.Ratio, common.Saved, common.Error):
    workload = "gemv"
    param_names = ("backend", "n", "density")
    params = (("reference", NOWHERE), (32,), (0.25,))

    def setup_cache(self):
        return self.measure()


def test_figures_are_measured_once_and_read_out(monkeypatch):
    monkeypatch.setenv("REFDEQ_BENCH_QUICK", "1")
    suite = Small()
    cache = suite.setup_cache()
    assert list(cache) == list(itertools.product(*Small.params))
    there, missing = cache
    suite.setup(cache, *there)
    assert suite.track_macs_saved(cache, *there) == 75.0
    assert 0.0 < suite.track_error_over_bound(cache, *there) <= 1.0
    assert suite.track_ratio(cache, *there) > 0.0
    with pytest.raises(NotImplementedError, match=NOWHERE):
        suite.setup(cache, *missing)


def test_a_wrong_result_fails_its_own_point_only(monkeypatch):
    from refdeq.reference import ReferenceKernels

    monkeypatch.setenv("REFDEQ_BENCH_QUICK", "1")
    monkeypatch.setattr(ReferenceKernels, "accumulate_gemm", lambda self, *given: None)
    cache = Small().setup_cache()
    there, missing = cache
    with pytest.raises(RuntimeError, match="WrongResultError"):
        Small().setup(cache, *there)
    assert NOWHERE in cache[missing].skipped


def test_shares_of_statuses():
    class Contender:
        name, quality = "mine", {"status": "CONVERGED 3, MAX_EVAL 1", "evaluations": 5.0}

    class Case:
        ours, contenders, baselines = Contender, (Contender,), ()

    class Measured:
        def median(self, name):
            return 2.0

        def noise(self):
            return type("Noise", (), {"spread": 0.5})

    figures = common._figures(Case, Measured())
    assert figures == {"evaluations": 5.0, "seconds of mine": 2.0, "seconds": 2.0, "noise": 50.0, "converged": 75.0}


def test_baselines_are_told_apart():
    class Contender:
        def __init__(self, name):
            self.name, self.run = name, lambda: name

    class Case:
        workload, skipped = "gemv", {"torch": "not installed"}
        baselines = (Contender("Python loop"), Contender("numpy, by columns"))

    assert common._baseline(Case, "dense BLAS")() == "numpy, by columns"
    assert common._baseline(Case, "Python loop")() == "Python loop"
    with pytest.raises(NotImplementedError, match="torch: not installed"):
        common._baseline(Case, "torch")


def missing_module():
    import refdeq.of_the_future  # noqa: F401


def missing_name():
    from refdeq.types import OfTheFuture  # noqa: F401


def missing_attribute():
    import refdeq

    return refdeq.OfTheFuture


def missing_member():
    import refdeq

    return refdeq.StopRule(rtol=1e-3).of_the_future


def missing_argument():
    import refdeq

    return refdeq.StopRule(of_the_future=1)


def missing_backend():
    raise BackendUnavailableError("of_the_future", "it is not here")


@pytest.mark.parametrize(
    "lack", [missing_module, missing_name, missing_attribute, missing_member, missing_argument, missing_backend]
)
def test_what_refdeq_lacks_is_skipped_by_name(lack):
    with pytest.raises(NotImplementedError, match=r"(?i)of_?the_?future"), skipping():
        lack()


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: math.of_the_future,
        lambda: ModuleType("refdeq_bench").of_the_future,
        lambda: Outcome().of_the_future,
        lambda: import_module("of_the_future"),
        lambda: import_module("refdeq_bench.of_the_future"),
        lambda: 1 / 0,
        lambda: len(1),
    ],
)
def test_mistakes_of_the_suites_are_not_skipped(mistake):
    with pytest.raises((AttributeError, ImportError, ArithmeticError, TypeError)), skipping():
        mistake()
