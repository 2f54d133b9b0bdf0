"""How an implementation is built: the choices that the semantics leave open, each a small switch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["STRICT", "Style"]


@dataclass(frozen=True, kw_only=True)
class Style:
    """One way to build a legal implementation.

    Attributes
    ----------
    kernel : str
        How products are summed: ``strict``, a name of :data:`refdeq_validation.lab.orders.ORDERS`, or one of
        :data:`refdeq_validation.lab.kernels.KERNELS`.
    multiply : {"same", "tf32", "float16", "bfloat16"}
        Format to which operands are rounded before the multiplication.
    accumulate : {"same", "float16", "bfloat16"}
        Format to which sums are rounded.
    rounding : {"nearest", "truncate"}
        Of additions into the accumulator.
    flush : bool
        Whether subnormal results are flushed to zero (N-5).
    native : bool
        Whether smooth activations are the library's (N-8).
    state : {"plain", "double"}
        Whether the reference alternates between two buffers.
    launch : {"direct", "graph"}
        Whether inputs go through a buffer that a recorded graph reads.
    """

    kernel: str = "strict"
    multiply: str = "same"
    accumulate: str = "same"
    rounding: str = "nearest"
    flush: bool = False
    native: bool = False
    state: str = "plain"
    launch: str = "direct"


STRICT = Style()
"""The golden implementation: bit-identical to the reference."""
