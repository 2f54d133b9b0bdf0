"""What the simulation of a device computes: warp operations, shared memory, orders, copies, products of fragments."""

from __future__ import annotations

import numpy as np
import pytest

SOURCE = r"""
#include "async.cuh"
#include "mma.cuh"
#include "cooperative_groups.h"
constexpr unsigned ALL = 0xFFFFFFFFu;

extern "C" __global__ void order(int* counter, int* ticket) {
    ticket[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(counter, 1);
}
extern "C" __global__ void fresh(float* fixed, float* dynamic, int writes) {
    __shared__ float room[32];
    extern __shared__ float more[];
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    fixed[i] = room[threadIdx.x];
    dynamic[i] = more[threadIdx.x];
    if (writes) room[threadIdx.x] = more[threadIdx.x] = 1.0f;
}
// Neighbours exchange numbers by shared memory, in several blocks that may take turns.
extern "C" __global__ void exchange(int* out) {
    __shared__ int room[64];
    for (int step = 0; step < 3; step++) {
        room[threadIdx.x] = 1000 * blockIdx.x + 10 * threadIdx.x + step;
        __syncthreads();
        out[(3 * blockIdx.x + step) * 64 + threadIdx.x] = room[(threadIdx.x + 1) % 64];
        __syncthreads();
    }
}
extern "C" __global__ void lanes(int* out) {
    const int t = threadIdx.x;
    out[t] = __shfl_sync(ALL, 100 + t, t * 7 % 32);
    out[32 + t] = __shfl_up_sync(ALL, t, 3);
    out[64 + t] = __shfl_down_sync(ALL, t, 5, 16);
    out[96 + t] = __shfl_xor_sync(ALL, t, 9);
    out[128 + t] = (int)__ballot_sync(ALL, t % 3 == 0);
    out[160 + t] = (int)__match_any_sync(ALL, t % 5);
    out[192 + t] = __reduce_add_sync(ALL, t) + __reduce_max_sync(ALL, -t) + (int)__reduce_or_sync(ALL, 1u << t);
    out[224 + t] = __any_sync(ALL, t == 4) + 2 * __all_sync(ALL, t < 32);
    if (t % 2) out[256 + t] = __shfl_sync(0xAAAAAAAAu, t, 0);  // lane 0 takes no part
    else out[256 + t] = (int)__double_as_longlong(__shfl_sync(0x55555555u, (double)t, 30));
}
extern "C" __global__ void counts(int* out) {
    const int t = threadIdx.x;
    out[t] = __syncthreads_count(t % 3 == 0);
    out[64 + t] = __syncthreads_or(t == 63) + 2 * __syncthreads_and(t >= 0) + 4 * __syncthreads_and(t != 9);
}
extern "C" __global__ void whole_grid(const int* in, int* between, int* out) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x, many = gridDim.x * blockDim.x;
    between[i] = 2 * in[i];
    cooperative_groups::this_grid().sync();
    out[i] = between[many - 1 - i] + 1;
}
// A barrier by hand: one atomic per block, a generation that is polled.
extern "C" __global__ void by_hand(int* words, const int* in, int* between, int* out) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x, many = gridDim.x * blockDim.x;
    between[i] = 2 * in[i];
    __syncthreads();
    if (threadIdx.x == 0) {
        const int before = __ldcv(words + 1);
        __threadfence();
        if (atomicAdd(words, 1) == (int)gridDim.x - 1) {
            words[0] = 0;
            __threadfence();
            atomicAdd(words + 1, 1);
        } else {
            while (__ldcv(words + 1) == before) {
            }
        }
    }
    __syncthreads();
    out[i] = between[many - 1 - i] + 1;
}
extern "C" __global__ void staged(const float* in, float* out, int waits) {
    __shared__ __align__(16) float room[2][128];
    const int t = threadIdx.x;
    cp_async_16(&room[0][4 * t], in + 4 * t);
    cp_async_commit();
    cp_async_16(&room[1][4 * t], in + 128 + 4 * t, t < 16);
    cp_async_commit();
    if (waits == 1) cp_async_wait<1>();
    if (waits == 2) cp_async_wait<0>();
    __syncthreads();
    for (int i = t; i < 256; i += 32) out[i] = room[i / 128][i % 128];
}
extern "C" __global__ void product(const unsigned short* left, const unsigned short* right, float* c) {
    __shared__ __align__(16) unsigned short a[16][16], b[16][8];
    const int t = threadIdx.x;
    for (int i = t; i < 256; i += 32) a[i / 16][i % 16] = left[i];
    for (int i = t; i < 128; i += 32) b[i / 8][i % 8] = right[i];
    __syncthreads();
    unsigned fa[4], fb[4];
    ldmatrix_x4(fa, &a[t % 16][8 * (t / 16)]);
    ldmatrix_x4_trans(fb, &b[t % 16][0]);
    float sums[4];
    for (int i = 0; i < 4; i++) sums[i] = c[(t / 4 + 8 * (i / 2)) * 8 + 2 * (t % 4) + i % 2];
    mma_m16n8k16_bf16(sums, fa, fb);
    for (int i = 0; i < 4; i++) c[(t / 4 + 8 * (i / 2)) * 8 + 2 * (t % 4) + i % 2] = sums[i];
}
"""

