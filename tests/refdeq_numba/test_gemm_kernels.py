"""Gemm over panels and over whole columns: one set of bits, however samples are shared out and whatever treats them."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from refdeq_numba import workers
from refdeq_numba.accumulate import in_groups
from refdeq_numba.dispatch import Crossovers, blocks_per_pass, is_worth_filling
from refdeq_numba.kernels import NumbaKernels
from refdeq_numba.machine import has_fused_multiply_add

from refdeq.ops import OPS
from refdeq.reference import ReferenceKernels

SHARES = [0.0, 0.0, 0.02, 0.2, 0.45, 0.7, 0.8, 0.95, 1.0]
"""Of the columns of a sample: every kernel, and both sides of every crossover."""

SIZES = st.one_of(st.integers(1, 20), st.sampled_from([31, 33, 63, 64, 65, 127, 129, 255, 257, 300]))
BATCHES = st.one_of(st.integers(1, 8), st.sampled_from([9, 47, 48, 49, 59, 96, 97, 143, 200]))
PRODUCTS = {
    "batch": BATCHES,
    "inputs": SIZES,
    "outputs": SIZES,
    "dtype": st.sampled_from(["float32", "float64"]),
    "transposed": st.booleans(),
    "special": st.sampled_from([0.0, 0.0, 0.02, 0.2]),
    "seed": st.integers(0, 2**32 - 1),
}


@pytest.fixture(autouse=True, scope="module")
def little_is_worth_a_thread():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "_ELEMENTS_PER_THREAD", 1)
        yield


class Product:
    """One accumulate: what is sent has any values; what is not sent by anybody has weights that are not finite."""

    def __init__(self, numbers, batch, inputs, outputs, dtype, transposed, special, seed):
        rng = np.random.default_rng(seed)
        self.attributes = OPS["Gemm"].complete({"transB": int(transposed)})
        self.mask = rng.random((batch, inputs)) < rng.choice(SHARES, (batch, 1))
        weight = numbers(rng, (inputs, outputs), dtype, special)
        if rng.random() < 0.3:
            quiet = rng.random(inputs) < 0.2
            self.mask[:, quiet] = False
            weight[quiet] = rng.choice([np.nan, np.inf, -np.inf, 1.0], (quiet.sum(), outputs))
        self.weight = np.ascontiguousarray(weight.T if transposed else weight)
        self.d = np.where(self.mask, numbers(rng, self.mask.shape, dtype, special), np.nan).astype(dtype)
        self.dense = rng.random() < 0.2
        if self.dense:
            self.d = numbers(rng, self.d.shape, dtype, special)
        self.a = numbers(rng, (batch, outputs), dtype, special)
        if rng.random() < 0.2:  # products vanish: sums stay zeros of some sign
            tiny = np.finfo(dtype).tiny ** 0.6
            self.d, self.weight, self.a = self.d * tiny, self.weight * tiny, np.zeros_like(self.a)
        self.a[rng.random(self.a.shape) < rng.choice([0.0, 0.3])] = -0.0
        self.active = rng.random(batch) < rng.choice([1.0, 1.0, 0.7])
        self.rng = rng

    def run(self, kernels, active=None, constant=True):
        a = self.a.copy()
        weight = kernels.constant(self.weight) if constant else self.weight
        with np.errstate(all="ignore"):
            mask = None if self.dense else self.mask
            kernels.accumulate_gemm(self.d, mask, weight, self.attributes, self.active if active is None else active, a)
        return a

    def split(self, kernels):
        """The active samples in two parts of any samples."""
        first = self.rng.random(len(self.active)) < 0.5
        parts = [self.run(kernels, self.active & chosen) for chosen in (first, ~first)]
        return np.where((self.active & first)[:, None], parts[0], parts[1])


def with_simd(setting, function):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFDEQ_NUMBA_SIMD", setting)
        return function()


@given(**PRODUCTS)
@example(batch=200, inputs=300, outputs=65, dtype="float32", transposed=True, special=0.0, seed=1)
@example(batch=97, inputs=65, outputs=300, dtype="float64", transposed=False, special=0.0, seed=2)
@example(batch=2, inputs=257, outputs=700, dtype="float32", transposed=True, special=0.0, seed=3)
@example(batch=3, inputs=64, outputs=1100, dtype="float64", transposed=True, special=0.02, seed=4)
def test_strict_bits_are_those_of_the_reference(assert_same_bits, numbers, **sizes):
    """With vectors and without, on one and two threads, in parts, and for a weight that is no constant."""
    product = Product(numbers, **sizes)
    expected = product.run(ReferenceKernels())
    assert_same_bits(expected[~product.active], product.a[~product.active])
    for threads in (1, 2):
        kernels = NumbaKernels(threads=threads)
        for setting in ("on", "off"):
            assert_same_bits(with_simd(setting, lambda kernels=kernels: product.run(kernels)), expected)
        assert_same_bits(product.split(kernels), expected)
    assert_same_bits(product.run(kernels, constant=False), expected)


@given(**PRODUCTS)
def test_fast_bits_do_not_depend_on_what_runs_beside(assert_same_bits, numbers, **sizes):
    """On one and two threads, in parts, and with plain loops of fast order."""
    product = Product(numbers, **sizes)
    expected = product.run(NumbaKernels("fast"))
    kernels = NumbaKernels("fast", threads=2)
    assert_same_bits(product.run(kernels), expected)
    assert_same_bits(product.split(kernels), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("unsent", [np.nan, np.inf])
def test_a_filled_sample_gets_zeros(assert_same_bits, rng, unsent, dtype):
    """What it does not send is not read, though nearly all columns are gone through."""
    mask = np.ones((12, 20), dtype=bool)
    mask[:, [3, 17]] = False
    d = np.where(mask, rng.standard_normal(mask.shape), unsent).astype(dtype)
    weight, a = rng.standard_normal((20, 9)).astype(dtype), np.zeros((12, 9), dtype)
    active, attributes = np.ones(12, dtype=bool), OPS["Gemm"].complete({})
    expected = a.copy()
    ReferenceKernels().accumulate_gemm(d, mask, weight, attributes, active, expected)
    NumbaKernels().accumulate_gemm(d, mask, weight, attributes, active, a)
    assert np.isfinite(a).all()
    assert_same_bits(a, expected)


@pytest.mark.parametrize("shape", [(0, 4, 3), (5, 0, 3), (5, 4, 0)])
def test_nothing_at_all(shape):
    batch, inputs, outputs = shape
    for count in (1, batch):
        a = np.full((batch, outputs), 0.5)
        active = np.arange(batch) < count
        arrays = np.ones((batch, inputs)), np.ones((batch, inputs), dtype=bool), np.ones((inputs, outputs))
        NumbaKernels().accumulate_gemm(*arrays, OPS["Gemm"].complete({}), active, a)
        assert (a == (0.5 if inputs == 0 or not batch else 0.5 + inputs * active[:, None])).all()


def test_groups_cover_all_but_three():
    for count in range(200):
        sixes, fours = in_groups(count)
        assert 0 <= count - 6 * sixes - 4 * fours <= 3
        assert fours <= 2


def test_choices_follow_the_crossovers():
    at = Crossovers(whole=0.7, one_block=0.4, two_blocks=0.12)
    assert [is_worth_filling(at, used, 100) for used in (0, 70, 71, 100)] == [False, False, True, True]
    assert [blocks_per_pass(at, used, 1000, 7) for used in (0, 120, 121, 400, 401, 1000)] == [7, 7, 2, 2, 1, 1]


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1e-23), ("float64", 1e-162)])
def test_company_does_not_decide_the_sign_of_a_zero_in_fast_order(dtype, scale):
    """Rounded once, these sums underflow to -0; zeros filled in would turn it to +0, a list would not."""
    kernels = NumbaKernels("fast")
    weight = kernels.constant(np.full((20, 20), scale, dtype))
    d, mask = np.full((8, 20), -scale, dtype), np.ones((8, 20), bool)
    d[:, -1], mask[:, -1] = 0, False
    for count in (1, 3, 4, 5, 8):
        a = np.zeros((8, 20), dtype)
        kernels.accumulate_gemm(d, mask, weight, {"transB": 0}, np.arange(8) < count, a)
        assert (a == 0).all()
        assert np.signbit(a[:count]).all() == has_fused_multiply_add()
        assert not np.signbit(a[count:]).any()
