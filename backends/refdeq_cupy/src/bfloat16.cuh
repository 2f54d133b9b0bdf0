// Numbers in bfloat16: rounding to nearest even, and a float32 as a sum of up to three of them (D-4; docs/bounds.md, section 3).
#pragma once

__device__ __forceinline__ bool is_finite(float x) { return fabsf(x) <= 3.402823466e+38f; }

// The 16 bits of x rounded to nearest even; overflow gives infinity, subnormals are kept, NaN stays NaN.
__device__ __forceinline__ unsigned bfloat16_bits(float x) {
    const unsigned bits = __float_as_uint(x);
    if (x != x) return (bits >> 16) | 0x40u;
    return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

__device__ __forceinline__ float from_bfloat16(unsigned bits) { return __uint_as_float(bits << 16); }

__device__ __forceinline__ float round_to_bfloat16(float x) { return from_bfloat16(bfloat16_bits(x)); }

// Part `which` of x = part 0 + part 1 + part 2: each rounds what the parts before it left. What is not finite has part 0 only.
__device__ __forceinline__ float bfloat16_part(float x, int which) {
    float part = round_to_bfloat16(x);
    for (int i = 0; i < which; ++i) {
        x = is_finite(part) ? x - part : 0.0f;
        part = round_to_bfloat16(x);
    }
    return part;
}

// Two bfloat16 numbers in one word, the first in the low half, as the fragments of an mma hold them.
__device__ __forceinline__ unsigned pack_bfloat16(float first, float second) {
    return bfloat16_bits(first) | (bfloat16_bits(second) << 16);
}

// The word with +0 in place of infinities and NaN: later parts have none of what is not finite.
__device__ __forceinline__ unsigned finite_halves(unsigned word) {
    const unsigned low = (word & 0x7f80u) == 0x7f80u ? 0u : word & 0xffffu;
    const unsigned high = (word & 0x7f800000u) == 0x7f800000u ? 0u : word & 0xffff0000u;
    return low | high;
}
