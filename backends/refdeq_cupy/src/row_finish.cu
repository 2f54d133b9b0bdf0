// Second half of an evaluation of independent rows: value, norms, decision, trace and step. A warp has a row.
#include "fc_activations.cuh"
#include "row_flags.cuh"
#include "row_stop.cuh"
#include "row_warps.cuh"

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
