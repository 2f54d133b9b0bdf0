"""Models of arithmetic: what a manifest's claims say about how sums are formed. Claims choose models, never numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from refdeq_validation.judge.formats import FORMATS, Format
from refdeq_validation.protocol.manifest import Claims

__all__ = ["Arithmetic", "declared", "outcomes", "plain"]


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
        Into how many numbers of that format an operand is split (2 or 3: emulation; 1: it is rounded).
    chopped : bool
        Additions need not round to nearest: anything between the two neighbours of the exact result.
    subnormals : {"ieee", "ftz", "daz"}
        The outcome of N-5 that is judged: kept; results flushed to zero; results flushed, and operands taken as zeros.
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
    subnormals: str = "ieee"
    strict: bool = False
    reads: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether sums are formed in the carrier, rounding to nearest, from the operands as they are."""
        return self.operands is None and self.adds == self.carrier and not self.chopped

    @property
    def flushes(self) -> bool:
        """Whether results below the least normal number are zeros."""
        return self.subnormals != "ieee"


@lru_cache(maxsize=256)
def _model(dtype: str, order: str, rounding: str, multiply: str, accumulate: str, inactive: str, subnormals: str) -> Arithmetic:
    carrier = FORMATS[dtype]
    return Arithmetic(
        carrier=carrier,
        adds=carrier if accumulate == "same" else FORMATS[accumulate],
        operands=None if multiply == "same" else FORMATS[multiply.removesuffix("x3").removesuffix("x2")],
        parts=int(multiply[-1]) if multiply.endswith(("x2", "x3")) else 1,
        chopped=rounding == "truncate",
        subnormals=subnormals,
        strict=order == "strict",
        reads=inactive == "read",
    )


def declared(claims: Claims, dtype: str, subnormals: str = "ieee") -> Arithmetic:
    """The model that claims choose for arrays of a dtype.

    Parameters
    ----------
    claims : Claims
    dtype : {"float32", "float64"}
    subnormals : str
        One of :func:`outcomes`.

    Examples
    --------
    >>> declared(Claims(name="mine", order="fast", multiply="tf32"), "float32").operands.precision
    11
    """
    return _model(dtype, claims.order, claims.rounding, claims.multiply, claims.accumulate, claims.inactive_columns, subnormals)


def outcomes(claims: Claims) -> tuple[str, ...]:
    """Outcomes with subnormals that a manifest allows, one of which a whole transcript must fit (N-5)."""
    return ("ieee",) if claims.subnormals == "ieee" else ("ieee", "ftz", "daz")


@lru_cache(maxsize=8)
def plain(dtype: str) -> Arithmetic:
    """The model of sums in any order in the dtype of the arrays (N-7)."""
    return Arithmetic(carrier=FORMATS[dtype], adds=FORMATS[dtype])
