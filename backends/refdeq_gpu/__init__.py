"""What both GPU backends share: the table of kernels, the host side of the op level, the plans of whole solves.

:mod:`refdeq_cuda` writes every kernel of :mod:`~refdeq_gpu.table` in Python for Numba-CUDA, :mod:`refdeq_cupy` in CUDA C++.
Shapes, choices and launches are decided here, once, through a :class:`~refdeq_gpu.device.Device`; so both backends add the same
numbers in the same order, and their results agree in bits.

Modules: :mod:`~refdeq_gpu.table`, :mod:`~refdeq_gpu.device` (what a device must offer), :mod:`~refdeq_gpu.arrays`;
:mod:`~refdeq_gpu.kernels`, :mod:`~refdeq_gpu.operators`, :mod:`~refdeq_gpu.sums`, :mod:`~refdeq_gpu.positions`,
:mod:`~refdeq_gpu.launching`, :mod:`~refdeq_gpu.workspace` (the op level); :mod:`~refdeq_gpu.plans` (whole solves).
"""

from __future__ import annotations
