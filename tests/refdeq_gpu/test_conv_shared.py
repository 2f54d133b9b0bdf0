"""Convolutions that read one gate pack and list what it sent once (K3): the bits of each for itself, with fewer launches."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from refdeq_cupy import loader
from refdeq_cupy.simulated import ShimDevice
from refdeq_gpu.kernels import GpuKernels
from refdeq_gpu.plans.conv import TileConv
from refdeq_gpu.watching import Watch

import refdeq as rd
from refdeq.kernels import GateSpec
from refdeq.reference import ReferenceBackend, ReferenceKernels
from refdeq.registry import BackendInfo

sys.path.insert(0, str(Path(__file__).parents[1] / "refdeq_numba"))
from fused_cells import compare

if loader.compiler() is None:
    pytest.skip("the simulated device needs g++", allow_module_level=True)

HIDDEN, HEIGHT, WIDTH = 8, 3, 18


class Counting(ShimDevice):
    """Counts the launches of every kernel."""

    def __init__(self):
        super().__init__(seed=7)
        self.launches = Counter()

    def launch(self, kernel, *arguments, **options):
        self.launches[kernel] += 1
        super().launch(kernel, *arguments, **options)


class OpLevel(ReferenceBackend):
    """Solves at op level on a device; `is_shared` False is the ablation, in which every convolution packs for itself."""

    info = BackendInfo("op", "op level", ("strict", "fast"), ("float32", "float64"), "R4", "skip", "strict", fused=True)

    def __init__(self, is_shared=True):
        self.device, self.is_shared = Counting(), is_shared

    def kernels(self, *, order, threads):
        kernels = GpuKernels(self.device, order)
        if not self.is_shared:
            kernels._sums._tiles = TileConv(self.device)
        return kernels


def conv_gru(rng, dtype):
    """One half-step of the ConvGRU: the update and the reset gate read one value."""
    builder = rd.GraphBuilder(dtype)
    h, x = builder.state("h", (HIDDEN, HEIGHT, WIDTH)), builder.injection("x", (HIDDEN, HEIGHT, WIDTH))
    one = builder.parameter("one", np.ones(1, dtype=dtype))

    def conv(name, value):
        weight = (0.4 / np.sqrt(HIDDEN) * rng.standard_normal((HIDDEN, 2 * HIDDEN, 1, 3))).astype(dtype)
        own = builder.parameter(f"W{name}", weight), builder.parameter(f"b{name}", rng.standard_normal(HIDDEN).astype(dtype))
        return builder.node("Conv", value, *own, name=name, pads=[0, 1, 0, 1])

    hx = builder.node("Concat", h, x, axis=1)
    z, r = builder.node("Sigmoid", conv("z", hx)), builder.node("Sigmoid", conv("r", hx))
    q = builder.node("Tanh", conv("q", builder.node("Concat", builder.node("Mul", r, h), x, axis=1)))
    kept = builder.node("Mul", builder.node("Sub", one, z), h)
    builder.output(h, builder.node("Add", kept, builder.node("Mul", z, q)))
    return builder.build()


def problem(rng):
    """The cell, and three samples that start from very different places."""
    cell, x = conv_gru(rng, "float32"), rng.standard_normal((3, HIDDEN, HEIGHT, WIDTH)).astype("float32")
    return cell, x, (rng.standard_normal(x.shape) * np.array([1e-3, 1.0, 1e3]).reshape(3, 1, 1, 1)).astype("float32")


RULES = {
    "sent": rd.DeltaRule(threshold=0.02),
    "refreshed, folded": rd.DeltaRule(threshold=0.05, refresh=3, bias="folded", memory="always"),
    "by channels, from zero": rd.DeltaRule(threshold=0.05, granularity="channel", start="zero", compare="ge"),
    "feedback": rd.DeltaRule(threshold=0.02, memory="feedback", feedback_format="bfloat16"),
    "no rule": None,
}


@pytest.mark.parametrize("name", RULES)
def test_shared_lists_have_the_bits_of_the_reference(same_bits, rng, name):
    """Samples end one after the other; two of three convolutions read one gate, so that a third of the packing is saved."""
    cell, x, z0 = problem(rng)
    options = {"z0": z0, "delta": RULES[name], "stop": rd.StopRule(rtol=0.1, max_eval=9), "trace": True}
    expected = rd.solve(cell, x, **options)
    assert len(set(expected.n_eval)) == 3
    shared, alone = OpLevel(), OpLevel(is_shared=False)
    for backend in (shared, alone):
        compare(same_bits, rd.solve(cell, x, backend=backend, **options), expected)
    saved = {kernel: alone.device.launches[kernel] - n for kernel, n in shared.device.launches.items()}
    evaluations = 0 if RULES[name] is None else expected.n_eval.max()
    assert {kernel: n for kernel, n in saved.items() if n} == dict.fromkeys(
        ("tile_pack", "tile_list", "tile_jobs") if evaluations else (), evaluations
    )


def test_dense_and_sparse_samples_in_one_evaluation(same_bits, rng):
    """Warm samples of different counts: some are refreshed while others send, gate by gate."""
    (cell, x, z0), rule = problem(rng), rd.DeltaRule(threshold=0.02, refresh=2)
    first = rd.solve(cell, x, z0=z0, delta=rule, stop=rd.StopRule(rtol=0.1, max_eval=9))
    assert set(first.n_eval % 2) == {0, 1}
    options = {"delta": rule, "stop": rd.StopRule(max_eval=4), "trace": True, "reuse": "state+memory"}
    expected = rd.solve(cell, x, warm=first, **options)
    compare(same_bits, rd.solve(cell, x, warm=first, backend=OpLevel(), **options), expected)


# What ends sharing -----------------------------------------------------------------------------------------------------------

SHAPE = 2, HIDDEN, HEIGHT, WIDTH
PLAIN = {"strides": (1, 1), "dilations": (1, 1), "group": 1, "kernel_shape": None}
SPEC = GateSpec("u", np.float32(0.5), "gt", "sent", "element", None, None, None)
EVERYONE, FIRST = np.ones(2, bool), np.array([True, False])


def two_sums(kernels, between, active=EVERYONE, taps=(3, 3), masked=(True, True)):
    """Accumulators of two convolutions that read one gate, and what happens `between` them."""
    rng = np.random.default_rng(1)
    u, r = (kernels.upload(rng.standard_normal(SHAPE).astype("float32")) for _ in range(2))
    d, mask = kernels.empty(SHAPE, "float32"), kernels.empty(SHAPE, "bool")
    kernels.gate(u, SPEC, EVERYONE, r, mask, d)
    found = []
    for width, is_masked, own in zip(taps, masked, (EVERYONE, active), strict=True):
        weight = kernels.constant(rng.standard_normal((HIDDEN, HIDDEN, 1, width)).astype("float32"))
        a = kernels.upload(np.zeros(SHAPE, "float32"))
        attributes = PLAIN | {"pads": (0, width // 2) * 2}
        kernels.accumulate_conv(d if is_masked else r, mask if is_masked else None, weight, attributes, own, a)
        found.append(kernels.download(a))
        if not found[1:]:
            between(kernels, u, r, mask, d)
    return found


def nothing(kernels, u, r, mask, d):
    pass


def count(kernels, u, r, mask, d):
    kernels.count_sent(mask, np.int64(1), EVERYONE, np.zeros(2, np.int64))
    kernels.count_nonzero(d, EVERYONE, np.zeros(2, np.int64))


def fill_mask(kernels, u, r, mask, d):
    kernels.fill(0.0, FIRST, mask)


def copy_differences(kernels, u, r, mask, d):
    kernels.copy_active(u, EVERYONE, d)


def apply_an_operator(kernels, u, r, mask, d):
    kernels.ops["Tanh"]([d], [True], {}, EVERYONE, d)


def transform_on_the_host(kernels, u, r, mask, d):
    pairs = 2, HIDDEN * HEIGHT * WIDTH // 2, 2
    kernels.ops["DFT"]([u.reshape(*pairs)], [True], {"axis": 1, "inverse": 0}, EVERYONE, d.reshape(*pairs))


def step(kernels, u, r, mask, d):
    kernels.relax(u, d, 0.5, EVERYONE, d)


def gate_again(kernels, u, r, mask, d):
    kernels.fill(2.0, FIRST, u)
    kernels.gate(u, SPEC, EVERYONE, r, mask, d)


def gate_another(kernels, u, r, mask, d):
    others = (kernels.upload(np.zeros(SHAPE, "float32")) for _ in range(3))
    one, two, three = others
    kernels.gate(one, SPEC, EVERYONE, two, kernels.empty(SHAPE, "bool"), three)


SHARED = {"tile_pack": 1, "tile_list": 1}
ALONE = {"tile_pack": 2, "tile_list": 2}
CASES = [
    (nothing, {}, SHARED),
    (count, {}, SHARED),
    (nothing, {"masked": (False, False)}, SHARED),
    (nothing, {"taps": (3, 5)}, {"tile_pack": 1, "tile_list": 2}),
    (nothing, {"active": FIRST}, ALONE),
    (nothing, {"masked": (True, False)}, ALONE),
    (fill_mask, {}, ALONE),
    (copy_differences, {}, ALONE),
    (apply_an_operator, {}, ALONE),
    (transform_on_the_host, {}, ALONE),
    (step, {}, ALONE),
    (gate_again, {}, ALONE),
    (gate_another, {}, ALONE),
]


@pytest.mark.parametrize(("between", "options", "launches"), CASES)
def test_whatever_may_have_written_ends_it(same_bits, between, options, launches):
    device = Counting()
    found = two_sums(GpuKernels(device), between, **options)
    for got, expected in zip(found, two_sums(ReferenceKernels(), between, **options), strict=True):
        same_bits(got, expected)
    assert {kernel: device.launches[kernel] for kernel in launches} == launches


@pytest.mark.parametrize("between", [fill_mask, copy_differences, apply_an_operator, transform_on_the_host, step])
def test_a_watch_that_overlooks_launches_is_found_out(between, monkeypatch):
    monkeypatch.setattr(Watch, "launched", lambda self, kernel, arguments: None)
    got, expected = (two_sums(kernels, between)[1] for kernels in (GpuKernels(ShimDevice()), ReferenceKernels()))
    assert not np.array_equal(got, expected)


def test_arrays_that_no_gate_wrote_are_packed_anew(rng):
    """Others may write to them without a launch: memory of another library, say."""
    device = Counting()
    kernels = GpuKernels(device)
    d, mask = kernels.upload(np.zeros(SHAPE, "float32")), kernels.upload(np.ones(SHAPE, bool))
    weight = kernels.constant(rng.standard_normal((HIDDEN, HIDDEN, 1, 3)).astype("float32"))
    a = kernels.upload(np.zeros(SHAPE, "float32"))
    for value in (1.0, 2.0):
        device.write(np.full(SHAPE, value, "float32"), d)
        kernels.accumulate_conv(d, mask, weight, PLAIN | {"pads": (0, 1, 0, 1)}, EVERYONE, a)
    assert device.launches["tile_pack"] == 2
