// Products of a tile of rows with a weight on tensor cores. A warp owns 32 columns of all rows of the tile: of 16 TILE_M rows,
// TILE_M being set by the file that includes this one.
//
// The tile is bfloat16, row after row of `width` numbers, with its chunks of 16 bytes exchanged by the row's number, so that
// ldmatrix meets no bank twice. The weight lies in *pieces*: piece (part, step) holds 16 inner rows of all columns of one of the
// bfloat16 parts whose sum it is, in the order in which lanes want their fragments. The first `resident` pieces are in shared
// memory, the others are read from global memory (from the second-level cache); which are where changes no bit.
#pragma once

#include "bfloat16.cuh"
#include "mma.cuh"

#define TILE_ROWS (16 * TILE_M)
#define WARP_COLUMNS 32

// Elements of a thread: element (m, t, h, e) of the tile is row 16 m + 8 h + lane / 4, column 32 warp + 8 t + 2 (lane % 4) + e.
#define FOR_ROWS(m, h) _Pragma("unroll") for (int m = 0; m < TILE_M; ++m) _Pragma("unroll") for (int h = 0; h < 2; ++h)
#define FOR_PAIRS(t) _Pragma("unroll") for (int t = 0; t < 4; ++t)

struct Fragments {
    float at[TILE_M][4][4];  // m, t, 2 h + e
};

struct Place {
    int thread, warp, lane, width, warps;
    __device__ __forceinline__ int slot(int m, int h) const { return 16 * m + 8 * h + (lane >> 2); }
    __device__ __forceinline__ int column(int t) const { return WARP_COLUMNS * warp + 8 * t + 2 * (lane & 3); }
};

struct TileWeights {
    const uint4* everywhere;  // pieces in global memory
    uint4* near;              // the first `resident` of them in shared memory
    int parts, steps, resident, is_finite;
};

// Where a chunk of 8 numbers of a row begins, in numbers.
__device__ __forceinline__ int tile_chunk(int row, int chunk, int width) { return row * width + ((chunk ^ (row & 7)) << 3); }

// Two neighbouring numbers into the tile; `column` is even.
__device__ __forceinline__ void tile_write(unsigned short* tile, int row, int column, int width, unsigned word) {
    *reinterpret_cast<unsigned*>(tile + tile_chunk(row, column >> 3, width) + (column & 7)) = word;
}

// Bring the resident pieces into shared memory; a barrier must follow.
__device__ __forceinline__ void load_resident(const TileWeights& weights, const Place& at) {
    const int count = weights.resident * at.warps * 2 * 32;
    for (int i = at.thread; i < count; i += at.warps * 32) weights.near[i] = weights.everywhere[i];
}

// Fragments of 32 columns of a piece, as one lane wants them.
struct PieceFragments {
    uint4 pair[2];
};

__device__ __forceinline__ PieceFragments read_piece(const TileWeights& weights, const Place& at, int part, int step) {
    const int index = part * weights.steps + step, size = at.warps * 2 * 32;
    const uint4* from = (index < weights.resident ? weights.near : weights.everywhere) + (size_t)index * size;
    return {{from[at.warp * 64 + at.lane], from[at.warp * 64 + at.lane + 32]}};
}

// c += (part `p` of the left operand, in the tile) * (the parts of the weight that count beside it).
//
// `skips` has a bit for every 16 rows that send nothing. With later parts of the left operand fewer parts of the weight count:
// products beyond the last part are below what the parts resolve. A piece is asked for while the one before it is multiplied.
__device__ __forceinline__ void multiply_tile(
    const unsigned short* tile, const TileWeights& weights, const Place& at, int p, unsigned skips, int has_odd, Fragments& c
) {
    PieceFragments next = read_piece(weights, at, 0, 0);
    for (int step = 0; step < weights.steps; ++step) {
        unsigned a[TILE_M][4];
#pragma unroll
        for (int m = 0; m < TILE_M; ++m) {
            const int row = 16 * m + (at.lane & 15);
            ldmatrix_x4(a[m], tile + tile_chunk(row, 2 * step + (at.lane >> 4), at.width));
        }
        for (int part = 0; part < weights.parts - p; ++part) {
            const PieceFragments piece = next;
            if (part + 1 < weights.parts - p)
                next = read_piece(weights, at, part + 1, step);
            else if (step + 1 < weights.steps)
                next = read_piece(weights, at, 0, step + 1);
            if (part > 0 && has_odd) {
#pragma unroll
                for (int i = 0; i < 4 * TILE_M; ++i) a[i >> 2][i & 3] = finite_halves(a[i >> 2][i & 3]);
            }
#pragma unroll
            for (int t = 0; t < 4; ++t) {
                const uint4 four = piece.pair[t >> 1];
                unsigned b[2] = {t & 1 ? four.z : four.x, t & 1 ? four.w : four.y};
                if (p > 0 && !weights.is_finite) {
                    b[0] = finite_halves(b[0]);
                    b[1] = finite_halves(b[1]);
                }
#pragma unroll
                for (int m = 0; m < TILE_M; ++m)
                    if (!((skips >> m) & 1u)) mma_m16n8k16_bf16(c.at[m][t], a[m], b);
            }
        }
    }
}
