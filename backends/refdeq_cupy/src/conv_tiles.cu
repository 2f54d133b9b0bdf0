// Convolution over lists of tiles: pack what is sent, list what reaches each tile of outputs, accumulate the listed tiles.
// Nothing is added twice or by two blocks, so that no result depends on the grid.

#include "async.cuh"
#include "conv_lists.cuh"
#include "conv_pack.cuh"

constexpr int LISTERS = 128;

// Packing ---------------------------------------------------------------------------------------------------------------------

extern "C" __global__ void __launch_bounds__(PACKERS, 4) tile_pack(
    const int* __restrict__ rows, long long count, CONV_ARGUMENTS, int has_mask, const REAL* __restrict__ d,
    const unsigned char* __restrict__ mask, REAL* __restrict__ delta, int* __restrict__ sent, int* __restrict__ tile_words) {
    pack_tiles(CONV_OF_ARGUMENTS, rows, count, d, has_mask ? mask : nullptr, delta, sent, tile_words,
               [](REAL value) { return value; });
}

// Listing ---------------------------------------------------------------------------------------------------------------------

// Position of this thread among the threads of the block that are `listed`, and how many there are; every thread must call.
__device__ int rank_in_block(bool listed, int* totals, int& all) {
    const unsigned ballot = __ballot_sync(EVERY_LANE, listed);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (lane == 0) totals[warp] = __popc(ballot);
    __syncthreads();
    int before = __popc(ballot & ((1u << lane) - 1));
    all = 0;
    for (int w = 0; w < (int)blockDim.x / 32; w++) {
        if (w < warp) before += totals[w];
        all += totals[w];
    }
    __syncthreads();  // totals are written again
    return before;
}

// One block per job: the ascending codes (tap * words + word) of what may reach its tile.
extern "C" __global__ void __launch_bounds__(LISTERS) tile_list(
    long long count, CONV_ARGUMENTS, int everything, const int* __restrict__ tile_words, int* __restrict__ list,
    int* __restrict__ length) {
    __shared__ int totals[LISTERS / 32];
    const Conv conv = CONV_OF_ARGUMENTS;
    const int codes = conv.taps() * conv.words(), jobs = count * conv.tiles() * group;
    for (int number = blockIdx.x; number < jobs; number += gridDim.x) {
        const Job job(conv, number);
        int found = 0;
        for (int start = 0; start < codes; start += LISTERS) {
            const int code = start + threadIdx.x;
            const bool listed =
                code < codes && (everything || reaches(conv, job, code / conv.words(), code % conv.words(), tile_words));
            int all;
            const int rank = rank_in_block(listed, totals, all);
            if (listed) list[(long long)number * codes + found + rank] = code;
            found += all;
        }
        if (threadIdx.x == 0) length[number] = found;
    }
}

// One block: the ascending numbers of the jobs whose lists are not empty; number[0] of them, and number[1] codes in all.
extern "C" __global__ void __launch_bounds__(LISTERS) tile_jobs(
    long long jobs, const int* __restrict__ length, int* __restrict__ job, long long* __restrict__ number) {
    __shared__ int totals[LISTERS / 32];
    __shared__ long long codes[LISTERS];
    long long found = 0, own = 0;
    for (long long start = 0; start < jobs; start += LISTERS) {
        const long long candidate = start + threadIdx.x;
        const int many = candidate < jobs ? length[candidate] : 0;
        int all;
        const int rank = rank_in_block(many > 0, totals, all);
        if (many > 0) job[found + rank] = candidate;
        found += all;
        own += many;
    }
    codes[threadIdx.x] = own;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int thread = 1; thread < LISTERS; thread++) own += codes[thread];
        number[0] = found;
        number[1] = own;
    }
}

// Weights ---------------------------------------------------------------------------------------------------------------------

// (outputs, channels / group, taps) as (group, tap, channel of whole words, output of whole blocks), the rest zeros.
extern "C" __global__ void tile_weight(
    int outputs, int inputs, int taps, int group, int padded_inputs, int padded_outputs, const REAL* __restrict__ weight,
    REAL* __restrict__ packed) {
    const long long size = (long long)group * taps * padded_inputs * padded_outputs;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += (long long)gridDim.x * blockDim.x) {
        const int output = i % padded_outputs, input = i / padded_outputs % padded_inputs;
        const int tap = i / padded_outputs / padded_inputs % taps, g = i / padded_outputs / padded_inputs / taps;
        const bool is_there = output < outputs / group && input < inputs;
        const long long row = (long long)g * (outputs / group) + output;
        packed[i] = is_there ? weight[(row * inputs + input) * taps + tap] : (REAL)0;
    }
}

