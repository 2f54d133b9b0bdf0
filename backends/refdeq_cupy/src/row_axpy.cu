// K2c: solves of independent rows, evaluation by evaluation, by lists of what each row sends. A warp has a row.
//
// row_gate decides and lists, row_axpy adds the listed columns; row_finish.cu makes values, measures, decides and steps. Rows that
// are final are skipped by all of them until the host shortens the list of rows. Sums run over ascending columns, so that with
// row_axpy in the place of row_axpy_fma everything is the strict order (N-6) and agrees with the reference bit for bit.
#include "gate_rule.cuh"
#include "row_flags.cuh"
#include "row_warps.cuh"

#define BLOCK_COLUMNS 128  // columns between two entries of `ends`

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

// Two blocks at a time, as many as slices leave room for: left to itself the compiler saves registers for more, and spills.
#define ROW_AXPY(name, is_fused) \
    extern "C" __global__ void __launch_bounds__(256, 2) name( \
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
