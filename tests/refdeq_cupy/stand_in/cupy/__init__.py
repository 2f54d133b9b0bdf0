"""A stand-in for CuPy: the part of it that the backend and the benchmarks use, as strict as CuPy or stricter.

Copies and launches are queued on streams and done only when somebody waits, so that what relies on the device being fast has
wrong bits; pinned memory is overwritten as soon as nobody holds it; new memory of the device is poisoned.
"""

from __future__ import annotations

import types

import numpy as np

from . import cuda
from ._array import asarray, copyto, empty, empty_like, from_dlpack, matmul, ndarray, zeros
from ._memory import POOL
from ._raw import RawKernel, RawModule

__all__ = [
    "RawKernel",
    "RawModule",
    "asarray",
    "copyto",
    "cuda",
    "empty",
    "empty_like",
    "from_dlpack",
    "get_default_memory_pool",
    "matmul",
    "ndarray",
    "random",
    "zeros",
]
__version__ = "14.2.0"


def get_default_memory_pool():
    return POOL


def _random(size=None, dtype=float):
    return asarray(np.random.default_rng(0).random(size, dtype=dtype))


random = types.SimpleNamespace(random=_random)
