// Products of small matrices by a warp: mma.sync of bfloat16 with sums in float32, and ldmatrix to bring fragments from shared
// memory.
//
// Fragments as in the PTX ISA, with g = lane / 4 and t = lane % 4; a word holds two neighbours, the first in its low half:
//   a (16 x 16, rows):    a[0] row g, columns 2t, 2t+1; a[1] row g+8; a[2] row g, columns 2t+8, 2t+9; a[3] row g+8, these
//   columns b (16 x 8, columns):  b[0] rows 2t, 2t+1 of column g; b[1] rows 2t+8, 2t+9 c (16 x 8):           c[0], c[1] row g,
//   columns 2t, 2t+1; c[2], c[3] row g+8
#pragma once

#ifdef CUDA_CPU_SHIM

namespace shim {

struct MmaOperands {
    const unsigned *a, *b;
    float* c;
};

inline float half_of(unsigned word, int which) { return __uint_as_float(which ? word & 0xFFFF0000u : word << 16); }

// Every sum of 16 products is formed in float64 and rounded once together with c; the hardware fixes its own order and
// truncation.
__attribute__((optimize("O3"))) inline void multiply_fragments(MmaOperands** lanes, unsigned) {
    float left[16][16], right[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const int g = lane / 4, t = lane % 4;
        for (int e = 0; e < 2; e++) {
            for (int i = 0; i < 4; i++) left[g + 8 * (i & 1)][2 * t + 8 * (i >> 1) + e] = half_of(lanes[lane]->a[i], e);
            for (int i = 0; i < 2; i++) right[2 * t + 8 * i + e][g] = half_of(lanes[lane]->b[i], e);
        }
    }
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            const int row = lane / 4 + 8 * (i >> 1), column = 2 * (lane % 4) + (i & 1);
            double total = lanes[lane]->c[i];
            for (int k = 0; k < 16; k++) total += static_cast<double>(left[row][k]) * right[k][column];
            lanes[lane]->c[i] = static_cast<float>(total);
        }
}

struct MatrixRow {
    const unsigned short* row;
    unsigned* out;
};

template <bool TURNED>
void load_matrices(MatrixRow** lanes, unsigned) {
    for (int lane = 0; lane < 32; lane++) {
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++) {
            const unsigned low = TURNED ? lanes[8 * i + 2 * t]->row[g] : lanes[8 * i + g]->row[2 * t];
            const unsigned high = TURNED ? lanes[8 * i + 2 * t + 1]->row[g] : lanes[8 * i + g]->row[2 * t + 1];
            lanes[lane]->out[i] = low | high << 16;
        }
    }
}

template <bool TURNED>
void ldmatrix(const char* name, unsigned r[4], const void* row, Where where) {
    if (reinterpret_cast<size_t>(row) % 16 != 0) fail("ldmatrix needs rows at multiples of 16 bytes", where);
    unsigned loaded[4];  // written by the last lane to come, also while this one waits
    MatrixRow mine{static_cast<const unsigned short*>(row), loaded};
    meet_typed<MatrixRow>(~0u, name, mine, load_matrices<TURNED>, where);
    for (int i = 0; i < 4; i++) r[i] = loaded[i];
}

}  // namespace shim

__device__ inline void mma_m16n8k16_bf16(float c[4], const unsigned a[4], const unsigned b[2], SHIM_WHERE) {
    shim::MmaOperands mine{a, b, c};
    shim::meet_typed<shim::MmaOperands>(~0u, "mma_m16n8k16_bf16", mine, shim::multiply_fragments, {file, line});
}
__device__ inline void ldmatrix_x4(unsigned r[4], const void* row, SHIM_WHERE) {
    shim::ldmatrix<false>("ldmatrix_x4", r, row, {file, line});
}
__device__ inline void ldmatrix_x4_trans(unsigned r[4], const void* row, SHIM_WHERE) {
    shim::ldmatrix<true>("ldmatrix_x4_trans", r, row, {file, line});
}

#else

// c += a b, by all 32 lanes.
__device__ __forceinline__ void mma_m16n8k16_bf16(float c[4], const unsigned a[4], const unsigned b[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])
    );
}

// Four matrices of 8 x 8 halves of words: lane l gives the address of row l % 8 of matrix l / 8 and gets, of matrix i, the
// columns 2t, 2t+1 of row g in r[i] (turned: the rows 2t, 2t+1 of column g).
__device__ __forceinline__ void ldmatrix_x4(unsigned r[4], const void* row) {
    const unsigned from = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned r[4], const void* row) {
    const unsigned from = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
}

#endif
