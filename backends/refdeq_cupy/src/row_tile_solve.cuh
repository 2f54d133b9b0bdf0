// K2: a block solves a tile of rows at a time, each to its end, with everything that an evaluation needs on chip.
//
// A thread holds its elements of the accumulators and of the values in registers; arguments and references lie in slots of its own
// in shared memory, the tile of gated differences in bfloat16 beside them. A row that is final writes its results and makes
// room for the next one of a queue. What a row computes depends neither on its slot nor on the rows beside it: the sums of an mma
// run over the inner index alone, and the norms are added in an order that only knows columns.
#pragma once

#include "activation_fast.cuh"
#include "row_tile_task.cuh"

#define IS_FIRST 1  // dense start: the reference takes the value, the accumulator is already there
#define IS_NEW 2
#define IS_FINAL 4
#define EVERY_LANE 0xffffffffu

struct Slots {
    int row[TILE_ROWS];     // -1: empty
    int made[TILE_ROWS];    // evaluations before the current one
    int counts[TILE_ROWS];  // sent elements, and from bit 16 on those whose sent difference is not zero
    int state[TILE_ROWS];
};

// What a thread keeps in shared memory of every two neighbouring elements: nobody else reads or writes it.
struct Kept {
    float2 *z, *r;
    int stride;
    __device__ __forceinline__ int index(int m, int h, int t) const { return ((m * 2 + h) * 4 + t) * stride; }
};

__device__ __forceinline__ int sum_of_quad(int x) {
    x += __shfl_xor_sync(EVERY_LANE, x, 1);
    return x + __shfl_xor_sync(EVERY_LANE, x, 2);
}

__device__ __forceinline__ double quad_norm(double x, bool is_linf) {
    double y = __shfl_xor_sync(EVERY_LANE, x, 1);
    x = is_linf ? larger(x, y) : x + y;
    y = __shfl_xor_sync(EVERY_LANE, x, 2);
    return is_linf ? larger(x, y) : x + y;
}

// The watched values (z, or z + entry) of two neighbouring elements.
__device__ __forceinline__ float2 watched_pair(
    const float* entry, long long step, bool has_entry, int row, int column, int n, float first, float second
) {
    if (has_entry && row >= 0) {
        const float2 p = read_pair(entry, row * step, column, n);
        return make_float2(first + p.x, second + p.y);
    }
    return make_float2(first, second);
}

// c += A u for all rows of the tile, u in as many bfloat16 parts as the weight has; the smallest part first, so that what it
// rounds is small too.
__device__ __forceinline__ void multiply_dense(
    unsigned short* tile, const Slots& slots, const TileWeights& weights, const Place& at, const float* entry, long long step,
    bool has_entry, int n, const Kept& kept, Fragments& c
) {
    for (int p = weights.parts - 1; p >= 0; --p) {
        int is_odd = 0, is_any = 0;
        FOR_ROWS(m, h) {
            const int slot = at.slot(m, h), row = slots.row[slot];
            FOR_PAIRS(t) {
                const int column = at.column(t);
                const float2 own = kept.z[kept.index(m, h, t)];
                const float2 u = watched_pair(entry, step, has_entry, row, column, n, own.x, own.y);
                const bool is_first_in = row >= 0 && column < n, is_second_in = row >= 0 && column + 1 < n;
                const float first = is_first_in ? bfloat16_part(u.x, p) : 0.0f;
                const float second = is_second_in ? bfloat16_part(u.y, p) : 0.0f;
                is_any |= first != 0.0f || second != 0.0f;
                is_odd |= !is_finite(first) || !is_finite(second);
                tile_write(tile, slot, column, at.width, pack_bfloat16(first, second));
            }
        }
        const int has_odd = __syncthreads_or(is_odd);
        if (__syncthreads_or(is_any) || !weights.is_finite) multiply_tile(tile, weights, at, p, 0u, has_odd, c);
        __syncthreads();
    }
}