// Accumulating ----------------------------------------------------------------------------------------------------------------

constexpr int OUTPUTS = 64, THREADS = 256;
constexpr int PIECE = 16 / sizeof(REAL);       // elements of one asynchronous copy
constexpr int CHUNK = 128 / sizeof(REAL);      // channels staged at a time
constexpr int PARTS = WORD / CHUNK;            // of a word
constexpr int PIECES = CHUNK / PIECE;          // of a site
constexpr int ROW = CHUNK + PIECE;             // a site's row in shared memory: eight neighbours lie in different banks
constexpr int RESIDENT = sizeof(REAL) == 4 ? 2 : 1;  // blocks that share a multiprocessor
constexpr int OWN_SITES = 4, OWN_OUTPUTS = 8;  // of a thread; a warp has two rows of the tile

struct Stage {
    REAL delta[SITES * ROW];
    REAL weight[CHUNK * OUTPUTS];
    unsigned sent[SITES];
};

struct alignas(16) Four {
    REAL of[4];
};

// Where a block finds what it stages for an item: packed differences and bits of the job's sample and group, weights of its
// group and block of outputs.
struct Source {
    const REAL *delta, *weight;
    const int* sent;
    Reader reader;  // of the first of the thread's sites: it has one in every two rows of the tile
    int padded;     // outputs of a row of weights

    __device__ Source(const Conv& conv, const Job& job, int block, const REAL* delta, const int* sent, const REAL* weight)
        : reader(conv, job.row(conv, threadIdx.x / PIECES), job.column(conv, threadIdx.x / PIECES)) {
        const long long at = job.entry * conv.sites() * conv.all_words() + job.group * conv.words();
        padded = (conv.outputs / conv.group + OUTPUTS - 1) / OUTPUTS * OUTPUTS;
        this->delta = delta + at * WORD;
        this->sent = sent + at;
        this->weight = weight + (long long)job.group * conv.taps() * conv.words() * WORD * padded + block * OUTPUTS;
    }
};

// Start the copies of one part of a listed word: weights, and the pieces of four channels or two in which a site sends.
__device__ void stage_part(const Conv& conv, const Source& from, int code, int part, Stage& stage) {
    const int tap = code / conv.words(), word = code % conv.words(), piece = threadIdx.x % PIECES;
    const int shift_y = tap / conv.kernel_w * conv.dilation_h, shift_x = tap % conv.kernel_w * conv.dilation_w;
#pragma unroll 1
    for (int i = 0; i < SITES * PIECES / THREADS; i++) {
        const int site = threadIdx.x / PIECES + i * (THREADS / PIECES);
        const int source = from.reader.source(conv, i * (THREADS / PIECES / TILE_COLUMNS), 0, shift_y, shift_x);
        unsigned bits = 0;
        if (source >= 0) {
            const long long at = (long long)source * conv.all_words() + word;
            bits = (unsigned)from.sent[at] >> part * CHUNK & (unsigned)((1ull << CHUNK) - 1);
            if (bits >> piece * PIECE & ((1u << PIECE) - 1))
                cp_async_16(&stage.delta[site * ROW + piece * PIECE], &from.delta[at * WORD + part * CHUNK + piece * PIECE]);
        }
        if (piece == 0) stage.sent[site] = bits;
    }
    const REAL* const weight = from.weight + ((long long)code * WORD + part * CHUNK) * from.padded;
#pragma unroll 1
    for (int k = threadIdx.x; k < CHUNK * OUTPUTS / PIECE; k += THREADS) {
        const int row = k / (OUTPUTS / PIECE), at = k % (OUTPUTS / PIECE) * PIECE;
        cp_async_16(&stage.weight[row * OUTPUTS + at], &weight[(long long)row * from.padded + at]);
    }
}

// Add the staged channels, ascending; what a site does not send is not added to it (D-7).
template <bool FUSED>
__device__ void add_part(const Stage& stage, int first_site, int first_output, REAL (&own)[OWN_SITES][OWN_OUTPUTS]) {
    unsigned bits[OWN_SITES], any = 0;
    for (int i = 0; i < OWN_SITES; i++) any |= bits[i] = stage.sent[first_site + 8 * i];
#pragma unroll 1
    for (int c = 0; c < CHUNK; c += 4) {
        if (!__any_sync(EVERY_LANE, any >> c & 15u)) continue;
        Four values[OWN_SITES];
#pragma unroll
        for (int i = 0; i < OWN_SITES; i++) values[i] = *(const Four*)&stage.delta[(first_site + 8 * i) * ROW + c];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const Four low = *(const Four*)&stage.weight[(c + k) * OUTPUTS + first_output];
            const Four high = *(const Four*)&stage.weight[(c + k) * OUTPUTS + first_output + 4];
#pragma unroll
            for (int i = 0; i < OWN_SITES; i++) {
                if (!(bits[i] >> (c + k) & 1u)) continue;
#pragma unroll
                for (int j = 0; j < OWN_OUTPUTS; j++) {
                    const REAL w = j < 4 ? low.of[j] : high.of[j - 4];
                    own[i][j] = FUSED ? fma(w, values[i].of[k], own[i][j]) : own[i][j] + w * values[i].of[k];
                }
            }
        }
    }
}

