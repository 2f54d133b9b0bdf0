// What kernels need of the scheduler: a small interface, so that they compile fast; runtime.cpp is compiled once for all of
// them.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "types.hpp"

#define SHIM_WHERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace shim {

constexpr unsigned char POISON = 0xFF;  // fresh shared memory: NaN as float32 and float64, -1 as an integer

struct Where {
    const char* file = "";
    int line = 0;
};

// The thread that runs, in the words of CUDA C++.
struct Now {
    uint3 thread, block;
    dim3 block_size, grid_size;
    unsigned lane;
};

struct Request {
    const char* kernel;
    unsigned grid[3], block[3];
    size_t shared_bytes = 0;
    int is_cooperative = 0;
    unsigned seed = 0;
    char *fixed_shared = nullptr,
         *fixed_shared_end = nullptr;  // memory of the module that holds the shared memory of the block that runs
    void (*run)(void*) = nullptr;
    void* arguments = nullptr;
    bool looks_for_races = false;
};

extern Now now;

const char* launch(const Request& request);  // nullptr, or what went wrong
int barrier(const char* name, int predicate, Where where);
void grid_barrier(Where where);
bool is_cooperative();
void meet(unsigned mask, const char* name, void* mine, void (*combine)(void**, unsigned), Where where);
void poll(Where where);
void before_atomic(Where where);
void note_progress();
void use_atomically(const void* address, size_t bytes);
unsigned char* dynamic_shared();
void copy_later(void* to, const void* from, size_t bytes);  // from nullptr: zeros
void copy_commit();
void copy_wait(unsigned pending_groups);
[[noreturn]] void fail(const char* message, Where where);

}  // namespace shim

#define threadIdx (shim::now.thread)
#define blockIdx (shim::now.block)
#define blockDim (shim::now.block_size)
#define gridDim (shim::now.grid_size)
