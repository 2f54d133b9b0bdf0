// The sums of one evaluation: which columns are added, and jobs of (tile of outputs, part of the list) that add them.
//
// An output adds its columns in ascending order, in strict order all of them one after the other (N-6). In fast order the list is
// cut into parts by its length and N alone, so that which block does what changes no bit; a step adds the parts in ascending order.
#pragma once

#include "fc_judge.cuh"
#include "fc_layout.cuh"

// Entries of all lists before that of each block: the lists of the blocks, one after the other, are one ascending list.
__device__ inline void place_lists(const Solve& s, Shared& m) {
    const int blocks = gridDim.x, lane = threadIdx.x % 32;
    for (int block = threadIdx.x; block < blocks; block += blockDim.x) m.offset[block] = s.words[COUNT_AT + block];
    __syncthreads();
    if (threadIdx.x < 32) {
        int before = 0;
        for (int first = 0; first < blocks; first += 32) {
            const int own = first + lane < blocks ? m.offset[first + lane] : 0;
            int sum = own;
            for (int distance = 1; distance < 32; distance *= 2) {
                const int other = __shfl_up_sync(EVERY_LANE, sum, distance);
                if (lane >= distance) sum += other;
            }
            if (first + lane < blocks) m.offset[first + lane] = before + sum - own;
            before += __shfl_sync(EVERY_LANE, sum, 31);
        }
        if (lane == 0) m.offset[blocks] = before;
    } else if (threadIdx.x < 64 && blockIdx.x == 0) {  // the first block counts
        int nonzero = 0;
        for (int block = lane; block < blocks; block += 32) nonzero += s.words[NONZERO_AT + block];
        for (int distance = 16; distance > 0; distance /= 2) nonzero += __shfl_xor_sync(EVERY_LANE, nonzero, distance);
        if (lane == 0) m.nonzero = nonzero;
    }
    __syncthreads();
}

// Where an entry of the one list lies among the lists of the blocks.
__device__ inline long long place_of(const Solve& s, const Shared& m, int entry) {
    int low = 0, high = gridDim.x;  // offset[low] <= entry < offset[high]
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (m.offset[middle] <= entry) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return s.first_of(low) + (entry - m.offset[low]);
}

// What the coming evaluation does, into `m.control`.
__device__ inline void plan_evaluation(const Solve& s, Shared& m) {
    const long long n = s.n(), count = m.control[COUNT], refresh = s.choice[REFRESH], total = m.offset[gridDim.x];
    const bool is_start = s.choice[IS_DENSE_START] && count == 0;
    const bool is_refresh = refresh > 0 && count > 0 && count % refresh == 0;
    const bool is_fresh = !s.choice[IS_GATED] || is_start || is_refresh, is_any = s.choice[BY_SAMPLE] && total > 0;
    const long long used = is_fresh || is_any ? n : total;
    // one part for each eight columns at most, so that short lists are not cut to pieces
    const long long splits = s.choice[SPLITS], share = (used + splits - 1) / splits;
    m.control[TOTAL] = total;
    m.control[USED] = used;
    m.control[IS_FRESH] = is_fresh;
    m.control[LENGTH] = splits == 1 ? used : (share + 7) / 8 * 8;
    m.control[DIFFERENT] = blockIdx.x == 0 ? m.nonzero : 0;
}

// Stage columns of the list and their factors, entries `first` to `last`.
__device__ inline void stage_columns(const Solve& s, Shared& m, long long first, long long last, int buffer) {
    const bool is_whole = m.control[USED] == s.n();
    const bool is_kept = s.choice[BY_SAMPLE] && m.control[IS_FRESH] && m.control[TOTAL] == 0 && m.control[COUNT] > 0;
    const REAL* factor = !is_whole ? s.listed() : is_kept ? s.kept() : s.factor();
    for (int t = threadIdx.x; t < CHUNK && first + t < last; t += blockDim.x) {
        const long long place = is_whole ? first + t : place_of(s, m, (int)(first + t));
        m.column[buffer * CHUNK + t] = is_whole ? (int)place : s.words[INDEX_AT + place];
        m.pool[buffer * CHUNK + t] = factor[place];
    }
}

