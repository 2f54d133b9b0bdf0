// Words of CUDA C++ that a C++ compiler does not know: qualifiers, built-in vectors.
#pragma once

#define CUDA_CPU_SHIM 1

#if defined(__SANITIZE_THREAD__)  // loads and stores are followed, to find races
#define SHIM_LOOKS_FOR_RACES 1
#define SHIM_UNSEEN __attribute__((no_sanitize("thread")))
#else
#define SHIM_UNSEEN
#endif

#ifndef SHIM_LISTING  // while kernels are looked for, these words stay
#define __global__
#define __launch_bounds__(...)
#endif
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __cluster_dims__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define warpSize 32

// Shared memory of fixed size: static variables, the only data of a module that change. They hold the memory of the block that
// is running; the scheduler exchanges them when it goes from block to block. (Memory of dynamic size is rewritten by the
// loader.)
#define __shared__ static

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define SHIM_VECTORS(T, name, bytes2, bytes4)                  \
    struct alignas(bytes2) name##2 { T x, y; };                \
    struct name##3 { T x, y, z; };                             \
    struct alignas(bytes4) name##4 { T x, y, z, w; };          \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; } \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

SHIM_VECTORS(float, float, 8, 16)
SHIM_VECTORS(double, double, 16, 16)
SHIM_VECTORS(int, int, 8, 16)
SHIM_VECTORS(short, short, 4, 8)
SHIM_VECTORS(unsigned short, ushort, 4, 8)
SHIM_VECTORS(unsigned char, uchar, 2, 4)
SHIM_VECTORS(long long, longlong, 16, 16)
#undef SHIM_VECTORS

struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
