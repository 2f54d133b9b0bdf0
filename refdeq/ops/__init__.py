"""The operator set: one table from ONNX name to meaning (shape, forward, derivatives, cost).

Names, attributes and behaviour are ONNX's, with two liberties that keep a graph static: axis 0 of every value is the batch and
no operator touches it, and operands that ONNX passes as constant integer tensors (``Slice`` starts and ends, ``Reshape`` shape,
``ReduceMean`` axes, ``DFT`` axis) are attributes here.

Modules: :mod:`~refdeq.ops.base` (the record and helpers), :mod:`~refdeq.ops.linear` (Gemm, MatMul) and
:mod:`~refdeq.ops.conv` in strict order, :mod:`~refdeq.ops.elementwise`, :mod:`~refdeq.ops.layout`, :mod:`~refdeq.ops.fourier`
(DFT).
"""

from __future__ import annotations

from refdeq.ops import conv, elementwise, fourier, layout, linear
from refdeq.ops.base import BATCH, Op

__all__ = ["BATCH", "OPS", "Op"]

OPS: dict[str, Op] = {op.name: op for op in (*linear.OPS, *conv.OPS, *elementwise.OPS, *layout.OPS, *fourier.OPS)}
"""ONNX operator name to :class:`~refdeq.ops.base.Op`."""
