"""Gated Gemm nodes at op level (K4): counts choose the way, and no bit depends on it, in both orders and languages."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
from refdeq_cupy import loader
from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.kernels import GpuKernels
from refdeq_gpu.plans.crossovers import Cost, write
from refdeq_gpu.ways import GemmWays

import refdeq as rd
from refdeq.reference import ReferenceBackend
from refdeq.registry import BackendInfo

LANGUAGES = [
    pytest.param("cuda", marks=pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="needs numba-cuda")),
    pytest.param("cupy", marks=pytest.mark.skipif(loader.compiler() is None, reason="needs g++")),
]
CERTAIN = {"dense": {"axpy": Cost(2.0, 0.0)}, "axpy": {"axpy": Cost(0.0, 0.0)}}
"""Costs by which a way is taken whatever was sent."""


@pytest.fixture(autouse=True)
def _record(tmp_path, monkeypatch):
    monkeypatch.setenv("REFDEQ_GPU_CROSSOVERS", str(tmp_path / "crossovers.json"))


def device_of(language):
    if language == "cupy":
        from refdeq_cupy.simulated import ShimDevice

        return ShimDevice()
    from refdeq_cuda.simulated_device import SimulatedDevice

    return SimulatedDevice()


def charge(device, way):
    """Make `way` certain in every dtype."""
    write(device.describe()["device"], "a test", dict.fromkeys(("float32", "float64"), CERTAIN[way]))


# The choice -------------------------------------------------------------------------------------------------------------------


def mask_of(rows, columns):
    return DeviceArray(np.zeros(rows * columns, bool), (rows, columns), "bool")


@pytest.fixture
def ways():
    return GemmWays(SimpleNamespace(describe=lambda: {"device": "nobody measured it"}))


FLOAT = np.dtype("float32")


def test_dense_until_counts_say_otherwise(ways):
    mask, everyone = mask_of(4, 100), np.ones(4, bool)
    assert ways.choose(mask, everyone, FLOAT) == "dense"
    ways.remember(mask, everyone, np.array([30, 30, 30, 30]))
    assert ways.choose(mask, everyone, FLOAT) == "axpy"
    ways.remember(mask, everyone, np.array([31, 31, 31, 31]))
    assert ways.choose(mask, everyone, FLOAT) == "dense"  # 0.05 + 3.1 * 0.31 > 1
    assert ways.note() == "sums 67% dense, 33% axpy"


def test_counts_are_those_of_the_samples_that_are_added(ways):
    mask = mask_of(3, 100)
    ways.remember(mask, np.array([True, True, False]), np.array([0, 90, -7]))  # what was not counted is not looked at
    for sample, way in enumerate(("axpy", "dense", "dense")):
        assert ways.choose(mask, np.arange(3) == sample, FLOAT) == way


def test_counts_end_with_their_array_and_are_no_other_array_s(ways):
    mask, everyone = mask_of(2, 10), np.ones(2, bool)
    ways.remember(mask, everyone, np.zeros(2, np.int64))
    assert ways.choose(mask, everyone, FLOAT) == "axpy"
    assert ways.choose(mask_of(2, 10), everyone, FLOAT) == "dense"
    assert ways.choose(mask.reshape(2, 10), everyone, FLOAT) == "dense"
    del mask
    assert len(ways._sent) == 0


# Bits -------------------------------------------------------------------------------------------------------------------------


def added(device, order, dtype, sends, transposed):
    """Accumulators after a gated Gemm; unsent columns have NaN or Inf as weights, and one sample of -0 sends nothing."""
    rng = np.random.default_rng(4)
    inner, n, batch = 37, 34, 4
    weight, d, a = (rng.standard_normal(shape).astype(dtype) for shape in ((inner, n), (batch, inner), (batch, n)))
    mask = rng.random((batch, inner)) < sends
    mask[:, [3, 36]], mask[2], a[2] = False, False, -0.0
    weight[3], weight[36], d[:, 5], d[~mask] = np.nan, np.inf, -0.0, 0.0
    active = np.array([True, True, True, False])
    kernels = GpuKernels(device, order)
    there = [device.upload(array) for array in (d, mask, weight.T if transposed else weight, a)]
    kernels.count_sent(there[1], np.int64(n), active, np.zeros(batch, np.int64))
    kernels.accumulate_gemm(*there[:3], {"transB": int(transposed)}, active, there[3])
    return kernels.note(), device.download(there[3])


@pytest.mark.parametrize("order", ["strict", "fast"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_bit_depends_on_the_way(language, order):
    device = device_of(language)
    for dtype, sends in (("float32", 0.5), ("float64", 0.1)):
        found = {}
        for way in CERTAIN:
            charge(device, way)
            said, found[way] = added(device, order, dtype, sends, transposed=dtype == "float32")
            assert said == f"sums 100% {way}"
        assert np.isfinite(found["dense"]).all()
        assert np.signbit(found["dense"][2]).all()
        assert found["dense"].tobytes() == found["axpy"].tobytes()


class OpLevel(ReferenceBackend):
    """Op level on a device."""

    info = BackendInfo("op", "op level", ("strict", "fast"), ("float32", "float64"), "R4", "skip", "strict", fused=False)

    def __init__(self, device):
        self.device = device

    def kernels(self, *, order, threads):
        return GpuKernels(self.device, order)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_solve_says_what_was_chosen_and_has_the_bits_of_the_reference(language):
    rng, device = np.random.default_rng(5), device_of(language)
    cell = rd.models.rnn(0.1 * rng.standard_normal((12, 12)), rng.standard_normal((12, 2)), np.zeros(12))
    options = {"stop": rd.StopRule(rtol=1e-3, max_eval=12), "delta": rd.DeltaRule(threshold=1e-2), "executor": "op"}
    x = rng.standard_normal((3, 2))
    expected = rd.solve(cell, x, backend="reference", **options)
    found = rd.solve(cell, x, backend=OpLevel(device), **options)
    assert found.z.tobytes() == expected.z.tobytes()
    assert found.executor.startswith("op level (asked for); sums ")
    assert "% dense, " in found.executor
    assert found.executor.endswith("% axpy")
