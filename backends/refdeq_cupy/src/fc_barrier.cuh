// A barrier of all blocks of a cooperative launch, from one atomic per block and a word that says which generation it is.
//
// words[0] counts the blocks that have arrived, words[32], in a line of 128 bytes of its own, the barriers passed. A block reads
// the generation before it arrives, so that it cannot miss the release, and the last to arrive clears the count before it
// releases the others. The fences order what each block wrote before the barrier against what others read after it.
#pragma once

__device__ inline void grid_barrier(int* words) {
    __syncthreads();
    if (threadIdx.x == 0) {
        int* generation = words + 32;
        const int before = __ldcv(generation);
        __threadfence();
        if (atomicAdd(words, 1) == (int)gridDim.x - 1) {
            atomicExch(words, 0);
            __threadfence();
            atomicAdd(generation, 1);
        } else {
            while (__ldcv(generation) == before) {
            }
        }
        __threadfence();
    }
    __syncthreads();
}
