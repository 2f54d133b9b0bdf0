"""What the name ``cuda`` means inside a simulated kernel: positions, memory, barriers, warp operations, atomics.

Results have the types of the compiled ones: a ballot is a signed 32-bit number, a vote a bool. What the hardware leaves
undefined is an error here, or poison: a shuffle from a lane that is not in the mask, an atomic on a float (order would matter),
which threads happen to have converged.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from refdeq.errors import UnsupportedError

__all__ = ["CUDA", "WAITING", "Dim3", "poisoned"]

FULL = 0xFFFFFFFF
_CHANGES: dict[str, Callable[[int, int], int]] = {
    "add": lambda old, value: old + value,
    "sub": lambda old, value: old - value,
    "and_": lambda old, value: old & value,
    "or_": lambda old, value: old | value,
    "xor": lambda old, value: old ^ value,
    "max": max,
    "min": min,
    "exch": lambda old, value: value,
    "inc": lambda old, value: 0 if old >= value else old + 1,
    "dec": lambda old, value: value if old == 0 or old > value else old - 1,
}
_VOTES = {"all_sync", "any_sync", "eq_sync", "ballot_sync"}
_SHUFFLES = {"shfl_sync", "shfl_up_sync", "shfl_down_sync", "shfl_xor_sync"}
_BARRIERS = {"syncthreads", "syncthreads_count", "syncthreads_and", "syncthreads_or"}
_POLLS = {"nanosleep", "ldcv"}
WAITING = frozenset(_VOTES | _SHUFFLES | _BARRIERS | _POLLS | {"syncwarp", "match_any_sync", "match_all_sync", "cg"})
"""Names of what a thread may wait in; a kernel that uses none of them runs thread by thread."""


class Dim3:
    """An index or a size of three axes.

    >>> Dim3(4, 2, 1).y
    2
    """

    __slots__ = ("x", "y", "z")

    def __init__(self, x: int, y: int = 1, z: int = 1) -> None:
        self.x, self.y, self.z = x, y, z

    def __repr__(self) -> str:
        return f"({self.x}, {self.y}, {self.z})"


def poisoned(shape: Any, dtype: Any) -> np.ndarray:
    """Memory with contents that nobody can mistake for results: NaN, or a number that is no index.

    >>> poisoned(2, "float32"), poisoned(1, "int32")
    (array([nan, nan], dtype=float32), array([2139062143], dtype=int32))
    """
    array = np.empty(shape, _numpy_type(dtype))
    if array.dtype.kind == "f":
        array.fill(np.nan)
    else:
        array.view(np.uint8).fill(0x7F)
    return array


def _numpy_type(dtype: Any) -> np.dtype:
    if type(dtype).__module__.startswith("numba."):
        return np.dtype(dtype.name)
    return np.dtype(getattr(dtype, "numpy_name", dtype))


class _Shared:
    """Shared memory of the block that runs; an allocation is known by the instruction that makes it, as the compiler has it."""

    def __init__(self) -> None:
        self._static: dict[Any, np.ndarray] = {}
        self._dynamic = np.empty(0, np.uint8)
        self.bytes = 0

    def start_block(self) -> None:
        self._static, self._dynamic = {}, np.full(self.bytes, 0xFF, np.uint8)

    def save(self) -> tuple[Any, Any]:
        return self._static, self._dynamic

    def restore(self, saved: tuple[Any, Any]) -> None:
        self._static, self._dynamic = saved

    def array(self, shape: Any, dtype: Any, alignment: int | None = None) -> np.ndarray:
        frame = sys._getframe(1)
        site = frame.f_code, frame.f_lasti, shape, id(dtype)
        found = self._static.get(site)
        if found is None:
            found = self._static[site] = poisoned(shape, dtype) if shape != 0 else self._view(dtype)
        return found

    def _view(self, dtype: Any) -> np.ndarray:
        kind = _numpy_type(dtype)
        return self._dynamic[: len(self._dynamic) // kind.itemsize * kind.itemsize].view(kind)

    @property
    def static_bytes(self) -> int:
        return sum(array.nbytes for array in self._static.values() if array.base is None)


class _Local:
    def array(self, shape: Any, dtype: Any, alignment: int | None = None) -> np.ndarray:
        return poisoned(shape, dtype)


class _Const:
    def array_like(self, array: Any) -> Any:
        return array


class _Atomic:
    """Atomics of integers; where blocks run together other threads get their turn first."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in _CHANGES:
            raise AttributeError(name)
        change = _CHANGES[name]

        def apply(array: np.ndarray, index: Any, value: Any) -> Any:
            if array.dtype.kind not in "iu":
                raise UnsupportedError(f"atomic.{name} of {array.dtype}: its result would depend on the order of threads")
            if CUDA.scheduler is not None:
                CUDA.scheduler.poll()
            old = array[index]
            array[index] = change(int(old), int(value))
            return old

        setattr(self, name, apply)
        return apply

    def cas(self, array: np.ndarray, index: Any, expected: Any, value: Any) -> Any:
        if CUDA.scheduler is not None:
            CUDA.scheduler.poll()
        old = array[index]
        if old == expected:
            array[index] = value
        return old


class _Grid:
    def sync(self) -> None:
        CUDA.scheduler.grid_barrier()


class _Groups:
    def this_grid(self) -> _Grid:
        return _Grid()


def _bits(value: Any) -> tuple[int, int]:
    """Pattern and width of an integer, as it would be compiled; plain numbers below 2**32 in size count as 32 bits."""
    whole = int(value)
    width = 8 * value.itemsize if isinstance(value, np.integer) else 32 if -(2**31) <= whole < 2**32 else 64
    return whole & ((1 << width) - 1), width


def _signed32(pattern: int) -> int:
    return pattern - (1 << 32) if pattern >> 31 else pattern


