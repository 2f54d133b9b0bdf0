// K2c: solves of independent rows, evaluation by evaluation, by lists of what each row sends. A warp has a row.
//
// row_gate decides and lists, row_axpy adds the listed columns, row_finish makes the value, measures, decides and steps. Rows that
// are final are skipped by all of them until the host shortens the list of rows. Sums run over ascending columns, so that with
// row_axpy in the place of row_axpy_fma everything is the strict order (N-6) and agrees with the reference bit for bit.
#include "fc_activations.cuh"
#include "gate_rule.cuh"
#include "row_flags.cuh"
#include "row_stop.cuh"

#define EVERY_LANE 0xffffffffu
#define BLOCK_COLUMNS 128  // columns between two entries of `ends`

// Rows of a warp: entry i of the list for i = first, first + step, ...
#define FOR_LISTED(i, count) \
    for (long long i = (blockIdx.x * (long long)blockDim.x + threadIdx.x) >> 5; i < (count); \
         i += (gridDim.x * (long long)blockDim.x) >> 5)

struct GateChoice {
    int compare, memory, delta_dtype, feedback_format;
};

// Gate, list and count a row (D-1 to D-5, D-10). `ends` has, for every 128 columns, how many were sent before them; then all.
extern "C" __global__ void row_gate(
    const int* rows, long long count, int n, int flags, int compare, int memory, int delta_dtype, int feedback_format, int k,
    const REAL* z, const REAL* entry, long long entry_step, const REAL* threshold, const long long* before,
    const unsigned char* live, REAL* r, REAL* a, unsigned char* mask, int* index, REAL* values, int* ends, long long* sent,
    long long* nonzero
) {
    const int lane = threadIdx.x & 31, blocks = (n + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS;
    FOR_LISTED(i, count) {
        const int row = rows[i];
        if (!live[row]) continue;
        const long long base = (long long)row * n;
        const bool is_gated = flags & IS_GATED;
        const bool is_fresh = !is_gated || (k == 0 && (flags & IS_DENSE_START) && before[row] == 0);
        bool is_any = true;
        if ((flags & IS_WHOLE) && !is_fresh) {
            is_any = false;
            for (int j = lane; j < n; j += 32) {
                const REAL u = flags & HAS_ENTRY ? z[base + j] + entry[row * entry_step + j] : z[base + j];
                is_any |= is_sent(difference_of(u, r[base + j], delta_dtype), threshold[j], compare);
            }
            is_any = __any_sync(EVERY_LANE, is_any);
        }
        int length = 0, many = 0;
        for (int first = 0; first < n; first += 32) {
            if (lane == 0 && first % BLOCK_COLUMNS == 0) ends[row * (blocks + 1LL) + first / BLOCK_COLUMNS] = length;
            const int j = first + lane;
            const bool is_inside = j < n;
            REAL gated = 0;
            bool sends = false;
            if (is_inside) {
                const REAL u = flags & HAS_ENTRY ? z[base + j] + entry[row * entry_step + j] : z[base + j];
                if (is_fresh) {
                    sends = true;
                    gated = u;
                    a[base + j] = 0;
                    if (is_gated) r[base + j] = u;
                } else {
                    const REAL reference = r[base + j], delta = difference_of(u, reference, delta_dtype);
                    sends = flags & IS_WHOLE ? is_any : is_sent(delta, threshold[j], compare);
                    REAL next = reference;
                    gated = pass_gate(u, delta, sends, memory, feedback_format, next);
                    r[base + j] = next;
                }
                if (is_gated) mask[base + j] = sends;
            }
            const unsigned word = __ballot_sync(EVERY_LANE, sends);
            if (sends) {
                const int at = length + __popc(word & ((1u << lane) - 1u));
                index[base + at] = j;
                values[base + at] = gated;
            }
            length += __popc(word);
            many += __popc(__ballot_sync(EVERY_LANE, sends && gated != 0));
        }
        if (lane == 0) {
            ends[row * (blocks + 1LL) + blocks] = length;
            if (is_gated) {
                sent[row] += length;
                nonzero[row] += many;
            }
        }
    }
}

// a += listed columns of the weight, WIDE neighbouring outputs per lane. A block has one slice of 32 WIDE outputs, of which it keeps
// `span` blocks of 128 inner rows in shared memory at a time; warps go over the rows.
template <bool IS_FUSED, int WIDE>
__device__ __forceinline__ void add_listed(
    const int* rows, long long count, int n, int span, const unsigned char* live, const int* index, const REAL* values,
    const int* ends, const REAL* weight, REAL* a, REAL* slice
) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    const int blocks = (n + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS, first_output = blockIdx.x * 32 * WIDE;
    for (int from = 0; from < blocks; from += span) {
        const int first = from * BLOCK_COLUMNS, last = min(n, (from + span) * BLOCK_COLUMNS);
        __syncthreads();  // nobody reads the part before any more
        for (int i = threadIdx.x; i < (last - first) * 32 * WIDE; i += blockDim.x) {
            const int output = first_output + i % (32 * WIDE);
            slice[i] = output < n ? weight[(long long)(first + i / (32 * WIDE)) * n + output] : REAL(0);
        }
        __syncthreads();
        for (long long i = blockIdx.y * (long long)warps + warp; i < count; i += (long long)gridDim.y * warps) {
            const int row = rows[i];
            const int begin = ends[row * (blocks + 1LL) + from], end = ends[row * (blocks + 1LL) + min(blocks, from + span)];
            if (!live[row] || begin == end) continue;
            const long long base = (long long)row * n;
            const int own = first_output + lane * WIDE;
            REAL total[WIDE];
#pragma unroll
            for (int v = 0; v < WIDE; ++v) total[v] = own + v < n ? a[base + own + v] : REAL(0);
            for (int t = begin; t < end; t += 32) {
                const int many = min(32, end - t);
                const int column = lane < many ? index[base + t + lane] - first : 0;
                const REAL value = lane < many ? values[base + t + lane] : REAL(0);
                for (int s = 0; s < many; ++s) {
                    const REAL* w = slice + __shfl_sync(EVERY_LANE, column, s) * 32 * WIDE + lane * WIDE;
                    const REAL d = __shfl_sync(EVERY_LANE, value, s);
#pragma unroll
                    for (int v = 0; v < WIDE; ++v) total[v] = IS_FUSED ? fma(w[v], d, total[v]) : total[v] + w[v] * d;
                }
            }
#pragma unroll
            for (int v = 0; v < WIDE; ++v)
                if (own + v < n) a[base + own + v] = total[v];
        }
    }
}

#define ROW_AXPY(name, is_fused) \
    extern "C" __global__ void __launch_bounds__(256) name( \
        const int* rows, long long count, int n, int wide, int span, const unsigned char* live, const int* index, \
        const REAL* values, const int* ends, const REAL* weight, REAL* a \
    ) { \
        extern __shared__ __align__(16) unsigned char room[]; \
        REAL* slice = reinterpret_cast<REAL*>(room); \
        if (wide == 4) add_listed<is_fused, 4>(rows, count, n, span, live, index, values, ends, weight, a, slice); \
        if (wide == 2) add_listed<is_fused, 2>(rows, count, n, span, live, index, values, ends, weight, a, slice); \
        if (wide == 1) add_listed<is_fused, 1>(rows, count, n, span, live, index, values, ends, weight, a, slice); \
    }

ROW_AXPY(row_axpy, false)
ROW_AXPY(row_axpy_fma, true)

// Sum of 32 lanes in ascending order, or the largest of them; every lane gets it.
__device__ __forceinline__ double lanes_in_order(double own, bool is_linf) {
    double total = 0.0;
    for (int lane = 0; lane < 32; ++lane) {
        const double other = __shfl_sync(EVERY_LANE, own, lane);
        total = is_linf ? larger(total, other) : total + other;
    }
    return is_linf ? total : sqrt(total);
}

// Value of the cell, norms by the pinned tree (S-2), decision (S-3), trace (S-10), next argument (S-6) of a row. Where a row is
// final its argument stays what it was, and nothing touches the row any more.
extern "C" __global__ void row_finish(
    const int* rows, long long count, long long batch, int n, int flags, int k, int activation, int max_eval, int window,
    REAL slope, REAL alpha, REAL beta, double rtol, double atol, double eps, double divergence, double ratio, const REAL* bias,
    const REAL* phase, long long phase_step, const REAL* filter, long long filter_step, unsigned char* live, REAL* z, REAL* f,
    const REAL* r, const REAL* a, const unsigned char* mask, long long* status, long long* n_eval, double* norms,
    double* history, unsigned char* t_active, REAL* t_z, REAL* t_f, double* t_norms, REAL* t_r, unsigned char* t_mask,
    REAL* t_a, REAL* t_linear, REAL* t_activated
) {
    const int lane = threadIdx.x & 31;
    const bool is_linf = flags & IS_LINF, is_traced = flags & IS_TRACED;
    const StopRule stop = {max_eval, window, rtol, atol, eps, divergence, ratio};
    FOR_LISTED(i, count) {
        const int row = rows[i];
        if (!live[row]) continue;
        const long long base = (long long)row * n, track = ((long long)k * batch + row) * n;
        double distance = 0.0, scale = 0.0;
        for (int j = lane; j < n; j += 32) {
            REAL v = a[base + j];
            if (flags & HAS_BIAS) v = v + bias[j];
            if (is_traced && !(flags & IS_GATED)) t_linear[track + j] = v;
            if (flags & HAS_PHASE) v = v + phase[row * phase_step + j];
            v = activated(activation, slope, v);
            if (is_traced && (flags & HAS_ACTIVATION)) t_activated[track + j] = v;
            if (flags & HAS_FILTER) v = v * filter[row * filter_step + j];
            f[base + j] = v;
            const double wide = v, error = wide - (double)z[base + j];
            distance = is_linf ? larger(distance, fabs(error)) : distance + error * error;
            scale = is_linf ? larger(scale, fabs(wide)) : scale + wide * wide;
        }
        distance = lanes_in_order(distance, is_linf);
        scale = lanes_in_order(scale, is_linf);
        int reached = 0;
        if (lane == 0) {
            reached = decide(stop, distance, scale, k + 1, history + row * (window + 2LL));
            if (is_traced) {
                const long long at = (long long)k * batch + row;
                t_active[at] = 1;
                t_norms[2 * at] = distance;
                t_norms[2 * at + 1] = scale;
            }
            if (reached != 0) {
                live[row] = 0;
                status[row] = reached;
                n_eval[row] = k + 1;
                norms[2LL * row] = distance;
                norms[2LL * row + 1] = scale;
            }
        }
        reached = __shfl_sync(EVERY_LANE, reached, 0);
        for (int j = lane; j < n; j += 32) {
            const REAL value = f[base + j], argument = z[base + j];
            if (is_traced) {
                t_z[track + j] = argument;
                t_f[track + j] = value;
                if (flags & IS_GATED) {
                    t_r[track + j] = r[base + j];
                    t_a[track + j] = a[base + j];
                    t_mask[track + j] = mask[base + j];
                }
            }
            if (reached == 0) z[base + j] = flags & IS_PICARD ? value : beta * argument + alpha * value;
        }
    }
}
