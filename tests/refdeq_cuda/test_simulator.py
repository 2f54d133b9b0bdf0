"""The simulator itself: what threads see of each other, in which order they run, what is reported when they cannot go on."""

import sys
from fractions import Fraction

import numpy as np
import pytest
from numba import cuda, float32, float64, int32, uint32
from numba.cuda import libdevice
from refdeq_cuda.arithmetic import fma, plus, times
from refdeq_cuda.rounding import to_bfloat16, to_float16
from refdeq_cuda.simulator import launch
from refdeq_cuda.simulator_linker import link

from refdeq.errors import BackendUnavailableError, LaunchError, UnsupportedError
from refdeq.formats import round_to_format

ALL = 0xFFFFFFFF


def order(seen, at):
    seen[cuda.atomic.add(at, 0, 1)] = cuda.grid(1)


def order_with_barrier(seen, at):
    seen[cuda.atomic.add(at, 0, 1)] = cuda.grid(1)
    cuda.syncthreads()


@pytest.mark.parametrize("kernel", [order, order_with_barrier])
def test_the_seed_decides_the_order_of_threads(kernel):
    found = {}
    for seed in (0, 1, 2, 3):
        seen = np.full(12, -1)
        launch(kernel, 2, 6, (seen, np.zeros(1, np.int32)), seed=seed)
        assert sorted(seen) == list(range(12))
        found[seed] = seen.tolist()
    assert found[0] == list(range(12))
    assert found[1] == found[0][::-1]
    assert len({tuple(seen) for seen in found.values()}) == 4


@cuda.jit
def operations(x, out):
    """One row of `out` for each operation."""
    t, lane = cuda.threadIdx.x, cuda.laneid
    member = uint32(0x0000FF00)
    out[0, t] = cuda.ballot_sync(ALL, x[t] > 4)
    out[1, t] = cuda.shfl_sync(ALL, x[t], 3)
    out[2, t] = cuda.shfl_up_sync(ALL, x[t], 2)
    out[3, t] = cuda.shfl_down_sync(ALL, x[t], 2)
    out[4, t] = cuda.shfl_xor_sync(ALL, x[t], 5)
    out[5, t] = cuda.any_sync(ALL, x[t] == 9)
    out[6, t] = cuda.all_sync(ALL, x[t] < 10)
    out[7, t] = cuda.eq_sync(ALL, x[t] == 9)
    out[8, t] = cuda.match_any_sync(ALL, x[t])
    out[9, t] = cuda.popc(cuda.ballot_sync(ALL, x[t] > 4) & ((1 << lane) - 1))
    out[10, t] = cuda.ballot_sync(member, x[t] > 4) if (member >> lane) & 1 else 0
    out[11, t] = cuda.syncthreads_count(x[t] > 4)
    out[12, t] = cuda.syncthreads_and(x[t] < 10)
    out[13, t] = cuda.syncthreads_or(x[t] > 9)


def signed(bits):
    return int(np.uint32(sum(1 << lane for lane, bit in enumerate(bits) if bit)).view(np.int32))


@pytest.mark.parametrize("seed", [0, 1, 9])
def test_operations_of_warps_and_blocks(seed):
    x = np.random.default_rng(seed).integers(0, 10, 64)
    x[33] = 9
    out = np.zeros((14, 64), dtype=np.int64)
    launch(operations, 1, 64, (x, out), seed=seed)
    for warp, mine in ((x[:32], out[:, :32]), (x[32:], out[:, 32:])):
        lanes = np.arange(32)
        big = warp > 4
        assert (mine[0] == signed(big)).all()
        assert (mine[1] == warp[3]).all()
        assert (mine[2] == warp[np.where(lanes >= 2, lanes - 2, lanes)]).all()
        assert (mine[3] == warp[np.where(lanes < 30, lanes + 2, lanes)]).all()
        assert (mine[4] == warp[lanes ^ 5]).all()
        assert (mine[5] == (warp == 9).any()).all()
        assert (mine[6] == 1).all()
        assert (mine[7] == (len(set(warp == 9)) == 1)).all()
        assert mine[8].tolist() == [signed(warp == value) for value in warp]
        assert mine[9].tolist() == [int(big[:lane].sum()) for lane in lanes]
        inside = (lanes >= 8) & (lanes < 16)
        assert (mine[10] == np.where(inside, signed(big & inside), 0)).all()
    assert (out[11] == (x > 4).sum()).all()
    assert (out[12] == 1).all()
    assert (out[13] == 0).all()


def bits(out):
    out[0], out[1], out[2] = cuda.popc(-1), cuda.ffs(12), cuda.ffs(0)
    out[3], out[4], out[5] = cuda.clz(1), cuda.brev(1), cuda.popc(np.uint32(0xF0F0))
    out[6], out[7] = cuda.selp(True, 3, 4), cuda.lanemask_lt()


def test_operations_of_bits():
    out = np.zeros(8, dtype=np.int64)
    launch(bits, 1, 1, (out,))
    assert out.tolist() == [32, 3, 0, 31, 1 << 31, 8, 3, 0]


