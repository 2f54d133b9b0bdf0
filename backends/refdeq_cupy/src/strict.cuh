// Strict activations (N-8): the formulas of refdeq.scalar, term by term, in float64. Only + - * / and floor, never contracted
// (the options of both compilers see to it), so that every machine computes the same bits; a float32 result is rounded once.
#pragma once

__device__ __forceinline__ double strict_nan() { return __longlong_as_double(0x7FF8000000000000ll); }
__device__ __forceinline__ double strict_infinity() { return __longlong_as_double(0x7FF0000000000000ll); }

// 2**k for a normal result.
__device__ __forceinline__ double power_of_two(int k) { return __longlong_as_double(static_cast<long long>(k + 1023) << 52); }

__device__ inline double strict_exp(double x) {
    if (x != x) return x;
    if (x > 709.782712893384) return strict_infinity();
    if (x < -745.1332191019412) return 0.0;
    const double whole = floor(x * 1.4426950408889634 + 0.5);
    double t = x - whole * 6.93145751953125e-1;
    t = t - whole * 1.42860682030941723212e-6;
    const double tt = t * t;
    const double p = t * ((1.26177193074810590878e-4 * tt + 3.02994407707441961300e-2) * tt + 9.99999999999999999910e-1);
    const double q = ((3.00198505138664455042e-6 * tt + 2.52448340349684104192e-3) * tt + 2.27265548208155028766e-1) * tt + 2.0;
    const double y = 1.0 + 2.0 * (p / (q - p));
    const int n = static_cast<int>(whole);
    const int half = n >> 1;  // rounds down, also below zero
    return y * power_of_two(half) * power_of_two(n - half);
}

__device__ inline double strict_tanh(double x) {
    if (x == 0.0) return x;
    const double size = fabs(x);
    if (size < 0.625) {
        const double s = x * x;
        const double p = (-9.64399179425052238628e-1 * s - 9.92877231001918586564e1) * s - 1.61468768441708447952e3;
        const double q = ((s + 1.12811678491632931402e2) * s + 2.23548839060100448583e3) * s + 4.84406305325125486048e3;
        return x + x * (s * (p / q));
    }
    const double y = 1.0 - 2.0 / (strict_exp(2.0 * size) + 1.0);
    return x < 0.0 ? -y : y;
}

__device__ inline double strict_sigmoid(double x) {
    const double e = strict_exp(-fabs(x));
    return x < 0.0 ? e / (1.0 + e) : 1.0 / (1.0 + e);
}

// Remainder of x modulo pi/2 by a subtraction in three parts; returns the quadrant.
__device__ __forceinline__ int reduce_angle(double x, double& t) {
    const double whole = floor(x * 6.36619772367581382433e-01 + 0.5);
    t = x - whole * 1.57079632673412561417;
    t = t - whole * 6.07710050630396597660e-11;
    t = t - whole * 2.02226624879595063154e-21;
    return static_cast<int>(static_cast<long long>(whole) & 3);
}

__device__ __forceinline__ double sine_near_zero(double t) {
    const double s = t * t;
    double p = (1.58969099521155010221e-10 * s - 2.50507602534068634195e-8) * s + 2.75573137070700676789e-6;
    p = (p * s - 1.98412698298579493134e-4) * s + 8.33333333332248946124e-3;
    return t + (s * t) * (p * s - 1.66666666666666324348e-1);
}

__device__ __forceinline__ double cosine_near_zero(double t) {
    const double s = t * t;
    double p = (-1.13596475577881948265e-11 * s + 2.08757232129817482790e-9) * s - 2.75573143513906633035e-7;
    p = (p * s + 2.48015872894767294178e-5) * s - 1.38888888888741095749e-3;
    p = p * s + 4.16666666666666019037e-2;
    const double half = 0.5 * s;
    const double w = 1.0 - half;
    return w + (((1.0 - w) - half) + (s * s) * p);
}

constexpr double TRIG_LIMIT = 1073741824.0;  // 2**30

__device__ inline double strict_sin(double x) {
    if (!(fabs(x) <= TRIG_LIMIT)) return strict_nan();
    if (x == 0.0) return x;
    double t;
    const int quadrant = reduce_angle(x, t);
    const double y = quadrant & 1 ? cosine_near_zero(t) : sine_near_zero(t);
    return quadrant >= 2 ? -y : y;
}

__device__ inline double strict_cos(double x) {
    if (!(fabs(x) <= TRIG_LIMIT)) return strict_nan();
    double t;
    const int quadrant = reduce_angle(x, t);
    const double y = quadrant & 1 ? sine_near_zero(t) : cosine_near_zero(t);
    return quadrant == 1 || quadrant == 2 ? -y : y;
}
