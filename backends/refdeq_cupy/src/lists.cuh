// Work over the listed samples of a batch: entry e of `rows` is sample rows[e], a row of n elements.
#pragma once

// Goes over 0 <= i < total with any grid and block.
#define FLAT_LOOP(i, total)                                                                        \
    for (long long i = blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x; i < (total); \
         i += static_cast<long long>(gridDim.x) * blockDim.x)

struct Element {
    long long sample, k;
    __device__ __forceinline__ long long at(long long n) const { return sample * n + k; }
};

// The entry of item `i` when every entry has `n` items; a 64-bit division is slow, and seldom needed.
__device__ __forceinline__ long long entry_of(long long i, long long n) {
    if (i <= 0xFFFFFFFFll && n <= 0xFFFFFFFFll) return static_cast<unsigned>(i) / static_cast<unsigned>(n);
    return i / n;
}

__device__ __forceinline__ Element element_of(const int* rows, long long n, long long i) {
    const long long entry = entry_of(i, n);
    return {rows[entry], i - entry * n};
}

// Sum over the block, whose size is a multiple of 32; thread 0 gets it. Integers, so that the order does not matter.
__device__ __forceinline__ long long block_sum(long long value) {
    __shared__ long long of_warps[32];
    for (int step = 16; step > 0; step >>= 1) value += __shfl_down_sync(0xFFFFFFFFu, value, step);
    if ((threadIdx.x & 31) == 0) of_warps[threadIdx.x >> 5] = value;
    __syncthreads();
    if (threadIdx.x == 0)
        for (unsigned warp = 1; warp < blockDim.x / 32; warp++) value += of_warps[warp];
    return value;
}
