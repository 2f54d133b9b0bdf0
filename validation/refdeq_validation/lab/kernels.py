"""Which kernel sums the products: the strict loops, another order, or a kernel built as devices build them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refdeq_validation.lab.accumulate import accumulate_conv, accumulate_gemm
from refdeq_validation.lab.gather import Block, blocks
from refdeq_validation.lab.kernel_conv import halo_tiles, scatter
from refdeq_validation.lab.kernel_lists import active_list, packed_mask, sparse_rows
from refdeq_validation.lab.kernel_tiles import column_slices, row_chunks, tiles
from refdeq_validation.lab.orders import ORDERS
from refdeq_validation.lab.style import Style
from refdeq_validation.protocol.problem import Problem

__all__ = ["KERNELS", "accumulate"]

Array = np.ndarray[Any, Any]

KERNELS: Mapping[str, Callable[[Block], None]] = {
    "active-list": active_list,
    "sparse-rows": sparse_rows,
    "packed-mask": packed_mask,
    "tiles": tiles,
    "row-chunks": row_chunks,
    "column-slices": column_slices,
}
"""Kernels of gathered blocks; all but the last in strict order."""

IMAGES: Mapping[str, Callable[[Problem, Array, Array, Array], None]] = {"scatter": scatter, "halo-tiles": halo_tiles}
"""Kernels of images, in strict order; a Gemm beside them is summed by the strict loop."""

TUNED: dict[tuple[str, tuple[int, ...]], str] = {}
"""Kernel chosen per operator and shape, kept from the first call on."""


def accumulate(problem: Problem, style: Style, d: Array, sent: Array, a: Array) -> None:
    """Add ``A d`` over the sent elements to `a`, in place (N-6, N-7, D-7).

    Parameters
    ----------
    problem : Problem
    style : Style
    d, sent : (B, *shape) arrays
    a : (B, *out_shape) array
    """
    kernel = tuned(problem, d) if style.kernel == "tuned" else style.kernel
    if kernel in KERNELS or kernel in ORDERS:
        for block in blocks(problem, d, sent, a):
            if kernel in KERNELS:
                KERNELS[kernel](block)
            else:
                block.a = ORDERS[kernel](block, style)
            if problem.op == "Gemm":
                a[...] = block.a
    elif kernel in IMAGES and problem.op == "Conv":
        IMAGES[kernel](problem, d, sent, a)
    elif problem.op == "Gemm":
        accumulate_gemm(problem, d, sent, a)
    else:
        accumulate_conv(problem, d, sent, a)


def tuned(problem: Problem, d: Array) -> str:
    """The kernel for a shape: tiles when it is met for the first time, the list afterwards; both in strict order."""
    key = (problem.op, (*d.shape, *problem.weight.shape))
    if key not in TUNED:
        TUNED[key] = "active-list"
        return "tiles"
    return TUNED[key]
