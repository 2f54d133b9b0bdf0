// CUDA C++ on the CPU: included before a source that is otherwise compiled by NVRTC, so that kernels can be run and judged on a
// machine without a GPU.
//
// Found: barriers that not every thread reaches, deadlocks (with the block, the threads and where they wait), lanes in
// different warp operations, masks that name lanes which have ended, stale or unwritten shared memory, writes outside dynamic
// shared memory, results that depend on the order of threads or blocks, copies that were not waited for. Not found: missing
// memory fences, and reads outside of arrays.
#pragma once

#include "runtime.hpp"
#include "arithmetic.hpp"
#include "sync.hpp"
#include "memory.hpp"
#include "launch.hpp"

#define __noinline__ __attribute__((noinline))  // last, because the headers of the C++ library write this word themselves
