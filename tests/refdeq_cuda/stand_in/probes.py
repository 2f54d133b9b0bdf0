"""What is asked of the real device over the stand-in for the driver, in a process of its own; prints what did not hold."""

from __future__ import annotations

import json
import sys
import traceback
import types
from pathlib import Path

import driver as stand_in
import numpy as np
from refdeq_cuda.device import CudaDevice

import refdeq as rd
from refdeq.errors import ArgumentError, OutOfDeviceMemoryError
from refdeq.registry import load_backend

RNG = np.random.default_rng(0)
STOP, RULE = rd.StopRule(max_eval=4), rd.DeltaRule(threshold=1e-2)


def _solves(count, executor, delta=RULE):
    """Equal bits of the backend and the reference."""
    n = 8
    weight = RNG.standard_normal((n, n)) * 0.8 / np.sqrt(n)
    cell = rd.models.rnn(*(part.astype("f4") for part in (weight, RNG.standard_normal((n, 2)), RNG.standard_normal(n))))
    x = RNG.standard_normal((count, 2)).astype("f4")
    pair = [
        rd.solve(cell, x, delta=delta, stop=STOP, backend=backend, executor=name)
        for backend, name in (("cuda", executor), ("reference", "op"))
    ]
    assert len({b"".join(np.asarray(part).tobytes() for part in (one.z, one.residual, one.n_eval)) for one in pair}) == 1
    return pair[0]


def _raises(kind, call, words):
    try:
        call()
    except kind as error:
        return words in str(error)
    return False


def operators_have_the_bits_of_the_reference():
    _solves(3, "op")


def cooperative_solves_have_the_bits_of_the_reference():
    assert "one launch" in _solves(1, "fused").executor


def copies_survive_a_host_that_goes_on():
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from benchmarks.gpu import replay

    device, values = CudaDevice(), RNG.standard_normal(100)
    arrays = []
    for i in range(5):
        host = values + i
        arrays.append(device.upload(host))
        host[:] = np.nan  # ours again as soon as the call has returned
    assert all((device.download(array) == values + i).all() for i, array in enumerate(arrays))
    assert (device.download(device.upload(np.array([True, False]))) == [True, False]).all()
    assert device.download(device.upload(np.zeros((0, 3)))).shape == (0, 3)
    replay._copy(device, arrays[0], arrays[1])
    assert (device.download(arrays[1]) == values).all()


def arrays_go_in_and_out_without_a_copy():
    device = CudaDevice()
    for values in (np.arange(6.0).reshape(2, 3), np.zeros((2, 0)), np.array(3.0), np.array([True, False])):
        own = device.upload(values)
        adopted = device.adopt(types.SimpleNamespace(__cuda_array_interface__=own.__cuda_array_interface__))
        assert adopted.shape == values.shape
        assert device.download(adopted).tolist() == values.tolist()
    asked = []

    class Foreign:
        """Memory of the device that speaks DLPack only."""

        def __init__(self, values, kind):
            self.own, self.kind = device.upload(values), kind
            size = self.own.size
            self.host = stand_in._bytes(self.own.__cuda_array_interface__["data"][0], 8 * size).view("f8")

        def __dlpack_device__(self):
            return self.kind, 0

        def __dlpack__(self, *, stream=None, **options):
            asked.append(stream)
            return self.host.__dlpack__(**options)

    adopted = device.adopt(Foreign(np.arange(3.0), 2))
    assert device.download(adopted).tolist() == [0.0, 1.0, 2.0]
    assert asked == [device._handle]  # else nothing would wait for what its owner has under way
    assert _raises(ArgumentError, lambda: device.adopt(Foreign(np.arange(3.0), 1)), "one in host memory")


def too_much_is_refused():
    device = CudaDevice()
    assert _raises(OutOfDeviceMemoryError, lambda: device.empty((1 << 30,), "float64"), "fewer samples at once")


def facts_are_told():
    assert load_backend("cuda").describe()["driver"] == "13.0"


def the_stand_in_is_late():
    """Without this the other probes would see nothing."""
    device = CudaDevice()
    array = device.upload(np.zeros(4))
    memory = stand_in._bytes(array.__cuda_array_interface__["data"][0], 32)
    assert (memory == 0xFF).all()
    device.synchronize()
    assert (memory == 0).all()


PROBES = [probe for name, probe in list(globals().items()) if getattr(probe, "__module__", "") == __name__ and name[0] != "_"]


def main():
    stand_in.install()
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
