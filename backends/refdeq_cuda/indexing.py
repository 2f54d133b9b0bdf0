"""Where an element of a flat launch is: its sample and its place in it."""

from __future__ import annotations

from numba import cuda, int64, uint32

from refdeq_cuda.simulator_linker import substitute

__all__ = ["split"]

_LARGEST = 0xFFFFFFFF


@cuda.jit(device=True)
def split(i, n):
    """Quotient and remainder of numbers that are not negative; by a division of 32 bits where they fit, which is shorter."""
    if i <= _LARGEST and n <= _LARGEST:
        whole = uint32(i) // uint32(n)
        return int64(whole), int64(uint32(i) - whole * uint32(n))
    return i // n, i % n


substitute(split, divmod)
