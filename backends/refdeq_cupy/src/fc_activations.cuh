// The strict activations of N-8: the formulas of refdeq.scalar in float64, one rounding per operation, no library. A float32
// activation is this float64 result rounded once. Selections stand where the text has branches; they choose the same numbers.
#pragma once

#define INFINITE __longlong_as_double(0x7FF0000000000000ll)
#define NOT_A_NUMBER __longlong_as_double(0x7FF8000000000000ll)

namespace strict {

// 2^k for -1022 <= k <= 1023; halves of the exponents of finite numbers are.
__device__ inline double power_of_two(long long k) { return __longlong_as_double((k + 1023) << 52); }

__device__ inline double exp(double x) {
    if (x != x) return x;
    if (x > 709.782712893384) return INFINITE;
    if (x < -745.1332191019412) return 0.0;
    const double n = floor(x * 1.4426950408889634 + 0.5);
    double t = x - n * 6.93145751953125e-1;
    t = t - n * 1.42860682030941723212e-6;
    const double tt = t * t;
    const double p = t * ((1.26177193074810590878e-4 * tt + 3.02994407707441961300e-2) * tt + 9.99999999999999999910e-1);
    const double q = ((3.00198505138664455042e-6 * tt + 2.52448340349684104192e-3) * tt + 2.27265548208155028766e-1) * tt + 2.0;
    const double y = 1.0 + 2.0 * (p / (q - p));
    const double half = floor(n * 0.5);
    return y * power_of_two((long long)half) * power_of_two((long long)(n - half));
}

__device__ inline double tanh(double x) {
    if (x == 0.0) return x;
    const double size = fabs(x);
    if (size < 0.625) {
        const double s = x * x;
        const double p = (-9.64399179425052238628e-1 * s - 9.92877231001918586564e1) * s - 1.61468768441708447952e3;
        const double q = ((s + 1.12811678491632931402e2) * s + 2.23548839060100448583e3) * s + 4.84406305325125486048e3;
        return x + x * (s * (p / q));
    }
    const double y = 1.0 - 2.0 / (exp(2.0 * size) + 1.0);
    return x < 0.0 ? -y : y;
}

__device__ inline double sigmoid(double x) {
    const double e = exp(-fabs(x));
    return (x < 0.0 ? e : 1.0) / (1.0 + e);
}

// Quadrant and remainder modulo pi / 2.
__device__ inline int reduce(double x, double& t) {
    const double n = floor(x * 6.36619772367581382433e-01 + 0.5);
    t = x - n * 1.57079632673412561417;
    t = t - n * 6.07710050630396597660e-11;
    t = t - n * 2.02226624879595063154e-21;
    return (int)((long long)n & 3);
}

__device__ inline double sin_kernel(double t) {
    const double s = t * t;
    double p = (1.58969099521155010221e-10 * s - 2.50507602534068634195e-8) * s + 2.75573137070700676789e-6;
    p = (p * s - 1.98412698298579493134e-4) * s + 8.33333333332248946124e-3;
    return t + (s * t) * (p * s - 1.66666666666666324348e-1);
}

__device__ inline double cos_kernel(double t) {
    const double s = t * t;
    double p = (-1.13596475577881948265e-11 * s + 2.08757232129817482790e-9) * s - 2.75573143513906633035e-7;
    p = (p * s + 2.48015872894767294178e-5) * s - 1.38888888888741095749e-3;
    p = p * s + 4.16666666666666019037e-2;
    const double half = 0.5 * s, w = 1.0 - half;
    return w + (((1.0 - w) - half) + (s * s) * p);
}

constexpr double TRIG_LIMIT = 1073741824.0;

__device__ inline double sin(double x) {
    if (!(fabs(x) <= TRIG_LIMIT)) return NOT_A_NUMBER;
    if (x == 0.0) return x;
    double t;
    const int quadrant = reduce(x, t);
    const double y = quadrant % 2 == 1 ? cos_kernel(t) : sin_kernel(t);
    return quadrant >= 2 ? -y : y;
}

__device__ inline double cos(double x) {
    if (!(fabs(x) <= TRIG_LIMIT)) return NOT_A_NUMBER;
    double t;
    const int quadrant = reduce(x, t);
    const double y = quadrant % 2 == 1 ? sin_kernel(t) : cos_kernel(t);
    return quadrant == 1 || quadrant == 2 ? -y : y;
}

}  // namespace strict

// Activation by its position in refdeq.fc_pattern.ACTIVATIONS.
__device__ inline REAL activated(long long kind, REAL slope, REAL x) {
    switch (kind) {
        case 1: return x <= 0 ? (REAL)0 : x;  // NaN stays
        case 2: return x < 0 ? slope * x : x;
        case 3: return (REAL)strict::tanh((double)x);
        case 4: return (REAL)strict::sigmoid((double)x);
        case 5: return (REAL)strict::sin((double)x);
        case 6: return (REAL)strict::cos((double)x);
        default: return x;
    }
}
