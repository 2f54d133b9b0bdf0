"""Arrays of the device; nothing looks at their memory but queued work."""

from __future__ import annotations

import ctypes
import math
import types

import numpy as np

from ._memory import POOL, is_pinned
from ._streams import enqueue, get_current_stream, stream_of

DEVICE = types.SimpleNamespace(id=0)


class ndarray:
    """An array; `_bytes` is its memory as NumPy has it, for queued work only."""

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        if memptr is not None or strides is not None or order != "C":
            raise NotImplementedError("not needed so far")
        shape = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
        block = POOL.take(math.prod(shape) * np.dtype(dtype).itemsize)
        self._adopt(block[: math.prod(shape) * np.dtype(dtype).itemsize].view(dtype).reshape(shape), None, None)
        POOL.watch(self, block)

    def _adopt(self, memory, base, owner):
        self._bytes, self.base, self._owner = memory, base, owner

    def _view(self, memory):
        out = object.__new__(ndarray)
        out._adopt(memory, self if self.base is None else self.base, None)
        return out

    # Facts -------------------------------------------------------------------------------------------------------------------

    @property
    def shape(self):
        return self._bytes.shape

    @property
    def strides(self):
        return self._bytes.strides

    @property
    def dtype(self):
        return self._bytes.dtype

    @property
    def size(self):
        return self._bytes.size

    @property
    def ndim(self):
        return self._bytes.ndim

    @property
    def nbytes(self):
        return self._bytes.nbytes

    @property
    def itemsize(self):
        return self._bytes.itemsize

    @property
    def flags(self):
        return types.SimpleNamespace(c_contiguous=self._bytes.flags.c_contiguous, f_contiguous=self._bytes.flags.f_contiguous)

    @property
    def device(self):
        return DEVICE

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self._bytes.ctypes.data if self.size else 0, device=DEVICE)

    def __len__(self):
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    # Views and copies --------------------------------------------------------------------------------------------------------

    def __getitem__(self, key):
        keys = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(part, int | np.integer | slice) for part in keys):
            raise NotImplementedError("only what makes a view")
        found = self._bytes[key]
        return self._view(found if isinstance(found, np.ndarray) else self._bytes[(*keys, np.newaxis)].reshape(()))

    def reshape(self, *shape):
        return self._view(_without_copy(self._bytes, shape))

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self.flags.c_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        arr = np.ascontiguousarray(arr)
        out, address, size = self._bytes, arr.ctypes.data, arr.nbytes
        staged = None if is_pinned(address) else arr.tobytes()  # pageable memory is staged before the call returns

        def copy():
            whole = ctypes.string_at(address, size) if staged is None else staged
            out.reshape(-1).view(np.uint8)[:] = np.frombuffer(whole, dtype=np.uint8)

        if size:
            enqueue(get_current_stream() if stream is None else stream, copy)

    def get(self, stream=None, order="C", out=None, blocking=True):
        stream = get_current_stream() if stream is None else stream
        if out is not None or order != "C":
            raise NotImplementedError("not needed so far")
        found, own = np.full(self.nbytes, 0xDB, dtype=np.uint8).view(self.dtype).reshape(self.shape), self._bytes

        def copy():
            found[...] = own

        enqueue(stream, copy)
        if blocking:
            stream.synchronize()
        return found

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array.")

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        if axis is not None or dtype is not None or out is not None or keepdims:
            raise NotImplementedError("not needed so far")
        found = ndarray((), self.dtype)
        source, target = self._bytes, found._bytes

        def add():
            target[...] = source.sum()

        enqueue(get_current_stream(), add)
        return found

    # Doors to other libraries ------------------------------------------------------------------------------------------------

    @property
    def __cuda_array_interface__(self):
        stream = get_current_stream().ptr or 1
        strides = None if self.flags.c_contiguous else self.strides
        return {"shape": self.shape, "typestr": self.dtype.str, "descr": self.dtype.descr, "stream": stream, "version": 3,
                "strides": strides, "data": (self.data.ptr, False)}  # fmt: skip

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        if stream == 0:
            raise ValueError("0 is ambiguous")
        if stream != -1:
            consumer = stream_of(1 if stream is None else stream)
            consumer.wait_event(get_current_stream().record())
        return self._bytes.__dlpack__()


class _Capsule:
    def __init__(self, capsule):
        self._capsule = capsule

    def __dlpack__(self, **options):
        return self._capsule

    def __dlpack_device__(self):
        return 1, 0


def _without_copy(memory, shape):
    out = memory.view()
    out.shape = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape  # an error where it needs a copy
    return out


def _foreign(memory, owner):
    out = object.__new__(ndarray)
    out._adopt(memory, None, owner)
    return out


def empty(shape, dtype=float, order="C"):
    return ndarray(shape, dtype, order=order)


def empty_like(prototype):
    return ndarray(prototype.shape, prototype.dtype)


def zeros(shape, dtype=float, order="C"):
    out = ndarray(shape, dtype, order=order)
    out.set(np.zeros(out.shape, out.dtype))
    return out


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    if dtype is not None or order is not None or copy is not None:
        raise NotImplementedError("not needed so far")
    if isinstance(a, ndarray):
        return a
    if hasattr(a, "__cuda_array_interface__"):
        return _through_interface(a)
    host = np.asarray(a)
    out = ndarray(host.shape, host.dtype)
    out.set(host)
    return out


def _through_interface(a):
    about = a.__cuda_array_interface__
    kind, (address, _) = np.dtype(about["typestr"]), about["data"]
    stream = about.get("stream")
    if stream == 0:
        raise ValueError("stream 0 is disallowed by the interface")
    if stream is not None:
        stream_of(stream).synchronize()
    size = math.prod(about["shape"])
    strides = about.get("strides")
    if strides is not None and size:
        reach = sum((length - 1) * step for length, step in zip(about["shape"], strides, strict=True)) + kind.itemsize
    else:
        reach = size * kind.itemsize
    memory = np.frombuffer((ctypes.c_byte * reach).from_address(address) if reach else b"", dtype=np.uint8)
    return _foreign(np.ndarray(about["shape"], kind, memory, strides=strides), a)


def from_dlpack(array, *, device=None, copy=None):
    if array.__dlpack_device__()[0] not in (2, 13):
        raise TypeError("memory of the host needs a copy")
    capsule = array.__dlpack__(stream=get_current_stream().ptr or 1)
    return _foreign(np.from_dlpack(_Capsule(capsule)), array)


def copyto(dst, src, casting="same_kind", where=None):
    if not isinstance(dst, ndarray) or not isinstance(src, ndarray):
        raise TypeError("arrays of the device")
    target, source = dst._bytes, src._bytes

    def copy():
        target[...] = source

    enqueue(get_current_stream(), copy)


def matmul(x1, x2, /, out=None):
    if not all(isinstance(one, ndarray) for one in (x1, x2, out)):
        raise TypeError(f"Unsupported type {[type(one) for one in (x1, x2, out)]}")
    left, right, target = x1._bytes, x2._bytes, out._bytes
    if target.shape != (left.shape[0], right.shape[1]):
        raise ValueError("Output array does not match")

    def multiply():
        np.matmul(left, right, out=target)

    enqueue(get_current_stream(), multiply)
    return out
