// Activations of the op level: strict in float64, rounded once to REAL (N-8).
#include "lists.cuh"
#include "strict.cuh"

#define ACTIVATION(name)                                                                                               \
    extern "C" __global__ void apply_##name(const int* rows, long long count, long long n, const REAL* x, REAL* out) { \
        FLAT_LOOP(i, count * n) {                                                                                      \
            const long long at = element_of(rows, n, i).at(n);                                                         \
            out[at] = static_cast<REAL>(strict_##name(static_cast<double>(x[at])));                                    \
        }                                                                                                              \
    }

ACTIVATION(tanh)
ACTIVATION(sigmoid)
ACTIVATION(sin)
ACTIVATION(cos)
ACTIVATION(exp)