// Bring the rows that came into a slot: argument, reference and accumulator.
template <bool IS_DENSE>
__device__ __forceinline__ void load_rows(const Task& task, const Slots& slots, const Place& at, const Kept& kept,
                                          Fragments& c) {
    FOR_ROWS(m, h) {
        const int slot = at.slot(m, h), row = slots.row[slot], state = slots.state[slot];
        if (state & IS_NEW) {
            const long long base = (long long)row * task.n;
            FOR_PAIRS(t) {
                const int column = at.column(t);
                kept.z[kept.index(m, h, t)] = read_pair(task.z0, base, column, task.n);
                if (!IS_DENSE) {
                    const bool is_kept = task.has(HAS_MEMORY) && !(state & IS_FIRST);
                    const float2 zero = make_float2(0.0f, 0.0f);
                    const float2 a = is_kept ? read_pair(task.a_in, base, column, task.n) : zero;
                    c.at[m][t][2 * h] = a.x + 0.0f;  // never -0: what zero products add then changes no bits
                    c.at[m][t][2 * h + 1] = a.y + 0.0f;
                    kept.r[kept.index(m, h, t)] = is_kept ? read_pair(task.r_in, base, column, task.n) : zero;
                }
            }
        }
    }
}

// Decide what is sent, write the tile of gated differences, update the references (D-1 to D-5).
__device__ __forceinline__ int gate_rows(const Task& task, Slots& slots, const Place& at, unsigned short* tile,
                                         const Kept& kept, unsigned (&sent)[TILE_M]) {
    int is_odd = 0;
    FOR_ROWS(m, h) {
        const int slot = at.slot(m, h), row = slots.row[slot];
        const bool is_first = (slots.state[slot] & IS_FIRST) != 0;
        int counts = 0;
        if (h == 0) sent[m] = 0;
        FOR_PAIRS(t) {
            const int column = at.column(t);
            const float2 own = kept.z[kept.index(m, h, t)];
            const float2 u = watched_pair(
                task.entry, task.entry_step, task.has(HAS_ENTRY), row, column, task.n, own.x, own.y);
            float2 pair = kept.r[kept.index(m, h, t)];
            float q[2];
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const bool is_inside = row >= 0 && column + e < task.n;
                const float value = e ? u.y : u.x, reference = e ? pair.y : pair.x;
                const float difference = value - reference, size = fabsf(difference);
                const float threshold = is_inside ? task.threshold[column + e] : 0.0f;
                const bool is_quiet = task.has(IS_GE) ? size < threshold : size <= threshold;
                const bool is_sent = is_inside && (is_first || !is_quiet);
                const float rounded = round_to_bfloat16(difference);
                q[e] = is_sent && !is_first ? rounded : 0.0f;
                const float next = is_first ? value : reference + rounded;
                if (is_sent) (e ? pair.y : pair.x) = next;
                const float counted = is_first ? value : rounded;
                counts += is_sent ? (counted != 0.0f ? 0x10001 : 1) : 0;
                sent[m] |= (unsigned)is_sent << ((t * 2 + h) * 2 + e);
                is_odd |= !is_finite(q[e]);
            }
            kept.r[kept.index(m, h, t)] = pair;
            tile_write(tile, slot, column, at.width, pack_bfloat16(q[0], q[1]));
        }
        counts = sum_of_quad(counts);
        if ((at.lane & 3) == 0 && counts != 0) atomicAdd(&slots.counts[slot], counts);
    }
    return is_odd;
}

// Bits of the groups of 16 rows in which nothing is sent: their products are left out.
__device__ __forceinline__ unsigned quiet_groups(const Slots& slots, const Place& at) {
    unsigned quiet = 0;
#pragma unroll
    for (int m = 0; m < TILE_M; ++m)
        quiet |= (unsigned)!__any_sync(EVERY_LANE, slots.counts[16 * m + (at.lane & 15)] >> 16) << m;
    return quiet;
}

