// Gates of the delta rule (D-1 to D-4, D-10), and the counters and lists of what they sent (C-1, C-3).
#include "gate_rule.cuh"
#include "lists.cuh"

// A gate of elements: decides, writes mask and gated difference, updates r.
extern "C" __global__ void gate(
    const int* rows, long long count, long long n, const REAL* u, const REAL* threshold, int compare, int memory,
    int delta_dtype, int feedback_format, REAL* r, unsigned char* mask, REAL* d
) {
    FLAT_LOOP(i, count * n) {
        const Element element = element_of(rows, n, i);
        const long long at = element.at(n);
        const REAL delta = difference_of(u[at], r[at], delta_dtype);
        const bool sent = is_sent(delta, threshold[element.k], compare);
        mask[at] = sent;
        d[at] = pass_gate(u[at], delta, sent, memory, feedback_format, r[at]);
    }
}

// First half of a gate of groups: differences into d, and which groups send, by an atomic or of integers (free of order).
extern "C" __global__ void gate_decide(
    const int* rows, long long count, long long n, long long groups, const REAL* u, const REAL* threshold, const int* group,
    int compare, int delta_dtype, const REAL* r, int* any, REAL* d
) {
    FLAT_LOOP(i, count * n) {
        const Element element = element_of(rows, n, i);
        const long long at = element.at(n);
        d[at] = difference_of(u[at], r[at], delta_dtype);
        if (is_sent(d[at], threshold[element.k], compare)) atomicOr(&any[element.sample * groups + group[element.k]], 1);
    }
}

// Second half: the group's decision, then D-3 and D-4 from the differences in d.
extern "C" __global__ void gate_share(
    const int* rows, long long count, long long n, long long groups, const REAL* u, const int* group, const int* any,
    int memory, int feedback_format, REAL* r, unsigned char* mask, REAL* d
) {
    FLAT_LOOP(i, count * n) {
        const Element element = element_of(rows, n, i);
        const long long at = element.at(n);
        const bool sent = any[element.sample * groups + group[element.k]] != 0;
        mask[at] = sent;
        d[at] = pass_gate(u[at], d[at], sent, memory, feedback_format, r[at]);
    }
}

// C-1: fan-outs of the sent elements; one block for each entry.
extern "C" __global__ void count_sent(
    const int* rows, long long count, long long n, const unsigned char* mask, int many, const long long* fan_out,
    const long long* position, long long* out
) {
    if (blockIdx.x >= count) return;
    const long long sample = rows[blockIdx.x];
    long long total = 0;
    for (long long k = threadIdx.x; k < n; k += blockDim.x)
        if (mask[sample * n + k]) total += fan_out[many ? position[k] : 0];
    total = block_sum(total);
    if (threadIdx.x == 0) out[sample] = total;
}

// C-3: elements that are not zero; NaN is not. One block for each entry.
extern "C" __global__ void count_nonzero(const int* rows, long long count, long long n, const REAL* values, long long* out) {
    if (blockIdx.x >= count) return;
    const long long sample = rows[blockIdx.x];
    long long total = 0;
    for (long long k = threadIdx.x; k < n; k += blockDim.x) total += values[sample * n + k] != 0;
    total = block_sum(total);
    if (threadIdx.x == 0) out[sample] = total;
}

// Ascending list of the sent elements of a sample. The block takes 128 elements at a time: a ballot orders them inside a warp,
// the counts of the warps before it order the warps. One block of 128 threads for each entry.
extern "C" __global__ void list_sent(
    const int* rows, long long count, long long n, const unsigned char* mask, int* index, int* length
) {
    __shared__ int of_warps[32];
    if (blockIdx.x >= count) return;
    const long long sample = rows[blockIdx.x];
    const unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    int before = 0;
    for (long long first = 0; first < n; first += blockDim.x) {
        const long long k = first + threadIdx.x;
        const bool sent = k < n && mask[sample * n + k];
        const unsigned votes = __ballot_sync(0xFFFFFFFFu, sent);
        if (lane == 0) of_warps[warp] = __popc(votes);
        __syncthreads();
        int at = before + __popc(votes & ((1u << lane) - 1));
        for (unsigned other = 0; other < warps; other++) {
            if (other < warp) at += of_warps[other];
            before += of_warps[other];
        }
        if (sent) index[sample * n + at] = static_cast<int>(k);
        __syncthreads();  // the counts are read before the next ones are written
    }
    if (threadIdx.x == 0) length[sample] = before;
}
