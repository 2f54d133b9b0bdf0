"""Arrays on a device: a flat native buffer with a shape, and doors to and from other libraries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refdeq.errors import ShapeError

__all__ = ["DeviceArray"]


class DeviceArray:
    """A C-contiguous array on a device.

    Other libraries read it without a copy through ``__cuda_array_interface__`` or ``__dlpack__`` (whatever its buffer offers; a
    simulated device keeps its buffers in host memory and offers DLPack for the CPU). :meth:`Device.adopt` is the way in.

    Parameters
    ----------
    buffer
        Flat native array of the device.
    shape : tuple of int
    dtype : str or dtype
    stream : int, optional
        Handle of the stream that last wrote, for ``__cuda_array_interface__``; None when nothing is under way.

    Examples
    --------
    >>> DeviceArray(np.zeros(6), (2, 3), "float64")
    DeviceArray((2, 3), float64)
    """

    __slots__ = ("__weakref__", "buffer", "dtype", "shape", "stream")

    def __init__(self, buffer: Any, shape: tuple[int, ...], dtype: Any, stream: int | None = None) -> None:
        self.buffer, self.shape, self.dtype, self.stream = buffer, tuple(shape), np.dtype(dtype), stream

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def reshape(self, *shape: int) -> DeviceArray:
        """The same memory with another shape; one length may be -1.

        >>> DeviceArray(np.zeros(6), (6,), "float64").reshape(-1, 2)
        DeviceArray((3, 2), float64)
        """
        known = math.prod(length for length in shape if length >= 0)
        sizes = tuple(self.size // max(1, known) if length < 0 else length for length in shape)
        if math.prod(sizes) != self.size:
            raise ShapeError("shape", expected=f"{self.size} elements", got=shape)
        return DeviceArray(self.buffer, sizes, self.dtype, self.stream)

    def __repr__(self) -> str:
        return f"DeviceArray({self.shape}, {self.dtype})"

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3 of the interface; AttributeError where the buffer is not on a CUDA device."""
        own = self.buffer.__cuda_array_interface__
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": own["data"],
            "strides": None,
            "version": 3,
            "stream": self.stream,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self.buffer.__dlpack_device__()
        return device

    def __dlpack__(self, **options: Any) -> Any:
        return self.buffer[: self.size].reshape(self.shape).__dlpack__(**options)
