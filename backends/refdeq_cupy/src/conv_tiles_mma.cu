// Convolution over lists of tiles on tensor cores: differences that are bfloat16 numbers already (feedback memory in that
// format, D-4), and every weight as the sum of up to three, so that no product is rounded: float32 sums of exact products
// (N-7). Lists are those of conv_tiles.cu. An element that is not sent takes part as +0, so that weights must be finite.

#include "async.cuh"
#include "bfloat16.cuh"
#include "conv_lists.cuh"
#include "conv_pack.cuh"
#include "mma.cuh"

constexpr int OUTPUTS = 64, THREADS = 256, STAGES = 3;
constexpr int PIECES = 4;  // of eight numbers, in the row of a site or of an output: OUTPUTS * PIECES == THREADS
constexpr int HALVES = WORD + 8;  // of a row in shared memory: the eight rows of a matrix lie in different banks

// One block per input tile and word; `delta` holds pairs of bfloat16 numbers.
extern "C" __global__ void __launch_bounds__(PACKERS, 4) tile_pack_bf16(
    const int* __restrict__ rows, long long count, CONV_ARGUMENTS, int has_mask, const REAL* __restrict__ d,
    const unsigned char* __restrict__ mask, int* __restrict__ delta, int* __restrict__ sent, int* __restrict__ tile_words) {
    pack_tiles(CONV_OF_ARGUMENTS, rows, count, d, has_mask ? mask : nullptr, (unsigned short*)delta, sent, tile_words,
               [](REAL value) { return (unsigned short)bfloat16_bits(value); });
}

// (outputs, channels / group, taps) as (group, tap, word, part, output of whole blocks, pair of channels of the word).
extern "C" __global__ void tile_weight_bf16(
    int outputs, int inputs, int taps, int group, int padded_inputs, int padded_outputs, int parts,
    const REAL* __restrict__ weight, int* __restrict__ packed) {
    const int words = padded_inputs / WORD, pairs = WORD / 2;
    const long long size = (long long)group * taps * words * parts * padded_outputs * pairs;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += (long long)gridDim.x * blockDim.x) {
        const int pair = i % pairs, output = i / pairs % padded_outputs, part = i / pairs / padded_outputs % parts;
        const long long rest = i / pairs / padded_outputs / parts;
        const int word = rest % words, tap = rest / words % taps, g = rest / words / taps;
        unsigned both = 0;
        for (int k = 0; k < 2; k++) {
            const int input = word * WORD + 2 * pair + k;
            if (output >= outputs / group || input >= inputs) continue;
            const long long row = (long long)g * (outputs / group) + output;
            both |= bfloat16_bits(bfloat16_part(weight[(row * inputs + input) * taps + tap], part)) << 16 * k;
        }
        packed[i] = both;
    }
}

template <int PARTS>
struct Stage {
    unsigned short delta[SITES * HALVES];
    unsigned short weight[PARTS * OUTPUTS * HALVES];
    unsigned sent[SITES];
};

// Sixteen sites that a matrix has as rows are left out together: two columns of the tile, or else one row of it. Taps side by
// side reach into few columns, taps below each other into few rows.
struct Order {
    bool by_column;

    __device__ explicit Order(const Conv& conv) : by_column(conv.kernel_w > conv.kernel_h) {}
    __device__ int row(int site) const { return by_column ? site % TILE_ROWS : site / TILE_COLUMNS; }
    __device__ int column(int site) const { return by_column ? site / TILE_ROWS : site % TILE_COLUMNS; }
    __device__ int site(int row, int column) const {
        return by_column ? column * TILE_ROWS + row : row * TILE_COLUMNS + column;
    }
};

// Where a block finds what it stages for an item: packed differences and bits of the job's sample and group, weights of its
// group and block of outputs.
template <int PARTS>
struct Source {
    const unsigned short *delta, *weight;
    const int* sent;
    Order order;
    Reader reader;  // of the first of the thread's sites
    int padded;     // outputs of one part of the weights

