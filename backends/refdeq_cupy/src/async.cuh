// Asynchronous copies from global to shared memory (cp.async of sm_80 and later).
//
// Each thread commits its copies in groups and waits until no more than N of its groups are under way; a barrier then shows
// them to the other threads. The CPU shim copies when it waits, so that a missing wait is seen.
#pragma once

#ifdef CUDA_CPU_SHIM

template <int BYTES>
__device__ inline void cp_async(void* to, const void* from, bool is_there, SHIM_WHERE) {
    if (reinterpret_cast<size_t>(to) % BYTES != 0 || reinterpret_cast<size_t>(from) % BYTES != 0)
        shim::fail("cp_async needs addresses that are multiples of its size", {file, line});
    shim::copy_later(to, is_there ? from : nullptr, BYTES);
}
__device__ inline void cp_async_commit() { shim::copy_commit(); }
template <int PENDING>
__device__ inline void cp_async_wait() {
    shim::copy_wait(PENDING);
}

#else

// Copies BYTES (4, 8 or 16) bytes, or writes zeros and reads nothing where `is_there` is false. 16 bytes bypass the first-level
// cache.
template <int BYTES>
__device__ __forceinline__ void cp_async(void* to, const void* from, bool is_there) {
    const unsigned target = static_cast<unsigned>(__cvta_generic_to_shared(to));
    const int size = is_there ? BYTES : 0;
    if constexpr (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(from), "r"(size) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(target), "l"(from), "n"(BYTES), "r"(size)
                     : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

#endif

__device__ __forceinline__ void cp_async_4(void* to, const void* from, bool is_there = true) {
    cp_async<4>(to, from, is_there);
}
__device__ __forceinline__ void cp_async_8(void* to, const void* from, bool is_there = true) {
    cp_async<8>(to, from, is_there);
}
__device__ __forceinline__ void cp_async_16(void* to, const void* from, bool is_there = true) {
    cp_async<16>(to, from, is_there);
}
