"""What is asked of the real device over the stand-in for CuPy, in a process of its own; prints what did not hold, by name."""

from __future__ import annotations

import json
import sys
import traceback
import types
import warnings
from pathlib import Path

import arranged  # noqa: F401  # first: it puts the stand-in in place of CuPy
import cupy
import numpy as np
from refdeq_cupy.device import CupyDevice
from refdeq_cupy.simulated import ShimDevice
from refdeq_gpu.plans.conv import TileConv

import refdeq as rd
from refdeq.errors import LaunchError, OutOfDeviceMemoryError, ShapeError
from refdeq.registry import load_backend

sys.path.insert(0, str(Path(__file__).parents[2] / "refdeq_gpu"))
from row_solving import FEEDBACK, solved

RNG = np.random.default_rng(0)
STOP = rd.StopRule(max_eval=8)
RULE = rd.DeltaRule(threshold=1e-2)


def _recurrent(n, dtype="float32"):
    weight = RNG.standard_normal((n, n)) * 0.8 / np.sqrt(n)
    return rd.models.rnn(*(part.astype(dtype) for part in (weight, RNG.standard_normal((n, 2)), RNG.standard_normal(n))))


def _rows(count, dtype="float32"):
    return RNG.standard_normal((count, 2)).astype(dtype)


def _same(*solutions):
    """Equal bits of states, residuals and counts."""
    return len({b"".join(np.asarray(part).tobytes() for part in (one.z, one.residual, one.n_eval)) for one in solutions}) == 1


def _raises(kind, call, words):
    try:
        call()
    except kind as error:
        return words in str(error)
    return False


def whole_solves_have_the_bits_of_the_reference():
    for dtype, count in (("float32", 1), ("float64", 3)):
        cell, x = _recurrent(24, dtype), _rows(count, dtype)
        for rule in (None, RULE):
            first = rd.solve(cell, x, delta=rule, stop=STOP)
            others = [rd.solve(cell, x, delta=rule, stop=STOP, backend="cupy", executor=name) for name in ("op", "fused")]
            assert "one launch" in others[1].executor
            assert _same(first, *others)


def solves_of_rows_have_the_bits_of_the_reference():
    cell, x = _recurrent(24), _rows(9)
    assert _same(rd.solve(cell, x, delta=RULE, stop=STOP), solved(CupyDevice(), cell, x, delta=RULE, stop=STOP))


def tiles_and_products_have_the_bits_of_the_simulated_device():
    cell, x = _recurrent(24), _rows(9)
    options = {"delta": rd.DeltaRule(threshold=1e-2, **FEEDBACK), "stop": STOP, "order": "fast"}
    pairs = {}
    for device in (CupyDevice(), ShimDevice()):
        for precision, plan in (("bfloat16x3", {}), ("float32", {"by_library": True})):
            found = solved(device, cell, x, precision, plan, **options)
            pairs.setdefault(precision, []).append(found)
    assert all(_same(*pair) for pair in pairs.values())


