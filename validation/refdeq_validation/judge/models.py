"""Models of arithmetic: what a manifest's claims say about how sums are formed. Claims choose models, never numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from refdeq_validation.judge.formats import FORMATS, Format
from refdeq_validation.protocol.manifest import Claims

__all__ = ["Arithmetic", "declared", "plain"]


@dataclass(frozen=True)
class Arithmetic:
    """How an implementation says that it forms ``a + sum A_ij d_j``.

    Attributes
    ----------
    carrier : Format
        Of the arrays, and of products unless operands are re-rounded.
    adds : Format
        Of the accumulator's additions.
    operands : Format or None
        To which operands are rounded before the multiplication; None: they are taken as they are.
    parts : int
        Into how many numbers of that format an operand is split (3: emulation; 1: it is rounded).
    chopped : bool
        Additions need not round to nearest: anything between the two neighbours of the exact result.
    flushed : bool
        Subnormal operands and results are zeros (the second outcome of N-5).
    strict : bool
        N-6: bits are known.
    reads : bool
        D-7: columns that were not sent are multiplied by zero.
    """

    carrier: Format
    adds: Format
    operands: Format | None = None
    parts: int = 1
    chopped: bool = False
    flushed: bool = False
    strict: bool = False
    reads: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether sums are formed in the carrier, rounding to nearest, from the operands as they are."""
        return self.operands is None and self.adds == self.carrier and not self.chopped


@lru_cache(maxsize=256)
def _model(dtype: str, order: str, rounding: str, multiply: str, accumulate: str, inactive: str, flushed: bool) -> Arithmetic:
    carrier = FORMATS[dtype]
    return Arithmetic(
        carrier=carrier,
        adds=carrier if accumulate == "same" else FORMATS[accumulate],
        operands=None if multiply == "same" else FORMATS[multiply.removesuffix("x3")],
        parts=3 if multiply.endswith("x3") else 1,
        chopped=rounding == "truncate",
        flushed=flushed,
        strict=order == "strict",
        reads=inactive == "read",
    )


def declared(claims: Claims, dtype: str, flushed: bool = False) -> Arithmetic:
    """The model that claims choose for arrays of a dtype.

    Parameters
    ----------
    claims : Claims
    dtype : {"float32", "float64"}
    flushed : bool
        The outcome with subnormals flushed, of the two that ``subnormals = "ftz"`` allows (N-5).

    Examples
    --------
    >>> declared(Claims(name="mine", order="fast", multiply="tf32"), "float32").operands.precision
    11
    """
    return _model(dtype, claims.order, claims.rounding, claims.multiply, claims.accumulate, claims.inactive_columns, flushed)


@lru_cache(maxsize=8)
def plain(dtype: str) -> Arithmetic:
    """The model of sums in any order in the dtype of the arrays (N-7)."""
    return Arithmetic(carrier=FORMATS[dtype], adds=FORMATS[dtype])
