// What a solve of rows reads, writes and decides: arguments, access to rows, the stop rule.
#pragma once

#include "row_flags.cuh"
#include "row_stop.cuh"
#include "row_tile_product.cuh"

struct Task {
    long long batch;
    int n, width, parts, resident, flags, activation;
    float slope, alpha, beta;
    StopRule stop;
    const float* threshold;
    const int* pieces;
    const float* z0;
    const float* entry;
    long long entry_step;
    const float* bias;
    const float* phase;
    long long phase_step;
    const float* filter;
    long long filter_step;
    const float* r_in;
    const float* a_in;
    const long long* before;
    int* queue;
    float *z, *r, *a;
    unsigned char* mask;
    long long *status, *n_eval;
    double* norms;
    long long *sent, *nonzero;
    double* history;
    unsigned char* t_active;
    float *t_z, *t_f;
    double* t_norms;
    float* t_r;
    unsigned char* t_mask;
    float *t_a, *t_linear, *t_activated;

    __device__ __forceinline__ bool has(int flag) const { return (flags & flag) != 0; }
};

// Two neighbouring elements of a row of n; what is beyond its end reads as +0 and is not written. `column` is even. Writing is rare
// (a row's end, a trace), and no part of the loop that is worth its instructions.
__device__ __forceinline__ float2 read_pair(const float* x, long long base, int column, int n) {
    if ((n & 1) == 0) {
        if (column < n) return *reinterpret_cast<const float2*>(x + base + column);
        return make_float2(0.0f, 0.0f);
    }
    return make_float2(column < n ? x[base + column] : 0.0f, column + 1 < n ? x[base + column + 1] : 0.0f);
}

__device__ __noinline__ void write_pair(float* x, long long base, int column, int n, float first, float second) {
    if ((n & 1) == 0) {
        if (column < n) *reinterpret_cast<float2*>(x + base + column) = make_float2(first, second);
        return;
    }
    if (column < n) x[base + column] = first;
    if (column + 1 < n) x[base + column + 1] = second;
}

__device__ __noinline__ void write_flags(unsigned char* x, long long base, int column, int n, unsigned bits) {
    if (column < n) x[base + column] = bits & 1u;
    if (column + 1 < n) x[base + column + 1] = (bits >> 1) & 1u;
}
