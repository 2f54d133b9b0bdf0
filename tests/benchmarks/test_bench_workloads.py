"""Workloads on small inputs: every contender is checked, says what it did, and a wrong one is not timed."""

from __future__ import annotations

import dataclasses
import doctest

import numpy as np
import pytest
import refdeq_bench
from refdeq_bench import baselines, checking, measuring, recording
from refdeq_bench.checking import Expected, WrongResultError, expected_convolution, expected_product
from refdeq_bench.measuring import Settings
from refdeq_bench.workloads import WORKLOADS
from refdeq_bench.workloads import kernels as shared

import refdeq as rd
from refdeq.errors import ArgumentError, BackendUnavailableError, UnsupportedError

BRIEF = Settings(rounds=1, sample_seconds=0.0, pause_seconds=0.0)
ON_BOTH = ("gemv", "gemm", "conv", "solvers", "gradients", "flow")
ALL_BUT_PROCESSES = sorted(set(WORKLOADS) - {"start", "judge"})


def prepared(name, backend="numba", order="strict", **point):
    return WORKLOADS[name].prepare(backend, order=order, threads=1, **{**WORKLOADS[name].quick, **point})


@pytest.mark.parametrize("name", ALL_BUT_PROCESSES)
def test_every_workload_runs_at_its_quick_point(name):
    case = prepared(name)
    measured = case.measure(BRIEF)
    assert set(measured.seconds) == {contender.name for contender in case.contenders}
    assert len(measured.seconds) == len(case.contenders)
    assert case.ours.role == "ours"
    assert WORKLOADS[name].quick.items() <= case.point.items()
    for contender in case.contenders:
        assert contender.role in ("ours", "baseline", "other")
        share = contender.quality.get("err/bound", 0.0)
        assert 0.0 <= share <= 1.0


@pytest.mark.parametrize("name", ON_BOTH)
def test_the_reference_can_be_measured_as_well(name):
    small = {"n": 32} if name == "gemv" else {"samples": 8} if name == "gemm" else {}
    assert prepared(name, "reference", **small).ours.name.startswith("reference") or name in ("solvers", "gradients")


def test_the_judge_is_timed_on_cases_that_pass():
    case = prepared("judge")
    assert case.ours.quality["status"] == f"passed {int(case.ours.quality['cases'])}"


def test_a_fresh_interpreter_is_timed():
    names = [contender.name for contender in prepared("start").contenders]
    assert names == ["python", "numpy and scipy", "import refdeq", "with numba"]


def test_backends_and_orders_that_are_not_there_are_refused_by_name():
    with pytest.raises(BackendUnavailableError, match="'cuda'"):
        prepared("gemm", "cuda")
    with pytest.raises(ArgumentError, match=r"strict \(reference\)"):
        prepared("gemm", "reference", "fast")
    with pytest.raises(UnsupportedError, match="'reference' has no fused plan"):
        prepared("fused", "reference")


def test_work_is_counted_as_it_is():
    gemm = prepared("gemm", samples=10, inputs=20, outputs=3, density=0.25)
    assert gemm.ours.quality["macs"] == 50 * 3
    assert gemm.ours.quality["saved"] == 0.75
    fused = prepared("fused", samples=64, hidden=32, density=0.25, evaluations=3)
    assert fused.ours.quality["macs"] == 64 * 32 // 4 * 32 * 3
    pixel = prepared("conv", pattern="rows", height=3, width=3, inputs=2, outputs=5, density=1 / 9)
    # one pixel of nine, 2 channels: 4, 6 or 9 of the 3 x 3 taps meet it
    assert pixel.ours.quality["macs"] in (2 * 5 * 4, 2 * 5 * 6, 2 * 5 * 9)


def test_a_dense_evaluation_hands_over_no_mask(monkeypatch):
    seen = []

    class Spy:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def accumulate_gemm(self, d, mask, *rest):
            seen.append(mask is None)
            self.inner.accumulate_gemm(d, mask, *rest)

    monkeypatch.setattr("refdeq_bench.workloads.products.kernels_of", lambda *how: Spy(shared.kernels_of(*how)))
    for kind, expected in (("none", True), ("random", False)):
        seen.clear()
        prepared("gemm", samples=11 if expected else 12, inputs=13, density=1.0, pattern=kind)
        assert seen == [expected]