// The phases of the rows, into f.
__device__ __forceinline__ void load_phases(const Task& task, const Slots& slots, const Place& at, Fragments& f) {
    if (!task.has(HAS_PHASE)) return;
    FOR_ROWS(m, h) {
        const int row = slots.row[at.slot(m, h)];
        FOR_PAIRS(t) {
            const float2 zero = make_float2(0.0f, 0.0f);
            const float2 p = row >= 0 ? read_pair(task.phase, row * task.phase_step, at.column(t), task.n) : zero;
            f.at[m][t][2 * h] = p.x;
            f.at[m][t][2 * h + 1] = p.y;
        }
    }
}

// Arguments of the activation of 8 elements of a row: accumulator, bias, phase (in f, but for dense solves, which have no registers
// to spare), added in this order (E-1, D-6).
template <bool IS_DENSE>
__device__ __forceinline__ void arguments_of(const Task& task, const Place& at, int m, int h, bool is_first, int row,
                                             long long track, Fragments& c, const Fragments& f, float (&v)[8]) {
    FOR_PAIRS(t) {
        const int column = at.column(t), n = task.n;
        float(&own)[4] = c.at[m][t];
        if (is_first) {
            const float2 a = read_pair(task.a_in, (long long)row * n, column, n);
            own[2 * h] = a.x;
            own[2 * h + 1] = a.y;
        }
        float2 sum = make_float2(own[2 * h], own[2 * h + 1]);
        if (task.has(HAS_BIAS)) {
            const float2 b = read_pair(task.bias, 0, column, n);
            sum = make_float2(sum.x + b.x, sum.y + b.y);
        }
        if (IS_DENSE && task.has(IS_TRACED)) write_pair(task.t_linear, track, column, n, sum.x, sum.y);
        if (task.has(HAS_PHASE)) {
            float2 p = make_float2(f.at[m][t][2 * h], f.at[m][t][2 * h + 1]);
            if (IS_DENSE) p = read_pair(task.phase, row * task.phase_step, column, n);
            sum = make_float2(sum.x + p.x, sum.y + p.y);
        }
        v[2 * t] = sum.x;
        v[2 * t + 1] = sum.y;
    }
}

// Values f of the cell, where its phases are, and this warp's part of the norms of f - z and of f into `partial` (warps, rows, 2).
template <bool IS_DENSE>
__device__ __forceinline__ void value_rows(const Task& task, const Slots& slots, const Place& at, double* partial,
                                           const Kept& kept, Fragments& c, Fragments& f) {
    const bool is_linf = task.has(IS_LINF);
    FOR_ROWS(m, h) {
        const int slot = at.slot(m, h), row = slots.row[slot], n = task.n;
        const long long track = ((long long)slots.made[slot] * task.batch + row) * n;
        double distance = 0.0, scale = 0.0;
        if (row >= 0) {
            float v[8];
            arguments_of<IS_DENSE>(task, at, m, h, !IS_DENSE && (slots.state[slot] & IS_FIRST), row, track, c, f, v);
            fast::activate(task.activation, task.slope, v);
            FOR_PAIRS(t) {
                const int column = at.column(t);
                if (task.has(IS_TRACED) && task.has(HAS_ACTIVATION))
                    write_pair(task.t_activated, track, column, n, v[2 * t], v[2 * t + 1]);
                if (task.has(HAS_FILTER)) {
                    const float2 k = read_pair(task.filter, row * task.filter_step, column, n);
                    v[2 * t] = v[2 * t] * k.x;
                    v[2 * t + 1] = v[2 * t + 1] * k.y;
                }
                const float2 z = kept.z[kept.index(m, h, t)];
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    const float value = column + e < n ? v[2 * t + e] : 0.0f;
                    const double wide = value, error = wide - (double)(e ? z.y : z.x);
                    f.at[m][t][2 * h + e] = value;
                    distance = is_linf ? larger(distance, fabs(error)) : distance + error * error;
                    scale = is_linf ? larger(scale, fabs(wide)) : scale + wide * wide;
                }
            }
        }
        distance = quad_norm(distance, is_linf);
        scale = quad_norm(scale, is_linf);
        if ((at.lane & 3) == 0) {
            partial[(at.warp * TILE_ROWS + slot) * 2] = distance;
            partial[(at.warp * TILE_ROWS + slot) * 2 + 1] = scale;
        }
    }
}

