// Lists of the rows that go on, in ascending order, and rows gathered by such a list (K2b). Integers and copies: nothing is rounded
// but the one sum of row_add.
#define EVERY_LANE 0xffffffffu
#define TILE 256  // threads of a block, and flags that it lists

// Set flags before this thread's in its block, and in `all` those of the whole block.
__device__ __forceinline__ int rank_in_block(bool is_set, int& all) {
    __shared__ int of_warps[TILE / 32];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const unsigned word = __ballot_sync(EVERY_LANE, is_set);
    if (lane == 0) of_warps[warp] = __popc(word);
    __syncthreads();
    int before = 0;
    all = 0;
    for (int w = 0; w < TILE / 32; ++w) {
        before += w < warp ? of_warps[w] : 0;
        all += of_warps[w];
    }
    __syncthreads();  // the counts may be written again
    return before + __popc(word & ((1u << lane) - 1u));
}

// counts[b] = set flags among the 256 of block b.
extern "C" __global__ void row_count(const unsigned char* flags, long long batch, int* counts) {
    const long long row = blockIdx.x * (long long)TILE + threadIdx.x;
    const int count = __syncthreads_count(row < batch && flags[row]);
    if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

// counts[b] = sum of those before b, total[0] = sum of all; one block.
extern "C" __global__ void row_scan(int blocks, int* counts, int* total) {
    __shared__ int part[TILE];
    int carry = 0;
    for (int first = 0; first < blocks; first += TILE) {
        const int at = first + threadIdx.x;
        const int own = at < blocks ? counts[at] : 0;
        part[threadIdx.x] = own;
        __syncthreads();
        for (int step = 1; step < TILE; step <<= 1) {
            const int other = (int)threadIdx.x >= step ? part[threadIdx.x - step] : 0;
            __syncthreads();
            part[threadIdx.x] += other;
            __syncthreads();
        }
        if (at < blocks) counts[at] = carry + part[threadIdx.x] - own;
        carry += part[TILE - 1];
        __syncthreads();
    }
    if (threadIdx.x == 0) total[0] = carry;
}

// rows = ascending indices of set flags; `counts` as row_scan leaves it.
extern "C" __global__ void row_write(const unsigned char* flags, long long batch, const int* counts, int* rows) {
    const long long row = blockIdx.x * (long long)TILE + threadIdx.x;
    const bool is_set = row < batch && flags[row];
    int all;
    const int rank = rank_in_block(is_set, all);
    if (is_set) rows[counts[blockIdx.x] + rank] = (int)row;
}

// out[i] = what row rows[i] sends, with zeros elsewhere; a block of 128 threads per entry of the list.
extern "C" __global__ void row_spread(
    const int* rows, long long count, int n, const unsigned char* live, const int* index, const REAL* values, const int* ends,
    REAL* out
) {
    const int blocks = (n + 127) / 128;
    for (long long i = blockIdx.x; i < count; i += gridDim.x) {
        const int row = rows[i];
        const int length = live[row] ? ends[row * (blocks + 1LL) + blocks] : 0;
        for (int j = threadIdx.x; j < n; j += blockDim.x) out[i * n + j] = 0;
        __syncthreads();
        for (int t = threadIdx.x; t < length; t += blockDim.x) out[i * n + index[(long long)row * n + t]] = values[(long long)row * n + t];
        __syncthreads();
    }
}

// a[rows[i]] = fl(a[rows[i]] + sums[i]) for rows that go on.
extern "C" __global__ void row_add(
    const int* rows, long long count, int n, const unsigned char* live, const REAL* sums, REAL* a
) {
    for (long long i = blockIdx.x; i < count; i += gridDim.x) {
        const int row = rows[i];
        if (!live[row]) continue;
        for (int j = threadIdx.x; j < n; j += blockDim.x) a[(long long)row * n + j] = a[(long long)row * n + j] + sums[i * n + j];
    }
}
