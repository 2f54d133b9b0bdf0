"""The Numba-CUDA backend of refdeq: kernels in Python, on the device or simulated on the CPU.

Modules: :mod:`~refdeq_cuda.moves`, :mod:`~refdeq_cuda.elementwise`, :mod:`~refdeq_cuda.activations`, :mod:`~refdeq_cuda.gates`,
:mod:`~refdeq_cuda.sums`, :mod:`~refdeq_cuda.norms` (the kernels of :mod:`refdeq_gpu.table`); :mod:`~refdeq_cuda.arithmetic`,
:mod:`~refdeq_cuda.strict`, :mod:`~refdeq_cuda.rounding`, :mod:`~refdeq_cuda.indexing` (their device functions);
:mod:`~refdeq_cuda.device`, :mod:`~refdeq_cuda.arguments` (launches); :mod:`~refdeq_cuda.simulated_device`,
:mod:`~refdeq_cuda.simulator` (both without a GPU); :mod:`~refdeq_cuda.static` (compiling without a GPU). Numba is imported by
the first call that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refdeq.registry import Backend

__all__ = ["backend"]


def backend() -> Backend:
    """Entry point ``refdeq.backends``."""
    from refdeq_cuda.offer import offer

    return offer()
