// Residual and scale of an evaluation by the pinned tree of S-2, and the decision of S-3. The first block does this while the
// others add columns, and leaves its verdict for all of them to read after the barrier.
#pragma once

#include "fc_layout.cuh"
#include "strict.cuh"

// Stage elements of f and of its argument, from `first` on. The two warps that walk along them leave it to the others, if any.
__device__ inline void stage_values(const Solve& s, Shared& m, long long first, REAL* buffer) {
    const REAL *f = s.f(), *z = s.argument();
    const int idle = blockDim.x > 64 ? 64 : 0;
    if (threadIdx.x < idle) return;
    for (int i = threadIdx.x - idle; i < VALUES && first + i < s.n(); i += blockDim.x - idle) {
        buffer[i] = f[first + i];
        buffer[VALUES + i] = z[first + i];
    }
}

// One lane of the tree goes on over a staged chunk: lane l adds elements l, l + 32, ... in ascending order (chunks are whole rows
// of 32). In the maximum norm a NaN stays, because every comparison with it is false.
__device__ inline double go_on(const Solve& s, const REAL* buffer, int many, bool is_scale, double lane) {
    const bool is_linf = s.choice[IS_LINF];
    for (int i = threadIdx.x % 32; i < many; i += 32) {
        const double value = buffer[i], distance = value - (double)buffer[VALUES + i];
        const double term = is_scale ? value : distance;
        if (is_linf) {
            const double size = fabs(term);
            lane = size <= lane || lane != lane ? lane : size;
        } else {
            const double square = term * term;
            lane = lane + square;
        }
    }
    return lane;
}

// The lanes in ascending order.
__device__ inline double finished(const double* lane, bool is_linf) {
    double total = 0;
    for (int l = 0; l < 32; l++) {
        if (is_linf) {
            total = lane[l] <= total || total != total ? total : lane[l];
        } else {
            total = total + lane[l];
        }
    }
    return is_linf ? total : sqrt(total);
}

// Residual and scale into `m.measure`: the first warp walks along one, the second along the other, all threads stage.
__device__ inline void measure(const Solve& s, Shared& m) {
    const int warp = threadIdx.x / 32;
    double lane = 0;
    stage_values(s, m, 0, m.pool);
    for (long long first = 0; first < s.n(); first += VALUES) {
        REAL* buffer = m.pool + (first / VALUES & 1) * 2 * VALUES;
        __syncthreads();  // what is staged is there, and nobody reads the other buffer any more
        if (first + VALUES < s.n()) stage_values(s, m, first + VALUES, m.pool + (first / VALUES + 1 & 1) * 2 * VALUES);
        const long long left = s.n() - first;
        if (warp < 2) lane = go_on(s, buffer, left < VALUES ? (int)left : VALUES, warp == 1, lane);
    }
    if (warp < 2) m.lane[threadIdx.x] = lane;
    __syncthreads();
    if (threadIdx.x == 0) m.measure[DISTANCE] = finished(m.lane, s.choice[IS_LINF]);
    if (threadIdx.x == 32) m.measure[SCALE] = finished(m.lane + 32, s.choice[IS_LINF]);
    __syncthreads();
}

// Whether the lowest of the last w residuals is not below q times the lowest before them (S-3). A ring keeps the w + 1 last.
__device__ inline bool is_stagnated(const Solve& s, Shared& m) {
    const long long window = s.choice[WINDOW], made = m.control[MADE];
    if (window == 0) return false;
    double* recent = s.numbers + s.choice[RECENT_AT];
    const double distance = m.measure[DISTANCE];
    recent[(made - 1) % (window + 1)] = distance;
    if (made == 1) m.measure[OLDER] = strict_infinity();
    if (made <= window) return false;
    const double leaving = recent[(made - 1 - window) % (window + 1)];
    if (leaving < m.measure[OLDER]) m.measure[OLDER] = leaving;
    double lowest = distance;
    for (long long back = 1; back < window; back++) {
        const double value = recent[(made - 1 - back) % (window + 1)];
        if (value < lowest) lowest = value;
    }
    return !(lowest < s.limit[RATIO] * m.measure[OLDER]);
}

// Status of refdeq.types.Status after an evaluation: the first that applies in the order of S-3.
__device__ inline int decided(const Solve& s, Shared& m) {
    const double distance = m.measure[DISTANCE], scale = m.measure[SCALE];
    const bool is_stalled = is_stagnated(s, m);
    if (m.control[MADE] == 1) m.measure[FIRST] = distance;
    if (!(isfinite(distance) && isfinite(scale))) return 3;
    if (s.limit[ATOL] >= 0 && distance <= s.limit[ATOL]) return 1;
    if (s.limit[RTOL] >= 0 && distance / (scale + s.limit[EPS]) <= s.limit[RTOL]) return 1;
    if (s.limit[DIVERGENCE] > 0 && distance > s.limit[DIVERGENCE] * m.measure[FIRST]) return 4;
    if (is_stalled) return 5;
    return m.control[MADE] >= s.choice[MAX_EVAL] ? 2 : 0;
}

// Judge the evaluation that the last step finished, by the first block; leave the verdict, and write what is known of it.
__device__ inline void judge(const Solve& s, Shared& m) {
    const long long sample = m.control[SAMPLE], made = m.control[MADE], batch = s.choice[BATCH];
    if (made > 0) measure(s, m);
    if (threadIdx.x != 0) return;
    const int status = made > 0 ? decided(s, m) : 0;
    s.words[VERDICT_AT] = status;
    if (made > 0 && s.choice[TRACE_RESIDUAL] >= 0) {
        s.numbers[s.choice[TRACE_RESIDUAL] + (made - 1) * batch + sample] = m.measure[DISTANCE];
        s.numbers[s.choice[TRACE_SCALE] + (made - 1) * batch + sample] = m.measure[SCALE];
    }
    if (status != 0) {
        s.numbers[sample] = m.measure[DISTANCE];
        s.numbers[batch + sample] = m.measure[SCALE];
        s.counter(STATUS, sample) = status;
        s.counter(N_EVAL, sample) = made;
        s.counter(EVALUATIONS, sample) = m.control[COUNT];
    }
}
