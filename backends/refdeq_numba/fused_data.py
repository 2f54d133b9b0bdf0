"""What the fused solve works on: packed weights, settings, and one workspace per thread, as plain records of arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refdeq_numba.compress import SLACK
from refdeq_numba.dispatch import Crossovers
from refdeq_numba.lists import BLOCK
from refdeq_numba.panels import aligned, pack_panels

__all__ = [
    "Inputs",
    "Results",
    "Settings",
    "Tracks",
    "Weights",
    "Work",
    "pack",
    "rows_per_block",
    "workspace",
]

_CACHE_BYTES = 384 * 1024
"""What the workspace of one block of samples may take of the second-level cache; from a third to the whole of 512 KiB is within
a tenth of the best, fewer samples share each tile of the weights too little."""


class Weights(NamedTuple):
    """A linear node, packed once per bind: its panels (see :class:`refdeq_numba.panels.Panels`) and its bias.

    ``bias`` is (1, n), or (0, n) when there is none. ``is_finite`` says whether all weights are finite, so that zero times any
    of them is zero.
    """

    panels: np.ndarray
    width: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks a record for
    bias: np.ndarray
    is_finite: bool


class Settings(NamedTuple):
    """Every choice of cell, rule, solver, order and stop rule as numbers; a negative tolerance means none.

    ``alpha``, ``beta``, ``slope`` and ``threshold`` are arrays of the cell's dtype: (1,), (1,), (1,) and (n,). ``step`` is the
    address of the step of a solver with a memory, 0 for Picard and Krasnoselskii-Mann; ``row_function`` is that of the loop
    of the activation over a row, 0 for those that need none.
    """

    n: int
    activation: int
    row_function: int
    slope: np.ndarray
    is_gated: bool
    threshold: np.ndarray
    is_ge: bool
    is_always: bool
    is_dense_start: bool
    is_folded: bool
    is_by_sample: bool
    may_send_zeros: bool
    refresh: int
    may_rest: bool
    is_picard: bool
    step: int
    alpha: np.ndarray
    beta: np.ndarray
    is_simd: bool
    may_fill: bool
    crossovers: Crossovers
    is_fused_add: bool
    rtol: float
    atol: float
    max_eval: int
    is_linf: bool
    eps: float
    divergence: float
    window: int
    ratio: float


class Inputs(NamedTuple):
    """Arrays a solve reads: (B, n) each; entry, phase and filter are (1, n) when a parameter and (0, n) when absent.

    ``r``, ``a`` and ``evaluations`` are the memory to go on from, of length 0 after a reset (D-9).
    """

    z: np.ndarray
    entry: np.ndarray
    phase: np.ndarray
    filter: np.ndarray
    r: np.ndarray
    a: np.ndarray
    evaluations: np.ndarray


class Results(NamedTuple):
    """Arrays a solve writes, one row or number per sample; r, mask and a have length 0 without a rule."""

    z: np.ndarray
    r: np.ndarray
    mask: np.ndarray
    a: np.ndarray
    status: np.ndarray
    n_eval: np.ndarray
    residual: np.ndarray
    scale: np.ndarray
    evaluations: np.ndarray
    sent: np.ndarray
    nonzero: np.ndarray
    macs: np.ndarray


class Tracks(NamedTuple):
    """Trace buffers (T, B, ...), all of length 0 when no trace is asked for; the untraced solve runs the same code (S-10).

    ``linear`` is there when nothing gates the linear node, ``activated`` when the activation is native (N-8).
    """

    active: np.ndarray
    z: np.ndarray
    f: np.ndarray
    residual: np.ndarray
    scale: np.ndarray
    r: np.ndarray
    mask: np.ndarray
    a: np.ndarray
    linear: np.ndarray
    activated: np.ndarray


class Work(NamedTuple):
    """Workspace of one thread for one block of R samples; rows are padded to L elements, whole cache lines and tiles.

    ``z, f, u, r, d, a, sums, mask`` are (R, L), and ``bits`` (R, blocks) is mask as bits; ``columns``, ``values`` and ``ends``
    (R, blocks + 1) are the lists of sent columns, the differences beside them, and where each block of columns ends in them;
    ``at`` says where each row begins in its flat array, ``own`` is 0, 1, 2, ... Per sample: whether it is live,
    begins its sum anew, sent nothing, rests (see :mod:`refdeq_numba.fused`), and what the stop rule remembers. ``full`` and
    ``listed`` are lists of rows. ``table`` is what the step of a solver with a memory gets, empty for others.
    ``chosen`` (3,) counts evaluations of samples that were accumulated whole, by a list, and not at all.
    """

    z: np.ndarray
    f: np.ndarray
    u: np.ndarray
    r: np.ndarray
    d: np.ndarray
    a: np.ndarray
    sums: np.ndarray
    mask: np.ndarray
    bits: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    ends: np.ndarray
    at: np.ndarray
    own: np.ndarray
    lanes: np.ndarray
    is_live: np.ndarray
    is_fresh: np.ndarray
    is_idle: np.ndarray
    is_resting: np.ndarray
    full: np.ndarray
    listed: np.ndarray
    first_residual: np.ndarray
    older: np.ndarray
    recent: np.ndarray
    table: np.ndarray
    chosen: np.ndarray


def _padded(n: int, dtype: np.dtype) -> int:
    line = 64 // dtype.itemsize * 2  # whole cache lines and whole panels at every vector width
    return -(-n // line) * line


def pack(weight: np.ndarray, bias: np.ndarray | None) -> Weights:
    """Cut a (K, N) weight into panels (see :class:`Weights`).

    >>> packed = pack(np.ones((3, 5), dtype=np.float32), None)
    >>> packed.count * packed.width >= 5
    True
    """
    panels, n = pack_panels(weight), weight.shape[1]
    rows = np.zeros((0, n), dtype=weight.dtype) if bias is None else np.array(np.broadcast_to(bias, (1, n)))
    return Weights(panels.data, panels.width, panels.count, rows, panels.is_finite)


def rows_per_block(n: int, dtype: np.dtype) -> int:
    """Samples per block: as many as keep the workspace in cache, between 6 and 60, a multiple of the group of six.

    >>> rows_per_block(256, np.dtype("float32"))
    48
    """
    fitting = _CACHE_BYTES // (8 * _padded(n, dtype) * dtype.itemsize)
    return int(min(60, max(6, fitting // 6 * 6)))


def workspace(n: int, dtype: np.dtype, window: int) -> Work:
    """Allocate everything one thread needs (see :class:`Work`); `window` is that of the stagnation test."""
    rows, length = rows_per_block(n, dtype), _padded(n, dtype)
    z, f, u, r, d, a, sums = (aligned((rows, length), dtype) for _ in range(7))
    flags = [np.zeros(rows, dtype=np.bool_) for _ in range(4)]
    lists = [np.zeros(rows, dtype=np.int64) for _ in range(2)]
    mask = aligned((rows, length), np.dtype(np.bool_))
    return Work(
        z,
        f,
        u,
        r,
        d,
        a,
        sums,
        mask=mask,
        bits=np.zeros((rows, -(-n // BLOCK)), dtype=np.uint64),
        columns=np.zeros((rows, length + SLACK), dtype=np.int32),
        values=np.zeros((rows, length + SLACK), dtype=dtype),
        ends=np.zeros((rows, -(-n // BLOCK) + 1), dtype=np.int64),
        at=np.arange(rows, dtype=np.int64) * length,
        own=np.arange(rows, dtype=np.int64),
        lanes=aligned((64,), np.dtype(np.float64)),
        is_live=flags[0],
        is_fresh=flags[1],
        is_idle=flags[2],
        is_resting=flags[3],
        full=lists[0],
        listed=lists[1],
        first_residual=np.zeros(rows),
        older=np.zeros(rows),
        recent=np.zeros((rows, max(window, 1))),
        table=np.zeros(0, dtype=np.int64),
        chosen=np.zeros(3, dtype=np.int64),
    )
