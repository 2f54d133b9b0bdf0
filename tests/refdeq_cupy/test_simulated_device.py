"""The simulated device as a Device: memory, arguments, limits, mistakes of kernels that the host sees."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest
from refdeq_cupy import loader
from refdeq_cupy.simulated import ShimDevice
from refdeq_gpu.arrays import DeviceArray

from refdeq.errors import ArgumentError, BackendUnavailableError, DTypeError, LaunchError, OutOfDeviceMemoryError, ShapeError

FILL = r"""
extern "C" __global__ void fill(const int* rows, long long count, long long n, REAL value, REAL* out) {
    for (long long i = 0; i < count * n; i++) out[i BEYOND] = value;
}
extern "C" __global__ void clear_words(int count, int* out) { out[0] = count; }
"""


@pytest.fixture(scope="module")
def device():
    return ShimDevice()


def fill(device, *, dtype="float32", out_dtype="float32", grid=1, block=32, value=1.0, count=1, **options):
    rows, out = device.upload(np.zeros(1, dtype=np.int32)), device.empty((1, 6), out_dtype)
    device.launch("fill", grid, block, [rows, count, 6, value, out], dtype=dtype, **options)
    return device.download(out)


def test_memory(device, same_bits):
    values = np.arange(6.0).reshape(2, 3)
    array = device.upload(values.T)
    same_bits(device.download(array), values.T)
    device.write(values, array)
    same_bits(device.download(array), values.reshape(3, 2))
    assert np.isnan(device.download(device.empty((4,), "float32"))).all()
    assert device.download(device.empty((0, 3), "float64")).shape == (0, 3)
    with pytest.raises(ShapeError, match="6 elements of float64, got 6 of float32"):
        device.write(values.astype(np.float32), array)
    with pytest.raises(OutOfDeviceMemoryError, match="fewer samples"):
        device.empty((1 << 60,), "float64")


def test_arrays_of_other_libraries_are_taken_without_a_copy(device):
    class Foreign:
        def __init__(self, values):
            self._values = values

        def __dlpack__(self, **options):
            return self._values.__dlpack__(**options)

        def __dlpack_device__(self):
            return self._values.__dlpack_device__()

    values = np.arange(6.0).reshape(2, 3)
    for array in (device.adopt(values), device.adopt(Foreign(values))):
        assert array.shape == (2, 3)
        assert np.shares_memory(array.buffer, values)
        assert device.adopt(array) is array
    assert np.shares_memory(np.from_dlpack(device.adopt(values)), values)
    with pytest.raises(ShapeError, match="C-contiguous"):
        device.adopt(values.T)


def test_arguments_are_judged_by_the_table(device):
    assert (fill(device) == 1).all()
    with pytest.raises(DTypeError, match="fill: out: expected float32, got float64"):
        fill(device, out_dtype="float64")
    with pytest.raises(ArgumentError, match="fill: value: expected a number, got an array"):
        fill(device, value=device.empty((1,), "float32"))
    with pytest.raises(ArgumentError, match="fill: count: expected a whole number of int64"):
        fill(device, count=0.5)
    with pytest.raises(ArgumentError, match="fill_flags: value: expected a whole number of int32"):
        device.launch("fill_flags", 1, 32, [device.empty((1,), "int32"), 1, 1, 1 << 40, device.empty((1,), "bool")])
    with pytest.raises(ArgumentError, match="fill: rows: expected an array on the device, got ndarray"):
        device.launch("fill", 1, 32, [np.zeros(1, dtype=np.int32), 1, 1, 0.0, device.empty((1,), "float64")])
    with pytest.raises(ArgumentError, match="arguments: expected 5, got 0"):
        device.launch("fill", 1, 32, [])
    with pytest.raises(ArgumentError, match="dtype: expected float32 or float64, got float16"):
        fill(device, dtype="float16")
    with pytest.raises(ArgumentError, match="a kernel of the table"):
        device.launch("nothing", 1, 32, [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": 1025}, "1025 x 1 x 1 threads"),
        ({"block": (32, 0)}, "32 x 0 x 1 threads"),
        ({"grid": (1, 70000)}, "1 x 70000 x 1 blocks"),
        ({"shared": 240000}, "240000 bytes of dynamic shared memory; a block has at most 232448"),
        ({"grid": 100, "is_cooperative": True}, "100 cooperative blocks; 8 fit"),
    ],
)
def test_limits_of_a_launch(device, options, message):
    with pytest.raises(LaunchError, match=message):
        fill(device, **options)


def test_resident_blocks_follow_threads_and_memory(device):
    assert device.resident_blocks("fill", 32) == 8
    assert device.resident_blocks("fill", 1024) == 4
    assert device.resident_blocks("fill", 32, shared=100000) == 4
    assert ShimDevice(multiprocessors=1).resident_blocks("fill", 32, shared=200000) == 1


def test_the_order_of_threads_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("REFDEQ_SHIM_SEED", "7")
    assert ShimDevice().seed == 7
    assert ShimDevice(seed=3).seed == 3
    monkeypatch.setenv("REFDEQ_SHIM_SEED", "many")
    with pytest.raises(ArgumentError, match="REFDEQ_SHIM_SEED: expected a whole number, got many"):
        ShimDevice()


@pytest.mark.parametrize(
    ("beyond", "message"),
    [
        ("- 1", "fill: a write outside of an array of 24 bytes"),
        ("+ 1", "fill: a write outside of an array of 24 bytes"),
        ("* 3", r"kernel fill, .*thread \(0, 0, 0\) writes outside of all arrays: at byte 36 of out, which has 24"),
    ],
)
def test_writes_outside_of_an_array_are_found(tmp_path, beyond, message):
    (tmp_path / "moves.cu").write_text(FILL.replace("BEYOND", beyond), encoding="utf-8")
    with pytest.raises(LaunchError, match=message):
        fill(ShimDevice(tmp_path))


def copy(device, row):
    """Copy a row of 24 elements, of arrays that have row 0 and no other."""
    rows, x = device.upload(np.full(1, row, dtype=np.int32)), device.upload(np.arange(24.0))
    out = device.empty((24,), "float64")
    device.launch("copy", 1, 32, [rows, 1, 24, x, out])
    return device.download(out)


def test_reads_outside_of_an_array_end_the_launch_and_nothing_else(device):
    for _ in range(3):
        with pytest.raises(LaunchError) as caught:
            copy(device, 1)
        assert str(caught.value) == (
            "kernel copy, block (0, 0, 0): thread (0, 0, 0) reads outside of all arrays: at byte 192 of x, which has 192"
        )
        assert copy(device, 0).tolist() == list(range(24))


def test_seed_1_stops_at_what_lies_before_an_array():
    with pytest.raises(LaunchError, match=r"thread \(23, 0, 0\) reads outside of all arrays: at byte -8 of x, which has 192"):
        copy(ShimDevice(seed=1), -1)


def test_memory_of_arrays_is_used_again(device):
    first = device.empty((300,), "float32")
    address = first.buffer.ctypes.data
    part = first.buffer[10:]
    del first
    assert device.empty((300,), "float32").buffer.ctypes.data != address
    del part
    assert device.empty((300,), "float32").buffer.ctypes.data == address


def test_faults_of_others_are_left_to_them():
    """A launch that is stopped, one that is not, then a fault of the process itself, which its own handler must report."""
    code = """
