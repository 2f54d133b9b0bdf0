"""Tensors in files: a canonical safetensors writer, a strict reader, and bit strings for what is small.

The writer leaves nothing to choice (sorted names, starts at multiples of 64 bytes, spaces as padding, no metadata): equal
tensors give equal files. The reader refuses whatever the writer would not have written as data: overlaps, holes that are not
padding, trailing bytes, unknown dtypes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refdeq.errors import FileFormatError

__all__ = ["SMALL", "bit_string", "from_bit_string", "pack_tensors", "read_tensors", "unpack_tensors", "write_tensors"]

Array = np.ndarray[Any, Any]

SMALL = 64
"""Largest number of elements that is written inline, as a bit string."""

ALIGNMENT = 64
LARGEST_HEADER = 100_000_000

_FILE_DTYPES = {"BOOL": "bool", "F16": "float16", "BF16": "uint16", "F32": "float32", "F64": "float64", "I32": "int32"}
_FILE_DTYPES |= {"I64": "int64"}
_FILE_NAMES = {value: key for key, value in _FILE_DTYPES.items() if key != "BF16"}
_BITS = {
    "f64": ("float64", "uint64"),
    "f32": ("float32", "uint32"),
    "f16": ("float16", "uint16"),
    "bf16": ("float32", "uint16"),
    "i64": ("int64", "uint64"),
    "i32": ("int32", "uint32"),
    "c64": ("complex64", "uint32"),
    "c128": ("complex128", "uint64"),
    "bool": ("bool", "uint8"),
}
_BIG = {name: np.dtype(name).newbyteorder(">") for name in ("uint8", "uint16", "uint32", "uint64")}
_BIT_NAMES = {
    "float64": "f64",
    "float32": "f32",
    "float16": "f16",
    "int64": "i64",
    "int32": "i32",
    "complex64": "c64",
    "complex128": "c128",
    "bool": "bool",
}


def bit_string(array: Array, kind: str | None = None) -> str:
    """IEEE bits of an array as text, in C order: exact for NaN, -0 and every payload, in any language.

    Parameters
    ----------
    array : ndarray of float64, float32, float16, int64, int32, bool, or complex (real part first)
    kind : str, optional
        ``"bf16"`` writes float32 numbers that are bfloat16 values as 16 bits.

    Raises
    ------
    FileFormatError
        For another dtype, or a number that is no bfloat16 value.

    Examples
    --------
    >>> bit_string(np.array([1.0, -0.0], "float32"))
    'f32:3f800000,80000000'
    >>> bit_string(np.array([1.0], "float32"), "bf16"), bit_string(np.array([True, False]))
    ('bf16:3f80', 'bool:1,0')
    """
    array = np.asarray(array)
    if kind == "bf16":
        bits = np.ascontiguousarray(array, dtype=np.float32).reshape(-1).view(np.uint32)
        if (bits & 0xFFFF).any():
            raise FileFormatError("bit string: a number is not a bfloat16 value")
        return "bf16:" + ",".join(f"{int(value) >> 16:04x}" for value in bits)
    name = _BIT_NAMES.get(array.dtype.name)
    if name is None:
        raise FileFormatError(f"bit string: expected one of {', '.join(sorted(_BIT_NAMES))}, got {array.dtype.name}")
    if name == "bool":
        return "bool:" + ",".join("1" if value else "0" for value in array.reshape(-1).tolist())
    flat = np.ascontiguousarray(array).reshape(-1)
    text = flat.astype(array.dtype.newbyteorder(">")).tobytes().hex()
    step = 2 * array.itemsize
    return f"{name}:" + ",".join(text[i : i + step] for i in range(0, len(text), step))


def from_bit_string(text: str) -> Array:
    """Array of one dimension from a bit string; ``bf16`` comes back as float32.

    >>> from_bit_string("f32:3f800000,80000000")
    array([ 1., -0.], dtype=float32)
    """
    name, colon, rest = text.partition(":") if isinstance(text, str) else ("", "", "")
    if not colon or name not in _BITS:
        raise FileFormatError(f"bit string: expected dtype:bits with a dtype out of {', '.join(_BITS)}, got {str(text)[:40]!r}")
    dtype, bits = _BITS[name]
    width = 1 if name == "bool" else 4 if name == "bf16" else 2 * np.dtype(dtype).itemsize
    count = (len(rest) + 1) // (width + 1)
    whole = not rest or len(rest) + 1 == count * (width + 1)
    if not whole or rest.count(",") != max(count - 1, 0) or rest[width :: width + 1].strip(",") or rest != rest.lower():
        raise FileFormatError(f"bit string: expected groups of {width} lower-case hexadecimal digits, got {text[:60]!r}")
    if name == "bool":
        if rest.replace(",", "").strip("01"):
            raise FileFormatError(f"bit string: expected 0 or 1, got {text[:60]!r}")
        return np.asarray(np.frombuffer(rest.encode(), np.uint8)[::2] == ord("1"))
    try:
        data = bytes.fromhex(rest.replace(",", " "))
    except ValueError:
        raise FileFormatError(f"bit string: expected hexadecimal digits, got {text[:60]!r}") from None
    if len(data) != count * width // 2:  # blanks inside a group would go unseen
        raise FileFormatError(f"bit string: expected groups of {width} hexadecimal digits, got {text[:60]!r}")
    big = np.frombuffer(data, _BIG[bits]).astype(bits)
    if name == "bf16":
        return np.asarray((big.astype(np.uint32) << np.uint32(16)).view(np.float32))
    return np.asarray(big.view(dtype))


def pack_tensors(tensors: Mapping[str, Array]) -> bytes:
    """Bytes of a safetensors file: sorted by name, every tensor at a multiple of 64 bytes.

    safetensors allows no holes between tensors, so padding is a tensor of its own (``~pad0``, dtype U8) where it is needed; the
    header ends in spaces.

    >>> len(pack_tensors({"a": np.zeros(3, "float32")}))
    76
    """
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    offset = pads = 0
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        kind = _FILE_NAMES.get(array.dtype.name)
        if kind is None or name.startswith("~") or name == "__metadata__":
            raise FileFormatError(f"tensor {name!r}: its name or dtype {array.dtype.name} cannot be written")
        gap = -offset % ALIGNMENT
        if gap:
            header[f"~pad{pads}"] = {"dtype": "U8", "shape": [gap], "data_offsets": [offset, offset + gap]}
            parts.append(b" " * gap)
            offset, pads = offset + gap, pads + 1
        data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [offset, offset + len(data)]}
        parts.append(data)
        offset += len(data)
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def write_tensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write a canonical safetensors file."""
    path.write_bytes(pack_tensors(tensors))


