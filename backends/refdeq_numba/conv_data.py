"""Layout, geometry and workspaces of the convolution over panels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refdeq_numba.compress import SLACK
from refdeq_numba.lists import BLOCK
from refdeq_numba.panels import aligned, pack_panels

__all__ = ["SITES", "ConvPanels", "ConvScratch", "Geometry", "SiteLists", "conv_scratch", "pack_conv", "site_lists"]

SITES = 256
"""Output sites per block: their accumulators stay in the second-level cache while all taps of the kernel go over them."""


class Geometry(NamedTuple):
    """Sizes of one convolution in two dimensions; `inputs` and `outputs` are channels per group."""

    height: int
    width: int
    out_height: int
    out_width: int
    taps_y: int
    taps_x: int
    stride_y: int
    stride_x: int
    pad_y: int
    pad_x: int
    dilation_y: int
    dilation_x: int
    group: int
    inputs: int
    outputs: int


class ConvPanels(NamedTuple):
    """Weights of a Conv in panels: per group, all taps one after the other, each with its input channels as columns.

    The columns of tap t of group g begin, in panel p, at element ``((g * count + p) * taps + t) * inputs * width``.
    """

    data: np.ndarray
    width: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks a record for
    is_finite: bool


class SiteLists(NamedTuple):
    """What every input site sends, one row per site and group: ``columns``, ``values`` and ``ends`` as in a list of a Gemm.

    ``sent`` (R,) counts; ``dense`` (R, inputs) has the differences of rows that are treated whole, zeros where nothing is sent.
    """

    columns: np.ndarray
    values: np.ndarray
    ends: np.ndarray
    sent: np.ndarray
    dense: np.ndarray


class ConvScratch(NamedTuple):
    """Workspace of one thread for one block of output sites: accumulators (S, L), places, and lists of sites.

    ``bits`` are the accumulators seen as integers of their size, ``least`` is the integer that is -0.
    """

    a: np.ndarray
    bits: np.ndarray
    least: np.signedinteger
    a_at: np.ndarray
    source: np.ndarray
    dense_at: np.ndarray
    whole: np.ndarray
    listed: np.ndarray


def pack_conv(weight: np.ndarray, group: int) -> ConvPanels:
    """Cut a (M, C / group, kh, kw) or (M, C / group, k) weight into panels.

    >>> pack_conv(np.ones((4, 2, 3, 3), dtype=np.float32), 2).count
    1
    """
    outputs, inputs = weight.shape[0] // group, weight.shape[1]
    by_group = weight.reshape(group, outputs, inputs, *weight.shape[2:]).transpose(0, *range(3, weight.ndim + 1), 2, 1)
    packed = [pack_panels(part.reshape(-1, outputs)) for part in by_group]
    data = aligned((sum(part.data.size for part in packed),), weight.dtype)
    data[:] = np.concatenate([part.data for part in packed])
    return ConvPanels(data, packed[0].width, packed[0].count, bool(np.isfinite(weight).all()))


def site_lists(geometry: Geometry, dtype: np.dtype) -> SiteLists:
    """Allocate lists for one sample."""
    rows = geometry.height * geometry.width * geometry.group
    line = 64 // dtype.itemsize
    length = (-(-(geometry.inputs + SLACK) // line) | 1) * line  # an odd number of lines: rows do not share cache sets
    return SiteLists(
        columns=np.zeros((rows, length), dtype=np.int32),
        values=np.zeros((rows, length), dtype=dtype),
        ends=np.zeros((rows, -(-geometry.inputs // BLOCK) + 1), dtype=np.int64),
        sent=np.zeros(rows, dtype=np.int64),
        dense=aligned((rows, geometry.inputs), dtype),
    )


def conv_scratch(panels: ConvPanels, dtype: np.dtype) -> ConvScratch:
    """Allocate what one thread needs for a block of output sites."""
    length, integer = panels.width * panels.count, np.int32 if dtype.itemsize == 4 else np.int64
    a = aligned((SITES, length), dtype)
    return ConvScratch(
        a=a,
        bits=a.reshape(-1).view(integer),
        least=integer(np.iinfo(integer).min),
        a_at=np.arange(SITES, dtype=np.int64) * length,
        source=np.zeros(SITES, dtype=np.int64),
        dense_at=np.zeros(SITES, dtype=np.int64),
        whole=np.zeros(SITES, dtype=np.int64),
        listed=np.zeros(SITES, dtype=np.int64),
    )
