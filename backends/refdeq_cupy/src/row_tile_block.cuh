// K2: what a block does with its tile: the loop over evaluations, the queue of rows, the dense start.
#pragma once

#include "row_tile_solve.cuh"

__device__ __forceinline__ Place place_of(int width) {
    const int thread = threadIdx.x;
    return {thread, thread >> 5, thread & 31, width, width / WARP_COLUMNS};
}

// The slots of a thread behind the tile: arguments, then references.
__device__ __forceinline__ Kept kept_of(unsigned short* tile, const Place& at) {
    float2* first = reinterpret_cast<float2*>(tile + TILE_ROWS * at.width) + at.thread;
    return {first, first + 8 * TILE_M * at.width, at.width};
}

__device__ __forceinline__ void clear_kept(const Kept& kept) {
    for (int i = 0; i < 8 * TILE_M; ++i) kept.z[i * kept.stride] = kept.r[i * kept.stride] = make_float2(0.0f, 0.0f);
}

// The rows of the queue, by the thread of each slot, into slots that are empty.
__device__ __forceinline__ int take_row(const Task& task, Slots& slots, int slot, int row, bool is_open) {
    int state = 0;
    if (row < 0 && is_open) {
        row = atomicAdd(task.queue, 1);
        if (row >= task.batch) row = -1;
        if (row >= 0) {
            state = IS_NEW | (task.has(IS_DENSE_START) && task.before[row] == 0 ? IS_FIRST : 0);
            slots.made[slot] = 0;
            task.sent[row] = task.nonzero[row] = 0;
        }
    } else if (row >= 0) {
        slots.made[slot] += 1;
    }
    slots.row[slot] = row;
    slots.state[slot] = state;
    slots.counts[slot] = 0;
    return row;
}

template <bool IS_DENSE>
__device__ __forceinline__ void solve_rows(const Task& task, unsigned char* room) {
    __shared__ Slots slots;
    const Place at = place_of(task.width);
    TileWeights weights = {reinterpret_cast<const uint4*>(task.pieces), reinterpret_cast<uint4*>(room), task.parts,
                           task.width / 16, task.resident, task.has(HAS_FINITE)};
    unsigned short* tile = reinterpret_cast<unsigned short*>(room + (size_t)task.resident * task.width * 32);
    double* partial = reinterpret_cast<double*>(tile);  // while nobody reads the tile
    const Kept kept = kept_of(tile, at);
    Fragments c = {}, own_values = {};
    Fragments& f = IS_DENSE ? c : own_values;  // a dense solve forgets its sums
    unsigned sent[TILE_M] = {};
    clear_kept(kept);
    load_resident(weights, at);
    int row = -1, live = 0;
    bool is_open = true;  // for this thread's slot, until the queue is empty
    for (;;) {
        if (at.thread < TILE_ROWS) {
            const bool may_take = is_open && (task.has(IS_SWAPPING) || live == 0);
            row = take_row(task, slots, at.thread, row, may_take);
            if (may_take && row < 0) is_open = false;
        }
        if (__syncthreads_count(row >= 0) == 0) break;
        load_rows<IS_DENSE>(task, slots, at, kept, c);
        if constexpr (IS_DENSE) {
            c = {};
            multiply_dense(tile, slots, weights, at, task.entry, task.entry_step, task.has(HAS_ENTRY), task.n, kept, c);
        } else {
            load_phases(task, slots, at, f);  // they are on their way while the tile is multiplied
            const int has_odd = __syncthreads_or(gate_rows(task, slots, at, tile, kept, sent));
            const unsigned quiet = weights.is_finite ? quiet_groups(slots, at) : 0u;
            if (quiet != (1u << TILE_M) - 1u) multiply_tile(tile, weights, at, 0, quiet, has_odd, c);
            __syncthreads();
        }
        value_rows<IS_DENSE>(task, slots, at, partial, kept, c, f);
        __syncthreads();
        if (row >= 0) row = decide_row<IS_DENSE>(task, slots, at, partial, row);
        __syncthreads();
        step_rows<IS_DENSE>(task, slots, at, kept, sent, c, f);
        live = __syncthreads_count(row >= 0);
    }
}

// Accumulators of a dense start (D-5) for the rows that have made no evaluation: a_in = A (z0 + entry).
__device__ __forceinline__ void start_rows(
    long long batch, int n, int width, int parts, int resident, int is_finite_weight, const int* pieces, const float* z0,
    const float* entry, long long entry_step, const long long* before, float* a_in, unsigned char* room
) {
    __shared__ Slots slots;
    const Place at = place_of(width);
    TileWeights weights = {reinterpret_cast<const uint4*>(pieces), reinterpret_cast<uint4*>(room), parts, width / 16, resident,
                           is_finite_weight};
    unsigned short* tile = reinterpret_cast<unsigned short*>(room + (size_t)resident * width * 32);
    const Kept kept = kept_of(tile, at);
    load_resident(weights, at);
    for (long long first = (long long)blockIdx.x * TILE_ROWS; first < batch; first += (long long)gridDim.x * TILE_ROWS) {
        if (at.thread < TILE_ROWS) {
            const long long row = first + at.thread;
            slots.row[at.thread] = row < batch && before[row] == 0 ? (int)row : -1;
        }
        __syncthreads();
        Fragments c = {};
        FOR_ROWS(m, h) {
            const int row = slots.row[at.slot(m, h)];
            FOR_PAIRS(t) {
                const float2 zero = make_float2(0.0f, 0.0f);
                kept.z[kept.index(m, h, t)] = row >= 0 ? read_pair(z0, (long long)row * n, at.column(t), n) : zero;
            }
        }
        multiply_dense(tile, slots, weights, at, entry, entry_step, entry_step >= 0, n, kept, c);
        FOR_ROWS(m, h) {
            const int row = slots.row[at.slot(m, h)];
            FOR_PAIRS(t) {
                if (row >= 0)
                    write_pair(a_in, (long long)row * n, at.column(t), n, c.at[m][t][2 * h], c.at[m][t][2 * h + 1]);
            }
        }
        __syncthreads();
    }
}

#define ROW_TILE_ARGUMENTS \
    long long batch, int n, int width, int parts, int resident, int flags, int activation, int max_eval, int window, float slope, \
        float alpha, float beta, double rtol, double atol, double eps, double divergence, double ratio, const float *threshold, \
        const int *pieces, const float *z0, const float *entry, long long entry_step, const float *bias, const float *phase, \
        long long phase_step, const float *filter, long long filter_step, const float *r_in, const float *a_in, \
        const long long *before, int *queue, float *z, float *r, float *a, unsigned char *mask, long long *status, \
        long long *n_eval, double *norms, long long *sent, long long *nonzero, double *history, unsigned char *t_active, \
        float *t_z, float *t_f, double *t_norms, float *t_r, unsigned char *t_mask, float *t_a, float *t_linear, \
        float *t_activated

#define ROW_TILE_TASK \
    { \
        batch, n, width, parts, resident, flags, activation, slope, alpha, beta, {max_eval, window, rtol, atol, eps, divergence, ratio}, \
            threshold, pieces, z0, entry, entry_step, bias, phase, phase_step, filter, filter_step, r_in, a_in, before, \
            queue, z, r, a, mask, status, n_eval, norms, sent, nonzero, history, t_active, t_z, t_f, t_norms, t_r, \
            t_mask, t_a, t_linear, t_activated \
    }

#define ROW_TILE_START_ARGUMENTS \
    long long batch, int n, int width, int parts, int resident, int is_finite_weight, const int *pieces, const float *z0, \
        const float *entry, long long entry_step, const long long *before, float *a_in