def memory(shared, dynamic, own):
    block = cuda.blockIdx.x
    words, more = cuda.shared.array(2, float32), cuda.shared.array(0, float64)
    mine = cuda.local.array(1, int32)
    shared[block], dynamic[block], own[block] = words[1], more[1], mine[0]
    words[1] = float32(3)


def test_memory_is_poisoned_when_a_block_starts():
    shared, dynamic, own = np.zeros(3), np.zeros(3), np.zeros(3)
    launch(memory, 3, 1, (shared, dynamic, own), shared=16)
    assert np.isnan(shared).all()
    assert np.isnan(dynamic).all()
    assert (own == 0x7F7F7F7F).all()


@cuda.jit
def by_groups(out):
    i, n = cuda.blockIdx.x, cuda.gridDim.x
    for step in range(3):
        out[step, i] = out[step - 1, (i + 1) % n] + 1 if step else i
        cuda.cg.this_grid().sync()


@cuda.jit
def by_hand(out, words):
    i, n = cuda.blockIdx.x, cuda.gridDim.x
    for step in range(3):
        if cuda.threadIdx.x == 0:
            out[step, i] = out[step - 1, (i + 1) % n] + 1 if step else i
            cuda.atomic.add(words, 0, 1)
            while cuda.ldcv(words, 0) < n * (step + 1):
                cuda.nanosleep(32)
        cuda.syncthreads()


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_blocks_of_a_cooperative_launch_wait_for_each_other(seed):
    expected = [[0, 1, 2, 3], [2, 3, 4, 1], [4, 5, 2, 3]]
    for kernel, more in ((by_groups, ()), (by_hand, (np.zeros(1, np.int32),))):
        out = np.full((3, 4), -9)
        launch(kernel, 4, 3, (out, *more), is_cooperative=True, seed=seed)
        assert out.tolist() == expected


# Errors --------------------------------------------------------------------------------------------------------------


def some_wait():
    if cuda.threadIdx.x < 3:
        cuda.syncthreads()


def two_places():
    if cuda.threadIdx.x < 3:
        cuda.syncthreads()
    else:
        cuda.syncthreads()


def lane_missing():
    if cuda.laneid != 5:
        cuda.syncwarp()


def lane_left():
    if cuda.laneid == 5:
        return
    cuda.syncthreads_or(cuda.ballot_sync(ALL, True))


def not_in_mask():
    cuda.ballot_sync(1, True)


def other_operation():
    if cuda.laneid < 16:
        cuda.any_sync(ALL, True)
    else:
        cuda.all_sync(ALL, True)


def nobody_writes(words):
    while cuda.atomic.add(words, 0, 0) == 0:
        cuda.nanosleep(100)


def out_of_bounds(x):
    x[cuda.grid(1)] = 1


def float_atomic(x):
    cuda.atomic.add(x, 0, float32(1))


def converged():
    cuda.ballot_sync(cuda.activemask(), True)


def unknown():
    cuda.tensor_core()


def device_library(x):
    x[0] = libdevice.fmul_rn(x[0], x[0])


def too_much_shared(x):
    x[0] = cuda.shared.array(13000, float32)[0]


def native_function(x):
    x[0] = float32(np.float32(x[0]))
    cuda.syncthreads()
    x[0] = times(x[0], float64(x[0]))


ERRORS = [
    (some_wait, 4, (), LaunchError, ["threads 0-2: syncthreads at some_wait", "test_simulator.py", "threads 3: left"]),
    (two_places, 4, (), LaunchError, ["divergent barrier", "threads 0-2", "threads 3"]),
    (
        lane_missing,
        32,
        (),
        LaunchError,
        ["syncwarp: the mask 0xffffffff names lanes that have left the kernel", "threads 5: left"],
    ),
    (lane_left, 32, (), LaunchError, ["ballot_sync: the mask", "lane_left", "threads 5: left"]),
    (not_in_mask, 2, (), LaunchError, ["ballot_sync: lane 1", "0x00000001"]),
    (other_operation, 32, (), LaunchError, ["different operations", "any_sync", "all_sync"]),
    (nobody_writes, 2, ("i4",), LaunchError, ["livelock", "blocks run one after the other", "nobody_writes"]),
    (out_of_bounds, 2, ("f4",), LaunchError, ["block (0, 0, 0), thread (1, 0, 0)", "IndexError"]),
    (float_atomic, 1, ("f4",), LaunchError, ["depend on the order of threads"]),
    (converged, 1, (), LaunchError, ["name the mask"]),
    (unknown, 1, (), LaunchError, ["cuda.tensor_core is not simulated"]),
    (too_much_shared, 1, ("f4",), LaunchError, ["52000 bytes of static shared memory"]),
    (native_function, 1, ("f4",), LaunchError, ["operands of one type", "float32 and float64"]),
    (device_library, 1, ("f4",), UnsupportedError, ["libdevice is not simulated"]),
]