@pytest.mark.parametrize("name", ["gemv", "gemm", "conv"])
@pytest.mark.parametrize("wrong", ["a term too few", "nothing added"])
def test_a_wrong_kernel_is_not_timed(monkeypatch, name, wrong):
    class Wrong:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def accumulate(self, method, d, mask, weight, attributes, active, a):
            if wrong == "nothing added":
                return
            d = d.copy()
            d.reshape(-1)[np.flatnonzero(d)[0]] = 0
            getattr(self.inner, method)(d, mask, weight, attributes, active, a)

        def accumulate_gemm(self, *arguments):
            self.accumulate("accumulate_gemm", *arguments)

        def accumulate_conv(self, *arguments):
            self.accumulate("accumulate_conv", *arguments)

    where = "convolutions" if name == "conv" else "products"
    monkeypatch.setattr(f"refdeq_bench.workloads.{where}.kernels_of", lambda *how: Wrong(shared.kernels_of(*how)))
    shape = {"gemv": {"n": 37}, "gemm": {"samples": 9, "inputs": 17}, "conv": {"height": 5, "width": 6, "inputs": 3}}[name]
    with pytest.raises(WrongResultError, match="numba strict: wrong result"):
        prepared(name, **shape)


def test_the_bound_is_that_of_its_terms():
    d, mask = np.array([[2.0, 0.0, 1.0]]), np.array([[True, False, True]])
    weight, start = np.array([[3.0, 5.0, -1.0]]), np.array([[-4.0]])
    expected = expected_product(d, mask, weight, start)
    assert expected.value.tolist() == [[1.0]]
    # two terms and the start: 3 (u + u), u = 2^-53, times |-4| + |6| + |-1|
    assert expected.bound.tolist() == [[3 * 2.0**-52 * 11]]
    image = expected_convolution(d[:, None, None], mask[:, None, None], weight.reshape(1, 1, 1, 3), np.zeros((1, 1, 1, 3)))
    assert image.value.reshape(-1).tolist() == [10.0, 5.0, 5.0]
    assert image.bound.reshape(-1).tolist() == [2.0**-52 * 2 * 10, 2.0**-52 * 3 * 7, 2.0**-52 * 2 * 5]


def test_what_is_not_a_number_is_wrong():
    with pytest.raises(WrongResultError):
        Expected(np.zeros(1), np.ones(1)).check("mine", np.array([np.nan]))


def test_baselines_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr(baselines, "torch_or_reason", lambda threads: (None, "not installed"))
    ones = np.ones((2, 3), dtype=np.float32)
    for paths, skipped in (
        baselines.products(ones, ones, 1),
        baselines.convolutions(ones[None, None], ones[:1, :1, None, None], 1),
    ):
        assert paths
        assert skipped["torch"] == "not installed"


def test_an_oscillating_cell_sends_the_same_at_every_evaluation():
    case = prepared("fused", samples=64, hidden=48, activation="Sin", density=0.1, evaluations=7)
    assert case.ours.quality["density"] == pytest.approx(0.1, abs=0.5 / (64 * 48))  # exactly the nearest count
    assert case.baselines[0].quality["evaluations"] == 7.0


def test_ablations_switch_one_thing_off_each():
    case = prepared("image", samples=48, ablations=True)
    by_name = {contender.name: contender for contender in case.contenders}
    assert set(by_name) >= {"without sparsity", "without freezing", "without fusion", "without SIMD"}
    ours = case.ours.quality
    assert by_name["without sparsity"].quality["saved"] == 0.0 < ours["saved"]
    assert by_name["without freezing"].quality["evaluations"] == 31.0 > ours["evaluations"]
    assert by_name["without SIMD"].quality == ours
    two = WORKLOADS["image"].prepare("numba", order="strict", threads=2, samples=48, ablations=True)
    assert "without threads" in {contender.name for contender in two.contenders}


def test_without_simd_means_the_variable_and_puts_it_back(monkeypatch):
    from refdeq_bench.workloads.image import _without_simd

    seen = []
    monkeypatch.setenv("REFDEQ_NUMBA_SIMD", "on")
    contender = prepared("gemv").ours
    import os

    probe = dataclasses.replace(contender, run=lambda: seen.append(os.environ["REFDEQ_NUMBA_SIMD"]))
    _without_simd(probe).run()
    assert seen == ["off"]
    assert os.environ["REFDEQ_NUMBA_SIMD"] == "on"


def test_a_solve_that_lies_about_its_residual_is_not_timed():
    from refdeq_bench.workloads.image import _work

    work = _work("numba", 32)
    z = rd.solve(work.model.cell, work.x, stop=rd.StopRule(rtol=1e-6, max_eval=31), backend="numba").z
    work.check("honest", z, np.zeros(32), 0.0)
    z = z.copy()
    z[3] = 0
    with pytest.raises(WrongResultError, match="liar: residual"):
        work.check("liar", z, np.zeros(32), 0.0)


@pytest.mark.parametrize(
    "module", [baselines, checking, measuring, recording, refdeq_bench.workloads], ids=lambda m: m.__name__
)
def test_examples_in_the_docstrings_run(module):
    assert doctest.testmod(module).failed == 0
