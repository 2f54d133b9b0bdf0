// Loads, stores, fences and integer atomics.
//
// One thread of the host runs everything, so every load and store is coherent; what the shim cannot show is a missing fence.
// Loads that bypass the caches (__ldcv, load_acquire) are how a thread waits for another: they let the others run.
#pragma once

#include <type_traits>

#include "runtime.hpp"
#include "sync.hpp"

namespace shim {

template <class T>
SHIM_UNSEEN T replace(T* address, T value) {
#ifdef SHIM_LOOKS_FOR_RACES
    use_atomically(address, sizeof(T));
#endif
    const T old = *address;
    if (old != value) note_progress();
    *address = value;
    return old;
}

}  // namespace shim

template <class T>
T __ldg(const T* p) {
    return *p;
}
template <class T>
T __ldca(const T* p) {
    return *p;
}
template <class T>
T __ldcg(const T* p) {
    return *p;
}
template <class T>
T __ldcs(const T* p) {
    return *p;
}
template <class T>
T __ldlu(const T* p) {
    return *p;
}
template <class T>
T __ldcv(const T* p, SHIM_WHERE) {
    shim::poll({file, line});
    return *p;
}
template <class T, class U>
void __stcg(T* p, U value) {
    *p = static_cast<T>(value);
}
template <class T, class U>
void __stcs(T* p, U value) {
    *p = static_cast<T>(value);
}
template <class T, class U>
void __stwb(T* p, U value) {
    *p = static_cast<T>(value);
}
template <class T, class U>
void __stwt(T* p, U value) {
    *p = static_cast<T>(value);
}

inline void __threadfence() { asm volatile("" ::: "memory"); }
inline void __threadfence_block() { asm volatile("" ::: "memory"); }
inline void __threadfence_system() { asm volatile("" ::: "memory"); }
inline void __nanosleep(unsigned, SHIM_WHERE) { shim::poll({file, line}); }
inline size_t __cvta_generic_to_shared(const void* p) { return reinterpret_cast<size_t>(p); }

#define SHIM_ATOMIC(name, expression)                                                      \
    template <class T, class U>                                                            \
    SHIM_UNSEEN T name(T* address, U operand, SHIM_WHERE) {                                            \
        static_assert(std::is_integral<T>::value, "no atomics of floating point: " #name); \
        shim::before_atomic({file, line});                                                 \
        const T old = *address, value = static_cast<T>(operand);                           \
        (void)old;                                                                         \
        return shim::replace<T>(address, static_cast<T>(expression));                      \
    }

SHIM_ATOMIC(atomicAdd, old + value)
SHIM_ATOMIC(atomicSub, old - value)
SHIM_ATOMIC(atomicExch, value)
SHIM_ATOMIC(atomicMin, value < old ? value : old)
SHIM_ATOMIC(atomicMax, value > old ? value : old)
SHIM_ATOMIC(atomicAnd, old& value)
SHIM_ATOMIC(atomicOr, old | value)
SHIM_ATOMIC(atomicXor, old ^ value)
SHIM_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
#undef SHIM_ATOMIC

template <class T, class U, class V>
SHIM_UNSEEN T atomicCAS(T* address, U expected, V value, SHIM_WHERE) {
    static_assert(std::is_integral<T>::value, "no atomics of floating point: atomicCAS");
    shim::before_atomic({file, line});
    return shim::replace<T>(address, *address == static_cast<T>(expected) ? static_cast<T>(value) : *address);
}
