// Where everything of a fully connected solve lies: the positions of refdeq_gpu.plans.fc_layout, in the same order.
#pragma once

enum Choice {
    N, BATCH, ACTIVATION, IS_FAST, IS_GATED, IS_GE, IS_ALWAYS, IS_DENSE_START, IS_FOLDED, BY_SAMPLE, REFRESH, IS_PICARD, IS_LINF,
    MAX_EVAL, WINDOW, WIDTH, TILE, SPLITS, BIAS_AT, ENTRY_AT, ENTRY_STEP, PHASE_AT, PHASE_STEP, FILTER_AT, FILTER_STEP,
    THRESHOLD_AT, R_AT, A_AT, ROW_STEP, WORK_AT, FIRED_AT, RECENT_AT, MEASURE_AT, TRACE_RESIDUAL, TRACE_SCALE, TRACE_Z, TRACE_F,
    TRACE_R, TRACE_A, TRACE_LINEAR, TRACE_ACTIVATED, TRACE_MASK, CHOICES
};
enum Limit { RTOL, ATOL, EPS, DIVERGENCE, RATIO, LIMITS };
enum Control { SAMPLE, MADE, COUNT, PHASE, TOTAL, USED, IS_FRESH, LENGTH, DIFFERENT, CONTROLS };
enum Phase { RUN, NEXT, DONE };
enum Measure { FIRST, OLDER, DISTANCE, SCALE, MEASURES };
enum Counter { STATUS, N_EVAL, EVALUATIONS, SENT, NONZERO, MACS, WHOLE, QUIET };

constexpr int WORK_ROWS = 6, LARGEST_GRID = 1024, CHUNK = 1024;
constexpr int VERDICT_AT = 64, COUNT_AT = 96, NONZERO_AT = COUNT_AT + LARGEST_GRID, INDEX_AT = COUNT_AT + 2 * LARGEST_GRID;
constexpr int POOL = 32768 / sizeof(REAL) < 8 * CHUNK ? 32768 / sizeof(REAL) : 8 * CHUNK, VALUES = POOL / 4;
constexpr unsigned EVERY_LANE = 0xFFFFFFFFu;

// Arguments of a solve. Only `choice`, `limit`, `weight` and `fixed` are never written; the first two are copies in shared memory,
// which a barrier of the grid leaves where they are.
struct Solve {
    const long long* choice;
    const double* limit;
    const REAL* weight;
    const REAL* fixed;
    REAL* state;
    unsigned char* flags;
    int* words;
    double* numbers;
    long long* counts;
    REAL* trace;

    __device__ long long n() const { return choice[N]; }
    __device__ REAL* work(int row) const { return state + choice[WORK_AT] + row * n(); }
    __device__ REAL* f() const { return work(0); }
    __device__ REAL* argument() const { return work(1); }  // of f
    __device__ REAL* next() const { return work(2); }      // argument, of the evaluation under way or the one after it
    __device__ REAL* factor() const { return work(3); }    // of each column
    __device__ REAL* kept() const { return work(4); }      // factors where a whole sample sends nothing (D-10, D-12)
    __device__ REAL* listed() const { return work(5); }    // factors of the columns that are listed, beside their indices
    __device__ REAL* partial() const { return work(WORK_ROWS); }
    __device__ long long& counter(int row, long long sample) const { return counts[row * choice[BATCH] + sample]; }

    // First element of a block, which owns all up to the first of the next.
    __device__ long long first_of(int block) const { return n() * block / gridDim.x; }
};

#define SOLVE_ARGUMENTS                                                                                                       \
    const long long *choice, const double *limit, const REAL *weight, const REAL *fixed, REAL *state, unsigned char *flags,   \
        int *words, double *numbers, long long *counts, REAL *trace, long long *control

// Shared memory of a block.
struct Shared {
    REAL pool[POOL];             // two buffers of factors, or two of f and its argument
    int column[2 * CHUNK];       // two buffers
    int offset[LARGEST_GRID + 1];  // entries of all lists before that of a block
    int warp_count[32];
    double lane[2 * 32];         // of the residual and of the scale
    long long control[CONTROLS];
    double measure[MEASURES];
    int nonzero;
    int is_first;
    long long choice[CHOICES];
    double limit[LIMITS];
};

// Arguments of a kernel as one record, the choices in shared memory.
__device__ inline Solve solve_of(SOLVE_ARGUMENTS, Shared& m) {
    if (threadIdx.x < CHOICES) m.choice[threadIdx.x] = choice[threadIdx.x];
    if (threadIdx.x < LIMITS) m.limit[threadIdx.x] = limit[threadIdx.x];
    __syncthreads();
    return Solve{m.choice, m.limit, weight, fixed, state, flags, words, numbers, counts, trace};
}
#define SOLVE_NAMES choice, limit, weight, fixed, state, flags, words, numbers, counts, trace, control
