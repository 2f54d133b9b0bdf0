// One element of a gate: difference, decision, what is sent, what is remembered (D-1 to D-4). Choices as in refdeq_gpu.choices.
#pragma once

#include "rounding.cuh"

enum Compare { GREATER = 0, GREATER_OR_EQUAL = 1 };
enum Memory { SENT = 0, ALWAYS = 1, FEEDBACK = 2 };
enum DeltaDtype { AS_IS = 0, FLOAT32 = 1, FLOAT16 = 2 };
enum FeedbackFormat { TO_FLOAT16 = 0, TO_BFLOAT16 = 1 };

// D-1; the difference of two float16 numbers is exact in float64, so that it is rounded once.
__device__ __forceinline__ REAL difference_of(REAL u, REAL r, int delta_dtype) {
    if (delta_dtype == FLOAT32) return static_cast<REAL>(static_cast<float>(u) - static_cast<float>(r));
    if (delta_dtype == FLOAT16)
        return static_cast<REAL>(
            round_to_float16(round_to_float16(static_cast<double>(u)) - round_to_float16(static_cast<double>(r)))
        );
    return u - r;
}

// D-2, written as a negation so that NaN is always sent.
__device__ __forceinline__ bool is_sent(REAL delta, REAL threshold, int compare) {
    const REAL size = delta < 0 ? -delta : delta;
    return compare == GREATER_OR_EQUAL ? !(size < threshold) : !(size <= threshold);
}

// D-3 and D-4: the gated difference, and the reference in place.
__device__ __forceinline__ REAL pass_gate(REAL u, REAL delta, bool sent, int memory, int feedback_format, REAL& r) {
    REAL gated = sent ? delta : REAL(0);
    if (memory == FEEDBACK) {
        const double wide = static_cast<double>(gated);
        gated = static_cast<REAL>(feedback_format == TO_BFLOAT16 ? round_to_bfloat16(wide) : round_to_float16(wide));
        if (sent) r = r + gated;
    } else if (memory == ALWAYS || sent) {
        r = u;
    }
    return gated;
}
