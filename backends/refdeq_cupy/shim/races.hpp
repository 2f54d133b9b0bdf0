// Races in shared memory: two warps use the same bytes, one of them writes, and no barrier of the block lies between.
//
// The compiler calls what is below for every load and store (-fsanitize=thread, without GCC's own library). Each byte of shared
// memory notes who used it since which barrier; so a missing barrier is found in any order of threads. Within a warp nothing
// is looked at. Atomics do not disturb each other.
#pragma once

#include "scheduler.hpp"

namespace shim {

// Place of an address in the shared memory of the block that runs, or a number beyond all places.
inline size_t shared_place(const Block& block, uintptr_t address) {
    const Request& request = *launch_now->request;
    const size_t fixed = launch_now->fixed_shared_bytes();
    const size_t of_fixed = address - reinterpret_cast<uintptr_t>(request.fixed_shared);
    const size_t of_dynamic = address - reinterpret_cast<uintptr_t>(block.dynamic_shared);
    return of_fixed < fixed ? of_fixed : of_dynamic < request.shared_bytes ? fixed + of_dynamic : ~size_t{0};
}

[[noreturn]] inline void fail_on_race(
    const Block& block, size_t place, const char* does, const char* did, unsigned warp, void* code
) {
    const size_t fixed = launch_now->fixed_shared_bytes();
    race_code = code;
    const std::string at = place < fixed ? "of shared memory of fixed size"
                                         : "at byte " + std::to_string(place - fixed) + " of dynamic shared memory";
    const std::string since = block.barrier.line ? "since the barrier" + text_of(block.barrier) : "since the kernel began";
    fail("race: thread " + name_of(fiber_now->thread) + " " + does + " what warp " + std::to_string(warp) + " " + did + " " +
         since + ", " + at);
}

inline void use_byte(const Block& block, LastUses& last, size_t place, bool is_write, bool is_atomic, void* code) {
    const uint8_t me = static_cast<uint8_t>(fiber_now->warp);
    const uint32_t now_at = block.barriers;
    if (last.written == now_at && last.writer != me && !(is_atomic && last.is_atomic))
        fail_on_race(block, place, is_write ? "writes" : "reads", "has written", last.writer, code);
    if (is_write && last.read == now_at && (last.has_readers || last.reader != me))
        fail_on_race(block, place, "writes", "has read", last.reader, code);
    if (is_write) {
        last.written = now_at;
        last.writer = me;
        last.is_atomic = is_atomic;
    } else if (last.read != now_at) {
        last.read = now_at;
        last.reader = me;
        last.has_readers = false;
    } else {
        last.has_readers = last.has_readers || last.reader != me;
    }
}

inline void use_shared(const void* address, size_t bytes, bool is_write, bool is_atomic, void* code) {
    if (fiber_now == nullptr) return;
    Block& block = *block_now;
    const size_t place = shared_place(block, reinterpret_cast<uintptr_t>(address));
    if (place == ~size_t{0}) return;
    if (block.uses.empty()) block.uses.resize(launch_now->fixed_shared_bytes() + launch_now->request->shared_bytes);
    for (size_t i = place; i < place + bytes && i < block.uses.size(); i++)
        use_byte(block, block.uses[i], i, is_write, is_atomic, code);
}

}  // namespace shim

#define SHIM_USES(bytes)                                                                                               \
    void __tsan_read##bytes(void* p) { shim::use_shared(p, bytes, false, false, __builtin_return_address(0)); }        \
    void __tsan_write##bytes(void* p) { shim::use_shared(p, bytes, true, false, __builtin_return_address(0)); }        \
    void __tsan_unaligned_read##bytes(void* p) { shim::use_shared(p, bytes, false, false, __builtin_return_address(0)); } \
    void __tsan_unaligned_write##bytes(void* p) { shim::use_shared(p, bytes, true, false, __builtin_return_address(0)); }

extern "C" {
SHIM_USES(1)
SHIM_USES(2)
SHIM_USES(4)
SHIM_USES(8)
SHIM_USES(16)
void __tsan_read_range(void* p, size_t bytes) { shim::use_shared(p, bytes, false, false, __builtin_return_address(0)); }
void __tsan_write_range(void* p, size_t bytes) { shim::use_shared(p, bytes, true, false, __builtin_return_address(0)); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
}
