"""Numbers for cases: SplitMix64 of (seed, name, index) through exact maps, the same on every machine and in every language."""

from __future__ import annotations

import hashlib
from math import prod
from typing import Any

import numpy as np

__all__ = ["integers", "splitmix64", "uniform"]

Array = np.ndarray[Any, Any]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def splitmix64(seed: int, name: str, count: int) -> Array:
    """The first `count` outputs of SplitMix64 whose state starts at ``seed xor head(SHA-256(name))``.

    >>> [hex(int(v)) for v in splitmix64(0, "", 1)]
    ['0xdfd603d66fd2cf11']
    """
    start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") ^ (seed & 0xFFFFFFFFFFFFFFFF)
    with np.errstate(over="ignore"):
        state = np.uint64(start) + _GOLDEN * np.arange(1, count + 1, dtype=np.uint64)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(state ^ (state >> np.uint64(31)))


def uniform(seed: int, name: str, shape: tuple[int, ...], dtype: str) -> Array:
    """Full-mantissa numbers in [-1, 1): the top 24 (float32) or 53 (float64) bits ``k`` as ``k / 2^(bits - 1) - 1``.

    The map is exact, so every language gives the same bits.

    >>> float(uniform(1, "u", (1000,), "float32").min()) >= -1.0
    True
    """
    bits = 24 if dtype == "float32" else 53
    top = splitmix64(seed, name, prod(shape)) >> np.uint64(64 - bits)
    return np.asarray((top.astype(np.float64) * 2.0 ** (1 - bits) - 1.0).astype(dtype).reshape(shape))


def integers(seed: int, name: str, shape: tuple[int, ...], low: int, high: int, dtype: str) -> Array:
    """Integers in [low, high] as floating-point numbers: ``low + output mod (high - low + 1)``.

    >>> sorted(set(integers(1, "i", (100,), -1, 1, "float64").tolist()))
    [-1.0, 0.0, 1.0]
    """
    drawn = splitmix64(seed, name, prod(shape)) % np.uint64(high - low + 1)
    return np.asarray((drawn.astype(np.int64) + low).astype(dtype).reshape(shape))
