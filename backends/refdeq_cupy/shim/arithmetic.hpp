// Arithmetic with one named rounding, and bits. The options of the compiler forbid contraction, so a product and a sum written
// apart are rounded apart, as on the device.
#pragma once

#include <math.h>
#include <string.h>

#include <type_traits>

#include "types.hpp"

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __double2float_rn(double a) { return static_cast<float>(a); }

namespace shim {

template <class To, class From>
To bits_as(From value) {
    static_assert(sizeof(To) == sizeof(From), "bits are taken as they are");
    To out;
    memcpy(&out, &value, sizeof out);
    return out;
}

}  // namespace shim

inline unsigned __float_as_uint(float x) { return shim::bits_as<unsigned>(x); }
inline int __float_as_int(float x) { return shim::bits_as<int>(x); }
inline float __uint_as_float(unsigned x) { return shim::bits_as<float>(x); }
inline float __int_as_float(int x) { return shim::bits_as<float>(x); }
inline long long __double_as_longlong(double x) { return shim::bits_as<long long>(x); }
inline double __longlong_as_double(long long x) { return shim::bits_as<double>(x); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x)); }
inline unsigned __brev(unsigned x) {
    unsigned out = 0;
    for (int i = 0; i < 32; i++) out |= (x >> i & 1) << (31 - i);
    return out;
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    const unsigned long long both = static_cast<unsigned long long>(y) << 32 | x;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) out |= static_cast<unsigned>(both >> 8 * (selector >> 4 * i & 7) & 0xFF) << 8 * i;
    return out;
}

// As in CUDA C++: of numbers of two types, the common one; a NaN loses against a number.
template <class A, class B>
typename std::common_type<A, B>::type min(A a, B b) {
    using T = typename std::common_type<A, B>::type;
    if constexpr (std::is_floating_point<T>::value)
        return std::fmin(static_cast<T>(a), static_cast<T>(b));
    else
        return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(a) : static_cast<T>(b);
}
template <class A, class B>
typename std::common_type<A, B>::type max(A a, B b) {
    using T = typename std::common_type<A, B>::type;
    if constexpr (std::is_floating_point<T>::value)
        return std::fmax(static_cast<T>(a), static_cast<T>(b));
    else
        return static_cast<T>(a) > static_cast<T>(b) ? static_cast<T>(a) : static_cast<T>(b);
}