import faulthandler
faulthandler.enable()
import numpy as np
from refdeq.errors import LaunchError
from refdeq_cupy.simulated import ShimDevice
device = ShimDevice()
for row in (1, 0):
    x, out = device.upload(np.arange(24.0)), device.empty((24,), "float64")
    try:
        device.launch("copy", 1, 32, [device.upload(np.full(1, row, dtype=np.int32)), 1, 24, x, out])
        print("right", device.download(out).sum(), flush=True)
    except LaunchError:
        print("stopped", flush=True)
faulthandler._sigsegv()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["stopped", "right 276.0"]
    assert done.returncode == -signal.SIGSEGV
    assert done.stderr.startswith("Fatal Python error: Segmentation fault")


def test_sources_must_take_what_the_table_says(tmp_path):
    (tmp_path / "moves.cu").write_text(FILL.replace("BEYOND", ""), encoding="utf-8")
    device = ShimDevice(tmp_path)
    with pytest.raises(LaunchError, match=r"clear_words: the source takes \(i32, i32\*\), the table says \(i64, i32\*\)"):
        device.launch("clear_words", 1, 32, [1, device.empty((1,), "int32")], dtype="float32")
    with pytest.raises(LaunchError, match=r"copy: moves.cu does not define copy"):
        device.launch(
            "copy", 1, 32, [*[device.empty((1,), "int32"), 1, 1], *[device.empty((1,), "float32")] * 2], dtype="float32"
        )


def test_without_a_compiler_the_error_says_what_is_missing(monkeypatch, tmp_path):
    (tmp_path / "moves.cu").write_text(FILL.replace("BEYOND", " "), encoding="utf-8")
    monkeypatch.setattr(loader, "compiler", lambda: None)
    with pytest.raises(BackendUnavailableError, match=r"needs Linux and the compiler g\+\+ \(install g\+\+\)"):
        fill(ShimDevice(tmp_path))


def test_facts(device):
    facts = device.describe()
    assert facts["device"].startswith("simulated")
    assert "g++" in facts["compiler"]
    assert isinstance(device.upload(np.zeros(2)), DeviceArray)


def test_other_processors_switch_by_ucontext(tmp_path):
    """What is used where there is no switch of our own, in a process of its own, because the scheduler is loaded once."""
    code = """
import numpy as np
from refdeq.errors import LaunchError
from refdeq_cupy import loader
loader._OPTIONS += ("-O0", "-DSHIM_UCONTEXT")
from refdeq_cupy.simulated import ShimDevice
device, x = ShimDevice(seed=4), np.arange(70.0 * 45).reshape(70, 45)
out = device.empty((45, 70), "float64")
for height in (700, 70):  # one that leaves the arrays first
    try:
        device.launch("transpose", (2, height // 32 + 1), (32, 8), [height, 45, device.upload(x), out])
        assert height == 70
    except LaunchError as error:
        assert height == 700 and "outside of all arrays" in str(error)
assert (device.download(out) == x.T).all()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
