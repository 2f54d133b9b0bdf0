// Activations by their position in refdeq.fc_pattern.ACTIVATIONS, strict in both orders (N-8).
#pragma once

#include "strict.cuh"

__device__ inline REAL activated(long long kind, REAL slope, REAL x) {
    switch (kind) {
        case 1: return x <= 0 ? (REAL)0 : x;  // NaN stays
        case 2: return x < 0 ? slope * x : x;
        case 3: return (REAL)strict_tanh((double)x);
        case 4: return (REAL)strict_sigmoid((double)x);
        case 5: return (REAL)strict_sin((double)x);
        case 6: return (REAL)strict_cos((double)x);
        default: return x;
    }
}
