"""The device: what it refuses, what it shares with other libraries, and how the backend presents itself."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from numba import cuda
from numba.cuda import dispatcher
from numba.cuda.cudadrv import driver
from refdeq_cuda.device import CudaDevice, open_device, translated
from refdeq_cuda.offer import offer
from refdeq_cuda.simulated_device import SimulatedDevice

from refdeq.errors import ArgumentError, BackendUnavailableError, LaunchError, OutOfDeviceMemoryError, ShapeError

DEVICE = SimulatedDevice()


def there(values, dtype="float64"):
    return DEVICE.upload(np.asarray(values, dtype=dtype))


def launch_neg(rows, count, n, x, out, **options):
    DEVICE.launch("neg", 1, 32, [rows, count, n, x, out], **options)


def test_new_memory_is_poisoned_and_copies_are_copies():
    assert np.isnan(DEVICE.download(DEVICE.empty((2, 3), "float32"))).all()
    assert DEVICE.download(DEVICE.empty((2,), "int64")).min() > 2**60
    host = np.arange(6.0).reshape(2, 3)
    array = DEVICE.upload(host)
    host[:] = 0
    assert DEVICE.download(array).tolist() == [[0, 1, 2], [3, 4, 5]]
    DEVICE.write(np.array([True, False]), flags := DEVICE.empty((2,), "bool"))
    assert DEVICE.download(flags).tolist() == [True, False]
    with pytest.raises(ShapeError, match="3 elements of float64"):
        DEVICE.write(np.zeros(2), there([1, 2, 3]))


REFUSED = [
    (lambda: launch_neg(there([0], "int32"), 1, 1, there([1], "float32"), there([1])), "neg: x: expected elements of float64"),
    (lambda: launch_neg(there([0], "int64"), 1, 1, there([1]), there([1])), "neg: rows: expected elements of int32"),
    (lambda: launch_neg(there([0], "int32"), 1, 1, np.zeros(1), there([1])), "an array on the device"),
    (lambda: DEVICE.launch("neg", 1, 32, [1, 2]), "neg: arguments: expected rows count n x out, got 2"),
    (lambda: DEVICE.launch("transpose", 1, 32, [2**31, 1, there([1]), there([1])]), "fits in int32"),
    (lambda: DEVICE.launch("no_such", 1, 32, []), "a name of the table"),
    (lambda: DEVICE.adopt(np.zeros((3, 4)).T), "a C-contiguous array"),
    (lambda: DEVICE.adopt([1.0]), "__dlpack__"),
]


@pytest.mark.parametrize(("call", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_wrong_arguments_are_named(call, words):
    with pytest.raises(ArgumentError) as raised:
        call()
    assert words in str(raised.value)


def test_more_blocks_than_fit_at_once_are_refused():
    assert SimulatedDevice(multiprocessors=3).resident_blocks("neg", 32) == 3
    with pytest.raises(LaunchError, match="5 blocks cannot be resident at once"):
        DEVICE.launch("neg", 5, 32, [there([0], "int32"), 1, 1, there([1]), there([1])], is_cooperative=True)


def test_arrays_of_other_libraries_are_shared():
    class Foreign:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    host = np.arange(6.0).reshape(2, 3)
    for array in (host, Foreign(host)):
        adopted = DEVICE.adopt(array)
        assert np.shares_memory(adopted.buffer, host)
        assert adopted.shape == (2, 3)
    assert DEVICE.adopt(adopted) is adopted
    assert np.shares_memory(np.from_dlpack(adopted), host)


class DriverError(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (DriverError(2, "memory"), OutOfDeviceMemoryError, "reserving 8 bytes.*fewer samples"),
        (RuntimeError("CUDA_ERROR_OUT_OF_MEMORY"), OutOfDeviceMemoryError, "fewer samples"),
        (DriverError(701, "too many resources"), LaunchError, "reserving 8 bytes: DriverError: too many resources"),
        (ImportError("no driver"), BackendUnavailableError, "no driver.*NUMBA_ENABLE_CUDASIM=1"),
    ],
)
def test_errors_of_the_driver_are_errors_of_the_project(error, expected, words):
    with pytest.raises(expected, match=words):
        raise translated(error, "reserving 8 bytes")


@pytest.mark.skipif(cuda.is_available(), reason="there is a device")
def test_without_a_device_it_says_so():
    with pytest.raises(BackendUnavailableError, match="NUMBA_ENABLE_CUDASIM=1"):
        CudaDevice()
    with pytest.raises(BackendUnavailableError, match="NUMBA_ENABLE_CUDASIM=1"):
        open_device()
    reason, hint = offer().unavailable()
    assert "no CUDA device" in reason
    assert "NUMBA_ENABLE_CUDASIM=1" in hint


def test_what_is_used_of_numba_cuda_is_there():
    """Names without documentation: a new version of numba-cuda may move them, and then this says which."""

    @cuda.jit(launch_bounds=(32, 1))
    def kernel():
        pass

    twin = type(kernel)(kernel.py_func, dict(kernel.targetoptions))
    assert twin.py_func is kernel.py_func
    assert twin.targetoptions["launch_bounds"] == (32, 1)
    assert callable(kernel.compile)
    compiled = dispatcher._Kernel
    assert (
        "self.cooperative" in compiled.__init__.__wrapped__.__code__.co_names
        or "cooperative" in compiled.__init__.__wrapped__.__code__.co_names
    )
    assert {"library", "max_cooperative_grid_blocks"} <= set(dir(compiled))
    assert callable(dispatcher.get_current_device)
    assert "handle" in driver.CudaPythonFunction.__slots__


PROBE = """
import json, sys
import refdeq_cuda
before = "numba" in sys.modules
import numpy as np, refdeq as rd
backend = rd.registry.load_backend("cuda")
rng = np.random.default_rng(0)
w = rng.standard_normal((12, 12))
w *= 0.8 / np.linalg.norm(w, 2)
cell = rd.models.rnn(w, rng.standard_normal((12, 3)), rng.standard_normal(12))
x = rng.standard_normal((2, 3))
rule, stop = rd.DeltaRule(threshold=1e-2), rd.StopRule(max_eval=5)
run = lambda name: rd.solve(cell, x, delta=rule, stop=stop, backend=name, executor="op")
mine, theirs = run("cuda"), run("reference")
print(json.dumps({"imported": before, "summary": backend.info.summary, "device": backend.describe()["device"],
                  "same": bool((np.asarray(mine.z).view("u8") == np.asarray(theirs.z).view("u8")).all())}))
