// A warp has a row: which rows a warp goes over.
#pragma once

#define EVERY_LANE 0xffffffffu

// Rows of a warp: entry i of the list for i = first, first + step, ...
#define FOR_LISTED(i, count) \
    for (long long i = (blockIdx.x * (long long)blockDim.x + threadIdx.x) >> 5; i < (count); \
         i += (gridDim.x * (long long)blockDim.x) >> 5)