// The thread of a slot adds up its norms over the warps and decides (S-2, S-3); returns the row, or -1 when it is final.
template <bool IS_DENSE>
__device__ __forceinline__ int decide_row(const Task& task, Slots& slots, const Place& at, const double* partial, int row) {
    const int slot = at.thread;
    double distance = 0.0, scale = 0.0;
    for (int warp = 0; warp < at.warps; ++warp) {
        const double* own = partial + (warp * TILE_ROWS + slot) * 2;
        distance = task.has(IS_LINF) ? larger(distance, own[0]) : distance + own[0];
        scale = task.has(IS_LINF) ? larger(scale, own[1]) : scale + own[1];
    }
    if (!task.has(IS_LINF)) {
        distance = sqrt(distance);
        scale = sqrt(scale);
    }
    const int k = slots.made[slot];
    if (!IS_DENSE) {
        task.sent[row] += slots.counts[slot] & 0xffff;
        task.nonzero[row] += slots.counts[slot] >> 16;
    }
    if (task.has(IS_TRACED)) {
        const long long track = (long long)k * task.batch + row;
        task.t_active[track] = 1;
        task.t_norms[2 * track] = distance;
        task.t_norms[2 * track + 1] = scale;
    }
    const int status = decide(task.stop, distance, scale, k + 1, task.history + row * (task.stop.window + 2LL));
    if (status == 0) return row;
    slots.state[slot] |= IS_FINAL;
    task.status[row] = status;
    task.n_eval[row] = k + 1;
    task.norms[2 * row] = distance;
    task.norms[2 * row + 1] = scale;
    return -1;
}

// Trace, results of final rows, next arguments of the others (S-4, S-6).
template <bool IS_DENSE>
__device__ __forceinline__ void step_rows(const Task& task, const Slots& slots, const Place& at, const Kept& kept,
                                          const unsigned (&sent)[TILE_M], const Fragments& c, const Fragments& f) {
    const int n = task.n;
    FOR_ROWS(m, h) {
        const int slot = at.slot(m, h), row = slots.row[slot];
        if (row >= 0) {
            const long long base = (long long)row * n;
            const long long track = ((long long)slots.made[slot] * task.batch + row) * n;
            const bool is_final = (slots.state[slot] & IS_FINAL) != 0;
            FOR_PAIRS(t) {
                const int column = at.column(t);
                const float2 own = kept.z[kept.index(m, h, t)], r = kept.r[kept.index(m, h, t)];
                const float *value = f.at[m][t], *sum = c.at[m][t];
                const unsigned bits = sent[m] >> ((t * 2 + h) * 2);
                const int e = 2 * h;
                if (task.has(IS_TRACED)) {
                    write_pair(task.t_z, track, column, n, own.x, own.y);
                    write_pair(task.t_f, track, column, n, value[e], value[e + 1]);
                    if (!IS_DENSE) {
                        write_pair(task.t_r, track, column, n, r.x, r.y);
                        write_pair(task.t_a, track, column, n, sum[e], sum[e + 1]);
                        write_flags(task.t_mask, track, column, n, bits);
                    }
                }
                if (is_final) {
                    write_pair(task.z, base, column, n, own.x, own.y);
                    if (!IS_DENSE) {
                        write_pair(task.r, base, column, n, r.x, r.y);
                        write_pair(task.a, base, column, n, sum[e], sum[e + 1]);
                        write_flags(task.mask, base, column, n, bits);
                    }
                } else if (task.has(IS_PICARD)) {
                    kept.z[kept.index(m, h, t)] = make_float2(value[e], value[e + 1]);
                } else {
                    kept.z[kept.index(m, h, t)] = make_float2(
                        task.beta * own.x + task.alpha * value[e], task.beta * own.y + task.alpha * value[e + 1]);
                }
            }
        }
    }
}
