"""The variance statistic (d): a downgrade of precision at large k, where the bound is too far away to show it.

It is no bound: see ``docs/bounds.md``, section 10, for what it assumes. It is applied only to cases of the family ``bound``, or
with the flag ``FLAG``, by which a generator states that signs were drawn independently and around zero; only implementations
that declare rounding to nearest can fail by it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq_validation.judge.bounds import Bound, operand_unit
from refdeq_validation.judge.models import Arithmetic
from refdeq_validation.judge.verdicts import Failure, Findings

__all__ = ["C_V", "FEWEST", "FLAG", "LEAST_TERMS", "Statistic"]

Array = np.ndarray[Any, Any]

C_V = 0.4
"""``mean e^2 <= C_V (k + 1)``: legal orders stay at least twenty times below from k = 64 on."""

FEWEST = 1000
"""Outputs below which nothing is concluded."""

LEAST_TERMS = 16
"""Sums of fewer terms are left to the bound, which is tight there."""

FLAG = "statistic"
"""Of cases whose terms are independent draws around zero, beside those of the family ``bound``."""


class Statistic:
    """Mean of squared errors over the variance that independent roundings may have.

    Parameters
    ----------
    model : Arithmetic
    """

    def __init__(self, model: Arithmetic) -> None:
        self.model = model
        self.outputs = 0
        self.total = 0.0

    def add(self, error: Array, bound: Bound, squares: Array) -> None:
        """Take in the errors of one accumulate.

        Parameters
        ----------
        error : array
        bound : Bound
            Gauge and terms.
        squares : array
            ``sum (A_ij d_j)^2``.
        """
        taken = (bound.k >= LEAST_TERMS) & (bound.gauge > 0.0) & np.isfinite(error) & np.isfinite(bound.gauge)
        variance = self.variance(bound.k[taken], bound.gauge[taken], squares[taken])
        self.outputs += int(taken.sum())
        self.total += float((error[taken] ** 2 / variance).sum())

    def variance(self, k: Array, gauge: Array, squares: Array) -> Array:
        """``C_V (k + 1) (u G)^2``, and ``theta^2 sum (A_ij d_j)^2`` where operands are re-rounded."""
        leaves = (k + 1.0) * (3.0 if self.model.parts == 3 else 1.0)
        return np.asarray(C_V * leaves * (self.model.adds.unit * gauge) ** 2 + operand_unit(self.model) ** 2 * squares)

    @property
    def mean(self) -> float:
        """Mean of ``error^2 / variance``: at most 1 for what was declared; NaN before anything was taken in."""
        return self.total / self.outputs if self.outputs else float("nan")

    def conclude(self, findings: Findings) -> None:
        """Fail where the mean exceeds 1; additions that need not round to nearest are only warned of."""
        if self.outputs < FEWEST:
            findings.notes.append(f"statistic: {self.outputs} outputs, fewer than {FEWEST}: nothing concluded")
            return
        findings.values += 1
        if self.mean <= 1.0:
            return
        text = f"mean squared error {self.mean:.3g} times its limit over {self.outputs} outputs"
        if self.model.chopped:
            findings.notes.append(f"statistic: {text}")
            return
        findings.add(Failure("declaration", -1, "a", (), "roundings of the declared precision", text, self.mean, 1.0))