SEEDS = [0, 1, 2, 17]


def numbers(size, dtype=np.int32):
    return np.zeros(size, dtype=dtype)


def tickets(kernels, seed):
    out = numbers(128)
    assert kernels.run("order", numbers(1), out, grid=2, block=64, seed=seed) is None
    return out.tolist()


def test_the_seed_decides_the_order(kernels):
    assert tickets(kernels, 0) == list(range(128))
    assert tickets(kernels, 1) == list(range(127, -1, -1))
    shuffled = tickets(kernels, 2)
    assert sorted(shuffled) == list(range(128))
    assert shuffled == tickets(kernels, 2)
    assert len({tuple(tickets(kernels, seed)) for seed in (0, 1, 2, 3)}) == 4


@pytest.mark.parametrize("seed", SEEDS)
def test_shared_memory_is_poisoned_for_every_block(kernels, seed):
    for _ in range(2):
        fixed, dynamic = numbers(96, np.float32), numbers(96, np.float32)
        assert kernels.run("fresh", fixed, dynamic, np.int32(1), grid=3, shared=128, seed=seed) is None
        assert np.isnan(fixed).all()
        assert np.isnan(dynamic).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_blocks_have_shared_memory_of_their_own(kernels, seed):
    out = numbers(6 * 3 * 64)
    assert kernels.run("exchange", out, grid=6, block=64, seed=seed) is None
    block, step, thread = np.ogrid[:6, :3, :64]
    assert (out.reshape(6, 3, 64) == 1000 * block + 10 * ((thread + 1) % 64) + step).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_warp_operations(kernels, seed):
    out, t = numbers(288), np.arange(32)
    assert kernels.run("lanes", out, seed=seed) is None
    rows = out.reshape(9, 32)
    assert (rows[0] == 100 + t * 7 % 32).all()
    assert (rows[1] == np.where(t >= 3, t - 3, t)).all()
    assert (rows[2] == np.where(t % 16 + 5 < 16, t + 5, t)).all()
    assert (rows[3] == t ^ 9).all()
    assert (rows[4] == np.array(sum(1 << lane for lane in range(0, 32, 3)), dtype=np.uint32).astype(np.int32)).all()
    matches = [sum(1 << lane for lane in range(32) if lane % 5 == own % 5) for own in range(32)]
    assert (rows[5] == np.array(matches, dtype=np.uint32).astype(np.int32)).all()
    assert (rows[6] == 31 * 16 + 0 - 1).all()
    assert (rows[7] == 3).all()
    assert (rows[8, 1::2] == -1).all()  # poison: what an absent lane holds is not defined
    assert (rows[8, ::2] == np.array(30.0).view(np.int64).astype(np.int32)).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_barriers_that_count(kernels, seed):
    out = numbers(128)
    assert kernels.run("counts", out, block=64, seed=seed) is None
    assert (out[:64] == 22).all()
    assert (out[64:] == 3).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["whole_grid", "by_hand"])
def test_the_whole_grid_can_meet(kernels, name, seed):
    values = np.arange(5 * 40, dtype=np.int32)
    words = [numbers(2)] if name == "by_hand" else []
    between, out = numbers(200), numbers(200)
    error = kernels.run(name, *words, values, between, out, grid=5, block=40, is_cooperative=True, seed=seed)
    assert error is None
    assert (out == 2 * values[::-1] + 1).all()


def test_a_barrier_by_hand_needs_all_blocks_at_once(kernels):
    arrays = [np.arange(200, dtype=np.int32), numbers(200), numbers(200)]
    assert "nothing changes" in kernels.run("by_hand", numbers(2), *arrays, grid=5, block=40)


@pytest.mark.parametrize("seed", SEEDS)
def test_copies_arrive_when_they_are_waited_for(kernels, seed):
    values = np.arange(256, dtype=np.float32)
    for waits in range(3):
        out = numbers(256, np.float32)
        assert kernels.run("staged", values, out, np.int32(waits), seed=seed) is None
        expected = np.where(np.arange(256) < 192, values, 0)
        expected[128 * waits :] = np.nan
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_products_of_fragments(kernels, seed, rng):
    """Small whole numbers, so that every order of the sums gives the same float32."""
    left, right = rng.integers(-64, 64, (16, 16)), rng.integers(-64, 64, (16, 8))
    c = rng.integers(-1000, 1000, (16, 8)).astype(np.float32)
    expected = (left @ right + c).astype(np.float32)

    def halves(matrix):
        return (matrix.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)

    assert kernels.run("product", halves(left), halves(right), c, seed=seed) is None
    np.testing.assert_array_equal(c, expected)
