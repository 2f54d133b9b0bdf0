"""Conv by plain loops: what was sent is listed per site, then every output site collects its taps' lists.

The twin of :mod:`refdeq_numba.conv`, and the kernel for groups of very few outputs.

Working from the outputs keeps the strict order (kernel position, then channel) without a sort, and lets an output's accumulator
stay in cache over all of its terms. Cost follows what was sent: a quiet site costs one look at its empty list.
"""

from __future__ import annotations

import numpy as np

from refdeq_numba.columns import add_columns
from refdeq_numba.compilation import compiled, inlined

__all__ = ["conv_plain"]


@inlined
def _list_sites(values, mask, everything, group, index, value, count):
    """List the sent channels of every site and group of one sample.

    Parameters
    ----------
    values, mask : (C, H, W) arrays
    index, value : (H, W, G, C / G + 1) arrays
        Channel within its group, ascending, and its number.
    count : (H, W, G) int64
    """
    inputs = values.shape[0] // group
    count[:] = 0
    for c in range(values.shape[0]):
        g = c // inputs
        for y in range(values.shape[1]):
            for x in range(values.shape[2]):
                n = count[y, x, g]
                index[y, x, g, n] = c - g * inputs
                value[y, x, g, n] = values[c, y, x]
                count[y, x, g] = n + (1 if everything or mask[c, y, x] else 0)


@compiled
def conv_plain(rows, first, last, d, mask, everything, weight, geometry, fused, a):
    """Add ``Conv(d, weight)`` over the sent elements to `a` (N-6, N-7, D-7).

    Parameters
    ----------
    d : (B, C, H, W) array
    mask : (B, C, H, W) bool
        Not read when `everything` is True.
    weight : (kh, kw, G, C / G, M / G) array
        Packed so that the outputs of one input are contiguous.
    geometry : (stride_y, stride_x, pad_top, pad_left, dilation_y, dilation_x)
    a : (B, M, H', W') array, changed in place
    """
    stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x = geometry
    taps_y, taps_x, group, inputs, outputs = weight.shape
    height, width = d.shape[2], d.shape[3]
    index = np.empty((height, width, group, inputs + 1), np.int64)
    value = np.empty((height, width, group, inputs + 1), d.dtype)
    count = np.empty((height, width, group), np.int64)
    acc = np.empty(outputs, d.dtype)
    for r in range(first, last):
        b = rows[r]
        _list_sites(d[b], mask[0 if everything else b], everything, group, index, value, count)
        for out_y in range(a.shape[2]):
            for out_x in range(a.shape[3]):
                for g in range(group):
                    target = a[b, g * outputs : (g + 1) * outputs, out_y, out_x]
                    for m in range(outputs):
                        acc[m] = target[m]
                    for tap_y in range(taps_y):
                        y = out_y * stride_y - pad_y + tap_y * dilation_y
                        for tap_x in range(taps_x):
                            x = out_x * stride_x - pad_x + tap_x * dilation_x
                            if 0 <= y < height and 0 <= x < width:  # padded taps are absent, not zero
                                columns = weight[tap_y, tap_x, g]
                                add_columns(acc, index[y, x, g], value[y, x, g], count[y, x, g], columns, fused)
                    for m in range(outputs):
                        target[m] = acc[m]
