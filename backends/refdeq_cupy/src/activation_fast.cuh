// Activations of fast order in float32: native (N-8), at most 2.75 ulp. The formulas, their fits and their error are those of
// refdeq_numba/fast_activations.py: multiply-adds are written as fused ones, nothing else is fused, and a result depends on its
// argument alone. Beyond 2^17 sine and cosine are reduced in float64, beyond 2^30 they are NaN.
#pragma once

#define ACT_IDENTITY 0
#define ACT_RELU 1
#define ACT_LEAKY_RELU 2
#define ACT_TANH 3
#define ACT_SIGMOID 4
#define ACT_SIN 5
#define ACT_COS 6

namespace fast {

constexpr float LOG2_E = 0x1.715476p+0f;
constexpr float LN2_1 = 0x1.62e42ep-1f, LN2_2 = 0x1.efa39ep-25f;
constexpr float TO_INTEGER = 0x1.8p+23f;            // a sum with it holds a whole number in its low bits,
constexpr float TO_EXPONENT = TO_INTEGER + 127.0f;  // plus the bias of an exponent,
constexpr float SHIFTED = TO_EXPONENT + 64.0f;      // and 64 more
constexpr float ONE_OVER_PI = 0x1.45f306p-2f;
constexpr float PI_1 = 0x1.921fb4p+1f, PI_2 = 0x1.4442dp-23f, PI_3 = 0x1.846988p-47f;

// 2^n from a number whose low bits hold n plus the bias of an exponent.
__device__ __forceinline__ float power_of_two(float biased) { return __uint_as_float(__float_as_uint(biased) << 23); }

__device__ __forceinline__ float with_sign(float size, unsigned sign) {
    return __uint_as_float(__float_as_uint(size) | (sign & 0x80000000u));
}

// (exp(t) - 1 - t) / t^2 for |t| up to ln(2) / 2.
__device__ __forceinline__ float exponential_rest(float t) {
    float p = 0.0013838342856615782f;
    p = fmaf(p, t, 0.008369166404008865f);
    p = fmaf(p, t, 0.04166810214519501f);
    p = fmaf(p, t, 0.16666516661643982f);
    return fmaf(p, t, 0.4999999403953552f);
}

__device__ __forceinline__ float tanh(float x) {
    float size = fabsf(x);
    size = size > 10.0f ? 10.0f : size;
    const float twice = 2.0f * size;
    const float biased = fmaf(twice, LOG2_E, TO_EXPONENT);
    const float n = biased - TO_EXPONENT;
    float t = fmaf(-n, LN2_1, twice);
    t = fmaf(-n, LN2_2, t);
    const float p = fmaf(t * t, exponential_rest(t), t);
    const float scale = 0.5f * power_of_two(biased);
    const float h = fmaf(scale, p, scale - 0.5f);
    const float base = h > 1.0f ? 1.0f : h;
    return with_sign(base - (base * base) / (h + 1.0f), __float_as_uint(x));
}

__device__ __forceinline__ float sigmoid(float x) {
    float size = -fabsf(x);
    size = size < -104.5f ? -104.5f : size;
    const float shifted = fmaf(size, LOG2_E, SHIFTED);
    const float n = shifted - SHIFTED;
    float t = fmaf(-n, LN2_1, size);
    t = fmaf(-n, LN2_2, t);
    const float e = (fmaf(t * t, exponential_rest(t), t) + 1.0f) * power_of_two(shifted) * 0x1p-64f;
    const float base = x < 0.0f ? e : 1.0f;
    return base - (base * e) / (1.0f + e);
}

// sin(t) for |t| up to pi / 2, negated where the lowest bit of `turn` is set.
__device__ __forceinline__ float sine_of_turn(float t, float turn) {
    const float size = fabsf(t);
    const float s = size * size;
    float p = 2.60572824117844e-06f;
    p = fmaf(p, s, -0.00019809654622804374f);
    p = fmaf(p, s, 0.00833306834101677f);
    p = fmaf(p, s, -0.16666659712791443f);
    float y = fmaf(size * s, p, size);
    y = y > 1.0f ? 1.0f : y;
    return with_sign(y, __float_as_uint(t) ^ (__float_as_uint(turn) << 31));
}

// Far arguments: the nearest multiple of pi is taken off in float64, where three parts of pi leave an error far below float32's.
__device__ __noinline__ float turned_far(float x, int is_cosine) {
    const double wide = is_cosine ? fabs((double)x) : (double)x;
    if (!(fabs(wide) <= 0x1p30)) return __uint_as_float(0x7fc00000u);
    const double half = is_cosine ? 0.5 : 0.0;
    const double m = floor(wide * 0.31830988618379067154 + half + 0.5);
    const double n = m - half;
    double t = fma(-n, 0x1.921fb54442d18p+1, wide);
    t = fma(-n, 0x1.1a62633145c06p-53, t);
    const double turn = m - 2.0 * floor(0.5 * m);
    return sine_of_turn((float)t, __uint_as_float((unsigned)turn));
}

// Sine, or cosine as (-1)^m sin(x - (m - 1/2) pi).
__device__ __forceinline__ float turned(float x, bool is_cosine) {
    if (fabsf(x) > 131072.0f) return turned_far(x, is_cosine);
    const float near = is_cosine ? fabsf(x) : x;
    const float turn = is_cosine ? fmaf(near, ONE_OVER_PI, 0.5f) + TO_INTEGER : fmaf(near, ONE_OVER_PI, TO_INTEGER);
    const float n = (turn - TO_INTEGER) - (is_cosine ? 0.5f : 0.0f);
    float t = fmaf(-n, PI_1, near);
    t = fmaf(-n, PI_2, t);
    return sine_of_turn(fmaf(-n, PI_3, t), turn);
}

#define FOR_EACH(v) _Pragma("unroll") for (int i = 0; i < COUNT; ++i) v[i]

// An activation of several numbers: one decision for all of them, so that their chains of operations overlap.
template <int COUNT>
__device__ __forceinline__ void activate(int kind, float slope, float (&v)[COUNT]) {
    switch (kind) {
        case ACT_RELU: FOR_EACH(v) = v[i] <= 0.0f ? 0.0f : v[i]; break;
        case ACT_LEAKY_RELU: FOR_EACH(v) = v[i] < 0.0f ? slope * v[i] : v[i]; break;
        case ACT_TANH: FOR_EACH(v) = tanh(v[i]); break;
        case ACT_SIGMOID: FOR_EACH(v) = sigmoid(v[i]); break;
        case ACT_SIN: FOR_EACH(v) = turned(v[i], false); break;
        case ACT_COS: FOR_EACH(v) = turned(v[i], true); break;
        default: break;
    }
}

}  // namespace fast
