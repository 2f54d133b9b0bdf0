// Elementwise operators: one rounding per operation, never contracted.
#include "lists.cuh"

#define UNARY(name, parameter, expression)                                                                               \
    extern "C" __global__ void name(const int* rows, long long count, long long n, const REAL* x parameter, REAL* out) { \
        FLAT_LOOP(i, count * n) {                                                                                        \
            const long long at = element_of(rows, n, i).at(n);                                                           \
            const REAL value = x[at];                                                                                    \
            out[at] = expression;                                                                                        \
        }                                                                                                                \
    }
#define NOTHING
#define ALPHA , REAL alpha

UNARY(neg, NOTHING, -value)
UNARY(relu, NOTHING, value <= 0 ? REAL(0) : value)
UNARY(leaky_relu, ALPHA, value < 0 ? alpha * value : value)

// A step is n, or 0 for a parameter, which every sample reads.
#define BINARY(name, operation)                                                                                          \
    extern "C" __global__ void name(                                                                                     \
        const int* rows, long long count, long long n, const REAL* x, long long x_step, const REAL* y, long long y_step, \
        REAL* out                                                                                                        \
    ) {                                                                                                                  \
        FLAT_LOOP(i, count * n) {                                                                                        \
            const Element element = element_of(rows, n, i);                                                              \
            out[element.at(n)] = x[element.at(x_step)] operation y[element.at(y_step)];                                  \
        }                                                                                                                \
    }

BINARY(add, +)
BINARY(sub, -)
BINARY(mul, *)

// S-6: fl(fl(beta z) + fl(alpha f)); out may be z.
extern "C" __global__ void relax(
    const int* rows, long long count, long long n, REAL beta, const REAL* z, REAL alpha, const REAL* f, REAL* out
) {
    FLAT_LOOP(i, count * n) {
        const long long at = element_of(rows, n, i).at(n);
        out[at] = beta * z[at] + alpha * f[at];
    }
}

// D-6, N-6: fl(fl(alpha a) + fl(beta bias)); a factor of 1 changes no bits; out may be a.
extern "C" __global__ void add_bias(
    const int* rows, long long count, long long n, const REAL* a, REAL alpha, const REAL* bias, REAL beta, int has_bias,
    REAL* out
) {
    FLAT_LOOP(i, count * n) {
        const Element element = element_of(rows, n, i);
        const REAL scaled = alpha * a[element.at(n)];
        out[element.at(n)] = has_bias ? scaled + beta * bias[element.k] : scaled;
    }
}

// D-6, the folded bias of the published code.
extern "C" __global__ void fold_bias(const int* rows, long long count, long long n, const REAL* s, const REAL* bias, REAL* a) {
    FLAT_LOOP(i, count * n) {
        const Element element = element_of(rows, n, i);
        const REAL shift = bias[element.k];
        a[element.at(n)] = ((s[element.at(n)] + shift) + a[element.at(n)]) - shift;
    }
}

// Mean of `terms` elements in the order of their positions, divided once.
extern "C" __global__ void mean(
    const int* rows, long long count, long long n, long long terms, long long x_width, const REAL* x, const long long* position,
    REAL* out
) {
    FLAT_LOOP(i, count * n) {
        const Element element = element_of(rows, n, i);
        REAL total = 0;
        for (long long j = 0; j < terms; j++) total = total + x[element.sample * x_width + position[element.k * terms + j]];
        out[element.at(n)] = total / static_cast<REAL>(terms);
    }
}
