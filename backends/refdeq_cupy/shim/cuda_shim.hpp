// CUDA C++ on the CPU: included before a source that is otherwise compiled by NVRTC, so that kernels can be run and judged on a
// machine without a GPU.
//
// Found: barriers that not every thread reaches, deadlocks (with the block, the threads and where they wait), lanes in
// different warp operations, masks that name lanes which have ended, stale or unwritten shared memory, results that depend on
// the order of threads, warps or blocks, copies that were not waited for; reads and writes outside of arrays of the device and
// outside of dynamic shared memory, indices outside of arrays of fixed size, vectors that are not aligned, shifts as wide as a
// word; if asked for, missing barriers of a block (races.hpp). Not found: missing memory fences, races in global memory.
#pragma once

#include "runtime.hpp"
#include "arithmetic.hpp"
#include "sync.hpp"
#include "memory.hpp"
#include "launch.hpp"

#define __noinline__ __attribute__((noinline))  // last, because the headers of the C++ library write this word themselves
