// What the kernels of convolutions over lists of tiles agree on: tiles of output sites, words of channels, where a tap reads.
//
// A tile is 8 rows of 16 sites. Channels are cut into words of 32, group after group; every group fills its last word up.
// Packed differences have channels last: element (entry of rows, site, word * 32 + channel in the word).
#pragma once

constexpr int TILE_ROWS = 8, TILE_COLUMNS = 16, SITES = TILE_ROWS * TILE_COLUMNS, WORD = 32;

struct Conv {
    int channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w;
    int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group;

    __device__ int taps() const { return kernel_h * kernel_w; }
    __device__ int words() const { return (channels / group + WORD - 1) / WORD; }  // of one group
    __device__ int all_words() const { return words() * group; }
    __device__ int across() const { return (out_width + TILE_COLUMNS - 1) / TILE_COLUMNS; }
    __device__ int tiles() const { return (out_height + TILE_ROWS - 1) / TILE_ROWS * across(); }
    __device__ int in_across() const { return (width + TILE_COLUMNS - 1) / TILE_COLUMNS; }
    __device__ int in_tiles() const { return (height + TILE_ROWS - 1) / TILE_ROWS * in_across(); }
    __device__ long long sites() const { return (long long)height * width; }
};

#define CONV_ARGUMENTS                                                                                                      \
    int channels, int height, int width, int outputs, int out_height, int out_width, int kernel_h, int kernel_w, int stride_h, \
        int stride_w, int pad_h, int pad_w, int dilation_h, int dilation_w, int group
#define CONV_OF_ARGUMENTS                                                                                                    \
    Conv {                                                                                                                   \
        channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w,       \
            dilation_h, dilation_w, group                                                                                    \
    }

// Which list, of which tile of which sample: jobs are numbered by entry of rows, then tile, then group of the convolution.
struct Job {
    long long entry;
    int tile, group;

    __device__ Job(const Conv& conv, int number)
        : entry(number / conv.group / conv.tiles()), tile(number / conv.group % conv.tiles()), group(number % conv.group) {}
    __device__ int row(const Conv& conv, int site) const { return tile / conv.across() * TILE_ROWS + site / TILE_COLUMNS; }
    __device__ int column(const Conv& conv, int site) const {
        return tile % conv.across() * TILE_COLUMNS + site % TILE_COLUMNS;
    }
};

// Where the sites of a thread read: a first one, and others a number of rows or columns away.
struct Reader {
    int y, x, below, beyond;  // input coordinates under no tap: of the first site, and of what lies outside of the outputs

    __device__ Reader(const Conv& conv, int row, int column)
        : y(row * conv.stride_h - conv.pad_h),
          x(column * conv.stride_w - conv.pad_w),
          below(conv.out_height * conv.stride_h - conv.pad_h),
          beyond(conv.out_width * conv.stride_w - conv.pad_w) {}

    // Input site that another site reads under a tap; -1 where that is padding or there is no such site.
    __device__ int source(const Conv& conv, int rows, int columns, int shift_y, int shift_x) const {
        const int to_y = y + rows * conv.stride_h, to_x = x + columns * conv.stride_w;
        const int from_y = to_y + shift_y, from_x = to_x + shift_x;
        if (to_y >= below || to_x >= beyond) return -1;
        return from_y >= 0 && from_y < conv.height && from_x >= 0 && from_x < conv.width ? from_y * conv.width + from_x : -1;
    }
};
