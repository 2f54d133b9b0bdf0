// Choices of a solve of rows in one word; the same numbers as in refdeq_gpu.plans.rows_data.FLAGS.
#pragma once

#define HAS_ENTRY 1
#define HAS_BIAS 2
#define HAS_PHASE 4
#define HAS_FILTER 8
#define HAS_MEMORY 16       // references and accumulators hold a memory to go on from (D-9)
#define IS_DENSE_START 32   // D-5
#define IS_GE 64            // D-2
#define IS_PICARD 128       // S-6 with alpha = 1
#define IS_LINF 256         // S-2
#define IS_SWAPPING 512     // a final row makes room for the next; else the block waits for all of its rows
#define HAS_FINITE 1024     // all weights are finite
#define IS_TRACED 2048      // S-10
#define HAS_ACTIVATION 4096 // the trace has the activation's output too
#define IS_GATED 8192
#define IS_WHOLE 16384      // one decision for a row (D-10)