// Read or write a thread's accumulators, channels first.
template <bool IS_STORE>
__device__ void move_own(const Conv& conv, const Job& job, long long sample, int first_site, int first_output, REAL* a,
                         REAL (&own)[OWN_SITES][OWN_OUTPUTS]) {
    const int each = conv.outputs / conv.group;
#pragma unroll
    for (int i = 0; i < OWN_SITES; i++) {
        const int y = job.row(conv, first_site + 8 * i), x = job.column(conv, first_site + 8 * i);
#pragma unroll
        for (int j = 0; j < OWN_OUTPUTS; j++) {
            const int output = first_output + j;
            const bool is_there = y < conv.out_height && x < conv.out_width && output < each;
            const long long plane = sample * conv.outputs + job.group * each + output;
            const long long at = (plane * conv.out_height + y) * conv.out_width + x;
            if (IS_STORE && is_there) a[at] = own[i][j];
            if (!IS_STORE) own[i][j] = is_there ? a[at] : (REAL)0;
        }
    }
}

template <bool FUSED>
__device__ void accumulate_tiles(const Conv& conv, const int* rows, const REAL* delta, const int* sent, const REAL* weight,
                                 const int* list, const int* length, const int* jobs, const long long* number, REAL* a) {
    extern __shared__ __align__(16) unsigned char memory[];
    Stage* const stages = (Stage*)memory;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int first_site = warp % 4 * 32 + lane % 8, own_output = (warp / 4 * 4 + lane / 8) * OWN_OUTPUTS;
    const int blocks = (conv.outputs / conv.group + OUTPUTS - 1) / OUTPUTS, codes = conv.taps() * conv.words();
    const int items = number[0] * blocks;
    for (int item = blockIdx.x; item < items; item += gridDim.x) {
        const int which = jobs[item / blocks], block = item % blocks;
        const Job job(conv, which);
        const int* const listed = list + (long long)which * codes;
        const int steps = length[which] * PARTS, first_output = block * OUTPUTS + own_output;
        REAL own[OWN_SITES][OWN_OUTPUTS];
        move_own<false>(conv, job, rows[job.entry], first_site, first_output, a, own);
        const Source from(conv, job, block, delta, sent, weight);
        stage_part(conv, from, listed[0], 0, stages[0]);
        cp_async_commit();
#pragma unroll 1
        for (int step = 0; step < steps; step++) {
            const int next = step + 1;
            cp_async_wait<0>();
            __syncthreads();  // this stage is there for everyone, and nobody is still in the other
            if (next < steps) stage_part(conv, from, listed[next / PARTS], next % PARTS, stages[next % 2]);
            cp_async_commit();
            add_part<FUSED>(stages[step % 2], first_site, own_output, own);
        }
        __syncthreads();  // the next item writes the first stage
        // Read again, so that 32 addresses are worked out again instead of being kept in registers all along.
        const Job same(conv, *(const volatile int*)&jobs[item / blocks]);
        move_own<true>(conv, same, rows[same.entry], first_site, first_output, a, own);
    }
}

#define TILES_ARGUMENTS                                                                                                      \
    const int *__restrict__ rows, long long count, CONV_ARGUMENTS, const REAL *__restrict__ delta,                           \
        const int *__restrict__ sent, const REAL *__restrict__ weight, const int *__restrict__ list,                         \
        const int *__restrict__ length, const int *__restrict__ job, const long long *__restrict__ number,                   \
        REAL *__restrict__ a

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) conv_tiles(TILES_ARGUMENTS) {
    accumulate_tiles<false>(CONV_OF_ARGUMENTS, rows, delta, sent, weight, list, length, job, number, a);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) conv_tiles_fma(TILES_ARGUMENTS) {
    accumulate_tiles<true>(CONV_OF_ARGUMENTS, rows, delta, sent, weight, list, length, job, number, a);
}
