"""The Numba backend of refdeq: compiled kernels for every operator, and fused plans for whole solves.

Importing this package imports neither Numba nor NumPy kernels; nothing is compiled before it is first called, and machine code
is kept on disk for the next process.

Modules: :mod:`~refdeq_numba.offer` (what is offered); :mod:`~refdeq_numba.kernels`, :mod:`~refdeq_numba.operators`,
:mod:`~refdeq_numba.shaping` and :mod:`~refdeq_numba.positions` (shapes and choices); :mod:`~refdeq_numba.linear`,
:mod:`~refdeq_numba.conv`, :mod:`~refdeq_numba.columns`, :mod:`~refdeq_numba.gate`, :mod:`~refdeq_numba.elementwise`,
:mod:`~refdeq_numba.activations`, :mod:`~refdeq_numba.residual`, :mod:`~refdeq_numba.history` (the arithmetic);
:mod:`~refdeq_numba.compilation`, :mod:`~refdeq_numba.machine` (how it is compiled); :mod:`~refdeq_numba.workers` (threads).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refdeq_numba.offer import NumbaBackend

__all__ = ["backend"]


def backend() -> NumbaBackend:
    """Entry point ``refdeq.backends``.

    >>> backend().info.name
    'numba'
    """
    from refdeq_numba.offer import NumbaBackend

    return NumbaBackend()
