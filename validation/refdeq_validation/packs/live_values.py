"""Arrays in messages of the live protocol: bits in the line, or raw bytes in a file where they are many."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from refdeq.errors import FileFormatError
from refdeq_validation.packs.tensors import bit_string, from_bit_string

__all__ = ["INLINE", "LIVE", "FileStore", "from_message", "to_message"]

Array = np.ndarray[Any, Any]

LIVE = "refdeq-live/1"
"""Name and version of the protocol."""

INLINE = 1 << 20
"""Bytes of an array that are still written into the line."""

_DTYPES = ("bool", "complex64", "complex128", "float16", "float32", "float64", "int32", "int64")


class FileStore:
    """A folder for arrays that are too large for a line, and the files written there since it was last emptied."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder, self.prefix = folder, prefix
        self.numbers, self.written = count(), list[Path]()

    def write(self, array: Array) -> str:
        """Write little-endian bytes in C order, and return the path."""
        path = self.folder / f"{self.prefix}{next(self.numbers)}.bin"
        path.write_bytes(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        self.written.append(path)
        return str(path)

    def empty(self) -> None:
        """Delete what was written."""
        for path in self.written:
            path.unlink(missing_ok=True)
        self.written.clear()


def to_message(arrays: Mapping[str, Array], store: FileStore | None, inline: int = INLINE) -> dict[str, Any]:
    """Arrays as JSON-able values.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    store : FileStore, optional
        Takes those of more than `inline` bytes; without one everything is written into the line.
    inline : int
    """
    values: dict[str, Any] = {}
    for name, given in arrays.items():
        array = np.asarray(given)
        if array.dtype.name not in _DTYPES:
            raise FileFormatError(f"{name}: dtype {array.dtype.name} is not one of {', '.join(_DTYPES)}")
        head = {"dtype": array.dtype.name, "shape": list(array.shape)}
        if store is not None and array.nbytes > inline:
            values[name] = {**head, "file": store.write(array)}
        else:
            values[name] = {**head, "bits": bit_string(array)}
    return values


def from_message(values: Any, folder: Path | None = None) -> dict[str, Array]:
    """Arrays of a message.

    Parameters
    ----------
    values : object
        As :func:`to_message` writes them.
    folder : Path, optional
        Where files must lie; anywhere when None.

    Raises
    ------
    FileFormatError
        When a value is not an array: unknown dtype, bits or bytes that do not fit the shape, a file elsewhere.
    """
    if not isinstance(values, dict):
        raise FileFormatError(f"arrays: expected an object, got {str(values)[:60]}")
    return {str(name): _array(str(name), value, folder) for name, value in values.items()}


def _array(name: str, value: Any, folder: Path | None) -> Array:
    if not isinstance(value, dict) or value.get("dtype") not in _DTYPES or not isinstance(value.get("shape"), list):
        raise FileFormatError(f"{name}: expected dtype, shape, and bits or file; got {str(value)[:80]}")
    dtype, shape = np.dtype(value["dtype"]), tuple(value["shape"])
    if not all(type(length) is int and length >= 0 for length in shape):
        raise FileFormatError(f"{name}: impossible shape {list(shape)}")
    flat = from_bit_string(value["bits"]) if "bits" in value else _raw(name, value.get("file"), dtype, folder)
    if flat.dtype != dtype or flat.size != int(np.prod(shape, dtype=object)):
        raise FileFormatError(f"{name}: {flat.size} numbers of {flat.dtype} for {dtype} {list(shape)}")
    return flat.reshape(shape)


def _raw(name: str, file: Any, dtype: np.dtype[Any], folder: Path | None) -> Array:
    path = Path(file) if isinstance(file, str) else None
    if path is None or (folder is not None and path.resolve().parent != folder.resolve()):
        raise FileFormatError(f"{name}: expected bits, or a file in {folder}; got {file!r}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"{name}: {file} cannot be read ({error.strerror})") from error
    if len(data) % dtype.itemsize:
        raise FileFormatError(f"{name}: {file} has {len(data)} bytes, no multiple of {dtype.itemsize}")
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype)
