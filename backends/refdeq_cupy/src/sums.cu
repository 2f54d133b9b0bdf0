// Sums of linear nodes. Every output adds its terms in ascending order, starting from what it holds: strict order rounds
// product and sum (N-6), fast order has one fused multiply-add per term, in the same order (N-7). The two differ in
// `add_product` only.
#include "lists.cuh"

__device__ __forceinline__ float multiply_add(float x, float y, float z) { return __fmaf_rn(x, y, z); }
__device__ __forceinline__ double multiply_add(double x, double y, double z) { return __fma_rn(x, y, z); }

template <bool FUSED>
__device__ __forceinline__ REAL add_product(REAL total, REAL weight, REAL value) {
    if (FUSED) return multiply_add(weight, value, total);
    return total + weight * value;
}

// Listed columns: 128 entries of the list are staged at a time. Blocks of 128 threads, one output each; grid (tiles of outputs,
// any).
template <bool FUSED>
__device__ __forceinline__ void add_listed(
    const int* rows, long long count, long long inner, long long n, const REAL* d, const int* index, const int* length,
    const REAL* weight, REAL* a
) {
    __shared__ int columns[128];
    __shared__ REAL values[128];
    const long long i = blockIdx.x * 128ll + threadIdx.x;
    for (long long entry = blockIdx.y; entry < count; entry += gridDim.y) {
        const long long sample = rows[entry];
        const int many = length[sample];
        REAL total = i < n ? a[sample * n + i] : REAL(0);
        for (int first = 0; first < many; first += 128) {
            const int here = many - first < 128 ? many - first : 128;
            if (static_cast<int>(threadIdx.x) < here) {
                const int column = index[sample * inner + first + threadIdx.x];
                columns[threadIdx.x] = column;
                values[threadIdx.x] = d[sample * inner + column];
            }
            __syncthreads();
            if (i < n)
                for (int t = 0; t < here; t++) total = add_product<FUSED>(total, weight[columns[t] * n + i], values[t]);
            __syncthreads();  // all have read before the next entries are staged
        }
        if (i < n) a[sample * n + i] = total;
    }
}

// All columns: 32 of them at a time, for 32 outputs of 8 entries. Blocks of (32, 8); grid (tiles of outputs, any). The warp of an
// entry asks which of 32 columns were sent; nothing is added for the others, so that the sum is the one of listed columns, bit for
// bit: neither does a weight that is not finite meet a zero, nor does +0 come to an accumulator of -0 (D-7, N-6).
template <bool FUSED>
__device__ __forceinline__ void add_dense(
    const int* rows, long long count, long long inner, long long n, const REAL* d, int has_mask, const unsigned char* mask,
    const REAL* weight, REAL* a
) {
    __shared__ REAL values[8][32];
    __shared__ REAL weights[32][32];
    const int x = threadIdx.x, y = threadIdx.y;
    const long long i = blockIdx.x * 32ll + x;
    for (long long top = blockIdx.y * 8ll; top < count; top += gridDim.y * 8ll) {
        const bool is_there = top + y < count;
        const long long sample = is_there ? rows[top + y] : 0;
        REAL total = is_there && i < n ? a[sample * n + i] : REAL(0);
        for (long long first = 0; first < inner; first += 32) {
            const int here = inner - first < 32 ? static_cast<int>(inner - first) : 32;
            if (is_there && x < here) values[y][x] = d[sample * inner + first + x];
            const bool is_sent = is_there && x < here && (!has_mask || mask[sample * inner + first + x]);
            const unsigned sent = __ballot_sync(0xFFFFFFFFu, is_sent);
            for (int t = y; t < here; t += 8)
                if (i < n) weights[t][x] = weight[(first + t) * n + i];
            __syncthreads();
            if (is_there && i < n)
                for (int t = 0; t < here; t++)
                    if (sent >> t & 1u) total = add_product<FUSED>(total, weights[t][x], values[y][t]);
            __syncthreads();
        }
        if (is_there && i < n) a[sample * n + i] = total;
    }
}

