// Which taps and words of channels reach a tile of outputs, from one bit per strip of four sites (rows of four strips).
#pragma once

#include "conv_geometry.cuh"

// First and last input coordinate that the outputs [first, last] read under a tap, padding left out; empty where first > last.
struct Reach {
    int first, last;

    __device__ Reach(int from, int to, int length, int out_length, int stride, int shift) {
        if (to > out_length - 1) to = out_length - 1;
        const int lacking = from * stride + shift;
        if (lacking < 0) from += (-lacking + stride - 1) / stride;
        while (to >= from && to * stride + shift > length - 1) to--;
        first = from * stride + shift;
        last = to >= from ? to * stride + shift : first - 1;
    }
};

// Bits of the strips of one input tile that lie in a rectangle of sites; rows and columns count from the tile's corner.
__device__ inline unsigned strips_in(int top, int bottom, int left, int right) {
    if (top < 0) top = 0;
    if (left < 0) left = 0;
    if (bottom > TILE_ROWS - 1) bottom = TILE_ROWS - 1;
    if (right > TILE_COLUMNS - 1) right = TILE_COLUMNS - 1;
    const unsigned strips = (0xFu >> (3 - (right / 4 - left / 4))) << (left / 4);
    const unsigned rows = (0xFFFFFFFFu >> (4 * (TILE_ROWS - 1 - (bottom - top)))) << (4 * top);
    return strips * 0x11111111u & rows;
}

// Whether a word of channels is sent by any site that a tile of outputs may read under a tap; strips are not split.
__device__ inline bool reaches(const Conv& conv, const Job& job, int tap, int word, const int* __restrict__ tile_words) {
    const int y = job.row(conv, 0), x = job.column(conv, 0);
    const Reach rows(y, y + TILE_ROWS - 1, conv.height, conv.out_height, conv.stride_h,
                     tap / conv.kernel_w * conv.dilation_h - conv.pad_h);
    const Reach columns(x, x + TILE_COLUMNS - 1, conv.width, conv.out_width, conv.stride_w,
                        tap % conv.kernel_w * conv.dilation_w - conv.pad_w);
    if (rows.first > rows.last || columns.first > columns.last) return false;
    const long long base = job.entry * conv.in_tiles();
    for (int v = rows.first / TILE_ROWS; v <= rows.last / TILE_ROWS; v++) {
        for (int h = columns.first / TILE_COLUMNS; h <= columns.last / TILE_COLUMNS; h++) {
            const unsigned inside = strips_in(rows.first - v * TILE_ROWS, rows.last - v * TILE_ROWS,
                                              columns.first - h * TILE_COLUMNS, columns.last - h * TILE_COLUMNS);
            const long long tile = base + v * conv.in_across() + h;
            if ((unsigned)tile_words[tile * conv.all_words() + job.group * conv.words() + word] & inside) return true;
        }
    }
    return false;
}