def read_tensors(path: Path) -> dict[str, Array]:
    """Tensors of a file, checked; bfloat16 comes back as float32.

    Raises
    ------
    FileFormatError
        When the file is missing, truncated, has holes, overlaps or trailing bytes, or names a dtype that is not known.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"{path.name}: cannot be read ({error.strerror})") from error
    return unpack_tensors(data, path.name)


def unpack_tensors(data: bytes, name: str = "tensors") -> dict[str, Array]:
    """Tensors of the bytes of a safetensors file.

    >>> unpack_tensors(pack_tensors({"a": np.arange(2.0)}))
    {'a': array([0., 1.])}
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(LARGEST_HEADER, len(data) - 8):
        raise FileFormatError(f"{name}: truncated, or not a safetensors file")
    try:
        header = json.loads(data[8 : 8 + size], object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{name}: its header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise FileFormatError(f"{name}: its header is not an object")
    header.pop("__metadata__", None)
    body, tensors, end = data[8 + size :], {}, 0
    for key, entry in sorted(header.items(), key=lambda item: _offsets(name, *item)):
        start, stop = _offsets(name, key, entry)
        if start != end or stop > len(body):
            raise FileFormatError(f"{name}: tensor {key!r} overlaps another, leaves a hole, or ends after the file")
        end = stop
        if entry["dtype"] == "U8" and key.startswith("~pad"):
            continue
        tensors[key] = _tensor(name, key, entry, body[start:stop])
    if end != len(body):
        raise FileFormatError(f"{name}: {len(body) - end} bytes after the last tensor")
    return tensors


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a name appears twice")
    return keys


def _offsets(name: str, key: str, entry: Any) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(value) is int for value in offsets):
        raise FileFormatError(f"{name}: tensor {key!r} has no data_offsets")
    if not 0 <= offsets[0] <= offsets[1]:
        raise FileFormatError(f"{name}: tensor {key!r} has offsets {offsets}")
    return offsets[0], offsets[1]


def _tensor(name: str, key: str, entry: Mapping[str, Any], data: bytes) -> Array:
    shape = entry.get("shape")
    if entry.get("dtype") not in _FILE_DTYPES:
        raise FileFormatError(f"{name}: tensor {key!r} has dtype {entry.get('dtype')!r}, expected one of {list(_FILE_DTYPES)}")
    if not isinstance(shape, list) or not all(type(length) is int and length >= 0 for length in shape):
        raise FileFormatError(f"{name}: tensor {key!r} has shape {shape!r}")
    dtype = np.dtype(_FILE_DTYPES[entry["dtype"]])
    elements = 1
    for length in shape:
        elements *= length
    if elements * dtype.itemsize != len(data):
        raise FileFormatError(
            f"{name}: tensor {key!r} has {len(data)} bytes, its shape {shape} needs {elements * dtype.itemsize}"
        )
    if dtype.kind == "b" and set(data) - {0, 1}:
        raise FileFormatError(f"{name}: tensor {key!r} holds booleans that are neither 0 nor 1")
    values = np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(shape)
    return (values.astype(np.uint32) << np.uint32(16)).view(np.float32) if entry["dtype"] == "BF16" else values
