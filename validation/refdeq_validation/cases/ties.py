"""Family ``tie``: differences exactly at the threshold and one unit in the last place beside it.

Every subtraction is exact (its operands are chosen so), hence the decision is certified: these cases tell ``gt`` from ``ge``, a
threshold in the dtype from one rounded to a narrower format or kept in a wider one, and ``|d| > tau`` from ``d^2 > tau^2``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refdeq.types import DeltaRule
from refdeq_validation.cases.building import SHORT, Array, Numbers, gemm, prepared, unit
from refdeq_validation.cases.model import Case

__all__ = ["cases"]


def at_and_beside(tau: Array, ulps: tuple[int, ...] = (0, 1, -1)) -> Array:
    """The threshold and its neighbours, of both signs; shape (2 * len(ulps),)."""
    values = []
    for ulp in ulps:
        value = tau
        for _ in range(abs(ulp)):
            value = np.nextafter(value, tau.dtype.type(np.inf if ulp > 0 else 0.0))
        values += [value, -value]
    return np.array(values, dtype=tau.dtype)


def cases(dtype: str) -> Iterator[Case]:
    """Ties against a zero reference, where the difference is the value itself."""
    for compare in ("gt", "ge"):
        for name, threshold in (("half", 0.5), ("tenth", 0.1), ("third", 1.0 / 3.0), ("small", 1e-3)):
            slug = f"{name}-{compare}-{SHORT[dtype]}"
            number = Numbers(slug, dtype)
            tau = number.array(threshold)
            differences = at_and_beside(tau)
            weight = number.signed("weight", (5, len(differences)), 1, 7)
            problem = gemm(weight, number.signed("bias", (5,), 3, 9), DeltaRule(threshold=threshold, compare=compare))  # type: ignore[arg-type]
            r = np.zeros((2, len(differences)), dtype)
            u = np.stack([differences, differences[::-1]])
            yield unit(
                "tie",
                slug,
                f"|delta| at {threshold} and one ulp beside it, reference zero.",
                ("TIE_RULE", "THRESHOLD"),
                problem,
                prepared(r, number.signed("a", (2, 5), 1, 9), u),
                exact=False,
            )
