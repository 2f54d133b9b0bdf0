"""Symbols of kernels in CUDA C++, where the name in the table is a function of the C library."""

from __future__ import annotations

__all__ = ["REAL", "symbol_of"]

REAL = {"float32": "float", "float64": "double"}
"""The type REAL of a module, by dtype."""

_TAKEN = frozenset({"tanh", "sin", "cos", "exp"})


def symbol_of(kernel: str) -> str:
    """Symbol of a kernel of the table.

    >>> symbol_of("gate"), symbol_of("tanh")
    ('gate', 'strict_tanh')
    """
    return f"strict_{kernel}" if kernel in _TAKEN else kernel