def convolutions_have_the_bits_of_the_simulated_device():
    x = RNG.standard_normal((2, 32, 3, 17)).astype(np.float32)
    x = (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    mask, weight = RNG.random(x.shape) < 0.3, RNG.standard_normal((16, 32, 1, 5)).astype(np.float32)
    attributes = {"strides": None, "pads": (0, 2, 0, 2), "dilations": None, "group": 1, "kernel_shape": None}
    for precision, order in (("float32", "strict"), ("bfloat16x3", "fast")):
        found = set()
        for device in (CupyDevice(), ShimDevice()):
            d, sent, kernel, rows = map(device.upload, (x, mask, weight, np.arange(2, dtype=np.int32)))
            a = device.upload(np.zeros((2, 16, 3, 17), dtype=np.float32))
            tiles = TileConv(device, precision=precision)
            assert tiles.accumulate(rows, 2, d, sent, kernel, attributes, a, order, is_narrow=precision != "float32")
            found.add((device.download(a).tobytes(), tiles.listed_share()))
        assert len(found) == 1


def solves_run_on_the_stream_that_is_current():
    cell, x = _recurrent(24), _rows(3)
    first = rd.solve(cell, x, delta=RULE, stop=STOP)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        queued = load_backend("cupy").device.upload(x)
        assert not stream.done
        assert queued.__cuda_array_interface__["stream"] == stream.ptr
        again = rd.solve(cell, x, delta=RULE, stop=STOP, backend="cupy", executor="fused")
    assert cupy.cuda.Stream.null.done
    assert _same(first, again)


def copies_survive_a_host_that_goes_on():
    device, values = CupyDevice(), RNG.standard_normal(1000)
    arrays = []
    for i in range(20):
        host = values + i
        arrays.append(device.upload(host))
        host[:] = np.nan  # ours again as soon as the call has returned
    under_way = len(device._under_way)
    assert all((device.download(array) == values + i).all() for i, array in enumerate(arrays))
    assert (device.download(device.upload(np.array([True, False]))) == [True, False]).all()
    assert device.download(device.upload(np.zeros((0, 3)))).shape == (0, 3)
    device.upload(values)
    assert (under_way, len(device._under_way)) == (20, 1)  # pinned memory is kept as long as it is read, and no longer


def arrays_go_in_and_out_without_a_copy():
    device = CupyDevice()
    own = device.upload(np.arange(6.0).reshape(2, 3))
    there = cupy.asarray(own)
    dlpack = cupy.from_dlpack(own)
    assert there.data.ptr == dlpack.data.ptr == own.buffer.data.ptr
    assert (there.get() == dlpack.get()).all()
    foreign = types.SimpleNamespace(__dlpack__=there.__dlpack__, __dlpack_device__=there.__dlpack_device__)
    for array in (there, foreign):
        adopted = device.adopt(array)
        assert (adopted.shape, adopted.buffer.data.ptr) == ((2, 3), there.data.ptr)
    flags = device.adopt(cupy.asarray(np.array([True, False])))
    assert device.download(flags).tolist() == [True, False]
    host = np.arange(3.0)
    host.flags.writeable = False
    assert device.download(device.adopt(host)).tolist() == [0.0, 1.0, 2.0]
    turned = types.SimpleNamespace(__cuda_array_interface__=dict(there.__cuda_array_interface__, shape=(3, 2), strides=(8, 24)))
    assert _raises(ShapeError, lambda: device.adopt(turned), "C-contiguous")


def too_much_is_refused():
    device, pool = CupyDevice(), cupy.get_default_memory_pool()
    pool.set_limit(size=pool.total_bytes() + 4096)
    try:
        assert _raises(OutOfDeviceMemoryError, lambda: device.empty((1 << 20,), "float64"), "1048576 elements of float64")
    finally:
        pool.set_limit(size=0)
    words = device.empty((6,), "int32")
    launch = {"dtype": "float32", "is_cooperative": True}
    fitting = device.resident_blocks("clear_words", 1024, dtype="float32", shared=100_000)
    device.launch("clear_words", fitting, 1024, [6, words], shared=100_000, **launch)
    for grid in (fitting + 1, (fitting, 2)):
        refused = lambda grid=grid: device.launch("clear_words", grid, 1024, [6, words], shared=100_000, **launch)  # noqa: E731
        assert _raises(LaunchError, refused, f"{fitting} fit on the device at once")
    assert (device.download(words) == 0).all()


def the_stand_in_is_late_and_takes_back():
    """Without these the other probes would see nothing."""
    device = CupyDevice()
    array = device.upload(np.zeros(4))
    assert np.isfinite(array.buffer.get()).all()
    assert array.buffer.get(blocking=False)[0] != 0
    device.upload(np.ones(4))
    device._under_way.clear()
    lost = device.upload(np.ones(4))
    device._under_way.clear()
    assert device.download(lost)[0] != 1


def a_fault_of_a_kernel_is_named():
    """Last: nothing runs in this process after that."""
    device, broken = CupyDevice(), cupy.cuda.get_current_stream()
    array = device.upload(np.zeros(4))
    from cupy._streams import enqueue

    enqueue(broken, lambda: "an illegal memory access was encountered")
    for _ in range(2):
        assert _raises(LaunchError, lambda: device.download(array), "cudaErrorIllegalAddress")


PROBES = [probe for name, probe in list(globals().items()) if getattr(probe, "__module__", "") == __name__ and name[0] != "_"]


def main():
    warnings.simplefilter("error")
    found = {}
    for probe in PROBES:
        try:
            probe()
            found[probe.__name__] = ""
        except Exception:
            found[probe.__name__] = traceback.format_exc()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
