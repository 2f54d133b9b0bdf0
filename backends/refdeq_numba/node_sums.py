"""Accumulates of linear nodes at op level: which layout and kernel, shared among which threads (N-6, N-7, D-7)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from refdeq.ops.conv import conv_geometry
from refdeq_numba import conv, gemm, linear, simd
from refdeq_numba.conv_data import SITES, Geometry, conv_scratch, pack_conv, site_lists
from refdeq_numba.conv_plain import conv_plain
from refdeq_numba.dispatch import FEW_SAMPLES
from refdeq_numba.layouts import Layouts
from refdeq_numba.panels import VECTORS, columns_of, pack_panels
from refdeq_numba.scratch import make_scratch
from refdeq_numba.tuning import crossovers
from refdeq_numba.workers import PerThread, Workers

__all__ = ["NodeSums"]

Array = np.ndarray

_ROWS_WORTH_A_TRANSPOSE = 4

_LEAST: dict[int, Any] = {4: np.int32(-(2**31)), 8: np.int64(-(2**63))}

_PANEL_SUMS, _COLUMN_SUMS = 64, 8
"""Multiply-adds per unit of :class:`Workers`, over panels and at the rate of the memory: another thread, which costs tens of
microseconds, is worth it from a third of a millisecond on."""

_FEW_OUTPUTS = 4
"""Outputs per group of a Conv below which panels would be mostly padding."""


class NodeSums:
    """Accumulates of Gemm and Conv nodes.

    Parameters
    ----------
    workers : Workers
    layouts : Layouts
        Of the parameters of one bind.
    is_fast : bool
        Fused multiply-adds (N-7) instead of two roundings (N-6).
    """

    def __init__(self, workers: Workers, layouts: Layouts, is_fast: bool) -> None:
        self._workers, self._layouts, self._is_fast = workers, layouts, is_fast
        self._rounding = simd.ONCE if is_fast else None
        self._scratch: dict[Any, Any] = {}

    def gemm(self, rows: Array, d: Array, mask: Array | None, weight: Array, is_transposed: bool, a: Array) -> None:
        """Add ``d @ weight`` over the sent columns of the samples `rows`."""
        sent, everything = (np.ones((1, 1), dtype=bool), True) if mask is None else (mask, False)
        if len(rows) == 0 or a.shape[1] == 0:
            return
        if not simd.is_enabled():
            self._gemm_plain(rows, d, sent, everything, weight, is_transposed, a)
        elif len(rows) < FEW_SAMPLES:
            self._gemm_few(rows, d, sent, everything, weight, is_transposed, a)
        else:
            panels = self._layouts.get(weight, ("panels", is_transposed), lambda w: pack_panels(w.T if is_transposed else w))
            scratch = self._scratch_for(panels.k, a.dtype)
            arguments = d, sent, everything, panels, crossovers(d.dtype.name), self._rounding, _integers_of(a), scratch, a
            self._workers.run(gemm.gemm_panels, rows, max(1, weight.size // _PANEL_SUMS), *arguments)

    def _gemm_few(
        self, rows: Array, d: Array, sent: Array, everything: bool, weight: Array, is_transposed: bool, a: Array
    ) -> None:
        """A few samples: whole columns, cut among threads along the outputs."""
        if not self._layouts.is_constant(weight):  # used once: not worth a copy
            self._gemm_plain(rows, d, sent, everything, weight, is_transposed, a)
            return
        columns = self._layouts.get(weight, ("columns", is_transposed), lambda w: columns_of(w.T if is_transposed else w))
        shares = _numbers(-(-a.shape[1] // gemm.OUTPUTS))
        sent_columns = d.shape[1] * len(rows) if everything else int(np.count_nonzero(sent[rows]))
        work, lanes = max(1, sent_columns * gemm.OUTPUTS // _COLUMN_SUMS), simd.vector_bytes() // a.itemsize
        arguments = rows, d, sent, everything, columns, lanes, self._rounding, self._room_for(d.shape[1]), a
        self._workers.run(gemm.gemm_columns, shares, work, *arguments)

    def _gemm_plain(
        self, rows: Array, d: Array, sent: Array, everything: bool, weight: Array, is_transposed: bool, a: Array
    ) -> None:
        """The twin by plain loops."""
        kernel = linear.gemm
        if is_transposed:
            if len(rows) < _ROWS_WORTH_A_TRANSPOSE:
                kernel = linear.gemm_stored_by_output
            else:
                weight = np.ascontiguousarray(weight.T)
        self._workers.run(kernel, rows, weight.size, d, sent, everything, weight, self._is_fast, a)

    def _scratch_for(self, k: int, dtype: Any) -> PerThread:
        width = VECTORS * simd.vector_bytes() // dtype.itemsize
        key = k, width, dtype
        if key not in self._scratch:
            self._scratch[key] = PerThread(lambda: make_scratch(k, width, dtype))
        found: PerThread = self._scratch[key]
        return found

    def _room_for(self, k: int) -> PerThread:
        key = "room", k
        if key not in self._scratch:
            self._scratch[key] = PerThread(lambda: gemm.room_for(k))
        found: PerThread = self._scratch[key]
        return found

    def conv(self, rows: Array, d: Array, mask: Array | None, weight: Array, attributes: Mapping[str, Any], a: Array) -> None:
        """Add ``Conv(d, weight)`` over the sent elements of the samples `rows`; one spatial axis is an image of height 1."""
        if len(rows) == 0 or a.size == 0:
            return
        geometry = _geometry(d.shape, weight.shape, attributes, a.shape)
        sent, everything = (np.ones((1, 1, 1, 1), dtype=bool), True) if mask is None else (mask, False)
        if not simd.is_enabled() or geometry.outputs < _FEW_OUTPUTS:
            self._conv_plain(rows, d, sent, everything, weight, geometry, a)
            return
        panels = self._layouts.get(weight, ("conv", geometry.group), lambda w: pack_conv(w, geometry.group))
        work = weight.size * geometry.out_height * geometry.out_width
        flat = d.reshape(-1), sent.reshape(-1), everything
        key = geometry, d.dtype
        if key not in self._scratch:
            self._scratch[key] = (
                PerThread(lambda: site_lists(geometry, d.dtype)),
                PerThread(lambda: conv_scratch(panels, d.dtype)),
            )
        lists, scratch = self._scratch[key]
        if len(rows) >= self._workers.threads:
            arguments = *flat, geometry, panels, crossovers(d.dtype.name), self._rounding, lists, scratch, a.reshape(-1)
            self._workers.run(conv.conv_samples, rows, work, *arguments)
            return
        bands = np.arange(-(-geometry.height * geometry.width // conv.BAND))
        blocks = np.arange(-(-geometry.out_height * geometry.out_width // SITES))
        for sample in rows:  # fewer samples than threads: each is cut, its lists first
            known = geometry, crossovers(d.dtype.name), panels.is_finite, lists.of(0)
            self._workers.run(conv.list_bands, bands, work // (32 * len(bands)), sample, *flat, *known)
            settings = geometry, panels, crossovers(d.dtype.name), self._rounding, lists.of(0)
            self._workers.run(
                conv.conv_blocks, blocks, work // len(blocks), sample, everything, *settings, scratch, a.reshape(-1)
            )

    def _conv_plain(
        self, rows: Array, d: Array, sent: Array, everything: bool, weight: Array, geometry: Geometry, a: Array
    ) -> None:
        """The twin by plain loops, also for groups of very few outputs, which panels would be mostly padding for."""
        e = geometry
        by_group = weight.reshape(e.group, e.outputs, e.inputs, e.taps_y, e.taps_x)
        packed = np.ascontiguousarray(by_group.transpose(3, 4, 0, 2, 1))
        places = e.stride_y, e.stride_x, e.pad_y, e.pad_x, e.dilation_y, e.dilation_x
        images = [
            array.reshape(len(array), -1, *size) for array, size in ((d, (e.height, e.width)), (a, (e.out_height, e.out_width)))
        ]
        mask = sent if everything else sent.reshape(images[0].shape)
        work = packed.size * e.out_height * e.out_width
        self._workers.run(conv_plain, rows, work, images[0], mask, everything, packed, places, self._is_fast, images[1])


def _geometry(data: tuple[int, ...], weight: tuple[int, ...], attributes: Mapping[str, Any], out: tuple[int, ...]) -> Geometry:
    strides, before, _, dilations = conv_geometry(len(weight) - 2, attributes, weight[2:])
    group = int(attributes["group"])
    if len(weight) == 3:
        strides, before, dilations = (1, *strides), (0, *before), (1, *dilations)
        data, weight, out = (*data[:2], 1, data[2]), (*weight[:2], 1, weight[2]), (*out[:2], 1, out[2])
    sizes = *data[2:], *out[2:], *weight[2:], *strides, *before, *dilations, group, weight[1], weight[0] // group
    return Geometry(*(int(size) for size in sizes))


def _integers_of(a: Array) -> tuple[Array, np.signedinteger[Any]]:
    """The elements of an array as integers of their size, and the integer that is -0."""
    least = _LEAST[a.itemsize]
    return a.reshape(-1).view(least.dtype), least


@functools.cache
def _numbers(count: int) -> Array:
    """0, 1, 2, ... as compiled code wants them."""
    return np.arange(count)
