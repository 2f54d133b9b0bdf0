// A whole solve of one fully connected cell, sample by sample: in one cooperative launch, or by two kernels in turn.
//
// A round has two halves. In the first one block judges the evaluation that is finished, while the others add the columns of the
// next; in the second all of them read the verdict, finish that evaluation, step and gate. Between them every block must have
// written what the others read: a barrier of the grid, or the end of a kernel. Every block keeps the same account of where the
// solve is, and nothing is decided on the host.

#include "fc_barrier.cuh"
#include "fc_step.cuh"
#include "fc_sums.cuh"

constexpr int MOST_THREADS = 256;

// Any grid up to LARGEST_GRID whose blocks are on the device together, 64 threads or more in whole warps.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, 2) fc_solve(SOLVE_ARGUMENTS) {
    __shared__ Shared m;
    const Solve s = solve_of(SOLVE_NAMES, m);
    if (threadIdx.x < CONTROLS) m.control[threadIdx.x] = control[threadIdx.x];
    __syncthreads();
    step(s, m);
    while (m.control[PHASE] != DONE) {
        grid_barrier(words);
        add_columns(s, m);
        grid_barrier(words);
        step(s, m);
    }
}

// Account from a slot of global memory, which the launch before has written.
__device__ inline void read_account(const Solve& s, const long long* control, int slot, Shared& m) {
    if (threadIdx.x < CONTROLS) m.control[threadIdx.x] = control[slot * CONTROLS + threadIdx.x];
    if (threadIdx.x < MEASURES) m.measure[threadIdx.x] = s.numbers[s.choice[MEASURE_AT] + slot * MEASURES + threadIdx.x];
    __syncthreads();
}

// Into the other slot, so that no block of this launch reads it.
__device__ inline void write_account(const Solve& s, long long* control, int slot, const Shared& m) {
    __syncthreads();
    if (blockIdx.x != 0) return;
    if (threadIdx.x < CONTROLS) control[slot * CONTROLS + threadIdx.x] = m.control[threadIdx.x];
    if (threadIdx.x < MEASURES) s.numbers[s.choice[MEASURE_AT] + slot * MEASURES + threadIdx.x] = m.measure[threadIdx.x];
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 2) fc_step(SOLVE_ARGUMENTS) {
    __shared__ Shared m;
    const Solve s = solve_of(SOLVE_NAMES, m);
    read_account(s, control, 0, m);
    step(s, m);
    write_account(s, control, 1, m);
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 2) fc_add(SOLVE_ARGUMENTS) {
    __shared__ Shared m;
    const Solve s = solve_of(SOLVE_NAMES, m);
    read_account(s, control, 1, m);
    add_columns(s, m);
    write_account(s, control, 0, m);
}