class SimulatedCuda:
    """The namespace; the simulator sets its positions before a thread runs."""

    warpsize = 32

    def __init__(self) -> None:
        self.threadIdx = self.blockIdx = Dim3(0, 0, 0)
        self.blockDim = self.gridDim = Dim3(1)
        self.laneid = 0
        self.shared, self.local, self.const, self.atomic, self.cg = _Shared(), _Local(), _Const(), _Atomic(), _Groups()
        self.scheduler: Any = None

    # Positions ------------------------------------------------------------------------------------------------------------

    def grid(self, axes: int) -> Any:
        i, t, n = self.blockIdx, self.threadIdx, self.blockDim
        position = (i.x * n.x + t.x, i.y * n.y + t.y, i.z * n.z + t.z)
        return position[0] if axes == 1 else position[:axes]

    def gridsize(self, axes: int) -> Any:
        g, n = self.gridDim, self.blockDim
        size = (g.x * n.x, g.y * n.y, g.z * n.z)
        return size[0] if axes == 1 else size[:axes]

    # Barriers ---------------------------------------------------------------------------------------------------------------

    def syncthreads(self) -> None:
        self.scheduler.barrier(False)

    def syncthreads_count(self, predicate: Any) -> int:
        return int(self.scheduler.barrier(bool(predicate)))

    def syncthreads_and(self, predicate: Any) -> int:
        return int(self.scheduler.barrier(not predicate) == 0)

    def syncthreads_or(self, predicate: Any) -> int:
        return int(self.scheduler.barrier(bool(predicate)) > 0)

    def threadfence(self) -> None:
        """Everything is seen at once in the simulator."""

    threadfence_block = threadfence_system = threadfence

    def nanosleep(self, ns: Any) -> None:
        self.scheduler.poll()

    def ldcv(self, array: np.ndarray, index: Any) -> Any:
        self.scheduler.poll()
        return array[index]

    def ldcg(self, array: np.ndarray, index: Any) -> Any:
        return array[index]

    ldca = ldcs = ldlu = ldcg

    def stcg(self, array: np.ndarray, index: Any, value: Any) -> None:
        array[index] = value

    stcs = stwb = stwt = stcg

    # Warps ------------------------------------------------------------------------------------------------------------------

    def syncwarp(self, mask: Any = FULL) -> None:
        self.scheduler.meet("syncwarp", mask, None)

    def ballot_sync(self, mask: Any, predicate: Any) -> int:
        votes = self.scheduler.meet("ballot_sync", mask, bool(predicate))
        return _signed32(sum(1 << lane for lane, vote in votes.items() if vote))

    def all_sync(self, mask: Any, predicate: Any) -> bool:
        return all(self.scheduler.meet("all_sync", mask, bool(predicate)).values())

    def any_sync(self, mask: Any, predicate: Any) -> bool:
        return any(self.scheduler.meet("any_sync", mask, bool(predicate)).values())

    def eq_sync(self, mask: Any, predicate: Any) -> bool:
        return len(set(self.scheduler.meet("eq_sync", mask, bool(predicate)).values())) == 1

    def match_any_sync(self, mask: Any, value: Any) -> int:
        values = self.scheduler.meet("match_any_sync", mask, value)
        return _signed32(sum(1 << lane for lane, other in values.items() if other == value))

    def match_all_sync(self, mask: Any, value: Any) -> tuple[int, bool]:
        values = self.scheduler.meet("match_all_sync", mask, value)
        same = all(other == value for other in values.values())
        return (_signed32(sum(1 << lane for lane in values)) if same else 0), same

    def _shuffle(self, name: str, mask: Any, value: Any, source: int) -> Any:
        """Value of another lane; poison where that lane takes no part."""
        lane_values = self.scheduler.meet(name, mask, value)
        return lane_values[source] if source in lane_values else poisoned(1, np.asarray(value).dtype)[0]

    def shfl_sync(self, mask: Any, value: Any, lane: Any) -> Any:
        return self._shuffle("shfl_sync", mask, value, int(lane) & 31)

    def shfl_up_sync(self, mask: Any, value: Any, delta: Any) -> Any:
        lane = self.laneid - int(delta)
        return self._shuffle("shfl_up_sync", mask, value, lane if lane >= 0 else self.laneid)

    def shfl_down_sync(self, mask: Any, value: Any, delta: Any) -> Any:
        lane = self.laneid + int(delta)
        return self._shuffle("shfl_down_sync", mask, value, lane if lane < 32 else self.laneid)

    def shfl_xor_sync(self, mask: Any, value: Any, lane_mask: Any) -> Any:
        return self._shuffle("shfl_xor_sync", mask, value, self.laneid ^ int(lane_mask))

    def lanemask_lt(self) -> int:
        return (1 << self.laneid) - 1

    def activemask(self) -> int:
        raise UnsupportedError("activemask depends on which threads happen to have converged: name the mask")

    # Bits -------------------------------------------------------------------------------------------------------------------

    def popc(self, value: Any) -> int:
        return _bits(value)[0].bit_count()

    def ffs(self, value: Any) -> int:
        pattern, _ = _bits(value)
        return (pattern & -pattern).bit_length()

    def clz(self, value: Any) -> int:
        pattern, width = _bits(value)
        return width - pattern.bit_length()

    def brev(self, value: Any) -> int:
        pattern, width = _bits(value)
        return int(f"{pattern:0{width}b}"[::-1], 2)

    def selp(self, condition: Any, a: Any, b: Any) -> Any:
        return a if condition else b

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        from refdeq_cuda.simulator_arithmetic import fused

        return fused(a, b, c)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UnsupportedError(f"cuda.{name} is not simulated")


CUDA = SimulatedCuda()
