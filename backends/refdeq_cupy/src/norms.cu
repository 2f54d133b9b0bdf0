// Norms and inner products by the pinned tree of S-2: 32 lanes of ascending stride, then the lanes in ascending order. A warp
// for each entry, so that a lane of the tree is a lane of the warp. Linear combinations in float64, rounded once (S-7, S-8).
#include "lists.cuh"

__device__ __forceinline__ double larger(double a, double b) { return b > a || b != b ? b : a; }

// Goes on with the lanes of a sample over one part of its state; element k belongs to lane (offset + k) % 32.
extern "C" __global__ void residual_part(
    const int* rows, long long count, long long n, const REAL* f, const REAL* z, long long offset, int is_linf, double* lanes,
    double* lanes_of_f
) {
    if (blockIdx.x >= count) return;
    const long long sample = rows[blockIdx.x], at = sample * 32 + threadIdx.x;
    double change = lanes[at], size = lanes_of_f[at];
    for (long long k = (threadIdx.x - offset) & 31; k < n; k += 32) {
        const double value = static_cast<double>(f[sample * n + k]);
        const double difference = value - static_cast<double>(z[sample * n + k]);
        if (is_linf) {
            change = larger(change, fabs(difference));
            size = larger(size, fabs(value));
        } else {
            change = change + difference * difference;
            size = size + value * value;
        }
    }
    lanes[at] = change;
    lanes_of_f[at] = size;
}

__device__ __forceinline__ double finish_lanes(const double* lanes, int is_linf) {
    double total = 0.0;
    for (int lane = 0; lane < 32; lane++) total = is_linf ? larger(total, lanes[lane]) : total + lanes[lane];
    return is_linf ? total : sqrt(total);
}

// norms[2 b] is that of f - z, norms[2 b + 1] that of f.
extern "C" __global__ void residual_finish(
    const int* rows, long long count, int is_linf, const double* lanes, const double* lanes_of_f, double* norms
) {
    if (blockIdx.x >= count || threadIdx.x >= 2) return;
    const long long sample = rows[blockIdx.x];
    norms[2 * sample + threadIdx.x] = finish_lanes((threadIdx.x ? lanes_of_f : lanes) + sample * 32, is_linf);
}

extern "C" __global__ void inner(
    const int* rows, long long count, long long n, long long columns, long long which, const REAL* column, const REAL* row,
    double* out
) {
    if (blockIdx.x >= count) return;
    const long long sample = rows[blockIdx.x];
    double of_lane = 0.0, total = 0.0;
    for (long long k = threadIdx.x; k < n; k += 32)
        of_lane = of_lane + static_cast<double>(column[sample * n + k]) * static_cast<double>(row[sample * n + k]);
    for (int lane = 0; lane < 32; lane++) total = total + __shfl_sync(0xFFFFFFFFu, of_lane, lane);
    if (threadIdx.x == 0) out[sample * columns + which] = total;
}

// Where the weight is 0 nothing is read: a column that was never written stays out.
extern "C" __global__ void combine_add(
    const int* rows, long long count, long long n, long long columns, long long which, const REAL* column,
    const double* weights, double* total
) {
    FLAT_LOOP(i, count * n) {
        const Element element = element_of(rows, n, i);
        const double weight = weights[element.sample * columns + which];
        if (weight != 0.0) total[element.at(n)] = total[element.at(n)] + weight * static_cast<double>(column[element.at(n)]);
    }
}

extern "C" __global__ void combine_round(const int* rows, long long count, long long n, const double* total, REAL* out) {
    FLAT_LOOP(i, count * n) {
        const long long at = element_of(rows, n, i).at(n);
        out[at] = static_cast<REAL>(total[at]);
    }
}
