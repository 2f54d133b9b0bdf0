"""What of the real device can be judged without one: options, errors, the calls it makes of a stand-in for CuPy."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from refdeq_cupy import compilation, device
from refdeq_cupy.offer import CupyBackend

from refdeq.errors import BackendUnavailableError, LaunchError, OutOfDeviceMemoryError, ShapeError


class CUDARuntimeError(RuntimeError):
    pass


class Array(np.ndarray):
    """Host memory that behaves as an array of CuPy."""

    device = types.SimpleNamespace(id=0)

    def set(self, values, stream=None):
        STREAM.calls.append("copy")
        self[...] = values

    def get(self):
        return np.array(self)


class Stream:
    ptr = 0

    def __init__(self):
        self.calls = []

    def record(self):
        return types.SimpleNamespace(done=False)

    def synchronize(self):
        self.calls.append("wait")


STREAM = Stream()


class Function:
    kernel = types.SimpleNamespace(ptr=77)

    def __init__(self):
        self.max_dynamic_shared_size_bytes = 49152
        self.launches = []

    def __call__(self, grid, block, arguments, *, shared_mem):
        self.launches.append((grid, block, arguments, shared_mem))


MADE = []


class Module:
    def __init__(self, *, path, enable_cooperative_groups):
        self.path, self.is_cooperative, self.functions = path, enable_cooperative_groups, {}
        MADE.append(self)

    def get_function(self, name):
        return self.functions.setdefault(name, Function())


def stand_in(count=1, capability="90", error=None, driver=13000):
    """A module that looks like CuPy."""

    def get_device_count():
        if error is not None:
            raise CUDARuntimeError(error)
        return count

    def make_device():
        return types.SimpleNamespace(id=0, compute_capability=capability)

    runtime = types.SimpleNamespace(
        getDeviceCount=get_device_count,
        cudaDevAttrMaxSharedMemoryPerBlockOptin=97,
        cudaDevAttrMultiProcessorCount=16,
        deviceGetAttribute=lambda number, _: {97: 232448, 16: 132}[number],
        getDeviceProperties=lambda _: {"name": b"NVIDIA H200"},
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: 13000,
    )
    cuda = types.SimpleNamespace(
        runtime=runtime,
        Device=make_device,
        get_current_stream=lambda: STREAM,
        alloc_pinned_memory=bytearray,
        driver=types.SimpleNamespace(occupancyMaxActiveBlocksPerMultiprocessor=lambda pointer, threads, shared: 2),
    )
    fake = types.ModuleType("cupy")
    fake.cuda, fake.RawModule, fake.__version__ = cuda, Module, "14"
    fake.empty = lambda size, dtype: np.empty(size, dtype=dtype).view(Array)
    fake.asarray = lambda array: np.asarray(array.values).view(Array)
    fake.from_dlpack = lambda array: np.from_dlpack(array.values).view(Array)
    return fake


@pytest.fixture
def real(monkeypatch, tmp_path):
    """A CupyDevice over the stand-in; binaries are empty files."""
    monkeypatch.setitem(sys.modules, "cupy", stand_in())
    monkeypatch.setattr(device, "nvrtc_version", lambda: "13.0")
    monkeypatch.setattr(device, "binary", lambda folder, module, real, arch: tmp_path / f"{module}-{real}-{arch}")
    MADE.clear()
    return device.CupyDevice()


def test_options_contract_and_flush_nothing():
    words = compilation.options("double", "sm_80")
    assert {"--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true", "-DREAL=double"} <= set(words)
    assert not [word for word in words if "fast" in word]


@pytest.mark.parametrize(
    ("fake", "reason", "hint"),
    [
        (stand_in(error="cudaErrorInsufficientDriver: CUDA driver version is insufficient"), "older than", "newer driver"),
        (stand_in(error="cudaErrorNoDevice: no CUDA-capable device is detected"), "no CUDA device", "REFDEQ_CUPY_SHIM=1"),
        (stand_in(error="cudaErrorUnknown: hm"), "CUDA does not start: cudaErrorUnknown: hm", "check the installation"),
        (stand_in(count=0), "no CUDA device", "NVIDIA GPU"),
        (stand_in(driver=12080), "the driver is for CUDA 12, NVRTC makes code for CUDA 13", "newer driver"),
        (stand_in(capability="75"), "compute capability 7.5, 8.0 is needed", "newer GPU"),
    ],
)
def test_why_no_device_can_be_used(monkeypatch, fake, reason, hint):
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(device, "nvrtc_version", lambda: "13.0")
    monkeypatch.delenv("REFDEQ_CUPY_SHIM", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    found = CupyBackend().unavailable()
    assert reason in found[0]
    assert hint in found[1]
    with pytest.raises(BackendUnavailableError, match="backend 'cupy' cannot run"):
        device.CupyDevice()


def test_without_the_package_the_way_out_is_named(monkeypatch):
    monkeypatch.delenv("REFDEQ_CUPY_SHIM", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "not installed" in CupyBackend().unavailable()[0]


def test_memory_of_the_real_device(real, same_bits):
    values = np.arange(6.0).reshape(2, 3)
    array = real.upload(values)
    same_bits(real.download(array), values)
    assert array.stream == 1  # the default stream, as the CUDA array interface names it
    foreign = types.SimpleNamespace(values=values, __cuda_array_interface__={})
    assert real.adopt(foreign).shape == (2, 3)
    with pytest.raises(ShapeError, match="C-contiguous"):
        real.adopt(types.SimpleNamespace(values=values.T, __cuda_array_interface__={}))
    same_bits(real.download(real.adopt(values)), values)  # host memory is copied
    real.synchronize()
    assert STREAM.calls[-1] == "wait"


def test_launches_of_the_real_device(real):
    out = real.empty((6,), "int32")
    real.launch("clear_words", 3, (32, 2), [6, out], dtype="float32", shared=100000)
    real.launch("clear_words", 1, 32, [6, out], dtype="float32", is_cooperative=True)
    plain, cooperative = MADE
    assert plain.path.endswith("moves-float-sm_90")
    assert not plain.is_cooperative
    assert cooperative.is_cooperative
    function = plain.functions["clear_words"]
    assert function.max_dynamic_shared_size_bytes == 100000
    grid, block, arguments, shared = function.launches[0]
    assert (grid, block, shared) == ((3, 1, 1), (32, 2, 1), 100000)
    assert arguments[0].dtype == np.int64
    assert arguments[1] is out.buffer
    assert real.resident_blocks("clear_words", 32) == 264


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError("Out of memory allocating 8 bytes"), OutOfDeviceMemoryError),
        (CUDARuntimeError("cudaErrorMemoryAllocation: out of memory"), OutOfDeviceMemoryError),
        (CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered"), LaunchError),
        (type("CUDADriverError", (RuntimeError,), {})("CUDA_ERROR_INVALID_VALUE: invalid argument"), LaunchError),
        (RuntimeError("something else"), RuntimeError),
    ],
)
def test_errors_of_cupy_are_translated(error, expected):
    with pytest.raises(expected) as caught, device.translated("a copy"):
        raise error
    assert type(caught.value) is expected
    if expected is not RuntimeError:
        assert str(caught.value).startswith("a copy: ")


def test_facts(real):
    assert real.describe()["device"] == "NVIDIA H200"
