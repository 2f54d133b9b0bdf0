"""Binary floating-point formats: what bounds need to know of each, and the table of those that manifests name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["FORMATS", "Format"]


@dataclass(frozen=True)
class Format:
    """A binary format with gradual underflow.

    Attributes
    ----------
    precision : int
        Significant bits, the leading one included.
    least : int
        Exponent of the least normal number.
    greatest : int
        Exponent of the largest finite number.

    Examples
    --------
    >>> FORMATS["float16"].largest
    65504.0
    """

    precision: int
    least: int
    greatest: int

    @property
    def unit(self) -> float:
        """Unit roundoff of round to nearest."""
        return 2.0**-self.precision

    @property
    def eta(self) -> float:
        """Half the least subnormal: the most that one rounding to nearest loses to gradual underflow.

        In float64 that is no float64 number; the least one stands for it.
        """
        return max(2.0 ** max(self.least - self.precision, -1074), 2.0**-1074)

    @property
    def tiny(self) -> float:
        """The least normal number: what is below is flushed where a manifest declares ``ftz``."""
        return 2.0**self.least

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return (2.0 - 2.0 ** (1 - self.precision)) * 2.0**self.greatest


FORMATS: Mapping[str, Format] = {
    "float64": Format(53, -1022, 1023),
    "float32": Format(24, -126, 127),
    "tf32": Format(11, -126, 127),
    "float16": Format(11, -14, 15),
    "bfloat16": Format(8, -126, 127),
}
"""By the names of manifests."""