    __device__ Source(const Conv& conv, const Job& job, int block, const int* delta, const int* sent, const int* weight)
        : order(conv),
          reader(conv, job.row(conv, 0) + order.row(threadIdx.x / PIECES),
                 job.column(conv, 0) + order.column(threadIdx.x / PIECES)) {
        const long long at = job.entry * conv.sites() * conv.all_words() + job.group * conv.words();
        padded = (conv.outputs / conv.group + OUTPUTS - 1) / OUTPUTS * OUTPUTS;
        this->delta = (const unsigned short*)delta + at * WORD;
        this->sent = sent + at;
        const long long first = (long long)job.group * conv.taps() * conv.words() * PARTS * padded + block * OUTPUTS;
        this->weight = (const unsigned short*)weight + first * WORD;
    }
};

// Start the copies of a listed word: rows of sites, zeros where a site sends nothing of it, and all parts of the weights.
template <int PARTS>
__device__ void stage_word(const Conv& conv, const Source<PARTS>& from, int code, Stage<PARTS>& stage) {
    const int tap = code / conv.words(), word = code % conv.words();
    const int first = threadIdx.x / PIECES, at = threadIdx.x % PIECES * 8;
    const int shift_y = tap / conv.kernel_w * conv.dilation_h, shift_x = tap % conv.kernel_w * conv.dilation_w;
#pragma unroll
    for (int i = 0; i < SITES * PIECES / THREADS; i++) {
        const int site = first + i * (THREADS / PIECES);
        const int rows = from.order.row(i * (THREADS / PIECES)), columns = from.order.column(i * (THREADS / PIECES));
        const int source = from.reader.source(conv, rows, columns, shift_y, shift_x);
        const long long place = (long long)(source < 0 ? 0 : source) * conv.all_words() + word;
        const unsigned bits = source < 0 ? 0 : (unsigned)from.sent[place];
        cp_async_16(&stage.delta[site * HALVES + at], &from.delta[place * WORD + at], bits != 0);
        if (at == 0) stage.sent[site] = bits;
    }
    const unsigned short* const weight = from.weight + (long long)code * PARTS * from.padded * WORD;
#pragma unroll
    for (int i = 0; i < PARTS; i++) {  // 64 outputs of a part at a time
        const int row = i * OUTPUTS + first;
        cp_async_16(&stage.weight[row * HALVES + at], &weight[((long long)i * from.padded + first) * WORD + at]);
    }
}

// Add a staged word to the 32 sites and 32 outputs of a warp; sixteen sites that send nothing are left out.
template <int PARTS>
__device__ void add_word(const Stage<PARTS>& stage, int first_site, int first_output, float (&own)[2][4][4]) {
    const int lane = threadIdx.x % 32;
    const unsigned senders = __ballot_sync(EVERY_LANE, stage.sent[first_site + lane] != 0);
    if (senders == 0) return;
#pragma unroll
    for (int half = 0; half < 2; half++) {  // sixteen channels
        unsigned sites[2][4];
#pragma unroll
        for (int i = 0; i < 2; i++)
            ldmatrix_x4(sites[i], &stage.delta[(first_site + 16 * i + lane % 16) * HALVES + half * 16 + lane / 16 * 8]);
#pragma unroll
        for (int part = PARTS - 1; part >= 0; part--) {  // the smallest first
#pragma unroll
            for (int j = 0; j < 2; j++) {  // sixteen outputs
                unsigned weights[4];
                const int output = first_output + 16 * j + lane / 16 * 8 + lane % 8;
                ldmatrix_x4(weights, &stage.weight[(part * OUTPUTS + output) * HALVES + half * 16 + lane / 8 % 2 * 8]);
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    if (!(senders >> 16 * i & 0xFFFFu)) continue;
                    mma_m16n8k16_bf16(own[i][2 * j], sites[i], weights);
                    mma_m16n8k16_bf16(own[i][2 * j + 1], sites[i], weights + 2);
                }
            }
        }
    }
}

// Place of a sum in shared memory, by output and site: what lanes write or read together lies in different banks.
__device__ int place_of_sum(int output, int site) { return output * (SITES / 8 * 9 + 4) + site + site / 8; }

