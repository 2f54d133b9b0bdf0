// The way in from the host: a function per kernel that launches it, and one that tells the kinds of its arguments.
#pragma once

#include <type_traits>
#include <utility>

#include "runtime.hpp"

// The linker gives the bounds of the variables of a module, which are its shared memory.
extern "C" {
extern char __bss_start[] __attribute__((visibility("hidden")));
extern char _end[] __attribute__((visibility("hidden")));
}

namespace shim {

template <class T>
struct KindOf;
template <>
struct KindOf<float> {
    static constexpr const char* text = "f32";
};
template <>
struct KindOf<double> {
    static constexpr const char* text = "f64";
};
template <>
struct KindOf<int> {
    static constexpr const char* text = "i32";
};
template <>
struct KindOf<unsigned> {
    static constexpr const char* text = "u32";
};
template <>
struct KindOf<long long> {
    static constexpr const char* text = "i64";
};
template <>
struct KindOf<unsigned long long> {
    static constexpr const char* text = "u64";
};
template <>
struct KindOf<unsigned char> {
    static constexpr const char* text = "u8";
};
template <>
struct KindOf<unsigned short> {
    static constexpr const char* text = "u16";
};

template <class T>
constexpr const char* kind_of() {
    return KindOf<std::remove_cv_t<std::remove_pointer_t<std::remove_cv_t<T>>>>::text;
}

// Kind of argument `i`, and whether it is an array; nullptr after the last.
template <class... A>
const char* argument_kind(void (*)(A...), int i, int* is_array) {
    constexpr int many = sizeof...(A);
    const char* const kinds[] = {kind_of<A>()...};
    const int arrays[] = {std::is_pointer<A>::value...};
    *is_array = i < many ? arrays[i] : 0;
    return i < many ? kinds[i] : nullptr;
}

template <class... A>
struct Call {
    void (*kernel)(A...);
    void** arguments;

    template <size_t... I>
    void run(std::index_sequence<I...>) {
        kernel(*static_cast<std::remove_cv_t<A>*>(arguments[I])...);
    }
    static void start(void* self) { static_cast<Call*>(self)->run(std::index_sequence_for<A...>{}); }
};

template <class... A>
const char* launch_kernel(void (*kernel)(A...), void** arguments, Request request) {
    Call<A...> call{kernel, arguments};
    request.fixed_shared = __bss_start;
    request.fixed_shared_end = _end;
    request.run = Call<A...>::start;
    request.arguments = &call;
#ifdef SHIM_LOOKS_FOR_RACES
    request.looks_for_races = true;
#endif
    return launch(request);
}

}  // namespace shim

#define SHIM_EXPORT extern "C" __attribute__((visibility("default")))
// A kernel, and the threads of a block that its launch bounds allow.
#define SHIM_KERNEL(name, most_threads)                                                                                \
    SHIM_EXPORT const char* name##__launch(                                                                            \
        const unsigned* g, const unsigned* b, size_t shared_bytes, void** arguments, int is_cooperative, unsigned seed \
    ) {                                                                                                                \
        if (b[0] * b[1] * b[2] > static_cast<unsigned>(most_threads))                                                  \
            return "kernel " #name " has launch bounds of " #most_threads " threads, and a block here has more";       \
        return shim::launch_kernel(                                                                                    \
            &name, arguments, {#name, {g[0], g[1], g[2]}, {b[0], b[1], b[2]}, shared_bytes, is_cooperative, seed}      \
        );                                                                                                             \
    }                                                                                                                  \
    SHIM_EXPORT const char* name##__argument(int i, int* is_array) { return shim::argument_kind(&name, i, is_array); }
