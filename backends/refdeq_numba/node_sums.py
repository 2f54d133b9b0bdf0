"""Accumulates of linear nodes at op level: which layout and kernel, shared among which threads (N-6, N-7, D-7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refdeq_numba import gemm, linear, simd
from refdeq_numba.dispatch import DEFAULTS, FEW_SAMPLES
from refdeq_numba.layouts import Layouts
from refdeq_numba.panels import Panels, columns_of, pack_panels
from refdeq_numba.scratch import make_scratch
from refdeq_numba.workers import PerThread, Workers

__all__ = ["NodeSums"]

Array = np.ndarray

_ROWS_WORTH_A_TRANSPOSE = 4


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
        self._scratch: dict[Any, PerThread] = {}

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
            scratch = self._scratch_for(panels)
            arguments = d, sent, everything, panels, DEFAULTS, self._is_fast, _integers_of(a), scratch, a
            self._workers.run(gemm.gemm_panels, rows, weight.size, *arguments)

    def _gemm_few(
        self, rows: Array, d: Array, sent: Array, everything: bool, weight: Array, is_transposed: bool, a: Array
    ) -> None:
        """A few samples: whole columns, cut among threads along the outputs."""
        if not self._layouts.is_constant(weight):  # used once: not worth a copy
            self._gemm_plain(rows, d, sent, everything, weight, is_transposed, a)
            return
        columns = self._layouts.get(weight, ("columns", is_transposed), lambda w: columns_of(w.T if is_transposed else w))
        shares = np.arange(-(-a.shape[1] // gemm.OUTPUTS))
        work = len(rows) * d.shape[1] * gemm.OUTPUTS
        self._workers.run(gemm.gemm_columns, shares, work, rows, d, sent, everything, columns, self._is_fast, a)

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

    def _scratch_for(self, panels: Panels) -> PerThread:
        key = panels.k, panels.width, panels.data.dtype
        if key not in self._scratch:
            self._scratch[key] = PerThread(lambda: make_scratch(*key))
        return self._scratch[key]

    def conv(self, rows: Array, d: Array, mask: Array | None, weight: Array, attributes: Mapping[str, Any], a: Array) -> None:
        """Add ``Conv(d, weight)`` over the sent elements of the samples `rows`."""
        raise NotImplementedError


def _integers_of(a: Array) -> tuple[Array, np.signedinteger[Any]]:
    """The elements of an array as integers of their size, and the integer that is -0."""
    integer = np.int32 if a.dtype == np.float32 else np.int64
    return a.reshape(-1).view(integer), integer(np.iinfo(integer).min)
