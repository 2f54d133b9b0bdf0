// Moves: bits are copied, nothing is rounded.
#include "lists.cuh"

extern "C" __global__ void fill(const int* rows, long long count, long long n, REAL value, REAL* out) {
    FLAT_LOOP(i, count * n) out[element_of(rows, n, i).at(n)] = value;
}

extern "C" __global__ void fill_flags(const int* rows, long long count, long long n, int value, unsigned char* out) {
    FLAT_LOOP(i, count * n) out[element_of(rows, n, i).at(n)] = static_cast<unsigned char>(value);
}

extern "C" __global__ void clear_words(long long count, int* out) { FLAT_LOOP(i, count) out[i] = 0; }

extern "C" __global__ void copy(const int* rows, long long count, long long n, const REAL* x, REAL* out) {
    FLAT_LOOP(i, count * n) {
        const long long at = element_of(rows, n, i).at(n);
        out[at] = x[at];
    }
}

extern "C" __global__ void gather(
    const int* rows, long long count, long long n, const REAL* x, long long x_step, const long long* position, REAL* out
) {
    FLAT_LOOP(i, count * n) {
        const Element element = element_of(rows, n, i);
        out[element.at(n)] = x[element.sample * x_step + position[element.k]];
    }
}

extern "C" __global__ void scatter(
    const int* rows, long long count, long long n, const REAL* x, const long long* position, REAL* out, long long width
) {
    FLAT_LOOP(i, count * n) {
        const Element element = element_of(rows, n, i);
        out[element.sample * width + position[element.k]] = x[element.at(n)];
    }
}

extern "C" __global__ void move(
    const int* rows, long long count, long long n, const REAL* x, long long x_width, long long x_at, REAL* out,
    long long out_width, long long out_at
) {
    FLAT_LOOP(i, count * n) {
        const Element element = element_of(rows, n, i);
        out[element.sample * out_width + out_at + element.k] = x[element.sample * x_width + x_at + element.k];
    }
}

// Tiles of 32 x 32, read and written in whole lines; the 33rd column keeps lanes that read a column on different banks. Blocks
// of (32, 8) threads; grid (tiles across, tiles down).
extern "C" __global__ void transpose(int height, int width, const REAL* x, REAL* out) {
    __shared__ REAL tile[32][33];
    const int column = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * 32 + threadIdx.y;
    for (int step = 0; step < 32; step += 8)
        if (row + step < height && column < width)
            tile[threadIdx.y + step][threadIdx.x] = x[static_cast<long long>(row + step) * width + column];
    __syncthreads();
    const int out_column = blockIdx.y * 32 + threadIdx.x, out_row = blockIdx.x * 32 + threadIdx.y;
    for (int step = 0; step < 32; step += 8)
        if (out_row + step < width && out_column < height)
            out[static_cast<long long>(out_row + step) * height + out_column] = tile[threadIdx.x][threadIdx.y + step];
}