// a = fl(a + sum): what one evaluation adds is summed for itself, so that its rounding is relative to what it adds. Sums go
// through shared memory, so that neighbours of the image are read and written together.
__device__ void add_to_accumulators(const Conv& conv, const Job& job, const Order& order, long long sample, int block,
                                    int first_site, int first_output, float* sums, float* a, const float (&own)[2][4][4]) {
    const int lane = threadIdx.x % 32, each = conv.outputs / conv.group;
    __syncthreads();  // stages are read no more
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const int site = first_site + 16 * i + lane / 4 + k / 2 * 8;
                sums[place_of_sum(first_output + 8 * j + lane % 4 * 2 + k % 2, site)] = own[i][j][k];
            }
    __syncthreads();
    const int site = threadIdx.x % SITES, y = job.row(conv, site), x = job.column(conv, site);
    const int turned = order.site(site / TILE_COLUMNS, site % TILE_COLUMNS);
    if (y < conv.out_height && x < conv.out_width) {
        for (int k = threadIdx.x / SITES; k < OUTPUTS && block * OUTPUTS + k < each; k += THREADS / SITES) {
            const long long plane = sample * conv.outputs + job.group * each + block * OUTPUTS + k;
            a[(plane * conv.out_height + y) * conv.out_width + x] += sums[place_of_sum(k, turned)];
        }
    }
    __syncthreads();  // the next item writes the first stages
}

template <int PARTS>
__device__ void accumulate_tiles(const Conv& conv, const int* rows, const int* delta, const int* sent, const int* weight,
                                 const int* list, const int* length, const int* job, const long long* number, REAL* a) {
    extern __shared__ __align__(16) unsigned char memory[];
    Stage<PARTS>* const stages = (Stage<PARTS>*)memory;
    const int warp = threadIdx.x / 32, first_site = warp % 4 * 32, own_output = warp / 4 * 32;
    const int blocks = (conv.outputs / conv.group + OUTPUTS - 1) / OUTPUTS, codes = conv.taps() * conv.words();
    const int items = number[0] * blocks;
    for (int item = blockIdx.x; item < items; item += gridDim.x) {
        const int which = job[item / blocks], block = item % blocks, steps = length[which];
        const Job own_job(conv, which);
        const int* const listed = list + (long long)which * codes;
        const Source<PARTS> from(conv, own_job, block, delta, sent, weight);
        float own[2][4][4] = {};
        for (int step = 0; step < STAGES - 1; step++) {
            if (step < steps) stage_word(conv, from, listed[step], stages[step]);
            cp_async_commit();
        }
#pragma unroll 1
        for (int step = 0; step < steps; step++) {
            const int next = step + STAGES - 1;
            cp_async_wait<STAGES - 2>();
            __syncthreads();  // this stage is there for everyone, and nobody is still in the one before
            if (next < steps) stage_word(conv, from, listed[next], stages[next % STAGES]);
            cp_async_commit();  // an empty group at the end keeps the count
            add_word(stages[step % STAGES], first_site, own_output, own);
        }
        const long long sample = rows[own_job.entry];
        add_to_accumulators(conv, own_job, from.order, sample, block, first_site, own_output, (float*)memory, a, own);
    }
}

#define TILES_ARGUMENTS                                                                                                      \
    const int *__restrict__ rows, long long count, CONV_ARGUMENTS, const int *__restrict__ delta,                            \
        const int *__restrict__ sent, const int *__restrict__ weight, const int *__restrict__ list,                          \
        const int *__restrict__ length, const int *__restrict__ job, const long long *__restrict__ number,                   \
        REAL *__restrict__ a

extern "C" __global__ void __launch_bounds__(THREADS, 2) conv_tiles_bf16(TILES_ARGUMENTS) {
    accumulate_tiles<1>(CONV_OF_ARGUMENTS, rows, delta, sent, weight, list, length, job, number, a);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) conv_tiles_bf16x2(TILES_ARGUMENTS) {
    accumulate_tiles<2>(CONV_OF_ARGUMENTS, rows, delta, sent, weight, list, length, job, number, a);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) conv_tiles_bf16x3(TILES_ARGUMENTS) {
    accumulate_tiles<3>(CONV_OF_ARGUMENTS, rows, delta, sent, weight, list, length, job, number, a);
}
