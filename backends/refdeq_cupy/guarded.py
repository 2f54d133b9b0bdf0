"""Memory of simulated arrays: an array ends directly before pages that nobody may read or write, others lie before it.

Kernels that go beyond it are stopped at once, also where they only read. An array begins at a multiple of 16 bytes, as vector
loads need it; the bytes that this leaves between its end and the page, and those before it, are a *fence*: words that are NaN
in every format, negative as numbers and true as flags, so that what was read there does not pass, and that a write changes.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np

__all__ = ["Guarded", "Memory"]

_PAGE = mmap.PAGESIZE
_ALIGNMENT, _LEAST_FENCE = 16, 64
_FENCE = np.full(3 * _PAGE // 4, 0xFFFDA5A5, dtype=np.uint32).tobytes()
_GUARD = 4 << 20
"""Bytes before and behind that nobody may touch, so that wild addresses do not meet what others keep; they take no memory."""
_KEPT_BYTES = 1 << 28
"""Of memory that is free and kept for the next arrays; more goes back to the system."""
_NONE, _READ_WRITE, _FAILED = 0, 3, ctypes.c_void_p(-1).value


class Memory:
    """Pages between pages that nobody may touch, used again and again."""

    def __init__(self) -> None:
        system = ctypes.CDLL(None)
        self._map, self._allow, self._unmap = system.mmap, system.mprotect, system.munmap
        self._map.restype = ctypes.c_void_p
        self._map.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self._allow.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        self._unmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._free: dict[int, list[int]] = {}
        self._kept = 0

    def array(self, size: int, *, is_left: bool = False) -> np.ndarray:
        """Flat bytes with undefined contents, whose base is a view of all pages, whose base is a :class:`Guarded`.

        Parameters
        ----------
        size : int
        is_left : bool
            Whether it lies directly behind the page before it, instead of before the one behind it.

        Raises
        ------
        MemoryError

        Examples
        --------
        >>> x = Memory().array(24)
        >>> x.size, x.ctypes.data % 16, x.base.base.is_whole(x.base)
        (24, 0, True)
        >>> x.base[x.base.base.first - 1] = 0
        >>> x.base.base.is_whole(x.base)
        False
        """
        pages = -(-(size + _LEAST_FENCE) // _PAGE)
        first = 0 if is_left else (pages * _PAGE - size) // _ALIGNMENT * _ALIGNMENT
        guarded = Guarded(self, self._take(pages), pages, first, first + size)
        whole = np.asarray(guarded)
        whole[:first] = np.frombuffer(_FENCE, np.uint8, first)
        whole[first + size :] = np.frombuffer(_FENCE, np.uint8, whole.size - first - size, (first + size) % 4)
        return whole[first : first + size]

    def _take(self, pages: int) -> int:
        free = self._free.setdefault(pages, [])
        try:
            address = free.pop()
        except IndexError:
            return self._new(pages)
        self._kept -= pages * _PAGE
        return address

    def _new(self, pages: int) -> int:
        size = pages * _PAGE
        if size >= 1 << 62:
            raise MemoryError
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        address = self._map(None, size + 2 * _GUARD, _NONE, flags, -1, 0)
        if address == _FAILED:
            raise MemoryError
        if self._allow(address + _GUARD, size, _READ_WRITE) != 0:
            self._unmap(address, size + 2 * _GUARD)
            raise MemoryError
        return int(address + _GUARD)

    def give(self, address: int, pages: int) -> None:
        """Take pages back."""
        size = pages * _PAGE
        if self._kept + size > _KEPT_BYTES:
            self._unmap(address - _GUARD, size + 2 * _GUARD)
            return
        self._kept += size
        self._free[pages].append(address)


class Guarded:
    """Owner of the pages of an array, which go back when nobody has a view of them any more.

    Attributes
    ----------
    first, end : int
        Where the array lies in them.
    """

    __slots__ = ("__array_interface__", "_address", "_memory", "_pages", "end", "first")

    def __init__(self, memory: Memory, address: int, pages: int, first: int, end: int) -> None:
        self._memory, self._address, self._pages = memory, address, pages
        self.first, self.end = first, end
        self.__array_interface__: dict[str, Any] = {
            "data": (address, False),
            "shape": (pages * _PAGE,),
            "typestr": "|u1",
            "version": 3,
        }

    def is_whole(self, pages: np.ndarray) -> bool:
        """Whether nobody wrote before or behind the array; `pages` is the view of all pages."""
        end, phase = self.end, self.end % 4
        return (
            pages[: self.first].tobytes() == _FENCE[: self.first]
            and pages[end:].tobytes() == _FENCE[phase : phase + pages.size - end]
        )

    def __del__(self) -> None:
        self._memory.give(self._address, self._pages)