@pytest.mark.parametrize(("kernel", "threads", "arrays", "error", "words"), ERRORS, ids=lambda v: getattr(v, "__name__", ""))
def test_what_cannot_go_on_is_reported(kernel, threads, arrays, error, words):
    with pytest.raises(error) as raised:
        launch(kernel, 1, threads, [np.zeros(1, kind) for kind in arrays])
    for word in words:
        assert word in str(raised.value)


def test_limits_of_a_launch():
    with pytest.raises(LaunchError, match="1024 is the most"):
        launch(order, 1, (32, 33), ())
    with pytest.raises(LaunchError, match="bytes of dynamic shared memory"):
        launch(order, 1, 1, (), shared=228 * 1024)
    with pytest.raises(LaunchError, match="positive"):
        launch(order, 0, 1, ())
    with pytest.raises(LaunchError, match="not launched cooperatively"):
        launch(by_groups, 2, 1, (np.zeros((3, 2)),))


def test_the_simulator_works_after_a_failure():
    with pytest.raises(LaunchError):
        launch(some_wait, 2, 64, ())
    test_operations_of_warps_and_blocks(0)


def test_greenlet_is_asked_for_by_kernels_that_wait_only(monkeypatch):
    monkeypatch.setitem(sys.modules, "greenlet", None)
    launch(order, 1, 2, (np.zeros(2), np.zeros(1, np.int32)))
    with pytest.raises(BackendUnavailableError, match="pip install greenlet"):
        launch(order_with_barrier, 1, 2, (np.zeros(2), np.zeros(1, np.int32)))


# Numbers --------------------------------------------------------------------------------------------------------------


def nearest(exact, kind):
    """The number of `kind` next to a rational one, ties to even (for results that are no subnormals and do not overflow)."""
    digits = {np.float32: 24, np.float64: 53}[kind]
    if exact == 0:
        return kind(0)
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= size < Fraction(2) ** exponent
    unit = Fraction(2) ** (exponent - digits + 1)
    return kind(float(round(exact / unit) * unit))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_fused_multiply_add_is_rounded_once(kind):
    """Among them sums next to the middle of two numbers, which rounding twice gets wrong."""
    rng = np.random.default_rng(1)
    fused = link(fma_of)
    differs = 0
    small = {np.float32: -36, np.float64: -80}[kind]
    for _ in range(500):
        a, b = kind(rng.standard_normal()), kind(rng.standard_normal())
        c = kind(rng.standard_normal())
        if rng.random() < 0.5:  # a c with few bits, and a product that ends far below its last
            a = kind(1 + 2.0 ** -rng.integers(1, 12))
            b, c = kind(2.0 ** rng.integers(small, -20)), kind(1 + rng.integers(0, 99) * 2.0**-22)
        exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
        assert fused(a, b, c) == nearest(exact, kind)
        differs += fused(a, b, c) != a * b + c
    assert differs > 50


def fma_of(a, b, c):
    return fma(a, b, c)


def test_float32_is_not_rounded_through_float64():
    """A sum just below the middle of two numbers of float32, by less than float64 can tell."""
    a, b, c = np.float32(2**-12 + 2**-27), np.float32(2**-12 - 2**-27), np.float32(1 + 2**-23)
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    assert link(fma_of)(a, b, c) == nearest(exact, np.float32) == c
    assert np.float32(np.float64(a) * np.float64(b) + np.float64(c)) == np.float32(1 + 2**-22)


@pytest.mark.parametrize(("function", "name", "digits"), [(to_float16, "float16", 11), (to_bfloat16, "bfloat16", 8)])
def test_narrow_formats_are_rounded_as_by_the_reference(function, name, digits):
    """Ties, their neighbours, subnormals and overflow, over all exponents."""
    exponents = np.arange(-160, 131)
    steps = 1 + np.arange(0, 40, 3) * 2.0 ** -(digits + 1)
    values = np.ldexp(*(part.reshape(-1) for part in np.meshgrid(steps, exponents)))
    values = np.concatenate(
        [values, np.nextafter(values, 0), np.nextafter(values, np.inf), [0.0, np.inf, np.nan, 65519.99, 1e300]]
    )
    values = np.concatenate([values, -values])
    expected = round_to_format(values, name)
    with np.errstate(all="ignore"):
        got = np.array([link(function)(x) for x in values])
    same = (got.view("u8") == expected.view("u8")) | (np.isnan(got) & np.isnan(expected))
    assert same.all(), values[~same][:5]


def test_integers_are_as_wide_as_they_say():
    def widths(out):
        out[0] = uint32(-1)
        out[1] = int32(7)

    out = np.zeros(2, dtype=np.int64)
    launch(widths, 1, 1, (out,))
    assert out.tolist() == [2**32 - 1, 7]

    def too_wide(out):
        out[0] = int32(2**31)

    with pytest.raises(LaunchError, match="does not fit in int32"):
        launch(too_wide, 1, 1, (out,))


def test_sums_and_products_are_those_of_one_type():
    def mixed(x):
        x[0] = plus(x[0], float64(1))

    with pytest.raises(LaunchError, match="float32 and float64"):
        launch(mixed, 1, 1, (np.zeros(1, np.float32),))
