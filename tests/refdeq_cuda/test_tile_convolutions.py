"""Convolutions over lists of tiles in Numba-CUDA, simulated: bits of the reference, and of the kernels in CUDA C++ (K3)."""

import numpy as np
import pytest
from refdeq_cuda.simulated_device import SimulatedDevice
from refdeq_cupy import loader
from refdeq_cupy.simulated import ShimDevice
from refdeq_gpu.plans.conv import TileConv

from refdeq.ops.base import BATCH
from refdeq.ops.conv import OPS, accumulate_conv

PLAIN = {"pads": (0, 0, 0, 0), "strides": (1, 1), "dilations": (1, 1), "group": 1, "kernel_shape": None}
CASES = {  # data, weight, attributes, share that is sent
    "two tiles and two words": ((1, 34, 5, 18), (3, 34, 1, 3), {"pads": (0, 1, 0, 1)}, 0.05),
    "groups, strides, dilations": ((1, 64, 7, 9), (4, 32, 2, 2), {"group": 2, "strides": (2, 1), "dilations": (1, 3)}, 0.05),
    "everything": ((2, 3, 3, 5), (2, 3, 3, 3), {"pads": (1, 2, 0, 1)}, 1.0),
    "nothing": ((1, 3, 3, 5), (2, 3, 3, 3), {}, 0.0),
}


def arrays(name, dtype):
    """Attributes, weight, mask, differences (NaN where nothing is sent) and accumulators (some -0)."""
    data, kernel, own, share = CASES[name]
    rng, attributes = np.random.default_rng(5), PLAIN | own
    shape = OPS[0].infer([(BATCH, *data[1:]), kernel], attributes)
    weight, mask = rng.standard_normal(kernel).astype(dtype), rng.random(data) < share
    a = np.where(rng.random((data[0], *shape[1:])) < 0.2, -0.0, 1.0).astype(dtype)
    return attributes, weight, mask, np.where(mask, rng.standard_normal(data), np.nan).astype(dtype), a


def run(device, name, dtype, order, *, is_narrow=False, **options):
    """Accumulators after one accumulate, or None where it was not taken."""
    attributes, weight, mask, d, a = arrays(name, dtype)
    conv = TileConv(device, least_channels=1, **options)
    own = device.upload(a)
    rows, *inputs = (device.upload(x) for x in (np.arange(len(a), dtype=np.int32), d, mask, weight))
    is_taken = conv.accumulate(rows, len(a), *inputs, attributes, own, order, is_narrow=is_narrow)
    return device.download(own) if is_taken else None


@pytest.mark.parametrize(("name", "dtype"), list(zip(CASES, ("float64", "float32") * 2, strict=True)))
def test_strict_order_has_the_bits_of_the_reference(name, dtype):
    attributes, weight, mask, d, expected = arrays(name, dtype)
    accumulate_conv(d, mask, weight, attributes, expected)
    assert run(SimulatedDevice(), name, dtype, "strict").tobytes() == expected.tobytes()


@pytest.mark.skipif(loader.compiler() is None, reason="the other simulated device needs g++")
def test_both_languages_and_all_orders_of_threads_give_the_same_bits():
    name = "groups, strides, dilations"
    fast = run(ShimDevice(), name, "float32", "fast")
    assert run(SimulatedDevice(seed=7), name, "float32", "fast", blocks=1).tobytes() == fast.tobytes()
    assert run(SimulatedDevice(seed=1), name, "float32", "fast", everything=True).tobytes() == fast.tobytes()
    assert run(SimulatedDevice(), name, "float32", "strict").tobytes() != fast.tobytes()


def test_tensor_cores_are_those_of_the_other_language():
    """What is declared narrow is computed in full here."""
    narrow = run(SimulatedDevice(), "everything", "float32", "fast", is_narrow=True, precision="bfloat16x3")
    assert narrow.tobytes() == run(SimulatedDevice(), "everything", "float32", "fast").tobytes()


@pytest.mark.skipif(loader.compiler() is None, reason="the other simulated device needs g++")
def test_a_device_without_the_shared_memory_is_left_to_the_plain_kernel():
    device = ShimDevice()
    device.max_shared = 48 * 1024
    assert run(device, "everything", "float32", "strict") is None
