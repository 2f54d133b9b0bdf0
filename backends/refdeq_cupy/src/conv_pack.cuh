// Packing what is sent: channels last, one bit per channel and site, one bit per strip of four sites.
#pragma once

#include "conv_geometry.cuh"

constexpr unsigned EVERY_LANE = 0xFFFFFFFFu;
constexpr int PACKERS = 256;

// Strips of four sites, eight of each warp's ballot of 32 sites: bit s says whether one of them sends.
__device__ inline unsigned strips_of(unsigned sites) {
    unsigned strips = 0;
    for (int s = 0; s < 8; s++) strips |= (sites >> 4 * s & 15u) != 0 ? 1u << s : 0u;
    return strips;
}

// The differences of one word at one site, whose channels start at `at` of a sample: into a row of shared memory; bits of what
// is sent, and +0 in place of what is not (D-3, D-7). Each of two threads has half of the channels. Without a mask all is sent.
__device__ inline unsigned read_half(const REAL* __restrict__ d, const unsigned char* __restrict__ mask, long long at,
                                     long long sites, int first, int inputs, bool is_there, REAL* row) {
    unsigned bits = 0;
    for (int k = first; k < first + WORD / 2; k++) {
        REAL value = 0;
        const bool is_channel = is_there && k < inputs;
        if (is_channel && (mask == nullptr || mask[at + k * sites])) {
            bits |= 1u << k % WORD;
            value = d[at + k * sites];
        }
        row[k % WORD] = value;
    }
    return bits;
}

// One block per input tile and word; nothing is written at sites that send nothing of the word, and nobody reads there.
template <class Stored, class Convert>
__device__ void pack_tiles(const Conv& conv, const int* __restrict__ rows, long long count, const REAL* __restrict__ d,
                           const unsigned char* __restrict__ mask, Stored* __restrict__ delta, int* __restrict__ sent,
                           int* __restrict__ tile_words, Convert convert) {
    __shared__ REAL turned[SITES][WORD + 1];
    __shared__ unsigned halves[2][SITES], strips[SITES / 32];
    const int thread = threadIdx.x, site = thread % SITES, half = thread / SITES, inputs = conv.channels / conv.group;
    const int words = conv.all_words(), items = count * conv.in_tiles() * words;  // the host keeps it below 2^31
    for (int item = blockIdx.x; item < items; item += gridDim.x) {
        const int word = item % words, tile = item / words % conv.in_tiles(), entry = item / words / conv.in_tiles();
        const int top = tile / conv.in_across() * TILE_ROWS, left = tile % conv.in_across() * TILE_COLUMNS;
        const int y = top + site / TILE_COLUMNS, x = left + site % TILE_COLUMNS;
        const bool is_there = y < conv.height && x < conv.width;
        const long long channel = rows[entry] * (long long)conv.channels + word / conv.words() * inputs;
        const long long at = channel * conv.sites() + (long long)y * conv.width + x;
        const int first = word % conv.words() * WORD + half * (WORD / 2);
        halves[half][site] = read_half(d, mask, at, conv.sites(), first, inputs, is_there, turned[site]);
        __syncthreads();
        const unsigned own = halves[0][site] | halves[1][site];
        const unsigned ballot = __ballot_sync(EVERY_LANE, own != 0);
        if (half == 0) {
            if (is_there) sent[(entry * conv.sites() + (long long)y * conv.width + x) * words + word] = own;
            if (thread % 32 == 0) strips[thread / 32] = strips_of(ballot);
        }
        for (int s = thread / 32; s < SITES; s += PACKERS / 32) {
            if ((halves[0][s] | halves[1][s]) == 0) continue;
            const long long to_site = (long long)(top + s / TILE_COLUMNS) * conv.width + left + s % TILE_COLUMNS;
            const long long to = (entry * conv.sites() + to_site) * words + word;
            delta[to * WORD + thread % 32] = convert(turned[s][thread % 32]);
        }
        __syncthreads();
        if (thread == 0) tile_words[item] = strips[0] | strips[1] << 8 | strips[2] << 16 | strips[3] << 24;
    }
}
