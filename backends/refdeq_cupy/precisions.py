"""The CuPy backend in declared precisions: fused plans whose products are made by tensor cores from bfloat16 parts.

Each precision is a backend of its own, because what is declared must hold for everything that it computes. A request that no
plan serves in the declared precision runs as it does on backend ``cupy``, in float32, which every declaration here covers.
"""

from __future__ import annotations

from dataclasses import replace

from refdeq_cupy.offer import CupyBackend

__all__ = ["PrecisionBackend", "bf16", "bf16x2", "bf16x3"]

_ACTIVATION_ULP = 2.75
"""Largest error of the activations of the tiles: the formulas of fast order of the CPU backend, in float32."""


class PrecisionBackend(CupyBackend):
    """The CuPy backend with products of operands in bfloat16 parts (docs/bounds.md, section 3), float32 only, in fast order.

    Tensor cores truncate the sums, and what was not sent is multiplied by zero (D-7).

    Parameters
    ----------
    name, precision : str
        As in ``cupy-bf16x2`` and ``bfloat16x2``.

    Examples
    --------
    >>> bf16x3().info.multiply, bf16x3().info.rounding, bf16x3().info.orders
    ('bfloat16x3', 'truncate', ('fast',))
    """

    def __init__(self, name: str, precision: str) -> None:
        super().__init__()
        self.precision = precision
        self.info = replace(
            self.info,
            name=name,
            summary=f"{self.info.summary}; products in {precision} on tensor cores",
            orders=("fast",),
            dtypes=("float32",),
            determinism="R3",
            inactive_columns="read",
            fast_activation="native",
            activation_ulp=_ACTIVATION_ULP,
            multiply=precision,
            rounding="truncate",
        )


def bf16() -> PrecisionBackend:
    """Entry point: operands rounded to bfloat16."""
    return PrecisionBackend("cupy-bf16", "bfloat16")


def bf16x2() -> PrecisionBackend:
    """Entry point: operands in two bfloat16 parts."""
    return PrecisionBackend("cupy-bf16x2", "bfloat16x2")


def bf16x3() -> PrecisionBackend:
    """Entry point: operands in three bfloat16 parts."""
    return PrecisionBackend("cupy-bf16x3", "bfloat16x3")
