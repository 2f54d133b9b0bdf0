"""Memory of the device and pinned memory, each from a pool that hands out again what was given back."""

from __future__ import annotations

import ctypes
import weakref
from collections import defaultdict

import numpy as np

from ._streams import enqueue, get_current_stream

_UNIT, _POISON, _GIVEN_BACK = 512, 0xFF, 0xDB


class OutOfMemoryError(MemoryError):
    def __init__(self, size, total, limit=0):
        text = f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes"
        super().__init__(text + (f", limit set to: {limit:,} bytes)." if limit else ")."))


def _rounded(size):
    return -(-size // _UNIT) * _UNIT


class MemoryPool:
    """Blocks of the device, which stay with the stream that they were first taken on."""

    def __init__(self):
        self._free = defaultdict(list)
        self._total = self._used = self._limit = 0

    def set_limit(self, size=None, fraction=None):
        self._limit = int(size or 0)

    def get_limit(self):
        return self._limit

    def used_bytes(self):
        return self._used

    def total_bytes(self):
        return self._total

    def free_all_blocks(self, stream=None):
        self._free.clear()
        self._total = self._used

    def take(self, size):
        """A block as bytes of the host, poisoned in order of the current stream; empty for no bytes."""
        size, stream = _rounded(size), get_current_stream()
        if size == 0:
            return np.empty(0, dtype=np.uint8)
        if self._free[stream.ptr, size]:
            block = self._free[stream.ptr, size].pop()
        else:
            if self._limit and self._total + size > self._limit:
                self.free_all_blocks()
            if self._total + size > (self._limit or 1 << 32):
                raise OutOfMemoryError(size, self._total, self._limit)
            block = np.empty(size, dtype=np.uint8)
            self._total += size
        self._used += size

        def poison():
            block[:] = _POISON

        enqueue(stream, poison)
        return block

    def watch(self, owner, block):
        """Take the block back when its owner is gone; the device may still be at work on it."""
        if block.size:
            weakref.finalize(owner, self._take_back, get_current_stream().ptr, block)

    def _take_back(self, stream, block):
        self._used -= block.size
        self._free[stream, block.size].append(block)


POOL = MemoryPool()

_PINNED_FREE = defaultdict(list)
PINNED: dict[int, int] = {}
"""First byte of every pinned block, with its size; blocks are never given to the system."""


def alloc_pinned_memory(size):
    """Pinned memory; what is given back is overwritten at once, as the next user might."""
    if not isinstance(size, int):
        raise TypeError(f"an integer is required, got {type(size)}")
    rounded = _rounded(size)
    if _PINNED_FREE[rounded]:
        block = _PINNED_FREE[rounded].pop()
    else:
        block = np.empty(rounded, dtype=np.uint8)
        PINNED[block.ctypes.data] = rounded
    kind = type("PinnedMemoryPointer", (ctypes.c_byte * rounded,), {"size": lambda self: rounded})
    pointer = kind.from_buffer(block)
    weakref.finalize(pointer, _give_back, block)
    return pointer


def _give_back(block):
    block[:] = _GIVEN_BACK
    _PINNED_FREE[block.size].append(block)


def is_pinned(address):
    return any(first <= address < first + size for first, size in PINNED.items())
