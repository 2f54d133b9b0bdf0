// Rounding of float64 to the narrow formats of the delta rule (D-1, D-4): to nearest, ties to even, subnormals kept.
#pragma once

// To `digits` significant bits, on a grid never finer than 2**least. Adding 1.5 * 2**(52 + g) leaves no room for bits below
// 2**g, so that the addition rounds; the sign is put back because a sum that cancels is +0. From `limit` on the result is
// infinite.
__device__ __forceinline__ double round_to_grid(double x, int digits, int least, double limit) {
    if (x != x) return x;
    const double size = fabs(x);
    const double infinite = __longlong_as_double(0x7FF0000000000000ll);
    if (size >= limit) return x < 0.0 ? -infinite : infinite;
    const int exponent = static_cast<int>(__double_as_longlong(size) >> 52) - 1023;
    const int grid = exponent - (digits - 1) > least ? exponent - (digits - 1) : least;
    const double shifter = 1.5 * __longlong_as_double(static_cast<long long>(grid + (52 + 1023)) << 52);
    double rounded = (size + shifter) - shifter;
    if (rounded >= limit) rounded = infinite;
    const long long sign = __double_as_longlong(x) & static_cast<long long>(0x8000000000000000ull);
    return __longlong_as_double(__double_as_longlong(rounded) | sign);
}

__device__ __forceinline__ double round_to_float16(double x) { return round_to_grid(x, 11, -24, 65536.0); }

// 2**128 is the first power of two that is not a bfloat16.
__device__ __forceinline__ double round_to_bfloat16(double x) {
    return round_to_grid(x, 8, -133, 340282366920938463463374607431768211456.0);
}