"""


def test_the_environment_asks_for_the_simulated_backend():
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["imported"] is False
    assert "simulated" in found["summary"]
    assert "simulated" in found["device"]
    assert found["same"] is True


class Compiled:
    cooperative = False

    def __init__(self, types):
        self.types = types

    def max_cooperative_grid_blocks(self, block, shared):
        return block[0] * 1000 + shared


class Dispatcher:
    """Stands for a decorated kernel: remembers how it was compiled and launched."""

    def __init__(self, py_func="function", targetoptions=()):
        self.py_func, self.targetoptions, self.compiled, self.launched = py_func, dict(targetoptions), [], []

    def compile(self, types):
        self.compiled.append(Compiled(types))
        return self.compiled[-1]

    def __getitem__(self, configuration):
        return lambda *values: self.launched.append((configuration, values))


@pytest.fixture
def stand_in(monkeypatch):
    """A device whose driver is not there, and the stand-in of the kernel ``neg``."""
    kernel = Dispatcher()
    monkeypatch.setattr("refdeq_cuda.device.kernel_function", lambda name: kernel)
    device = object.__new__(CudaDevice)
    device._stream, device.max_shared, device._kernels, device._shared = "stream", 100_000, {}, {}
    device._configured, device._twins = {}, {}
    return device, kernel


def test_a_launch_compiles_once_and_converts_as_the_table_says(stand_in):
    device, kernel = stand_in
    x = there([1], "float32")
    for _ in range(2):
        device.launch("leaky_relu", 3, 64, [there([0], "int32"), 1, 1, x, 0.25, x], dtype="float32")
    ((configuration, values), again) = kernel.launched
    assert len(kernel.compiled) == 1
    assert [str(kind) for kind in kernel.compiled[0].types[:3]] == ["array(int32, 1d, C)", "int64", "int64"]
    assert configuration == again[0] == (3, 64, "stream", 0)
    assert [type(value) for value in values[1:5]] == [np.int64, np.int64, np.ndarray, np.float32]
    assert not kernel.compiled[0].cooperative


def test_cooperative_launches_have_a_kernel_of_their_own(stand_in):
    device, kernel = stand_in
    x = there([1])
    assert device.resident_blocks("neg", 64) == 64_000
    device.launch("neg", 3, 64, [there([0], "int32"), 1, 1, x, x], is_cooperative=True)
    assert kernel.launched == kernel.compiled == []
    (twin,) = device._twins.values()
    assert [compiled.cooperative for compiled in twin.compiled] == [True]
    assert len(twin.launched) == 1


def test_much_shared_memory_is_asked_for_once(stand_in, monkeypatch):
    device, _ = stand_in
    asked = []
    monkeypatch.setattr(device, "_allow_shared", lambda compiled, name, shared: asked.append(shared))
    for shared in (1000, 48 * 1024, 60_000, 50_000, 70_000):
        device.launch("neg", 1, 32, [there([0], "int32"), 1, 1, there([1]), there([1])], shared=shared)
    assert asked == [60_000, 70_000]
    monkeypatch.undo()
    with pytest.raises(LaunchError, match="100001 bytes of dynamic shared memory, the device has 100000"):
        device._allow_shared(None, "neg", 100_001)
