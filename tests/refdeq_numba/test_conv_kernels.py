"""Conv over panels: one set of bits, with vectors and without, on any number of threads, for every geometry."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planting.catalogue import THREAD_BUGS
from planting.copies import load_copy
from refdeq_numba import conv, workers
from refdeq_numba.kernels import NumbaKernels

from refdeq.ops import OPS
from refdeq.reference import ReferenceKernels

SHARES = [0.0, 0.0, 0.1, 0.4, 0.7, 0.8, 0.95, 1.0]
"""Of the channels of a site."""


@pytest.fixture(autouse=True, scope="module")
def little_is_worth_a_thread():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "_ELEMENTS_PER_THREAD", 1)
        yield


class Convolution:
    """One accumulate over images: sites of all shares lie side by side."""

    def __init__(self, numbers, rank, batch, group, inputs, outputs, dtype, special, seed, sites=None):
        rng = np.random.default_rng(seed)
        size = tuple(sites or rng.integers(1, 12, rank))
        kernel = tuple(int(k) for k in rng.integers(1, 4, rank))
        given = {
            "strides": tuple(int(s) for s in rng.integers(1, 4, rank)) if sites is None else (1,) * rank,
            "dilations": tuple(int(s) for s in rng.integers(1, 3, rank)),
            "pads": tuple(int(s) for s in rng.integers(0, 3, 2 * rank)),
            "group": group,
        }
        self.attributes = OPS["Conv"].complete(given)
        padded = [n + given["pads"][i] + given["pads"][rank + i] for i, n in enumerate(size)]
        reach = zip(kernel, given["dilations"], padded, strict=True)
        kernel = tuple(k if (k - 1) * step < room else 1 for k, step, room in reach)
        weight, data = (group * outputs, inputs, *kernel), (group * inputs, *size)
        out = OPS["Conv"].infer([(-1, *data), weight], self.attributes)[1:]
        share = np.repeat(rng.choice(SHARES, (batch, 1, *size)), group * inputs, axis=1)
        self.mask = rng.random(share.shape) < share
        if rng.random() < 0.2:
            self.mask[batch // 2] = False
        self.weight, self.a = numbers(rng, weight, dtype, special), numbers(rng, (batch, *out), dtype, special)
        if rng.random() < 0.3:  # a channel that nobody sends
            self.mask[:, 0] = False
            self.weight[:outputs, 0] = rng.choice([np.nan, np.inf], self.weight[:outputs, 0].shape)
        self.d = np.where(self.mask, numbers(rng, self.mask.shape, dtype, special), np.nan).astype(dtype)
        if rng.random() < 0.2:  # products vanish: sums stay zeros of some sign
            tiny = np.finfo(dtype).tiny ** 0.6
            self.d, self.weight, self.a = self.d * tiny, self.weight * tiny, np.zeros_like(self.a)
        self.dense = rng.random() < 0.2
        if self.dense:
            self.d = numbers(rng, self.d.shape, dtype, special)
        self.a[rng.random(self.a.shape) < rng.choice([0.0, 0.3])] = -0.0
        self.active = rng.random(batch) < rng.choice([1.0, 1.0, 0.7])
        self.rng = rng

    def run(self, kernels, active=None, setting="on"):
        a = self.a.copy()
        with np.errstate(all="ignore"), pytest.MonkeyPatch.context() as patch:
            patch.setenv("REFDEQ_NUMBA_SIMD", setting)
            weight, mask = kernels.constant(self.weight), None if self.dense else self.mask
            kernels.accumulate_conv(self.d, mask, weight, self.attributes, self.active if active is None else active, a)
        return a

    def parts(self, kernels):
        """The active samples in two parts of any samples."""
        first = self.rng.random(len(self.active)) < 0.5
        a, b = (self.run(kernels, self.active & chosen) for chosen in (first, ~first))
        return np.where((self.active & first).reshape(-1, *(1,) * (a.ndim - 1)), a, b)


CONVOLUTIONS = {
    "rank": st.sampled_from([1, 2]),
    "batch": st.integers(1, 4),
    "group": st.integers(1, 3),
    "inputs": st.sampled_from([1, 2, 5, 8, 9, 17, 66]),
    "outputs": st.sampled_from([1, 3, 4, 5, 8, 17, 33]),
    "dtype": st.sampled_from(["float32", "float64"]),
    "special": st.sampled_from([0.0, 0.0, 0.02, 0.2]),
    "seed": st.integers(0, 2**32 - 1),
}


@given(**CONVOLUTIONS)
def test_strict_bits_are_those_of_the_reference(assert_same_bits, numbers, **sizes):
    """With vectors and without, on two threads that share one sample too, and in parts."""
    images = Convolution(numbers, **sizes)
    expected = images.run(ReferenceKernels())
    assert_same_bits(expected[~images.active], images.a[~images.active])
    for threads in (1, 2):
        kernels = NumbaKernels(threads=threads)
        assert_same_bits(images.run(kernels), expected)
        assert_same_bits(images.run(kernels, setting="off"), expected)
        assert_same_bits(images.parts(kernels), expected)


@given(**CONVOLUTIONS)
def test_fast_bits_do_not_depend_on_what_runs_beside(assert_same_bits, numbers, **sizes):
    images = Convolution(numbers, **sizes)
    expected = images.run(NumbaKernels("fast"))
    kernels = NumbaKernels("fast", threads=2)
    assert_same_bits(images.run(kernels), expected)
    assert_same_bits(images.parts(kernels), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sites", [(conv.BAND,), (conv.BAND + 1,), (3 * conv.BAND - 1,), (23, 25), (2, 640)])
@pytest.mark.parametrize("seed", range(4))
def test_one_sample_is_cut_among_threads(assert_same_bits, numbers, monkeypatch, seed, sites, dtype):
    """Along its sites: first its lists, then its sums, which read across the border of a band."""
    phases = []
    for name in ("list_bands", "conv_blocks"):
        kernel = getattr(conv, name)
        monkeypatch.setattr(conv, name, lambda *a, name=name, kernel=kernel: phases.append((name, a[1], a[2])) or kernel(*a))
    images = Convolution(numbers, len(sites), 1, 2, 9, 5, dtype, 0.02, seed, sites)
    images.active[:] = True
    expected = images.run(ReferenceKernels())
    for threads in (2, 3):
        assert_same_bits(images.run(NumbaKernels(threads=threads)), expected)
    assert {name for name, _, _ in phases} == {"list_bands", "conv_blocks"}
    if np.prod(sites) > conv.BAND:
        assert any(first > 0 for name, first, _ in phases if name == "list_bands")


def test_two_samples_on_three_threads_are_cut_one_after_the_other(assert_same_bits, numbers):
    images = Convolution(numbers, 2, 2, 1, 9, 5, "float32", 0.0, 7, (23, 25))
    images.active[:] = True
    assert_same_bits(images.run(NumbaKernels(threads=3)), images.run(ReferenceKernels()))


def test_workspaces_do_not_remember_another_sample(assert_same_bits, numbers):
    """The same kernels again with what sends less, then more."""
    kernels = NumbaKernels()
    images = Convolution(numbers, 1, 3, 1, 70, 6, "float32", 0.0, 11, (30,))
    full = images.mask.copy()
    for density in (1.0, 0.8, 0.1, 0.0, 0.9):
        images.mask = full & (np.random.default_rng(5).random(full.shape) < density)
        assert_same_bits(images.run(kernels), images.run(ReferenceKernels()))


@pytest.mark.parametrize("bug", [None, *THREAD_BUGS], ids=lambda bug: bug.name.replace(" ", "-") if bug else "unchanged")
def test_a_bug_of_a_cut_sample_changes_a_bit(assert_same_bits, numbers, tmp_path, bug):
    images = Convolution(numbers, 2, 2, 1, 9, 5, "float32", 0.0, 7, (27, 43))
    images.active[:], images.dense, edges = True, False, [0, conv.BAND - 1, conv.BAND, 2 * conv.BAND, 27 * 43 - 1]
    images.mask.reshape(2, 9, -1)[:, :, edges], images.d = True, np.nan_to_num(images.d, nan=0.5)
    found, expected = images.run(load_copy(bug, tmp_path).kernels(order="strict", threads=3)), images.run(ReferenceKernels())
    if bug is None:
        assert_same_bits(found, expected)
    else:
        assert (found != expected).any(), f"{bug.name} survives: {bug.breaks}"
