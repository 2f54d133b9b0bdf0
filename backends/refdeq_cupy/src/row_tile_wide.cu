// K2 for rows of at most 512 columns, 32 at a time per block; see row_tile_solve.cuh for how.
#define TILE_M 2
#include "row_tile_block.cuh"

// Delta solve. Grid: any; block: as many threads as `width`, a multiple of 64 and at most 512.
extern "C" __global__ void __launch_bounds__(512, 1) row_tile_wide(ROW_TILE_ARGUMENTS) {
    extern __shared__ __align__(16) unsigned char room[];
    const Task task = ROW_TILE_TASK;
    solve_rows<false>(task, room);
}

// The same without a gate: every evaluation multiplies all of the state.
extern "C" __global__ void __launch_bounds__(512, 1) row_tile_wide_dense(ROW_TILE_ARGUMENTS) {
    extern __shared__ __align__(16) unsigned char room[];
    const Task task = ROW_TILE_TASK;
    solve_rows<true>(task, room);
}

// Dense start (D-5).
extern "C" __global__ void __launch_bounds__(512, 1) row_tile_wide_start(ROW_TILE_START_ARGUMENTS) {
    extern __shared__ __align__(16) unsigned char room[];
    start_rows(batch, n, width, parts, resident, is_finite_weight, pieces, z0, entry, entry_step, before, a_in, room);
}
