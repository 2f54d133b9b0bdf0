// The stop rule of a row (S-3), as refdeq.stopping decides it; the numbers of a status are those of refdeq.types.Status.
#pragma once

struct StopRule {
    int max_eval, window;  // window 0: no stagnation
    double rtol, atol, eps, divergence, ratio;  // negative: not asked for
};

// The larger of two numbers; NaN wins.
__device__ __forceinline__ double larger(double a, double b) { return b > a || b != b ? b : a; }

__device__ __forceinline__ bool is_finite_double(double x) { return fabs(x) <= 1.7976931348623157e308; }

// Whether the lowest of the last w residuals is not below q times the lowest before them. `history` has, for one row, its first
// residual, the lowest of those that left the ring, and the ring of w.
__device__ __forceinline__ bool is_stagnated(const StopRule& stop, double distance, int made, double* history) {
    if (made == 1) {
        history[0] = distance;
        history[1] = __longlong_as_double(0x7ff0000000000000LL);
    }
    if (stop.window == 0) return false;
    double* ring = history + 2;
    const int place = (made - 1) % stop.window;
    if (made > stop.window) history[1] = ring[place] < history[1] ? ring[place] : history[1];
    ring[place] = distance;
    if (made <= stop.window) return false;
    double lowest = ring[0];
    for (int i = 1; i < stop.window; ++i) lowest = ring[i] < lowest ? ring[i] : lowest;
    return !(lowest < stop.ratio * history[1]);
}

// Status after evaluation number `made`: the first that applies, in the order of the clause; 0 goes on.
__device__ __forceinline__ int decide(const StopRule& stop, double distance, double scale, int made, double* history) {
    const bool is_stalled = is_stagnated(stop, distance, made, history);
    if (!(is_finite_double(distance) && is_finite_double(scale))) return 3;
    if (stop.atol >= 0.0 && distance <= stop.atol) return 1;
    if (stop.rtol >= 0.0 && distance / (scale + stop.eps) <= stop.rtol) return 1;
    if (stop.divergence > 0.0 && distance > stop.divergence * history[0]) return 4;
    if (is_stalled) return 5;
    return made >= stop.max_eval ? 2 : 0;
}
