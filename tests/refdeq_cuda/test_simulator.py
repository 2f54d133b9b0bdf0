"""The simulator: what threads see of each other, and in which order they run."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numba import cuda, float32, float64, int32, uint32
from refdeq_cuda.simulator import launch

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


def test_launches_of_several_threads_come_one_after_the_other():
    found = [np.zeros(64) for _ in range(6)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda out: launch(block_of_each, len(out) // 8, 8, (out,)), found))
    assert all((out == np.arange(64) // 8).all() for out in found)


def block_of_each(out):
    shared = cuda.shared.array(1, int32)
    shared[0] = cuda.blockIdx.x
    cuda.syncthreads()
    out[cuda.grid(1)] = shared[0]