template <bool IS_FUSED>
__device__ inline REAL multiply_add(REAL w, REAL d, REAL a) {
    if (!IS_FUSED) return a + w * d;  // two roundings (N-6); the compiler is told not to contract
    return sizeof(REAL) == 4 ? (REAL)fmaf((float)w, (float)d, (float)a) : (REAL)fma((double)w, (double)d, (double)a);
}

// Neighbouring weights of one column: one load where there are four.
template <int MANY>
__device__ inline void load_weights(const REAL* weight, REAL (&w)[MANY]) {
    if (MANY == 4 && sizeof(REAL) == 4) {
        const float4 four = __ldg((const float4*)weight);
        w[0] = four.x, w[1] = four.y, w[2] = four.z, w[3] = four.w;
    } else {
        for (int j = 0; j < MANY; j++) w[j] = __ldg(weight + j);
    }
}

// One job: outputs of a thread from the columns of one part of the list, in ascending order, into `partial`. Staged chunks
// alternate between two buffers, so that the next is under way while one is added.
template <bool IS_FUSED, int MANY>
__device__ inline void run_job(const Solve& s, Shared& m, long long tile, long long part) {
    const long long n = s.n(), used = m.control[USED], first = part * m.control[LENGTH];
    const long long last = first + m.control[LENGTH] < used ? first + m.control[LENGTH] : used;
    const long long at = tile * s.choice[TILE] + (long long)threadIdx.x * MANY;
    const bool is_mine = (long long)threadIdx.x * MANY < s.choice[TILE] && at < n;
    const bool begins = part > 0 || m.control[IS_FRESH] || s.choice[IS_FOLDED];
    const REAL* a = s.state + s.choice[A_AT] + m.control[SAMPLE] * s.choice[ROW_STEP];
    REAL sum[MANY];
    for (int j = 0; j < MANY; j++) sum[j] = begins || !is_mine ? 0 : a[at + j];
    __syncthreads();  // nobody reads the buffers of the job before
    stage_columns(s, m, first, last, 0);
    for (long long chunk = 0; first + chunk * CHUNK < last; chunk++) {
        const long long start = first + chunk * CHUNK;
        const int buffer = (int)(chunk & 1), many = last - start < CHUNK ? (int)(last - start) : CHUNK;
        __syncthreads();  // this chunk is there, and nobody reads the other buffer any more
        stage_columns(s, m, start + CHUNK, last, 1 - buffer);
        if (!is_mine) continue;
        const int* column = m.column + buffer * CHUNK;
        const REAL* factor = m.pool + buffer * CHUNK;
#pragma unroll 8
        for (int t = 0; t < many; t++) {
            REAL w[MANY];
            load_weights<MANY>(s.weight + (long long)column[t] * n + at, w);
            for (int j = 0; j < MANY; j++) sum[j] = multiply_add<IS_FUSED>(w[j], factor[t], sum[j]);
        }
    }
    if (is_mine) {
        for (int j = 0; j < MANY; j++) s.partial()[part * n + at + j] = sum[j];
    }
}

// All jobs, shared out among the blocks; the first one has something else to do, unless it is the only one.
__device__ inline void run_jobs(const Solve& s, Shared& m) {
    const long long used = m.control[USED], tiles = (s.n() + s.choice[TILE] - 1) / s.choice[TILE];
    const long long parts = used == 0 ? 0 : (used + m.control[LENGTH] - 1) / m.control[LENGTH];
    const int idle = gridDim.x > 1 ? 1 : 0;
    if (blockIdx.x < idle) return;
    for (long long job = blockIdx.x - idle; job < tiles * parts; job += gridDim.x - idle) {
        if (!s.choice[IS_FAST]) {
            run_job<false, 1>(s, m, job % tiles, job / tiles);
        } else if (s.choice[WIDTH] == 4) {
            run_job<true, 4>(s, m, job % tiles, job / tiles);
        } else {
            run_job<true, 1>(s, m, job % tiles, job / tiles);
        }
    }
}

// First half of a round: the first block judges the evaluation that is finished, while the others add the columns of the next to
// what it begins from; if there is none, these sums are forgotten.
__device__ inline void add_columns(const Solve& s, Shared& m) {
    if (m.control[PHASE] != RUN) return;
    place_lists(s, m);
    if (threadIdx.x == 0) plan_evaluation(s, m);
    __syncthreads();
    run_jobs(s, m);
    __syncthreads();  // nobody reads the buffers of the last job
    if (blockIdx.x == 0) judge(s, m);
    __syncthreads();
}
