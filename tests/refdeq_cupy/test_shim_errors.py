"""Every mistake that the simulation of a device says it finds, made by a small kernel."""

from __future__ import annotations

import numpy as np
import pytest

SOURCE = r"""
extern "C" __global__ void ends_before_barrier(int* out) {
    if (threadIdx.x == 5) return;
    __syncthreads();
    out[threadIdx.x] = 1;
}
extern "C" __global__ void two_barriers(int* out) {
    if (threadIdx.x < 7)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = 1;
}
extern "C" __global__ void warp_against_barrier(int* out) {
    if (threadIdx.x == 3) __syncwarp();
    __syncthreads();
    out[threadIdx.x] = 1;
}
extern "C" __global__ void two_operations(int* out) {
    const unsigned all = 0xFFFFFFFFu;
    out[threadIdx.x] = threadIdx.x < 16 ? __shfl_sync(all, 1, 0) : (int)__ballot_sync(all, 1);
}
extern "C" __global__ void two_types(int* out) {
    const unsigned all = 0xFFFFFFFFu;
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(all, 1, 0);
    else out[threadIdx.x] = (int)__shfl_sync(all, 1.0, 0);
}
extern "C" __global__ void mask_without_caller(int* out) { out[threadIdx.x] = __any_sync(0xFFFFu, 1); }
extern "C" __global__ void mask_of_ended(int* out) {
    if (threadIdx.x >= 24) return;
    out[threadIdx.x] = __any_sync(0xFFFFFFFFu, 1);
}
extern "C" __global__ void mask_beyond_block(int* out) { out[threadIdx.x] = __any_sync(0xFFFFFFFFu, 1); }
extern "C" __global__ void beyond_shared(int* out) {
    extern __shared__ int room[];
    room[threadIdx.x] = 1;
    out[threadIdx.x] = room[threadIdx.x];
}
extern "C" __global__ void before_shared(int* out) {
    extern __shared__ __align__(16) int room[];
    room[(int)threadIdx.x - 1] = 1;
    out[threadIdx.x] = room[threadIdx.x];
}
#include "cooperative_groups.h"
extern "C" __global__ void meets_grid(int* out) {
    cooperative_groups::this_grid().sync();
    out[threadIdx.x] = 1;
}
extern "C" __global__ void one_block_ends(int* out) {
    if (blockIdx.x == 1) return;
    cooperative_groups::this_grid().sync();
    out[threadIdx.x] = 1;
}
constexpr int WARP = 32;
extern "C" __global__ void __launch_bounds__(2 * WARP, 1) bounded(int* out) { out[threadIdx.x] = 1; }
extern "C" __global__ void polls_for_ever(int* out) {
    while (__ldcv(out) == 0) {
    }
}
extern "C" __global__ void polls_with_atomics(int* out) {
    while (atomicCAS(out, 1, 2) == 0) {
    }
}
extern "C" __global__ void reads_beyond_shared(int* out) {
    extern __shared__ int room[];
    out[threadIdx.x] = room[threadIdx.x + 1];
}
extern "C" __global__ void beyond_fixed(int* out) {
    __shared__ int room[2][16];
    room[0][threadIdx.x / 2] = 1;
    out[threadIdx.x] = room[threadIdx.x >> 4][threadIdx.x - 7];
}
extern "C" __global__ void nothing_there(int* out) { out[threadIdx.x] = *reinterpret_cast<int*>(threadIdx.x * 8ull); }
extern "C" __global__ void not_aligned(int* out) {
    const int2 pair = *reinterpret_cast<const int2*>(out + 1);
    out[threadIdx.x] = pair.x;
}
extern "C" __global__ void wide_shift(int* out) { out[threadIdx.x] = 1 << (int)threadIdx.x + 1; }
extern "C" __global__ void by_zero(int* out) { out[threadIdx.x] = 7 / out[threadIdx.x]; }
"""

CASES = {
    "ends_before_barrier": (
        "barrier divergence",
        "threads 0-4, 6-31 wait in __syncthreads (tried.cu:4)",
        "threads 5 have ended",
    ),
    "two_barriers": ("barrier divergence", "threads 0-6 wait in __syncthreads (tried.cu:9)", "threads 7-31", "(tried.cu:11)"),
    "warp_against_barrier": (
        "deadlock",
        "threads 3 wait in __syncwarp (tried.cu:15)",
        "threads 0-2, 4-31 wait in __syncthreads",
    ),
    "two_operations": ("lanes of warp 0 meet in different warp operations", "__shfl_sync", "__ballot_sync"),
    "two_types": ("lanes of warp 0 meet in different warp operations", "__shfl_sync and __shfl_sync"),
    "mask_without_caller": ("calls __any_sync with mask 0x0000ffff", "which does not name it"),
    "mask_of_ended": ("__any_sync", "has ended"),
    "mask_beyond_block": ("names lane 20", "which the block does not have"),
    "beyond_shared": ("a write outside the 124 bytes of dynamic shared memory",),
    "before_shared": ("a write outside the 128 bytes of dynamic shared memory",),
    "meets_grid": ("a grid barrier needs a cooperative launch",),
    "one_block_ends": ("deadlock", "wait in a grid barrier"),
    "polls_for_ever": ("every thread polls or waits, and nothing changes",),
    "polls_with_atomics": ("every thread polls or waits, and nothing changes",),
    "reads_beyond_shared": ("thread (31, 0, 0) reads outside of the 128 bytes of dynamic shared memory, at byte 128",),
    "beyond_fixed": ("uses element ", " of 'int [16]' (tried.cu:71)"),
    "nothing_there": ("reads outside of all arrays",),
    "not_aligned": ("uses 'const struct int2' at an address that is not a multiple of 8 (tried.cu:75)",),
    "wide_shift": ("thread (31, 0, 0) shifts 'int' by 32 bits (tried.cu:78)",),
    "by_zero": ("divides a whole number by zero",),
}
SIZES = {
    "mask_beyond_block": {"block": 20},
    "beyond_shared": {"shared": 124},
    "before_shared": {"shared": 128},
    "reads_beyond_shared": {"shared": 128},
    "one_block_ends": {"grid": 2, "is_cooperative": True},
    "polls_for_ever": {"block": 2},
    "polls_with_atomics": {"block": 2},
}


@pytest.mark.parametrize("seed", [0, 1, 9])
@pytest.mark.parametrize("name", list(CASES))
def test_mistakes_are_found_in_every_order(kernels, name, seed):
    error = kernels.run(name, np.zeros(64, dtype=np.int32), seed=seed, **SIZES.get(name, {}))
    assert error is not None
    assert error.startswith(f"kernel {name}, block (")
    for part in CASES[name]:
        assert part in error


def test_a_launch_after_an_error_is_a_fresh_one(kernels):
    out = np.zeros(32, dtype=np.int32)
    assert kernels.run("ends_before_barrier", out) is not None
    assert kernels.run("beyond_shared", out, shared=128) is None
    assert kernels.run("meets_grid", out, is_cooperative=True) is None
    assert (out == 1).all()


def test_launch_bounds_hold(kernels):
    out = np.zeros(65, dtype=np.int32)
    assert kernels.run("bounded", out, block=64) is None
    assert "launch bounds of 2 * WARP threads" in kernels.run("bounded", out, block=65)
    assert out.tolist() == [1] * 64 + [0]