// out[b, p] = left[b, left_pick[p]] @ right[b, right_pick[p]]; steps are elements per sample, 0 for a parameter. Flat.
template <bool FUSED>
__device__ __forceinline__ void multiply_matrices(
    const int* rows, long long count, long long products, long long height, long long inner, long long width,
    long long left_step, const long long* left_pick, const REAL* left, long long right_step, const long long* right_pick,
    const REAL* right, REAL* out
) {
    const long long n = products * height * width;
    FLAT_LOOP(item, count * n) {
        const Element element = element_of(rows, n, item);
        const long long j = element.k % width, i = element.k / width % height, p = element.k / width / height;
        const REAL* row = left + element.sample * left_step + (left_pick[p] * height + i) * inner;
        const REAL* column = right + element.sample * right_step + right_pick[p] * inner * width + j;
        REAL total = 0;
        for (long long t = 0; t < inner; t++) total = add_product<FUSED>(total, row[t], column[t * width]);
        out[element.at(n)] = total;
    }
}

struct Convolution {
    int channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w;
    int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group;
};

// Taps in the order (kh, kw, c); taps outside the image are absent; with a mask, so are elements that are not sent. Flat.
template <bool FUSED>
__device__ __forceinline__ void add_convolution(
    const int* rows, long long count, const Convolution& at, int has_mask, const REAL* d, const unsigned char* mask,
    const REAL* weight, REAL* a
) {
    const long long site = static_cast<long long>(at.height) * at.width, inputs = at.channels / at.group;
    const long long n = static_cast<long long>(at.outputs) * at.out_height * at.out_width;
    const int taps = at.kernel_h * at.kernel_w;
    FLAT_LOOP(item, count * n) {
        const Element element = element_of(rows, n, item);
        const int column = static_cast<int>(element.k % at.out_width);
        const int row = static_cast<int>(element.k / at.out_width % at.out_height);
        const int output = static_cast<int>(element.k / at.out_width / at.out_height);
        const long long first = element.sample * at.channels * site + output / (at.outputs / at.group) * inputs * site;
        REAL total = a[element.at(n)];
        for (int tap = 0; tap < taps; tap++) {
            const int y = row * at.stride_h - at.pad_h + tap / at.kernel_w * at.dilation_h;
            const int x = column * at.stride_w - at.pad_w + tap % at.kernel_w * at.dilation_w;
            if (y < 0 || y >= at.height || x < 0 || x >= at.width) continue;
            for (long long c = 0; c < inputs; c++) {
                const long long from = first + c * site + static_cast<long long>(y) * at.width + x;
                if (has_mask && !mask[from]) continue;
                total = add_product<FUSED>(total, weight[(output * inputs + c) * taps + tap], d[from]);
            }
        }
        a[element.at(n)] = total;
    }
}

#define SUMS(suffix, FUSED)                                                                                                   \
    extern "C" __global__ void gemm_listed##suffix(                                                                           \
        const int* rows, long long count, long long inner, long long n, const REAL* d, const int* index, const int* length,   \
        const REAL* weight, REAL* a                                                                                           \
    ) {                                                                                                                       \
        add_listed<FUSED>(rows, count, inner, n, d, index, length, weight, a);                                                \
    }                                                                                                                         \
    extern "C" __global__ void gemm_dense##suffix(                                                                            \
        const int* rows, long long count, long long inner, long long n, const REAL* d, int has_mask,                          \
        const unsigned char* mask, const REAL* weight, REAL* a                                                                \
    ) {                                                                                                                       \
        add_dense<FUSED>(rows, count, inner, n, d, has_mask, mask, weight, a);                                                \
    }                                                                                                                         \
    extern "C" __global__ void matmul##suffix(                                                                                \
        const int* rows, long long count, long long products, long long height, long long inner, long long width,             \
        long long left_step, const long long* left_pick, const REAL* left, long long right_step, const long long* right_pick, \
        const REAL* right, REAL* out                                                                                          \
    ) {                                                                                                                       \
        multiply_matrices<FUSED>(                                                                                             \
            rows, count, products, height, inner, width, left_step, left_pick, left, right_step, right_pick, right, out       \
        );                                                                                                                    \
    }                                                                                                                         \
    extern "C" __global__ void conv##suffix(                                                                                  \
        const int* rows, long long count, int channels, int height, int width, int outputs, int out_height, int out_width,    \
        int kernel_h, int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w, int dilation_h, int dilation_w,         \
        int group, int has_mask, const REAL* d, const unsigned char* mask, const REAL* weight, REAL* a                        \
    ) {                                                                                                                       \
        const Convolution at = {channels, height,   width, outputs, out_height, out_width,  kernel_h, kernel_w,               \
                                stride_h, stride_w, pad_h, pad_w,   dilation_h, dilation_w, group};                           \
        add_convolution<FUSED>(rows, count, at, has_mask, d, mask, weight, a);                                                \
    }

SUMS(, false)
SUMS(_fma, true)
