"""Symbols of kernels in CUDA C++, where the name in the table is that of a mathematical function."""

from __future__ import annotations

__all__ = ["REAL", "symbol_of"]

REAL = {"float32": "float", "float64": "double"}
"""The type REAL of a module, by dtype."""

_TAKEN = frozenset({"tanh", "sigmoid", "sin", "cos", "exp"})


def symbol_of(kernel: str) -> str:
    """Symbol of a kernel of the table.

    >>> symbol_of("gate"), symbol_of("tanh")
    ('gate', 'apply_tanh')
    """
    return f"apply_{kernel}" if kernel in _TAKEN else kernel
